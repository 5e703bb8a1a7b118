// SPDX-License-Identifier: Apache-2.0
/*
 * supermachine fork: the VM's owner hands over an image of it, and this program starts the clones,
 * each with a process of its own as its owner.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clone.h"
#include "server.h"
#include "wire.h"

#define CLONES_MAX 256

enum { OPT_NUMBER = 1, OPT_NAME };

const struct opt fork_options[] = {
    {'n', "number", "N", "start this many (1)", OPT_NUMBER},
    {0, "name", "NAME", "name the clone, or NAME-1, NAME-2 and so on when there are more",
     OPT_NAME},
    {0},
};

struct forking {
    const char *of, *name;
    unsigned n;
    sm_store *store;
    sm_image *image;
    struct record_info info; /* of the VM */
};

/* ---- arguments */

static int take_number(struct forking *f, const char *value)
{
    char *end;
    unsigned long n = strtoul(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end || n < 1 || n > CLONES_MAX)
        return say("fork: --number %.60s: must be a number from 1 to %d", value, CLONES_MAX);
    f->n = (unsigned)n;
    return 0;
}

/* RECORD_NAME_MAX + 1 bytes; NULL: one is to be made up. */
static const char *name_of(const struct forking *f, unsigned i, char *room)
{
    if (!f->name || f->n == 1)
        return f->name;
    snprintf(room, RECORD_NAME_MAX + 1, "%s-%u", f->name, i + 1);
    return room;
}

static int check_name(const struct forking *f)
{
    char longest[RECORD_NAME_MAX + 2];
    if (!f->name)
        return 0;
    snprintf(longest, sizeof longest, f->n > 1 ? "%s-%u" : "%s", f->name, f->n);
    return record_check_name("fork", longest);
}

/* Options may come before and after the VM. -1: go on; else the exit code. */
static int parse(struct forking *f, const struct cmd *cmd, char **argv)
{
    struct opts o;
    int id;
    opts_init(&o, cmd, argv);
    for (;;) {
        while ((id = opts_next(&o)) >= 0) {
            if (id == OPT_NAME)
                f->name = o.value;
            else if (take_number(f, o.value))
                return EXIT_OURS;
        }
        if (id != OPTS_END)
            return id == OPTS_HELP ? 0 : EXIT_OURS;
        if (!argv[o.next])
            break;
        if (f->of)
            return say("fork: one VM at a time; see `supermachine help fork`");
        f->of = argv[o.next++];
    }
    if (!f->of)
        return say("fork: no VM given; see `supermachine help fork`");
    return check_name(f) ? EXIT_OURS : -1;
}

/* ---- the image of the VM */

static int ask(struct forking *f, int fd)
{
    struct wire w = {.type = WIRE_FORK}, reply = {0};
    struct sm_error err = {0};
    size_t at = 0;
    int rc = wire_send(fd, &w), code = 0;
    rc = rc ? rc : wire_receive(fd, &reply);
    const char *text = rc ? NULL : wire_next(&reply, &at);
    if (rc)
        code = say("fork: %s: %s", f->of, rc == EPIPE ? "the VM has ended" : strerror(rc));
    else if (reply.a)
        code = say("fork: %s: %s", f->of, text ? text : "its process gave no reason");
    else if (sm_image_receive(f->store, fd, &f->image, &err) != 0)
        code = say("fork: %s: %s", f->of, err.text);
    wire_fini(&reply);
    return code;
}

static int get_image(struct forking *f)
{
    struct record r;
    int code = record_open(&r, "fork", sm_store_path(f->store), f->of);
    if (code)
        return code;
    int rc = record_read(&r, &f->info);
    int fd = rc ? -1 : server_connect(&r, "fork");
    if (rc)
        code = say("fork: cannot read what is kept of %s: %s", f->of, strerror(rc));
    else
        code = fd < 0 ? EXIT_OURS : ask(f, fd);
    if (fd >= 0)
        close(fd);
    record_close(&r);
    return code;
}

/* ---- the clones */

/* All at once, then their names in order. Those that started stay, whatever becomes of others. */
static int start_clones(struct forking *f)
{
    struct detach children[CLONES_MAX];
    unsigned begun = 0;
    int code = 0;
    for (; begun < f->n && !code; begun++) {
        struct detach *d = &children[begun];
        *d = (struct detach){.command = "fork", .ready = -1};
        int who = detach_begin(d);
        if (who == DETACH_CHILD) {
            char room[RECORD_NAME_MAX + 1];
            for (unsigned i = 0; i < begun; i++)
                close(children[i].ready);
            struct clone clone = {.store = f->store,
                                  .image = f->image,
                                  .name = name_of(f, begun, room),
                                  .of = f->of,
                                  .image_name = f->info.image,
                                  .engine = f->info.engine,
                                  .detach = *d};
            return clone_own(&clone);
        }
        if (who != DETACH_PARENT) {
            code = who;
            break;
        }
    }
    for (unsigned i = 0; i < begun; i++) {
        int one = detach_wait(&children[i]);
        code = one ? one : code;
    }
    return code;
}

int cmd_fork(const struct cmd *cmd, int argc, char **argv)
{
    struct forking f = {.n = 1};
    struct sm_error err = {0};
    int code = parse(&f, cmd, argv);
    if (code >= 0)
        return code;
    if (sm_store_open(NULL, &f.store, &err) != 0)
        return say("fork: %s", err.text);
    code = get_image(&f);
    if (!code)
        code = start_clones(&f);
    record_info_fini(&f.info);
    sm_image_free(f.image);
    sm_store_free(f.store);
    return code;
}

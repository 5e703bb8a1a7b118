// SPDX-License-Identifier: Apache-2.0
/* supermachine ps, stop, wait, rm, logs: VMs that have a name. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "json.h"
#include "server.h"
#include "vm_log.h"
#include "wire.h"

#define GRACE_MS 10000 /* Docker's */
#define GRACE_MAX_S 86400
#define TAIL_MAX 1000000000L

enum { OPT_ALL = 1, OPT_QUIET, OPT_JSON, OPT_TIME, OPT_FORCE, OPT_FOLLOW, OPT_STAMPS, OPT_TAIL };

const struct opt ps_options[] = {
    {'a', "all", NULL, "those that have ended, too", OPT_ALL},
    {'q', "quiet", NULL, "names only", OPT_QUIET},
    {0, "json", NULL, "print JSON", OPT_JSON},
    {0},
};
const struct opt stop_options[] = {
    {'t', "time", "SECONDS", "how long the command has after SIGTERM (10)", OPT_TIME},
    {0},
};
const struct opt rm_options[] = {
    {'f', "force", NULL, "end it at once, if it runs", OPT_FORCE},
    {0},
};
const struct opt logs_options[] = {
    {'f', "follow", NULL, "go on until the VM has ended", OPT_FOLLOW},
    {'t', "timestamps", NULL, "show when each line was written", OPT_STAMPS},
    {'n', "tail", "N", "the last N lines only", OPT_TAIL},
    {0},
};

struct vms {
    const char *command;
    sm_store *store;
    bool all, quiet, json, force;
    int grace_ms;
    struct vm_log_view view;
    char **names;
    size_t shown;
    int code;
};

/* ---- options */

static int number(const struct vms *v, const char *option, const char *value, long max, long *out)
{
    char *end;
    errno = 0;
    *out = strtol(value, &end, 10);
    if (value[0] >= '0' && value[0] <= '9' && !*end && !errno && *out <= max)
        return 0;
    return say("%s: --%s %.60s: must be a number from 0 to %ld", v->command, option, value, max);
}

static int take(struct vms *v, int id, const char *value)
{
    long n = 0;
    int bad = 0;
    switch (id) {
    case OPT_TIME:
        bad = number(v, "time", value, GRACE_MAX_S, &n);
        v->grace_ms = (int)n * 1000;
        break;
    case OPT_TAIL:
        bad = number(v, "tail", value, TAIL_MAX, &v->view.tail);
        break;
    case OPT_ALL:
        v->all = true;
        break;
    case OPT_QUIET:
        v->quiet = true;
        break;
    case OPT_JSON:
        v->json = true;
        break;
    case OPT_FORCE:
        v->force = true;
        break;
    case OPT_FOLLOW:
        v->view.follow = true;
        break;
    default:
        v->view.timestamps = true;
    }
    return bad;
}

/* least to most names. -1: go on; else the exit code. */
static int begin(struct vms *v, const struct cmd *cmd, char **argv, int least, int most)
{
    struct opts o;
    struct sm_error err = {0};
    int id, n = 0;
    *v = (struct vms){.command = cmd->name, .grace_ms = GRACE_MS, .view.tail = -1};
    opts_init(&o, cmd, argv);
    while ((id = opts_next(&o)) >= 0)
        if (take(v, id, o.value))
            return EXIT_OURS;
    if (id != OPTS_END)
        return id == OPTS_HELP ? 0 : EXIT_OURS;
    v->names = argv + o.next;
    while (v->names[n])
        n++;
    if (n < least || n > most)
        return say("%s: %s; see `supermachine help %s`", cmd->name,
                   n < least ? "no VM given" : "too many arguments", cmd->name);
    return sm_store_open(NULL, &v->store, &err) ? say("%s: %s", cmd->name, err.text) : -1;
}

/* Do it for each name; the worst of the codes. */
static int for_names(struct vms *v, int (*each)(struct vms *v, struct record *r))
{
    int code = 0;
    for (char **name = v->names; *name; name++) {
        struct record r;
        int one = record_open(&r, v->command, sm_store_path(v->store), *name);
        if (!one)
            one = each(v, &r);
        code = one ? one : code;
        record_close(&r);
    }
    sm_store_free(v->store);
    return code;
}

/* ---- ps */

static const char *const state_words[] = {"starting", "running", "ended", "lost"};

static int show(void *opaque, struct record *r)
{
    struct vms *v = opaque;
    struct record_info info;
    char when[32] = "?", status[32];
    struct tm tm;
    int code;
    enum record_state state = record_state(r, &code);
    bool over = state == RECORD_ENDED || state == RECORD_LOST;
    if ((over && !v->all) || record_read(r, &info))
        return 0;
    time_t created = (time_t)info.created_s;
    if (gmtime_r(&created, &tm))
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
    snprintf(status, sizeof status, state == RECORD_ENDED ? "%s (%d)" : "%s", state_words[state],
             code);
    if (v->json) {
        printf("%s\n  {", v->shown ? "," : "");
        put_member("name", r->name);
        printf(", ");
        put_member("image", info.image);
        printf(", ");
        put_member("command", info.command);
        printf(", ");
        put_member("status", state_words[state]);
        printf(", \"exit_code\": ");
        printf(state == RECORD_ENDED ? "%d" : "null", code);
        printf(", \"created\": %" PRId64 ", \"pid\": %d, \"detached\": %s}", info.created_s,
               over ? 0 : (int)info.owner, info.detached ? "true" : "false");
    } else if (v->quiet) {
        puts(r->name);
    } else {
        if (!v->shown)
            printf("%-20s %-24s %-28s %-19s  %s\n", "NAME", "IMAGE", "COMMAND", "STARTED (UTC)",
                   "STATUS");
        printf("%-20s %-24.60s %-28.28s %-19s  %s\n", r->name, info.image, info.command, when,
               status);
    }
    v->shown++;
    record_info_fini(&info);
    return 0;
}

int cmd_ps(const struct cmd *cmd, int argc, char **argv)
{
    struct vms v;
    int code = begin(&v, cmd, argv, 0, 0);
    if (code >= 0)
        return code;
    if (v.json)
        printf("[");
    record_each(sm_store_path(v.store), RECORD_VMS, show, &v);
    if (v.json)
        printf("%s]\n", v.shown ? "\n" : "");
    else if (!v.shown && !v.quiet)
        printf("%s\n", v.all ? "no VMs" : "no VM runs");
    sm_store_free(v.store);
    return 0;
}

/* ---- stop, wait, rm */

static int ask_stop(struct record *r, const char *command, int grace_ms)
{
    struct wire ask = {.type = WIRE_STOP, .a = grace_ms}, reply;
    int fd = server_connect(r, command);
    if (fd < 0)
        return EXIT_OURS;
    int rc = wire_send(fd, &ask);
    if (!rc) {
        wire_receive(fd, &reply); /* its end, whatever it says */
        wire_fini(&reply);
    }
    close(fd);
    return rc ? say("%s: cannot ask %s: %s", command, r->name, strerror(rc)) : 0;
}

static int stop(struct vms *v, struct record *r)
{
    int code = ask_stop(r, v->command, v->grace_ms);
    if (!code)
        puts(r->name);
    return code;
}

int cmd_stop(const struct cmd *cmd, int argc, char **argv)
{
    struct vms v;
    int code = begin(&v, cmd, argv, 1, argc);
    return code < 0 ? for_names(&v, stop) : code;
}

static int wait_for(struct vms *v, struct record *r)
{
    int code;
    if (record_wait(r, &code) == RECORD_LOST)
        return say("wait: %s was lost: the process that ran it was killed", r->name);
    printf("%d\n", code);
    return 0;
}

int cmd_wait(const struct cmd *cmd, int argc, char **argv)
{
    struct vms v;
    int code = begin(&v, cmd, argv, 1, argc);
    return code < 0 ? for_names(&v, wait_for) : code;
}

static int forget(struct vms *v, struct record *r)
{
    int code;
    if (v->force && record_state(r, &code) == RECORD_RUNNING) {
        if (ask_stop(r, v->command, 0))
            return EXIT_OURS;
        record_wait(r, &code);
    }
    int rc = record_remove(r);
    if (rc == EBUSY)
        return say("rm: %s runs: stop it first, or use --force", r->name);
    if (rc)
        return say("rm: cannot remove %s: %s", r->name, strerror(rc));
    puts(r->name);
    return 0;
}

int cmd_rm(const struct cmd *cmd, int argc, char **argv)
{
    struct vms v;
    int code = begin(&v, cmd, argv, 1, argc);
    return code < 0 ? for_names(&v, forget) : code;
}

/* ---- logs */

/* What the VM's own process said, such as a kernel panic. */
static void show_messages(const struct record *r)
{
    char bytes[4096];
    ssize_t n;
    int fd = openat(r->dir, "messages", O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && (n = read(fd, bytes, sizeof bytes)) > 0)
        fwrite(bytes, 1, (size_t)n, stderr);
    if (fd >= 0)
        close(fd);
}

static int logs(struct vms *v, struct record *r)
{
    struct record_info info;
    int rc = record_read(r, &info);
    bool detached = !rc && info.detached;
    record_info_fini(&info);
    if (rc)
        return say("logs: cannot read what is kept of %s: %s", r->name, strerror(rc));
    if (!detached)
        return say("logs: %s runs in the foreground: its output is where it was started", r->name);
    rc = vm_log_show(r, &v->view);
    show_messages(r);
    return rc ? EXIT_OURS : 0;
}

int cmd_logs(const struct cmd *cmd, int argc, char **argv)
{
    struct vms v;
    int code = begin(&v, cmd, argv, 1, 1);
    return code < 0 ? for_names(&v, logs) : code;
}

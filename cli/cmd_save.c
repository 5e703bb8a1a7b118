// SPDX-License-Identifier: Apache-2.0
/* supermachine save: images of the store into an archive or a folder. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "ending.h"

enum { OPT_OUTPUT = 1, OPT_FORMAT };

const struct opt save_options[] = {
    {'o', "output", "FILE|DIR|-", "where to; - or nothing: stdout", OPT_OUTPUT},
    {0, "format", "docker-archive|oci-archive|oci-dir", "the default is docker-archive",
     OPT_FORMAT},
    {0},
};

struct save {
    sigset_t signals;
    int ended_by;
};

static int on_progress(void *opaque, uint64_t done, uint64_t total)
{
    struct save *s = opaque;
    (void)done;
    (void)total;
    if (!s->ended_by)
        s->ended_by = ending_signal(&s->signals);
    return s->ended_by;
}

static int save(const char *const *images, const char *path, uint32_t format)
{
    struct sm_save_config config = SM_SAVE_CONFIG_INIT;
    struct save s = {0};
    struct sm_error err = {0};
    sm_store *store = NULL;
    ending_block(&s.signals);
    config.format = format;
    config.fd = STDOUT_FILENO;
    config.progress = on_progress;
    config.opaque = &s;
    int rc = sm_store_open(NULL, &store, &err);
    rc = rc ? rc : sm_store_save(store, images, path, &config, &err);
    sm_store_free(store);
    if (s.ended_by && rc == SM_EINTR)
        return 128 + s.ended_by;
    return rc ? say("save: %s", err.text) : 0;
}

static int format_of(const char *text, uint32_t *format)
{
    static const char *const names[] = {[SM_FORMAT_DOCKER_ARCHIVE] = "docker-archive",
                                        [SM_FORMAT_OCI_ARCHIVE] = "oci-archive",
                                        [SM_FORMAT_OCI_DIR] = "oci-dir"};
    for (uint32_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i]) == 0) {
            *format = i;
            return 0;
        }
    }
    return say("save: unknown format \"%.60s\"; see `supermachine help save`", text);
}

int cmd_save(const struct cmd *cmd, int argc, char **argv)
{
    struct opts o;
    const char *path = NULL;
    uint32_t format = SM_FORMAT_DOCKER_ARCHIVE;
    int id, bad = 0;
    (void)argc;
    opts_init(&o, cmd, argv);
    while ((id = opts_next(&o)) >= 0) {
        if (id == OPT_OUTPUT)
            path = strcmp(o.value, "-") == 0 ? NULL : o.value;
        else
            bad |= format_of(o.value, &format);
    }
    if (id != OPTS_END || bad)
        return id == OPTS_HELP ? 0 : EXIT_OURS;
    if (!argv[o.next])
        return say("save: no image given; see `supermachine help save`");
    if (!path && format == SM_FORMAT_OCI_DIR)
        return say("save: say which folder to make: -o DIR");
    if (!path && isatty(STDOUT_FILENO))
        return say("save: an archive is nothing for a terminal: use -o FILE, or a pipe");
    return save((const char *const *)argv + o.next, path, format);
}

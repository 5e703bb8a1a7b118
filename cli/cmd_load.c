// SPDX-License-Identifier: Apache-2.0
/* supermachine load: images of an archive or a folder into the store. Signals just end it: what a
 * kill leaves in the store is as after a broken pull. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

enum { OPT_INPUT = 1, OPT_NAME };

const struct opt load_options[] = {
    {'i', "input", "FILE|DIR|-", "where from; - or nothing: stdin", OPT_INPUT},
    {0, "name", "NAME[:TAG]", "what the image is to be called", OPT_NAME},
    {0},
};

static void print_loaded(void *opaque, const char *name, const char *digest)
{
    (void)opaque;
    printf("%s %s\n", name, digest);
}

int cmd_load(const struct cmd *cmd, int argc, char **argv)
{
    struct sm_load_config config = SM_LOAD_CONFIG_INIT;
    struct sm_error err = {0};
    sm_store *store = NULL;
    struct opts o;
    const char *path = NULL;
    int id;
    (void)argc;
    opts_init(&o, cmd, argv);
    while ((id = opts_next(&o)) >= 0) {
        if (id == OPT_INPUT)
            path = strcmp(o.value, "-") == 0 ? NULL : o.value;
        else
            config.name = o.value;
    }
    if (id != OPTS_END)
        return id == OPTS_HELP ? 0 : EXIT_OURS;
    if (argv[o.next])
        return say("load: too many arguments (an archive is named by -i); see `supermachine help "
                   "load`");
    if (!path && isatty(STDIN_FILENO))
        return say("load: no archive comes from a terminal: use -i FILE, or a pipe");
    config.loaded = print_loaded;
    int rc = sm_store_open(NULL, &store, &err);
    rc = rc ? rc : sm_store_load(store, path ? path : "/dev/stdin", &config, &err);
    sm_store_free(store);
    return rc ? say("load: %s", err.text) : 0;
}

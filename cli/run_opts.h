/* SPDX-License-Identifier: Apache-2.0 */
/* What `supermachine run` was asked for. */
#ifndef CLI_RUN_OPTS_H
#define CLI_RUN_OPTS_H

#include <stdbool.h>
#include <stdint.h>

#include "command_opts.h"
#include "debug_opts.h"

#define RUN_OPTS_GO (-1)

struct run_opts {
    struct machine_opts machine;
    int64_t timeout_ms; /* 0: none */
    struct command_opts command;
    const char *entrypoint;
    const char **insecure; /* owned array of borrowed strings, NULL-terminated; or NULL */
    size_t n_insecure;
    const char *name;                                        /* NULL: none */
    struct sm_volume volumes[SM_VOLUMES_MAX];                /* own their strings */
    const struct sm_volume *volume_list[SM_VOLUMES_MAX + 1]; /* NULL-terminated */
    size_t n_volumes;
    bool cold, detach, remove, pool;
    struct debug_opts debug;
    const char *image;
    char **args; /* NULL-terminated */
};

/* RUN_OPTS_GO, or the exit code, after help or a message. run_opts_fini in any case. */
int run_opts_parse(struct run_opts *o, const struct cmd *cmd, char **argv);
void run_opts_fini(struct run_opts *o);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The options that say how a command runs in a VM: those of `run` and `exec`. */
#ifndef CLI_COMMAND_OPTS_H
#define CLI_COMMAND_OPTS_H

#include <stdbool.h>

#include "machine_opts.h"

/* Option ids; a command's own begin at COMMAND_OPT_END. */
enum {
    COMMAND_OPT_ENV = MACHINE_OPT_END,
    COMMAND_OPT_WORKDIR,
    COMMAND_OPT_USER,
    COMMAND_OPT_INTERACTIVE,
    COMMAND_OPT_TTY,
    COMMAND_OPT_END
};

#define COMMAND_OPTIONS                                                                            \
    {'e', "env", "NAME[=VALUE]", "set a variable, or pass the host's on", COMMAND_OPT_ENV},        \
        {'i', "interactive", NULL, "pass stdin on to the command", COMMAND_OPT_INTERACTIVE},       \
        {'t', "tty", NULL, "give the command a terminal", COMMAND_OPT_TTY},                        \
        {'u', "user", "USER[:GROUP]", "run as this user of the image", COMMAND_OPT_USER},          \
    {                                                                                              \
        'w', "workdir", "PATH", "run in this folder", COMMAND_OPT_WORKDIR                          \
    }

struct command_opts {
    const char *cwd, *user; /* borrowed; NULL: not given */
    char **env;             /* owned, with its strings; NULL-terminated; or NULL */
    size_t n_env;
    bool interactive, tty;
};

/* One option of the table. 0, or EXIT_OURS after a message of this command's. */
int command_opts_take(struct command_opts *c, const char *command, int id, const char *value);
/* The options together. 0, or EXIT_OURS after a message. */
int command_opts_check(const struct command_opts *c, const char *command);
void command_opts_fini(struct command_opts *c);

#endif

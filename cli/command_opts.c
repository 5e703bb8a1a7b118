// SPDX-License-Identifier: Apache-2.0
#include "command_opts.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* NAME=VALUE as it is; NAME is the host's, or taken out of the image's when the host has none. */
static int add_env(struct command_opts *c, const char *command, const char *value)
{
    if (!value[0] || value[0] == '=')
        return say("%s: -e \"%.60s\": a variable needs a name", command, value);
    const char *host = strchr(value, '=') ? NULL : getenv(value);
    size_t len = strlen(value) + (host ? strlen(host) + 1 : 0) + 1;
    char *pair = malloc(len);
    if (!pair)
        return say("%s: out of memory", command);
    strcpy(pair, value);
    if (host)
        strcat(strcat(pair, "="), host);
    const char **list = (const char **)c->env;
    if (add_string(&list, &c->n_env, pair)) {
        free(pair);
        return EXIT_OURS;
    }
    c->env = (char **)list;
    return 0;
}

int command_opts_take(struct command_opts *c, const char *command, int id, const char *value)
{
    switch (id) {
    case COMMAND_OPT_ENV:
        return add_env(c, command, value);
    case COMMAND_OPT_WORKDIR:
        c->cwd = value;
        return value[0] == '/' ? 0 : say("%s: --workdir %.60s: must begin with /", command, value);
    case COMMAND_OPT_USER:
        c->user = value;
        return 0;
    case COMMAND_OPT_INTERACTIVE:
        c->interactive = true;
        return 0;
    default:
        c->tty = true;
        return 0;
    }
}

int command_opts_check(const struct command_opts *c, const char *command)
{
    if (c->tty && c->interactive && !isatty(STDIN_FILENO))
        return say("%s: -it: stdin is not a terminal; leave out -t", command);
    return 0;
}

void command_opts_fini(struct command_opts *c)
{
    for (size_t i = 0; i < c->n_env; i++)
        free(c->env[i]);
    free(c->env);
    c->env = NULL;
    c->n_env = 0;
}

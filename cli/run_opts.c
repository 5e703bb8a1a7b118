// SPDX-License-Identifier: Apache-2.0
/* Everything that can be wrong with the flags is found here, before anything is touched. */
#include "run_opts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TIMEOUT_MAX_S 31536000.0 /* a year */

enum {
    OPT_ENV = MACHINE_OPT_END,
    OPT_WORKDIR,
    OPT_USER,
    OPT_INTERACTIVE,
    OPT_TTY,
    OPT_ENTRYPOINT,
    OPT_TIMEOUT,
    OPT_COLD,
    OPT_INSECURE,
};

const struct opt run_options[] = {
    {'e', "env", "NAME[=VALUE]", "set a variable, or pass the host's on", OPT_ENV},
    {'i', "interactive", NULL, "pass stdin on to the command", OPT_INTERACTIVE},
    {'t', "tty", NULL, "give the command a terminal", OPT_TTY},
    {'u', "user", "USER[:GROUP]", "run as this user of the image", OPT_USER},
    {'w', "workdir", "DIR", "run in this folder", OPT_WORKDIR},
    {0, "entrypoint", "PROGRAM", "in place of the image's Entrypoint and Cmd", OPT_ENTRYPOINT},
    {0, "timeout", "SECONDS", "end the VM this long after its start", OPT_TIMEOUT},
    MACHINE_OPTIONS,
    {0, "insecure-registry", "HOST[:PORT]", "it may speak http, or show any certificate",
     OPT_INSECURE},
    {0, "cold", NULL, "boot; neither use a snapshot nor make one", OPT_COLD},
    {0},
};

static int parse_timeout(struct run_opts *o, const char *value)
{
    char *end;
    double s = strtod(value, &end);
    if (((value[0] < '0' || value[0] > '9') && value[0] != '.') || *end || end == value ||
        !(s >= 0.001 && s <= TIMEOUT_MAX_S))
        return say("run: --timeout %.60s: must be a number of seconds from 0.001 to %.0f", value,
                   TIMEOUT_MAX_S);
    o->timeout_ms = (int64_t)(s * 1000 + 0.5);
    return 0;
}

/* NAME=VALUE as it is; NAME is the host's, or taken out of the image's when the host has none. */
static int add_env(struct run_opts *o, const char *value, int max)
{
    if (!value[0] || value[0] == '=')
        return say("run: -e \"%.60s\": a variable needs a name", value);
    if (!o->env && !(o->env = calloc((size_t)max + 1, sizeof *o->env)))
        return say("run: out of memory");
    const char *host = strchr(value, '=') ? NULL : getenv(value);
    size_t len = strlen(value) + (host ? strlen(host) + 1 : 0) + 1;
    char *pair = malloc(len);
    if (!pair)
        return say("run: out of memory");
    strcpy(pair, value);
    if (host)
        strcat(strcat(pair, "="), host);
    o->env[o->n_env++] = pair;
    return 0;
}

static int take(struct run_opts *o, int id, const char *value, int argc)
{
    switch (id) {
    case OPT_TIMEOUT:
        return parse_timeout(o, value);
    case OPT_ENV:
        return add_env(o, value, argc);
    case OPT_WORKDIR:
        o->cwd = value;
        return value[0] == '/' ? 0 : say("run: --workdir %.60s: must begin with /", value);
    case OPT_USER:
        o->user = value;
        return 0;
    case OPT_ENTRYPOINT:
        o->entrypoint = value;
        return 0;
    case OPT_INSECURE:
        return add_string(&o->insecure, &o->n_insecure, value);
    case OPT_INTERACTIVE:
        o->interactive = true;
        return 0;
    case OPT_TTY:
        o->tty = true;
        return 0;
    case OPT_COLD:
        o->cold = true;
        return 0;
    default:
        return machine_opts_take(&o->machine, "run", id, value);
    }
}

int run_opts_parse(struct run_opts *o, const struct cmd *cmd, int argc, char **argv)
{
    struct opts opts;
    int id;
    *o = (struct run_opts){0};
    opts_init(&opts, cmd, argv);
    while ((id = opts_next(&opts)) >= 0)
        if (take(o, id, opts.value, argc) != 0)
            return EXIT_OURS;
    if (id == OPTS_HELP)
        return 0;
    if (id == OPTS_BAD)
        return EXIT_OURS;
    o->image = argv[opts.next];
    if (!o->image)
        return say("run: no image given; see `supermachine help run`");
    o->args = &argv[opts.next + 1];
    if (o->tty && o->interactive && !isatty(STDIN_FILENO))
        return say("run: -it: stdin is not a terminal; leave out -t");
    return RUN_OPTS_GO;
}

void run_opts_fini(struct run_opts *o)
{
    for (size_t i = 0; i < o->n_env; i++)
        free(o->env[i]);
    free(o->env);
    free(o->insecure);
    o->insecure = NULL;
    o->env = NULL;
    o->n_env = 0;
}

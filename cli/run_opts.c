// SPDX-License-Identifier: Apache-2.0
/* Everything that can be wrong with the flags is found here, before anything is touched. */
#include "run_opts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "record.h"

#define TIMEOUT_MAX_S 31536000.0 /* a year */

enum {
    OPT_ENTRYPOINT = DEBUG_OPT_END,
    OPT_TIMEOUT,
    OPT_COLD,
    OPT_INSECURE,
    OPT_NAME,
    OPT_DETACH,
    OPT_RM,
    OPT_VOLUME,
    OPT_POOL,
};

const struct opt run_options[] = {
    {'d', "detach", NULL, "go on in the background, and print the VM's name", OPT_DETACH},
    {0, "name", "NAME", "what `exec`, `stop`, `logs` ... call it", OPT_NAME},
    {0, "rm", NULL, "with -d: forget the VM when it has ended", OPT_RM},
    COMMAND_OPTIONS,
    {'v', "volume", "SOURCE:PATH[:ro]", "a named volume, a folder, or a file with ext4, at PATH",
     OPT_VOLUME},
    {0, "entrypoint", "PROGRAM", "in place of the image's Entrypoint and Cmd", OPT_ENTRYPOINT},
    {0, "pool", NULL, "take a VM of the image's pool (`pool start`)", OPT_POOL},
    {0, "timeout", "SECONDS", "end the VM this long after its start", OPT_TIMEOUT},
    MACHINE_OPTIONS,
    {0, "insecure-registry", "HOST[:PORT]", "it may speak http, or show any certificate",
     OPT_INSECURE},
    {0, "cold", NULL, "boot; neither use a snapshot nor make one", OPT_COLD},
    DEBUG_OPTIONS,
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

/* SOURCE:PATH, SOURCE:PATH:ro or SOURCE:PATH:rw. */
static int add_volume(struct run_opts *o, const char *value)
{
    size_t source = strcspn(value, ":");
    const char *path = value + source + (value[source] == ':');
    size_t len = strcspn(path, ":");
    const char *how = path + len;
    if (o->n_volumes == SM_VOLUMES_MAX)
        return say("run: -v %.80s: more than %d volumes", value, SM_VOLUMES_MAX);
    if (!source || !len || (*how && strcmp(how, ":ro") != 0 && strcmp(how, ":rw") != 0))
        return say("run: -v %.80s: must be SOURCE:PATH or SOURCE:PATH:ro", value);
    if (path[0] != '/')
        return say("run: -v %.80s: the path in the guest must begin with /", value);
    struct sm_volume *v = &o->volumes[o->n_volumes];
    *v = (struct sm_volume)SM_VOLUME_INIT;
    o->volume_list[o->n_volumes++] = v;
    v->source = strndup(value, source);
    v->path = strndup(path, len);
    v->read_only = strcmp(how, ":ro") == 0;
    return v->source && v->path ? 0 : say("run: out of memory");
}

static int take(struct run_opts *o, int id, const char *value)
{
    switch (id) {
    case OPT_TIMEOUT:
        return parse_timeout(o, value);
    case OPT_VOLUME:
        return add_volume(o, value);
    case OPT_ENTRYPOINT:
        o->entrypoint = value;
        return 0;
    case OPT_INSECURE:
        return add_string(&o->insecure, &o->n_insecure, value);
    case OPT_COLD:
        o->cold = true;
        return 0;
    case OPT_POOL:
        o->pool = true;
        return 0;
    case OPT_DETACH:
        o->detach = true;
        return 0;
    case OPT_RM:
        o->remove = true;
        return 0;
    case OPT_NAME:
        o->name = value;
        return record_check_name("run", value);
    default:
        return id < MACHINE_OPT_END   ? machine_opts_take(&o->machine, "run", id, value)
               : id < COMMAND_OPT_END ? command_opts_take(&o->command, "run", id, value)
                                      : debug_opts_take(&o->debug, "run", id, value);
    }
}

/* Files in shared folders belong to whom the command runs as, if that is a number: names are the
 * image's to know. */
static void set_owner(struct run_opts *o)
{
    const char *user = o->command.user;
    char *end;
    if (!user || user[0] < '0' || user[0] > '9')
        return;
    unsigned long uid = strtoul(user, &end, 10), gid = 0;
    if (*end == ':' && end[1] >= '0' && end[1] <= '9')
        gid = strtoul(end + 1, &end, 10);
    if (*end || uid > UINT32_MAX || gid > UINT32_MAX)
        return;
    for (size_t i = 0; i < o->n_volumes; i++) {
        o->volumes[i].uid = (uint32_t)uid;
        o->volumes[i].gid = (uint32_t)gid;
    }
}

/* A pool's VMs run already: what makes a VM what it is cannot be asked for. */
static bool fits_pool(const struct run_opts *o)
{
    const struct machine_opts *m = &o->machine;
    return !o->detach && !o->name && !o->remove && !o->n_volumes && !o->cold && !o->n_insecure &&
           !m->engine && !m->memory_mib && !m->vcpus && !m->cpu && !m->kernel && !o->debug.debug &&
           !o->debug.path;
}

int run_opts_parse(struct run_opts *o, const struct cmd *cmd, char **argv)
{
    struct opts opts;
    int id;
    *o = (struct run_opts){0};
    opts_init(&opts, cmd, argv);
    while ((id = opts_next(&opts)) >= 0)
        if (take(o, id, opts.value) != 0)
            return EXIT_OURS;
    if (id == OPTS_HELP)
        return 0;
    if (id == OPTS_BAD)
        return EXIT_OURS;
    set_owner(o);
    o->image = argv[opts.next];
    if (!o->image)
        return say("run: no image given; see `supermachine help run`");
    o->args = &argv[opts.next + 1];
    if (o->pool && !fits_pool(o))
        return say("run: --pool: the VMs of a pool run already: -d, --name, -v, --cold and options "
                   "of the machine do not go with it; see `supermachine help pool`");
    if (o->remove && !o->detach)
        return say("run: --rm goes with -d: another VM is forgotten in any case");
    if (!o->detach && command_opts_check(&o->command, "run"))
        return EXIT_OURS;
    return RUN_OPTS_GO;
}

void run_opts_fini(struct run_opts *o)
{
    debug_opts_fini(&o->debug);
    command_opts_fini(&o->command);
    for (size_t i = 0; i < o->n_volumes; i++) {
        free((char *)o->volumes[i].source);
        free((char *)o->volumes[i].path);
    }
    o->n_volumes = 0;
    free(o->insecure);
    o->insecure = NULL;
}

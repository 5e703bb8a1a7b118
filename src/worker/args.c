// SPDX-License-Identifier: Apache-2.0
#include "worker/args.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "worker/control.h"

#define ARGS_MAX (22 + VM_MAX_LAYERS + VM_MAX_VOLUMES)

static void add(struct args *a, const char *name, const char *value)
{
    if (a->n < ARGS_MAX && (a->argv[a->n] = io_format("--%s=%s", name, value)))
        a->n++;
    else
        a->n = ARGS_MAX; /* args_make sees it */
}

static void add_number(struct args *a, const char *name, unsigned long long value)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", value);
    add(a, name, text);
}

static void add_snapshot(struct args *a, const struct snapshot *s)
{
    char text[2 * STATE_DIGEST_SIZE + 1];
    for (unsigned i = 0; i < STATE_DIGEST_SIZE; i++)
        snprintf(text + 2 * i, 3, "%02x", s->digest[i]);
    add(a, "snapshot", text);
    add(a, "cpu-vendor", s->cpu_vendor);
    if (s->base_fd >= 0)
        add(a, "base", "1");
}

/* All but the callback: check, check_every, trace, code_from, code_to. */
#define DEBUG_FORM "%u,%u,%u,%llx,%llx"

static void add_debug(struct args *a, const struct engine_debug *d)
{
    char text[80];
    snprintf(text, sizeof text, DEBUG_FORM, d->check, d->check_every, d->trace,
             (unsigned long long)d->code_from, (unsigned long long)d->code_to);
    add(a, "debug", text);
}

static int take_debug(const char *value, struct engine_debug *d, struct sm_error *err)
{
    unsigned check;
    unsigned long long from, to;
    int end = 0;
    if (sscanf(value, DEBUG_FORM "%n", &check, &d->check_every, &d->trace, &from, &to, &end) != 5 ||
        value[end] || check > 1 || d->trace > ENGINE_TRACE_ALL)
        return err_set(err, SM_EINVAL, "--debug=%.40s is not five numbers in their ranges", value);
    d->check = check;
    d->code_from = from;
    d->code_to = to;
    return 0;
}

static void add_volumes(struct args *a, const struct vm_config *config)
{
    const struct snapshot *s = config->snapshot;
    int fd = !s ? CONTROL_FD : s->base_fd >= 0 ? CONTROL_BASE_FD : CONTROL_RAM_FD;
    for (unsigned i = 0; i < config->n_volumes; i++) {
        const struct vm_volume *v = &config->volumes[i];
        const char *how = v->over ? "over" : v->read_only ? "ro" : "rw";
        char *text = v->folder ? io_format("%d:%s:%u:%u:%s", ++fd, how, v->uid, v->gid, v->name)
                               : io_format("%d:%s:%s", ++fd, how, v->name);
        fd += v->over;
        add(a, v->folder ? "folder" : "volume", text ? text : "");
        if (!text)
            a->n = ARGS_MAX;
        free(text);
    }
}

int args_make(struct args *a, const char *program, const struct vm_config *config,
              struct sm_error *err)
{
    *a = (struct args){0};
    if (config->n_volumes > VM_MAX_VOLUMES)
        return err_set(err, SM_EINVAL, "%u volumes; at most %d are possible", config->n_volumes,
                       VM_MAX_VOLUMES);
    a->argv = calloc(ARGS_MAX + 1, sizeof *a->argv);
    if (!a->argv || !(a->argv[a->n++] = strdup(program))) {
        args_fini(a);
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    add(a, "engine", config->engine->name);
    add_number(a, "memory", config->memory_bytes);
    add_number(a, "vcpus", config->vcpus);
    if (config->cpu)
        add(a, "cpu", config->cpu);
    add_number(a, "agent-port", config->agent_port);
    if (config->tsc_khz)
        add_number(a, "tsc-khz", config->tsc_khz);
    if (config->translate)
        add_number(a, "translate", config->translate);
    if (config->debug.check || config->debug.trace)
        add_debug(a, &config->debug);
    if (config->snapshot) {
        add_snapshot(a, config->snapshot);
    } else {
        add(a, "kernel", config->kernel);
        add(a, "initramfs", config->initramfs);
    }
    if (config->cmdline_extra)
        add(a, "cmdline", config->cmdline_extra);
    if (config->console)
        add(a, "console", "1");
    for (unsigned i = 0; i < config->n_layers; i++)
        add(a, "layer", config->layers[i]);
    add_volumes(a, config);
    if (a->n < ARGS_MAX)
        return 0;
    bool many = config->n_layers > VM_MAX_LAYERS;
    args_fini(a);
    return many ? err_set(err, SM_EINVAL, "the image has %u layers; at most %d are possible",
                          config->n_layers, VM_MAX_LAYERS)
                : err_set(err, SM_ENOMEM, "out of memory");
}

void args_fini(struct args *a)
{
    for (unsigned i = 0; a->argv && i < ARGS_MAX; i++)
        free(a->argv[i]);
    free(a->argv);
    *a = (struct args){0};
}

static int number(const char *name, const char *text, unsigned long long max,
                  unsigned long long *out, struct sm_error *err)
{
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    if (errno || end == text || *end || *text == '-' || *out > max)
        return err_set(err, SM_EINVAL, "--%s=%.40s is not a number up to %llu", name, text, max);
    return 0;
}

static int digest(const char *name, const char *text, uint8_t out[STATE_DIGEST_SIZE],
                  struct sm_error *err)
{
    if (!digest_hex_valid(text))
        return err_set(err, SM_EINVAL, "--%s=%.40s is no digest", name, text);
    for (unsigned i = 0; i < STATE_DIGEST_SIZE; i++)
        sscanf(text + 2 * i, "%2hhx", &out[i]);
    return 0;
}

enum {
    ARG_ENGINE,
    ARG_MEMORY,
    ARG_VCPUS,
    ARG_CPU,
    ARG_PORT,
    ARG_TSC,
    ARG_TRANSLATE,
    ARG_SNAPSHOT,
    ARG_VENDOR,
    ARG_BASE,
    ARG_KERNEL,
    ARG_INITRAMFS,
    ARG_CMDLINE,
    ARG_CONSOLE,
    ARG_DEBUG,
    ARG_LAYER,
    ARG_VOLUME,
    ARG_FOLDER,
    ARG_COUNT
};

/* NAME=value of "--NAME=value"; ARG_COUNT if there is no such argument. */
static unsigned split(const char *arg, const char **name, const char **value)
{
    static const char *const names[ARG_COUNT] = {
        [ARG_ENGINE] = "engine",   [ARG_MEMORY] = "memory",       [ARG_VCPUS] = "vcpus",
        [ARG_CPU] = "cpu",         [ARG_PORT] = "agent-port",     [ARG_TRANSLATE] = "translate",
        [ARG_TSC] = "tsc-khz",     [ARG_SNAPSHOT] = "snapshot",   [ARG_VENDOR] = "cpu-vendor",
        [ARG_KERNEL] = "kernel",   [ARG_INITRAMFS] = "initramfs", [ARG_CMDLINE] = "cmdline",
        [ARG_CONSOLE] = "console", [ARG_BASE] = "base",           [ARG_DEBUG] = "debug",
        [ARG_LAYER] = "layer",     [ARG_VOLUME] = "volume",       [ARG_FOLDER] = "folder",
    };
    unsigned i;
    for (i = 0; i < ARG_COUNT; i++) {
        size_t len = strlen(names[i]);
        if (strncmp(arg, "--", 2) == 0 && strncmp(arg + 2, names[i], len) == 0 &&
            arg[2 + len] == '=') {
            *name = names[i];
            *value = arg + 3 + len;
            break;
        }
    }
    return i;
}

static int take_number(struct args_machine *m, unsigned which, const char *name, const char *value,
                       struct sm_error *err)
{
    unsigned long long n = 0;
    int rc = number(name, value,
                    which == ARG_MEMORY      ? UINT64_MAX
                    : which == ARG_TRANSLATE ? ENGINE_TRANSLATE_NONE
                                             : UINT32_MAX,
                    &n, err);
    if (which == ARG_MEMORY)
        m->config.memory_bytes = n;
    else if (which == ARG_VCPUS)
        m->config.vcpus = (unsigned)n;
    else if (which == ARG_PORT)
        m->config.agent_port = (uint32_t)n;
    else if (which == ARG_TSC)
        m->config.tsc_khz = n;
    else
        m->config.translate = (enum engine_translate)n;
    return rc;
}

/* UID:GID:NAME. */
static int take_owner(struct vm_volume *v)
{
    int end = 0;
    if (sscanf(v->name, "%" SCNu32 ":%" SCNu32 ":%n", &v->uid, &v->gid, &end) != 2 || !end)
        return -1;
    v->name += end;
    return 0;
}

/* FD:HOW:NAME, in which HOW is "ro", "rw", or "over" for a disk that lies over FD + 1; with the
 * owner before NAME for a folder. */
static int take_volume(struct args_machine *m, unsigned which, const char *name, const char *value,
                       struct sm_error *err)
{
    struct vm_volume *v = &m->volumes[m->config.n_volumes];
    char *end;
    if (m->config.n_volumes == VM_MAX_VOLUMES)
        return err_set(err, SM_EINVAL, "more than %d volumes", VM_MAX_VOLUMES);
    v->fd = (int)strtol(value, &end, 10);
    v->folder = which == ARG_FOLDER;
    v->read_only = strncmp(end, ":ro:", 4) == 0;
    v->over = strncmp(end, ":over:", 6) == 0;
    if (v->fd <= CONTROL_FD || v->fd == INT_MAX || (v->over && v->folder) ||
        (!v->over && !v->read_only && strncmp(end, ":rw:", 4) != 0))
        return err_set(err, SM_EINVAL, "--%s=%.40s is none", name, value);
    v->name = end + (v->over ? 6 : 4);
    v->base_fd = v->over ? v->fd + 1 : -1;
    if (v->folder && take_owner(v) != 0)
        return err_set(err, SM_EINVAL, "--%s=%.40s is none", name, value);
    m->config.n_volumes++;
    return 0;
}

static int take_text(struct args_machine *m, unsigned which, const char *name, const char *value,
                     const struct engine_ops *(*engine)(const char *name), struct sm_error *err)
{
    switch (which) {
    case ARG_ENGINE:
        m->config.engine = engine(value);
        return m->config.engine ? 0 : err_set(err, SM_EINVAL, "no engine \"%.40s\"", value);
    case ARG_CPU:
        m->config.cpu = value;
        break;
    case ARG_SNAPSHOT:
        m->config.snapshot = &m->snapshot;
        return digest(name, value, m->snapshot.digest, err);
    case ARG_VENDOR:
        if (strlen(value) >= sizeof m->snapshot.cpu_vendor)
            return err_set(err, SM_EINVAL, "--%s=%.40s is too long", name, value);
        strcpy(m->snapshot.cpu_vendor, value);
        break;
    case ARG_BASE:
        m->base = true;
        break;
    case ARG_KERNEL:
        m->config.kernel = value;
        break;
    case ARG_INITRAMFS:
        m->config.initramfs = value;
        break;
    case ARG_CMDLINE:
        m->config.cmdline_extra = value;
        break;
    case ARG_CONSOLE:
        m->console = true;
        break;
    case ARG_DEBUG:
        return take_debug(value, &m->config.debug, err);
    case ARG_LAYER:
        if (m->config.n_layers == VM_MAX_LAYERS)
            return err_set(err, SM_EINVAL, "more than %d layers", VM_MAX_LAYERS);
        m->layers[m->config.n_layers++] = value;
        break;
    case ARG_VOLUME:
    case ARG_FOLDER:
        return take_volume(m, which, name, value, err);
    }
    return 0;
}

/* The snapshot is of the machine that the other arguments say. */
static int complete(struct args_machine *m, struct sm_error *err)
{
    const struct vm_config *c = &m->config;
    struct snapshot *s = &m->snapshot;
    if (!c->engine || (!c->snapshot && (!c->kernel || !c->initramfs)))
        return err_set(err, SM_EINVAL,
                       "--engine, and --snapshot or --kernel and --initramfs are needed: this "
                       "program is started by libsupermachine, not by hand");
    s->memory_bytes = c->memory_bytes;
    s->vcpus = c->vcpus;
    s->n_layers = c->n_layers;
    snprintf(s->cpu_model, sizeof s->cpu_model, "%s", c->cpu ? c->cpu : "");
    s->ram_fd = s->state_fd = s->base_fd = -1;
    return 0;
}

int args_parse(char **argv, const struct engine_ops *(*engine)(const char *name),
               struct args_machine *out, struct sm_error *err)
{
    *out = (struct args_machine){0};
    out->config.layers = out->layers;
    out->config.volumes = out->volumes;
    for (argv++; *argv; argv++) {
        const char *name = "", *value = "";
        unsigned which = split(*argv, &name, &value);
        int rc;
        if (which == ARG_COUNT)
            return err_set(err, SM_EINVAL, "unexpected argument \"%.60s\"", *argv);
        if (which == ARG_MEMORY || which == ARG_VCPUS || which == ARG_PORT || which == ARG_TSC ||
            which == ARG_TRANSLATE)
            rc = take_number(out, which, name, value, err);
        else
            rc = take_text(out, which, name, value, engine, err);
        if (rc)
            return rc;
    }
    return complete(out, err);
}

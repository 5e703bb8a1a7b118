// SPDX-License-Identifier: Apache-2.0
#include "worker/args.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"

#define ARGS_MAX (16 + VM_MAX_LAYERS)

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
    char *p = text + sizeof text;
    *--p = 0;
    do
        *--p = (char)('0' + value % 10);
    while (value /= 10);
    add(a, name, p);
}

int args_make(struct args *a, const char *program, const struct vm_config *config,
              struct sm_error *err)
{
    *a = (struct args){.argv = calloc(ARGS_MAX + 1, sizeof *a->argv)};
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
    add(a, "kernel", config->kernel);
    add(a, "initramfs", config->initramfs);
    if (config->cmdline_extra)
        add(a, "cmdline", config->cmdline_extra);
    if (config->console)
        add(a, "console", "1");
    for (unsigned i = 0; i < config->n_layers; i++)
        add(a, "layer", config->layers[i]);
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

enum {
    ARG_ENGINE,
    ARG_MEMORY,
    ARG_VCPUS,
    ARG_CPU,
    ARG_PORT,
    ARG_KERNEL,
    ARG_INITRAMFS,
    ARG_CMDLINE,
    ARG_CONSOLE,
    ARG_LAYER,
    ARG_COUNT
};

/* NAME=value of "--NAME=value"; ARG_COUNT if there is no such argument. */
static unsigned split(const char *arg, const char **name, const char **value)
{
    static const char *const names[ARG_COUNT] = {
        [ARG_ENGINE] = "engine",       [ARG_MEMORY] = "memory",
        [ARG_VCPUS] = "vcpus",         [ARG_CPU] = "cpu",
        [ARG_PORT] = "agent-port",     [ARG_KERNEL] = "kernel",
        [ARG_INITRAMFS] = "initramfs", [ARG_CMDLINE] = "cmdline",
        [ARG_CONSOLE] = "console",     [ARG_LAYER] = "layer",
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

int args_parse(char **argv, const struct engine_ops *(*engine)(const char *name),
               struct vm_config *config, const char **layers, bool *console, struct sm_error *err)
{
    *config = (struct vm_config){.layers = layers};
    *console = false;
    for (argv++; *argv; argv++) {
        const char *name = "", *value = "";
        unsigned long long n = 0;
        int rc = 0;
        switch (split(*argv, &name, &value)) {
        case ARG_ENGINE:
            config->engine = engine(value);
            rc = config->engine ? 0 : err_set(err, SM_EINVAL, "no engine \"%.40s\"", value);
            break;
        case ARG_MEMORY:
            rc = number(name, value, UINT64_MAX, &n, err);
            config->memory_bytes = n;
            break;
        case ARG_VCPUS:
            rc = number(name, value, UINT32_MAX, &n, err);
            config->vcpus = (unsigned)n;
            break;
        case ARG_CPU:
            config->cpu = value;
            break;
        case ARG_PORT:
            rc = number(name, value, UINT32_MAX, &n, err);
            config->agent_port = (uint32_t)n;
            break;
        case ARG_KERNEL:
            config->kernel = value;
            break;
        case ARG_INITRAMFS:
            config->initramfs = value;
            break;
        case ARG_CMDLINE:
            config->cmdline_extra = value;
            break;
        case ARG_CONSOLE:
            *console = true;
            break;
        case ARG_LAYER:
            if (config->n_layers == VM_MAX_LAYERS)
                return err_set(err, SM_EINVAL, "more than %d layers", VM_MAX_LAYERS);
            layers[config->n_layers++] = value;
            break;
        default:
            return err_set(err, SM_EINVAL, "unexpected argument \"%.60s\"", *argv);
        }
        if (rc)
            return rc;
    }
    if (!config->engine || !config->kernel || !config->initramfs)
        return err_set(err, SM_EINVAL,
                       "--engine, --kernel and --initramfs are needed: this "
                       "program is started by libsupermachine, not by hand");
    return 0;
}

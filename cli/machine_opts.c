// SPDX-License-Identifier: Apache-2.0
#include "machine_opts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int parse_engine(struct machine_opts *m, const char *command, const char *value)
{
    if (strcmp(value, "auto") == 0)
        m->engine = SM_ENGINE_AUTO;
    else if (strcmp(value, "kvm") == 0)
        m->engine = SM_ENGINE_KVM;
    else if (strcmp(value, "soft") == 0)
        m->engine = SM_ENGINE_SOFT;
    else
        return say("%s: --engine %.60s: must be auto, kvm or soft", command, value);
    return 0;
}

static int parse_cpu(struct machine_opts *m, const char *command, const char *value)
{
    if (strcmp(value, "v2") != 0 && strcmp(value, "v3") != 0)
        return say("%s: --cpu %.60s: must be v2 or v3", command, value);
    m->cpu = value;
    return 0;
}

/* A plain decimal number. */
static bool parse_number(const char *text, uint64_t *out)
{
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && !*end && errno == 0;
}

static int parse_memory(struct machine_opts *m, const char *command, const char *value)
{
    struct sm_limits limits;
    uint64_t mib;
    sm_limits(&limits);
    if (!parse_number(value, &mib) || mib < limits.memory_min_mib || mib > limits.memory_max_mib)
        return say("%s: --memory %.60s: must be a number of MiB from %u to %u (this host's memory)",
                   command, value, limits.memory_min_mib, limits.memory_max_mib);
    m->memory_mib = (uint32_t)mib;
    return 0;
}

static int parse_vcpus(struct machine_opts *m, const char *command, const char *value)
{
    struct sm_limits limits;
    uint64_t n;
    sm_limits(&limits);
    if (!parse_number(value, &n) || n < 1 || n > limits.vcpus_max)
        return say("%s: --vcpus %.60s: must be a number from 1 to %u", command, value,
                   limits.vcpus_max);
    m->vcpus = (uint32_t)n;
    return 0;
}

int machine_opts_take(struct machine_opts *m, const char *command, int id, const char *value)
{
    switch (id) {
    case MACHINE_OPT_ENGINE:
        return parse_engine(m, command, value);
    case MACHINE_OPT_MEMORY:
        return parse_memory(m, command, value);
    case MACHINE_OPT_VCPUS:
        return parse_vcpus(m, command, value);
    case MACHINE_OPT_CPU:
        return parse_cpu(m, command, value);
    default: /* MACHINE_OPT_KERNEL */
        m->kernel = value;
        return 0;
    }
}

void machine_opts_fill(const struct machine_opts *m, struct sm_vm_config *config)
{
    config->engine = m->engine;
    config->memory_mib = m->memory_mib;
    config->vcpus = m->vcpus;
    config->cpu = m->cpu;
    config->kernel = m->kernel;
}

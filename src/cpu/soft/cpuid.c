/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/soft/cpuid.h"

#include "cpu/model.h"

static unsigned vcpus(const struct soft_cpu *cpu)
{
    unsigned n = 1;

    while (n < ENGINE_MAX_VCPUS && soft_vcpu(cpu->engine, n) != NULL)
        n++;
    return n;
}

void soft_cpuid(uint32_t leaf, uint32_t subleaf, const struct soft_cpu *cpu, uint32_t out[4])
{
    struct model_cpu view = {.id = cpu->model,
                             .amd = cpu->amd,
                             .index = cpu->index,
                             .n_vcpus = vcpus(cpu),
                             .tsc_khz = (uint32_t)cpu->clock.khz,
                             .xcr0 = cpu->xcr0,
                             .osxsave = (cpu->cr4 & CR4_OSXSAVE) != 0};

    model_cpuid(&view, leaf, subleaf, out);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CPU that a guest sees, whatever runs it: CPUID of model "v2". Fixed and versioned, with the
 * vendor of the host, satisfiable by KVM and by the software engine on any x86-64-v2 host with AES,
 * PCLMUL, RDRAND and FSGSBASE. Both engines take their answers from here, so a guest cannot
 * tell them apart and a snapshot of one suits the other.
 *
 * Pure functions of their arguments and of the host's CPUID; usable inside a run slice.
 */
#ifndef SM_CPU_MODEL_H
#define SM_CPU_MODEL_H

#include <stdbool.h>
#include <stdint.h>

/* Physical addresses have this many bits; more in a page-table entry is a reserved-bit fault. */
#define MODEL_PHYS_BITS 40

/* What the answers depend on. */
struct model_cpu {
    bool amd; /* AMD's form of the model, else Intel's */
    unsigned index, n_vcpus;
    uint32_t tsc_khz; /* of the guest's TSC */
};

/* out: EAX EBX ECX EDX; all zero outside the model. */
void model_cpuid(const struct model_cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

/* Which form suits this host: SYSCALL and SYSENTER differ between the vendors. */
bool model_host_is_amd(void);

/* Does this host CPU lack an instruction set of the model? *name: static text, the first one
 * missing. */
bool model_missing(const char **name);

#endif

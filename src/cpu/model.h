/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CPU that a guest sees, whatever runs it: CPUID of the models "v2" and "v3". Fixed and
 * versioned, with the vendor of the host, satisfiable by KVM and by the software engine: v2 on any
 * x86-64-v2 host with AES, PCLMUL, RDRAND and FSGSBASE; v3 on any x86-64-v3 host with those
 * and XSAVEOPT. Both engines take their answers from here, so a guest cannot tell them apart and a
 * snapshot of one suits the other.
 *
 * model_cpuid() and model_host_is_amd() are usable inside a run slice; the rest is not.
 */
#ifndef SM_CPU_MODEL_H
#define SM_CPU_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* psABI levels; a higher one has all of the lower. */
enum model_id { MODEL_V2, MODEL_V3 };

/* Physical addresses have this many bits; more in a page-table entry is a reserved-bit fault. */
#define MODEL_PHYS_BITS 40

/* What the answers depend on. */
struct model_cpu {
    enum model_id id;
    bool amd; /* AMD's form of the model, else Intel's */
    unsigned index, n_vcpus;
    uint32_t tsc_khz; /* of the guest's TSC */
    /* what CPUID shows of them in v3 (KVM fills that in by itself): XCR0, 0 taken for 1, and
     * CR4.OSXSAVE */
    uint64_t xcr0;
    bool osxsave;
};

/* out: EAX EBX ECX EDX; all zero outside the model. */
void model_cpuid(const struct model_cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

/* Which form suits this host: SYSCALL and SYSENTER differ between the vendors. */
bool model_host_is_amd(void);
const char *model_host_vendor(void); /* "amd" or "intel" */

/* "v2", "v3". */
const char *model_name(enum model_id id);

/* The model of that name, which need not suit this host. SM_EINVAL: there is none. */
int model_parse(const char *name, enum model_id *out, struct sm_error *err);

/*
 * The model of that name; NULL: the highest that this host can run. SM_EINVAL: there is no such
 * model; SM_EUNSUPPORTED: this processor lacks features of it, which err names (SM_EENGINE: of
 * every model).
 */
int model_choose(const char *name, enum model_id *out, struct sm_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filling a vCPU's TLB. The probe is inlined (exec.h); flushes are declared with the vCPU (cpu.h).
 *
 * A write entry exists only while the guest's PTE is writable and dirty and the page holds no
 * lifted code; so permission, dirty bits and self-modifying code cost nothing on the fast path.
 */
#ifndef SM_SOFT_TLB_H
#define SM_SOFT_TLB_H

#include "cpu/soft/walk.h"

/* Remember that the page of `va` is at `host`, for accesses of this kind. */
void soft_tlb_fill(struct soft_cpu *cpu, bool user, enum soft_access acc, uint64_t va,
                   const struct walk *w, uint8_t *host);
/* Note that RAM page `page` may be in the write TLB from now on. False: somebody has code from
 * it, and it may not. */
bool soft_claim_write(struct soft_cpu *cpu, uint64_t page);

#endif

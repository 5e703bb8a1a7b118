/* SPDX-License-Identifier: Apache-2.0 */
/* The CPUID model (cpu/model.h) as the software engine presents it. */
#ifndef SM_SOFT_CPUID_H
#define SM_SOFT_CPUID_H

#include "cpu/soft/cpu.h"

/* CPUID as vcpu's guest sees it. out: EAX EBX ECX EDX; all zero outside the model. May run in a
 * slice. */
void soft_cpuid(uint32_t leaf, uint32_t subleaf, const struct soft_cpu *vcpu, uint32_t out[4]);

#endif

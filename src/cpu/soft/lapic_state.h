/* SPDX-License-Identifier: Apache-2.0 */
/* The local APIC's registers as one page (cpu/engine.h says how). Not inside a run slice. */
#ifndef SM_SOFT_LAPIC_STATE_H
#define SM_SOFT_LAPIC_STATE_H

#include "cpu/soft/cpu.h"

void lapic_state_save(struct soft_cpu *cpu, uint8_t page[CPU_LAPIC_BYTES]);

/* After the vCPU's TSC offset and CR8. The timer goes on with what was left. 0, or -1: a value that
 * no guest could have put there; the APIC is then partly changed. */
int lapic_state_load(struct soft_cpu *cpu, const uint8_t page[CPU_LAPIC_BYTES],
                     uint64_t tsc_deadline);

#endif

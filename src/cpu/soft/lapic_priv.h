/* SPDX-License-Identifier: Apache-2.0 */
/* What lapic.c, lapic_regs.c and lapic_timer.c share. Own vCPU's thread, in a run slice. */
#ifndef SM_SOFT_LAPIC_PRIV_H
#define SM_SOFT_LAPIC_PRIV_H

#include "cpu/soft/cpu.h"
#include "cpu/soft/lapic.h"

#define SVR_ENABLED 0x100u
#define LVT_MASKED 0x10000u
#define LVT_PERIODIC 0x20000u
#define LVT_TSC_DEADLINE 0x40000u
#define LVT_TIMER_MODE (LVT_PERIODIC | LVT_TSC_DEADLINE)

#define ESR_SEND_ILLEGAL 0x20u
#define ESR_RECEIVE_ILLEGAL 0x40u

#define ICR_LOGICAL 0x800u
enum { ICR_FIXED = 0, ICR_LOWEST = 1 };
enum { ICR_TO_DEST, ICR_TO_SELF, ICR_TO_ALL, ICR_TO_OTHERS };

unsigned lapic_ppr(const struct soft_cpu *cpu); /* processor priority */
void lapic_eoi(struct soft_cpu *cpu);
void lapic_send(struct soft_cpu *cpu, uint64_t icr);

void lapic_timer_start(struct soft_cpu *cpu, uint32_t ticks); /* initial count written; 0 stops */
void lapic_timer_stop(struct soft_cpu *cpu);
uint32_t lapic_timer_count(struct soft_cpu *cpu); /* current count */
void lapic_timer_divide(struct soft_cpu *cpu, uint32_t divide);

#endif

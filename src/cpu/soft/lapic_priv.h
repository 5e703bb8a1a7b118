/* SPDX-License-Identifier: Apache-2.0 */
/* What lapic.c, lapic_regs.c and lapic_timer.c share. Own vCPU's thread, in a run slice. */
#ifndef SM_SOFT_LAPIC_PRIV_H
#define SM_SOFT_LAPIC_PRIV_H

#include "cpu/soft/cpu.h"
#include "cpu/soft/lapic.h"

/* x2APIC registers, MSR 0x800 + n (SDM vol. 3, table 11-6). */
enum lapic_reg {
    REG_ID = 0x02,
    REG_VERSION = 0x03,
    REG_TPR = 0x08,
    REG_PPR = 0x0a,
    REG_EOI = 0x0b,
    REG_LDR = 0x0d,
    REG_DFR = 0x0e, /* only in the page of lapic_state.h */
    REG_SVR = 0x0f,
    REG_ISR = 0x10,
    REG_TMR = 0x18,
    REG_IRR = 0x20,
    REG_ESR = 0x28,
    REG_ICR = 0x30,
    REG_ICR_HIGH = 0x31, /* only in that page */
    REG_LVT = 0x32,      /* ... 0x37, in the order of enum lapic_lvt */
    REG_TIMER_INITIAL = 0x38,
    REG_TIMER_CURRENT = 0x39,
    REG_DIVIDE = 0x3e,
    REG_SELF_IPI = 0x3f,
};

#define SVR_ENABLED 0x100u
#define SVR_DEFINED 0x3ffu
#define DIVIDE_DEFINED 0xbu
#define LVT_MASKED 0x10000u
#define LVT_PERIODIC 0x20000u
#define LVT_TSC_DEADLINE 0x40000u
#define LVT_TIMER_MODE (LVT_PERIODIC | LVT_TSC_DEADLINE)

#define ESR_SEND_ILLEGAL 0x20u
#define ESR_RECEIVE_ILLEGAL 0x40u

#define ICR_LOGICAL 0x800u
#define ICR_ASSERT 0x4000u
#define ICR_LEVEL 0x8000u
enum { ICR_FIXED = 0, ICR_LOWEST = 1, ICR_NMI = 4, ICR_INIT = 5, ICR_SIPI = 6 };
enum { ICR_TO_DEST, ICR_TO_SELF, ICR_TO_ALL, ICR_TO_OTHERS };

unsigned lapic_ppr(const struct soft_cpu *cpu); /* processor priority */
void lapic_eoi(struct soft_cpu *cpu);
void lapic_send(struct soft_cpu *cpu, uint64_t icr);

void lapic_timer_start(struct soft_cpu *cpu, uint32_t ticks); /* initial count written; 0 stops */
void lapic_timer_stop(struct soft_cpu *cpu);
uint32_t lapic_timer_count(struct soft_cpu *cpu); /* current count */
/* Go on after a load: initial count, what is left of it, and the deadline of TSC-deadline mode. */
void lapic_timer_resume(struct soft_cpu *cpu, uint32_t initial, uint32_t left,
                        uint64_t tsc_deadline);
void lapic_timer_divide(struct soft_cpu *cpu, uint32_t divide);

#endif

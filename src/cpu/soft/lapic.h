/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Local APIC, x2APIC mode only (registers are MSRs 0x800-0x83f), with the timer on a 1 GHz bus
 * clock as KVM's is. Source: Intel SDM vol. 3, chapter 11 (APIC).
 *
 * Limits: lowest priority goes to the first vCPU addressed; SMI messages are dropped.
 *
 * Threads: the vCPU's own, except irr, tmr and svr, which posting threads touch.
 */
#ifndef SM_SOFT_LAPIC_H
#define SM_SOFT_LAPIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct soft_cpu;

enum lapic_lvt { LVT_TIMER, LVT_THERMAL, LVT_PMC, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

struct soft_lapic {
    _Atomic uint64_t irr[4]; /* requested */
    _Atomic uint64_t tmr[4]; /* level-triggered */
    uint64_t isr[4];         /* in service */
    _Atomic uint32_t svr;
    uint32_t tpr_low;       /* TPR bits 0-3; bits 4-7 are cpu->cr8 */
    uint32_t esr, esr_next; /* as read; as the next write will make it */
    uint32_t lvt[LVT_COUNT];
    uint64_t icr;
    uint32_t divide;        /* divide configuration register */
    uint32_t initial_count; /* ticks */
    uint64_t deadline;      /* host TSC of the next expiry; UINT64_MAX when stopped */
    uint64_t tsc_deadline;  /* IA32_TSC_DEADLINE: guest TSC, 0 when disarmed */
};

/* Reset state: software-disabled, everything masked, timer stopped. */
void soft_lapic_init(struct soft_lapic *l);

/* Request vector. Sets PEND_IRQ in the target but does not wake it: the caller also calls
 * soft_notify(target, PEND_IRQ) unless target is the calling thread's own vCPU. Any thread. */
void soft_lapic_post(struct soft_cpu *target, unsigned vector, bool level);
/* Does a message with this destination reach the vCPU? dest: x2APIC id or logical mask. Any thread.
 */
bool soft_lapic_match(const struct soft_cpu *cpu, uint32_t dest, bool logical);
/* Put an accepted vector back from ISR to IRR: its delivery faulted. */
void soft_lapic_unaccept(struct soft_cpu *cpu, unsigned vector);
/* An interrupt may have become deliverable (IF was set, TPR lowered): set PEND_IRQ if so. */
void soft_lapic_recheck(struct soft_cpu *cpu);

/* IA32_TSC_DEADLINE (SDM vol. 3, 11.5.4.1): writes are ignored in the other timer modes. In a run
 * slice. */
uint64_t soft_lapic_tsc_deadline(const struct soft_cpu *cpu);
void soft_lapic_set_tsc_deadline(struct soft_cpu *cpu, uint64_t guest_tsc);

/* MSR 0x800 + reg. 0, or -1 for #GP. In a run slice. */
int soft_lapic_read(struct soft_cpu *cpu, unsigned reg, uint64_t *value);
int soft_lapic_write(struct soft_cpu *cpu, unsigned reg, uint64_t value);

#endif

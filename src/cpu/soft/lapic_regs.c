/* SPDX-License-Identifier: Apache-2.0 */
/* The x2APIC register file, MSR 0x800 + register. Source: Intel SDM vol. 3, table 11-6. */
#include "cpu/soft/lapic_priv.h"

#define VERSION 0x14u
#define ICR_RESERVED                                                                               \
    0xfff32000ull /* bits 13, 16, 17, 20-31; bit 12, delivery status, is ignored                   \
                   */

/* Writable bits of each LVT entry: vector, delivery mode where there is one, mask, timer mode; pin
 * polarity and trigger of LINT0 and LINT1. */
static uint32_t lvt_writable(unsigned i)
{
    switch (i) {
    case LVT_TIMER:
        return 0x700ff;
    case LVT_ERROR:
        return 0x100ff;
    case LVT_LINT0:
    case LVT_LINT1:
        return 0x1a7ff;
    default:
        return 0x107ff;
    }
}

static uint32_t word(uint64_t w, unsigned i)
{
    return (uint32_t)(i & 1 ? w >> 32 : w);
}

int soft_lapic_read(struct soft_cpu *cpu, unsigned reg, uint64_t *value)
{
    struct soft_lapic *l = cpu->lapic;

    if (reg >= REG_ISR && reg < REG_ISR + 8) {
        *value = word(l->isr[(reg - REG_ISR) / 2], reg);
        return 0;
    }
    if (reg >= REG_TMR && reg < REG_TMR + 8) {
        *value = word(atomic_load(&l->tmr[(reg - REG_TMR) / 2]), reg);
        return 0;
    }
    if (reg >= REG_IRR && reg < REG_IRR + 8) {
        *value = word(atomic_load(&l->irr[(reg - REG_IRR) / 2]), reg);
        return 0;
    }
    if (reg >= REG_LVT && reg < REG_LVT + LVT_COUNT) {
        *value = l->lvt[reg - REG_LVT];
        return 0;
    }
    switch (reg) {
    case REG_ID:
        *value = cpu->index;
        return 0;
    case REG_VERSION:
        *value = VERSION | (LVT_COUNT - 1) << 16;
        return 0;
    case REG_TPR:
        *value = cpu->cr8 << 4 | l->tpr_low;
        return 0;
    case REG_PPR:
        *value = lapic_ppr(cpu);
        return 0;
    case REG_LDR:
        *value = (uint64_t)(cpu->index >> 4) << 16 | 1u << (cpu->index & 15);
        return 0;
    case REG_SVR:
        *value = atomic_load(&l->svr);
        return 0;
    case REG_ESR:
        *value = l->esr;
        return 0;
    case REG_ICR:
        *value = l->icr;
        return 0;
    case REG_TIMER_INITIAL:
        *value = l->initial_count;
        return 0;
    case REG_TIMER_CURRENT:
        *value = lapic_timer_count(cpu);
        return 0;
    case REG_DIVIDE:
        *value = l->divide;
        return 0;
    default:
        return -1;
    }
}

static void write_svr(struct soft_lapic *l, uint32_t value)
{
    atomic_store(&l->svr, value);
    if (value & SVR_ENABLED)
        return;
    for (unsigned i = 0; i < LVT_COUNT; i++)
        l->lvt[i] |= LVT_MASKED;
}

static int write_lvt(struct soft_cpu *cpu, unsigned i, uint32_t value)
{
    struct soft_lapic *l = cpu->lapic;
    uint32_t status = 0x5000; /* delivery status, remote IRR: read-only */

    if (value & ~(lvt_writable(i) | status))
        return -1;
    value &= lvt_writable(i);
    if (!(atomic_load(&l->svr) & SVR_ENABLED))
        value |= LVT_MASKED;
    if (i == LVT_TIMER && (value & LVT_TIMER_MODE) == LVT_TIMER_MODE)
        return -1; /* reserved mode */
    if (i == LVT_TIMER && ((value ^ l->lvt[i]) & LVT_TIMER_MODE))
        lapic_timer_stop(cpu); /* a change of mode stops the timer */
    l->lvt[i] = value;
    return 0;
}

static int write_icr(struct soft_cpu *cpu, uint64_t value)
{
    if (value & ICR_RESERVED)
        return -1;
    cpu->lapic->icr = value & ~0x1000ull;
    lapic_send(cpu, value);
    return 0;
}

static int write_esr(struct soft_lapic *l, uint64_t value)
{
    if (value != 0)
        return -1;
    l->esr = l->esr_next;
    l->esr_next = 0;
    return 0;
}

int soft_lapic_write(struct soft_cpu *cpu, unsigned reg, uint64_t value)
{
    struct soft_lapic *l = cpu->lapic;

    if (reg == REG_ICR)
        return write_icr(cpu, value);
    if (value >> 32)
        return -1;
    if (reg >= REG_LVT && reg < REG_LVT + LVT_COUNT)
        return write_lvt(cpu, reg - REG_LVT, (uint32_t)value);
    switch (reg) {
    case REG_TPR:
        if (value >> 8)
            return -1;
        cpu->cr8 = value >> 4;
        l->tpr_low = value & 15;
        soft_lapic_recheck(cpu);
        return 0;
    case REG_EOI:
        if (value != 0)
            return -1;
        lapic_eoi(cpu);
        return 0;
    case REG_SVR:
        if (value & ~(uint64_t)SVR_DEFINED) /* no EOI broadcast suppression */
            return -1;
        write_svr(l, (uint32_t)value);
        return 0;
    case REG_ESR:
        return write_esr(l, value);
    case REG_TIMER_INITIAL:
        lapic_timer_start(cpu, (uint32_t)value);
        return 0;
    case REG_DIVIDE:
        if (value & ~(uint64_t)DIVIDE_DEFINED)
            return -1;
        lapic_timer_divide(cpu, (uint32_t)value);
        return 0;
    case REG_SELF_IPI:
        if (value >> 8)
            return -1;
        if (value < 16)
            l->esr_next |= ESR_SEND_ILLEGAL;
        soft_lapic_post(cpu, (unsigned)value, false);
        return 0;
    default:
        return -1;
    }
}

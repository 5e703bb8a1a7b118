/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local APIC's interrupt logic: what is requested, what is in service, what may be delivered;
 * and its messages to other vCPUs. Registers are in lapic_regs.c, the timer in lapic_timer.c.
 */
#include "cpu/soft/ioapic.h"
#include "cpu/soft/lapic_priv.h"
#include "cpu/soft/sys.h"

void soft_lapic_init(struct soft_lapic *l)
{
    for (unsigned i = 0; i < 4; i++) {
        atomic_store(&l->irr[i], 0);
        atomic_store(&l->tmr[i], 0);
        l->isr[i] = 0;
    }
    atomic_store(&l->svr, 0xff);
    l->tpr_low = 0;
    l->esr = l->esr_next = 0;
    for (unsigned i = 0; i < LVT_COUNT; i++)
        l->lvt[i] = LVT_MASKED;
    l->icr = 0;
    l->divide = 0;
    l->initial_count = 0;
    l->deadline = UINT64_MAX;
    l->tsc_deadline = 0;
}

static int highest(uint64_t w3, uint64_t w2, uint64_t w1, uint64_t w0)
{
    if (w3 != 0)
        return 255 - __builtin_clzll(w3);
    if (w2 != 0)
        return 191 - __builtin_clzll(w2);
    if (w1 != 0)
        return 127 - __builtin_clzll(w1);
    return w0 != 0 ? 63 - __builtin_clzll(w0) : -1;
}

static int highest_irr(struct soft_lapic *l)
{
    return highest(atomic_load(&l->irr[3]), atomic_load(&l->irr[2]), atomic_load(&l->irr[1]),
                   atomic_load(&l->irr[0]));
}

static int highest_isr(const struct soft_lapic *l)
{
    return highest(l->isr[3], l->isr[2], l->isr[1], l->isr[0]);
}

unsigned lapic_ppr(const struct soft_cpu *cpu)
{
    const struct soft_lapic *l = cpu->lapic;
    unsigned tpr = (unsigned)cpu->cr8 << 4 | l->tpr_low;
    int isr = highest_isr(l);

    return isr >= 0 && (unsigned)isr >> 4 > tpr >> 4 ? (unsigned)isr & 0xf0 : tpr;
}

/* Vector that may be delivered now, or -1. */
static int deliverable(struct soft_cpu *cpu)
{
    int vector = highest_irr(cpu->lapic);

    return vector >= 0 && (unsigned)vector >> 4 > lapic_ppr(cpu) >> 4 ? vector : -1;
}

int soft_lapic_accept(struct soft_cpu *cpu)
{
    struct soft_lapic *l = cpu->lapic;
    int vector = deliverable(cpu);

    if (vector < 0)
        return -1;
    atomic_fetch_and(&l->irr[vector >> 6], ~(1ull << (vector & 63)));
    l->isr[vector >> 6] |= 1ull << (vector & 63);
    return vector;
}

bool soft_lapic_ready(struct soft_cpu *cpu)
{
    return deliverable(cpu) >= 0;
}

void soft_lapic_recheck(struct soft_cpu *cpu)
{
    if (soft_lapic_ready(cpu))
        atomic_fetch_or(&cpu->pending, PEND_IRQ);
}

void soft_lapic_unaccept(struct soft_cpu *cpu, unsigned vector)
{
    struct soft_lapic *l = cpu->lapic;

    l->isr[vector >> 6] &= ~(1ull << (vector & 63));
    atomic_fetch_or(&l->irr[vector >> 6], 1ull << (vector & 63));
    atomic_fetch_or(&cpu->pending, PEND_IRQ);
}

void soft_lapic_post(struct soft_cpu *target, unsigned vector, bool level)
{
    struct soft_lapic *l = target->lapic;
    uint64_t bit = 1ull << (vector & 63);

    if (vector < 16 || vector > 255 || !(atomic_load(&l->svr) & SVR_ENABLED))
        return;
    if (level)
        atomic_fetch_or(&l->tmr[vector >> 6], bit);
    else
        atomic_fetch_and(&l->tmr[vector >> 6], ~bit);
    atomic_fetch_or(&l->irr[vector >> 6], bit);
    atomic_fetch_or(&target->pending, PEND_IRQ);
}

bool soft_lapic_match(const struct soft_cpu *cpu, uint32_t dest, bool logical)
{
    if (dest == 0xffffffff)
        return true;
    if (!logical)
        return dest == cpu->index;
    return dest >> 16 == cpu->index >> 4 && (dest & 1u << (cpu->index & 15));
}

void lapic_eoi(struct soft_cpu *cpu)
{
    struct soft_lapic *l = cpu->lapic;
    int vector = highest_isr(l);

    if (vector < 0)
        return;
    l->isr[vector >> 6] &= ~(1ull << (vector & 63));
    if (atomic_load(&l->tmr[vector >> 6]) >> (vector & 63) & 1) {
        soft_ioapic_eoi(soft_ioapic(cpu->engine), (unsigned)vector);
    }
    soft_lapic_recheck(cpu);
}

static bool addressed(const struct soft_cpu *cpu, const struct soft_cpu *target, uint64_t icr)
{
    switch (icr >> 18 & 3) {
    case ICR_TO_DEST:
        return soft_lapic_match(target, (uint32_t)(icr >> 32), icr & ICR_LOGICAL);
    case ICR_TO_SELF:
        return target == cpu;
    case ICR_TO_ALL:
        return true;
    default:
        return target != cpu;
    }
}

/* One message to one vCPU. */
static void receive(struct soft_cpu *cpu, struct soft_cpu *target, uint64_t icr)
{
    switch (icr >> 8 & 7) {
    case ICR_FIXED:
    case ICR_LOWEST:
        soft_lapic_post(target, icr & 0xff, false);
        if (target != cpu)
            soft_notify(target, PEND_IRQ);
        break;
    case ICR_NMI:
        soft_notify(target, PEND_NMI);
        break;
    case ICR_INIT:
        atomic_fetch_and(&target->pending, ~PEND_SIPI); /* an older one is void */
        soft_notify(target, PEND_INIT);
        break;
    case ICR_SIPI: /* the first one counts: a second finds the vCPU started */
        if (!(atomic_load(&target->pending) & PEND_SIPI))
            atomic_store(&target->sipi_vector, icr & 0xff);
        soft_notify(target, PEND_SIPI);
        break;
    }
}

void lapic_send(struct soft_cpu *cpu, uint64_t icr)
{
    unsigned mode = icr >> 8 & 7;
    bool fixed = mode == ICR_FIXED || mode == ICR_LOWEST;
    struct soft_cpu *target;

    if (fixed && (icr & 0xff) < 16) {
        cpu->lapic->esr_next |= ESR_SEND_ILLEGAL;
        return;
    }
    if (!fixed && (icr >> 18 & 3) == ICR_TO_SELF) /* SDM vol. 3, table 11-3: not valid */
        return;
    if (mode == ICR_INIT && (icr & (ICR_ASSERT | ICR_LEVEL)) == ICR_LEVEL)
        return; /* INIT level de-assert: only for processors of long ago */
    for (unsigned i = 0; (target = soft_vcpu(cpu->engine, i)) != NULL; i++) {
        if (!addressed(cpu, target, icr))
            continue;
        receive(cpu, target, icr);
        if (mode == ICR_LOWEST)
            break;
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/soft/lapic_state.h"

#include "cpu/soft/lapic_priv.h"

#define ID_SHIFT 24
#define DFR_FLAT 0xffffffffu
#define ILLEGAL_VECTORS 0xffffull /* 0-15 */

/* Registers that are read as they are; the others have a twist each. */
static const uint8_t plain[] = {
    REG_VERSION, REG_TPR,           REG_PPR,           REG_LDR,    REG_SVR,
    REG_ESR,     REG_TIMER_INITIAL, REG_TIMER_CURRENT, REG_DIVIDE,
};

static uint32_t get(const uint8_t *page, unsigned reg)
{
    uint32_t v;
    __builtin_memcpy(&v, page + (reg << 4), sizeof v);
    return v;
}

static void put(uint8_t *page, unsigned reg, uint32_t value)
{
    __builtin_memcpy(page + (reg << 4), &value, sizeof value);
}

static uint64_t get_pair(const uint8_t *page, unsigned reg)
{
    return get(page, reg) | (uint64_t)get(page, reg + 1) << 32;
}

static void save_register(struct soft_cpu *cpu, uint8_t *page, unsigned reg)
{
    uint64_t value = 0;

    soft_lapic_read(cpu, reg, &value);
    put(page, reg, (uint32_t)value);
}

void lapic_state_save(struct soft_cpu *cpu, uint8_t page[CPU_LAPIC_BYTES])
{
    for (unsigned i = 0; i < sizeof plain; i++)
        save_register(cpu, page, plain[i]);
    for (unsigned reg = REG_ISR; reg < REG_IRR + 8; reg++)
        save_register(cpu, page, reg);
    for (unsigned i = 0; i < LVT_COUNT; i++)
        save_register(cpu, page, REG_LVT + i);
    put(page, REG_ID, cpu->index << ID_SHIFT);
    put(page, REG_DFR, DFR_FLAT);
    put(page, REG_ICR, (uint32_t)cpu->lapic->icr);
    put(page, REG_ICR_HIGH, (uint32_t)(cpu->lapic->icr >> 32));
}

static int load_vectors(struct soft_lapic *l, const uint8_t *page)
{
    for (unsigned i = 0; i < 4; i++) {
        l->isr[i] = get_pair(page, REG_ISR + 2 * i);
        atomic_store(&l->tmr[i], get_pair(page, REG_TMR + 2 * i));
        atomic_store(&l->irr[i], get_pair(page, REG_IRR + 2 * i));
    }
    return (l->isr[0] | atomic_load(&l->irr[0])) & ILLEGAL_VECTORS ? -1 : 0;
}

int lapic_state_load(struct soft_cpu *cpu, const uint8_t page[CPU_LAPIC_BYTES],
                     uint64_t tsc_deadline)
{
    struct soft_lapic *l = cpu->lapic;
    uint32_t svr = get(page, REG_SVR), tpr = get(page, REG_TPR), divide = get(page, REG_DIVIDE);

    if (get(page, REG_ID) != cpu->index << ID_SHIFT || svr & ~SVR_DEFINED || tpr >> 8 ||
        tpr >> 4 != cpu->cr8 || divide & ~DIVIDE_DEFINED || load_vectors(l, page) != 0)
        return -1;
    /* Enabled while the entries go in: a disabled APIC would mask them. */
    atomic_store(&l->svr, svr | SVR_ENABLED);
    for (unsigned i = 0; i < LVT_COUNT; i++)
        if (soft_lapic_write(cpu, REG_LVT + i, get(page, REG_LVT + i)) != 0)
            return -1;
    atomic_store(&l->svr, svr);
    l->tpr_low = tpr & 15;
    l->esr = get(page, REG_ESR);
    l->esr_next = 0;
    l->icr = get_pair(page, REG_ICR);
    l->divide = divide;
    lapic_timer_resume(cpu, get(page, REG_TIMER_INITIAL), get(page, REG_TIMER_CURRENT),
                       tsc_deadline);
    soft_lapic_recheck(cpu);
    return 0;
}

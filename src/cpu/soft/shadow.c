/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/soft/shadow.h"

#include "cpu/soft/exec.h"

static unsigned slot_of(const uint8_t *page)
{
    return (unsigned)(((uintptr_t)page >> 12) * 0x9e3779b97f4a7c15ull >> 32) & (SHADOW_SLOTS - 1);
}

void shadow_clear(struct shadow *m)
{
    for (unsigned i = m->n; i-- > 0;) { /* backwards: no gap before the one that is looked for */
        unsigned slot = slot_of(m->host[i]);
        while (m->slot[slot] != i + 1) {
            slot = (slot + 1) & (SHADOW_SLOTS - 1);
        }
        m->slot[slot] = 0;
    }
    m->n = 0;
    m->stop = SHADOW_GOES_ON;
    m->flushed = false;
}

_Noreturn void shadow_leave(struct soft_cpu *replay, enum shadow_stop why)
{
    replay->shadow->stop = (uint8_t)why;
    __builtin_longjmp(replay->landing, 1);
}

static uint8_t *make_copy(struct soft_cpu *replay, uint8_t *page, unsigned slot)
{
    struct shadow *m = replay->shadow;
    if (m->n == SHADOW_PAGES) {
        shadow_leave(replay, SHADOW_FULL);
    }
    uint64_t *to = (uint64_t *)m->copy[m->n];
    const volatile uint64_t *from = (const volatile uint64_t *)page;
    for (unsigned i = 0; i < 4096 / 8; i++) {
        to[i] = from[i];
    }
    m->host[m->n] = page;
    m->slot[slot] = (uint16_t)++m->n;
    soft_tlb_forget(replay); /* it may have the guest's page for reading */
    return m->copy[m->n - 1];
}

uint8_t *shadow_byte(struct soft_cpu *replay, uint8_t *p, bool write)
{
    struct shadow *m = replay->shadow;
    uint8_t *page = (uint8_t *)((uintptr_t)p & ~(uintptr_t)0xfff);
    if (page >= m->copy[0] && page < m->copy[SHADOW_PAGES]) {
        return p;
    }
    unsigned slot = slot_of(page);
    for (; m->slot[slot]; slot = (slot + 1) & (SHADOW_SLOTS - 1)) {
        if (m->host[m->slot[slot] - 1] == page) {
            return m->copy[m->slot[slot] - 1] + (p - page);
        }
    }
    return write ? make_copy(replay, page, slot) + (p - page) : p;
}

uint8_t *shadow_cached(const struct soft_cpu *replay, uint64_t va, bool write, bool user)
{
    const struct shadow *m = replay->shadow;
    return m->flushed ? NULL : tlb_probe(m->real->tlb[user][write], va & ~0xfffull, 1);
}

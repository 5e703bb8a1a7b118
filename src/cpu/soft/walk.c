/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/soft/walk.h"

#include "cpu/soft/shadow.h"
#include "cpu/soft/soft.h"

#define PTE_P 0x1ull
#define PTE_W 0x2ull
#define PTE_U 0x4ull
#define PTE_A 0x20ull
#define PTE_D 0x40ull
#define PTE_PS 0x80ull
#define PTE_G 0x100ull
#define PTE_NX (1ull << 63)
#define PTE_ADDR (((1ull << MODEL_PHYS_BITS) - 1) & ~0xfffull)
#define PTE_RESERVED (((1ull << 52) - 1) & ~((1ull << MODEL_PHYS_BITS) - 1))

#define PFEC_P 1u
#define PFEC_W 2u
#define PFEC_U 4u
#define PFEC_RSVD 8u
#define PFEC_I 16u

static _Atomic uint64_t *pte_ptr(struct soft_cpu *cpu, gpa_t gpa)
{
    const struct mem_region *r = mem_find(cpu->engine->config.mem, gpa);
    if (!r || !r->ram) {
        return NULL;
    }
    uint8_t *p = r->hva + (gpa - r->gpa);
    return (_Atomic uint64_t *)(cpu->shadow ? shadow_byte(cpu, p, false) : p);
}

/* Set bits in a table entry unless it changed meanwhile. False: walk again. */
static bool pte_set(struct soft_cpu *cpu, enum soft_access acc, _Atomic uint64_t *p, uint64_t old,
                    uint64_t bits)
{
    if ((old & bits) == bits) {
        return true;
    }
    if (cpu->shadow) {
        if (acc == ACC_FETCH) {
            return true; /* the block was fetched before the replay began */
        }
        p = (_Atomic uint64_t *)shadow_byte(cpu, (uint8_t *)p, true);
    }
    return atomic_compare_exchange_strong(p, &old, old | bits);
}

static uint64_t reserved_bits(const struct soft_cpu *cpu, unsigned level, uint64_t e)
{
    uint64_t bad = e & PTE_RESERVED;
    if (!(cpu->efer & EFER_NX)) {
        bad |= e & PTE_NX;
    }
    if (level == 3) {
        bad |= e & PTE_PS;
    } else if (level > 0 && (e & PTE_PS)) {
        bad |= e & ((1ull << (12 + 9 * level)) - 1) & ~0x1fffull;
    }
    return bad;
}

int soft_walk(struct soft_cpu *cpu, uint64_t va, enum soft_access acc, bool user, struct walk *w,
              uint32_t *code)
{
    uint32_t base_code =
        (acc == ACC_WRITE ? PFEC_W : 0) | (user ? PFEC_U : 0) |
        (acc == ACC_FETCH && (cpu->efer & EFER_NX || cpu->cr4 & CR4_SMEP) ? PFEC_I : 0);
    if (!(cpu->cr0 & CR0_PG)) {
        *w = (struct walk){.phys = va, .writable = true, .user = true, .exec = true, .dirty = true};
        return 0;
    }
again:
    *w = (struct walk){.writable = true, .user = true, .exec = true};
    gpa_t table = cpu->cr3 & PTE_ADDR;
    for (int level = 3;; level--) {
        _Atomic uint64_t *p = pte_ptr(cpu, table + ((va >> (12 + 9 * level)) & 511) * 8);
        uint64_t e = p ? *p : 0;
        if (!(e & PTE_P)) {
            *code = base_code;
            return -1;
        }
        if (reserved_bits(cpu, (unsigned)level, e)) {
            *code = base_code | PFEC_P | PFEC_RSVD;
            return -1;
        }
        w->writable &= (e & PTE_W) != 0;
        w->user &= (e & PTE_U) != 0;
        w->exec &= !(e & PTE_NX);
        bool leaf = level == 0 || (e & PTE_PS);
        if (!leaf) {
            if (!pte_set(cpu, acc, p, e, PTE_A)) {
                goto again;
            }
            table = e & PTE_ADDR;
            continue;
        }
        bool denied =
            (user && !w->user) ||
            (acc == ACC_WRITE && !w->writable && (user || (cpu->cr0 & CR0_WP))) ||
            (acc == ACC_FETCH && (!w->exec || (!user && w->user && (cpu->cr4 & CR4_SMEP))));
        if (denied) {
            *code = base_code | PFEC_P;
            return -1;
        }
        if (!pte_set(cpu, acc, p, e, acc == ACC_WRITE ? PTE_A | PTE_D : PTE_A)) {
            goto again;
        }
        uint64_t offset_mask = (1ull << (12 + 9 * level)) - 1;
        w->phys = ((e & PTE_ADDR) & ~offset_mask) | (va & offset_mask);
        w->global = (e & PTE_G) && (cpu->cr4 & CR4_PGE);
        w->large = level > 0;
        w->dirty = acc == ACC_WRITE || (e & PTE_D);
        return 0;
    }
}

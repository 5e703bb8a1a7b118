/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/soft/tlb.h"

#include "cpu/soft/breakpoint.h"
#include "cpu/soft/legacy.h"
#include "cpu/soft/shadow.h"
#include "cpu/soft/soft.h"
#include "cpu/soft/trace.h"

static void tlb_clear(struct soft_cpu *cpu, unsigned array, unsigned slot)
{
    struct soft_tlb_entry *e = &cpu->tlb[array >> 1][array & 1][slot];
    e->tag = SOFT_TLB_EMPTY(slot);
    e->host = 0;
}

static void tlb_clear_all(struct soft_cpu *cpu)
{
    for (unsigned a = 0; a < 4; a++) {
        for (unsigned s = 0; s < SOFT_TLB_SIZE; s++) {
            tlb_clear(cpu, a, s);
        }
    }
    cpu->n_filled[0] = cpu->n_filled[1] = 0;
    cpu->large_bloom = 0;
    for (unsigned i = 0; i < 4; i++) {
        cpu->tlb_high[i >> 1][i & 1] = false;
    }
}

static void flush_list(struct soft_cpu *cpu, unsigned list)
{
    for (unsigned i = 0; i < cpu->n_filled[list]; i++) {
        unsigned f = cpu->filled[list][i];
        tlb_clear(cpu, f >> SOFT_TLB_BITS, f & (SOFT_TLB_SIZE - 1));
    }
    cpu->n_filled[list] = 0;
    cpu->tlb_high[0][list] = cpu->tlb_high[1][list] = false;
}

void soft_code_flush(struct soft_cpu *cpu)
{
    cpu->gen[0]++;
    cpu->gen[1]++;
    cpu->link_from = NULL;
    for (unsigned i = 0; i < 64; i++) {
        cpu->code_bloom[i] = 0;
    }
}

void soft_tlb_forget(struct soft_cpu *cpu)
{
    flush_list(cpu, 0);
    flush_list(cpu, 1);
}

void soft_tlb_flush(struct soft_cpu *cpu, bool keep_global)
{
    cpu->link_from = NULL;
    trace(cpu, ENGINE_TRACE_TLB, TRACE_FLUSH, keep_global, 0, 0);
    if (cpu->shadow) {
        cpu->shadow->flushed = true;
        soft_tlb_forget(cpu);
        return;
    }
    if (keep_global) {
        flush_list(cpu, 0);
        cpu->gen[0]++;
        return;
    }
    tlb_clear_all(cpu);
    soft_code_flush(cpu);
}

void soft_tlb_low(struct soft_cpu *cpu)
{
    for (unsigned list = 0; list < 2; list++) {
        if (cpu->tlb_high[cpu->cpl == 3][list]) {
            flush_list(cpu, list);
        }
    }
}

static unsigned code_hash(uint64_t va)
{
    return (unsigned)(((va >> 12) * 0x9e3779b97f4a7c15ull) >> 52);
}

void soft_tlb_invlpg(struct soft_cpu *cpu, uint64_t va)
{
    uint64_t first = va & ~0xfffull;
    unsigned n = 1;
    trace(cpu, ENGINE_TRACE_TLB, TRACE_INVLPG, va, 0, 0);
    if (cpu->shadow) {
        soft_tlb_flush(cpu, false);
        return;
    }
    if (cpu->large_bloom >> ((va >> 21) & 63) & 1) { /* may be cached as pieces of a large page */
        first = va & ~0x1fffffull;
        n = 512;
    }
    bool code = false;
    for (unsigned i = 0; i < n; i++, first += 4096) {
        unsigned slot = (first >> 12) & (SOFT_TLB_SIZE - 1);
        for (unsigned a = 0; a < 4; a++) {
            if (cpu->tlb[a >> 1][a & 1][slot].tag == first) {
                tlb_clear(cpu, a, slot);
            }
        }
        unsigned h = code_hash(first);
        code |= cpu->code_bloom[h >> 6] >> (h & 63) & 1;
    }
    if (code) {
        soft_code_flush(cpu);
    }
}

void soft_tlb_fill(struct soft_cpu *cpu, bool user, enum soft_access acc, uint64_t va,
                   const struct walk *w, uint8_t *host)
{
    unsigned slot = (va >> 12) & (SOFT_TLB_SIZE - 1);
    unsigned array = (unsigned)user * 2 + (acc == ACC_WRITE);
    unsigned list = w->global;
    if (va >> 32) {
        if (legacy_mode(cpu) && user == (cpu->cpl == 3)) {
            return; /* a descriptor table; legacy.h says why not */
        }
        cpu->tlb_high[user][list] = true;
    }
    if (cpu->access_checks && break_keeps_out(cpu, va, user)) {
        return;
    }
    if (cpu->n_filled[list] == SOFT_FILL_MAX) {
        tlb_clear_all(cpu);
    }
    cpu->filled[list][cpu->n_filled[list]++] = (uint16_t)(array << SOFT_TLB_BITS | slot);
    struct soft_tlb_entry *e = &cpu->tlb[user][acc == ACC_WRITE][slot];
    e->tag = va & ~0xfffull;
    e->host = (uint64_t)(uintptr_t)host;
    trace(cpu, ENGINE_TRACE_TLB, TRACE_FILL, e->tag, w->phys & ~0xfffull,
          (acc == ACC_WRITE ? TRACE_FILL_WRITE : 0) | (user ? TRACE_FILL_USER : 0) |
              (w->global ? TRACE_FILL_GLOBAL : 0));
    if (w->large) {
        cpu->large_bloom |= 1ull << ((va >> 21) & 63);
    }
}

/* Take a page out of a vCPU's write TLB. Its own thread, or while it rests (world.h). */
static void drop_write_entries(struct soft_cpu *cpu, uint64_t host)
{
    for (unsigned user = 0; user < 2; user++) {
        for (unsigned s = 0; s < SOFT_TLB_SIZE; s++) {
            if (cpu->tlb[user][1][s].host == host) {
                tlb_clear(cpu, user * 2 + 1, s);
            }
        }
    }
}

void soft_claim_code(struct soft_cpu *cpu, gpa_t gpa)
{
    struct engine *e = cpu->engine;
    uint64_t page = soft_ram_page(e, gpa);
    uint8_t mine = (uint8_t)(1u << cpu->index);
    if (page == UINT64_MAX || (e->code_by[page] & mine) || cpu->shadow) {
        return;
    }
    uint64_t host = (uint64_t)(uintptr_t)soft_phys_ptr(cpu, gpa & ~0xfffull);
    atomic_fetch_or(&e->code_by[page], mine);
    uint8_t writers = e->written_by[page]; /* after code_by: see soft.h */
    if (!writers) {
        return;
    }
    world_stop(cpu, writers);
    for (unsigned i = 0; i < e->config.n_vcpus; i++) {
        if (writers >> i & 1) {
            drop_write_entries(e->cpus[i], host);
        }
    }
    atomic_fetch_and(&e->written_by[page], (uint8_t)~writers);
    world_go(cpu);
}

bool soft_claim_write(struct soft_cpu *cpu, uint64_t page)
{
    struct engine *e = cpu->engine;
    uint8_t mine = (uint8_t)(1u << cpu->index);
    if (e->code_by[page]) {
        return false;
    }
    if (e->written_by[page] & mine) {
        return true;
    }
    atomic_fetch_or(&e->written_by[page], mine);
    return e->code_by[page] == 0; /* again: see soft.h */
}

gpa_t soft_fetch_translate(struct soft_cpu *cpu, uint64_t va, bool *global)
{
    bool user = cpu->cpl == 3;
    uint64_t key = va >> 12 | (uint64_t)user << 63;
    struct soft_itlb_entry *e = &cpu->itlb[(va >> 12) & (SOFT_ITLB_SIZE - 1)];
    if (cpu->shadow) {
        e->gen = cpu->gen[e->global] - 1; /* a replay remembers nothing */
    }
    if (e->page == key && e->gen == cpu->gen[e->global]) {
        *global = e->global;
        return e->phys | (va & 0xfff);
    }
    if (!va_canonical(va)) {
        soft_raise_code(cpu, V_GP, 0);
    }
    struct walk w;
    uint32_t code;
    if (soft_walk(cpu, va, ACC_FETCH, user, &w, &code)) {
        soft_raise_pf(cpu, va, code);
    }
    unsigned h = code_hash(va);
    cpu->code_bloom[h >> 6] |= 1ull << (h & 63);
    *e = (struct soft_itlb_entry){key, w.phys & ~0xfffull, cpu->gen[w.global], w.global};
    *global = w.global;
    return w.phys;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest-virtual memory: the 4-level walk (Intel SDM vol. 3, 4.5), TLB fills and flushes, and the
 * slow paths of every access that the inlined probe does not satisfy: misses, page crossing, device
 * memory, stores to pages that hold lifted code.
 *
 * A write entry exists only while the guest's PTE is writable and dirty and the page holds no
 * lifted code; so permission, dirty bits and self-modifying code cost nothing on the fast path.
 */
#include "cpu/soft/exec.h"
#include "cpu/soft/ioapic.h"
#include "cpu/soft/legacy.h"
#include "cpu/soft/shadow.h"
#include "cpu/soft/soft.h"
#include "cpu/soft/trace.h"

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

struct walk {
    gpa_t phys; /* of the byte at va */
    bool writable, user, global, large, dirty;
    bool exec;
};

static bool canonical(uint64_t va)
{
    return (uint64_t)((int64_t)(va << 16) >> 16) == va;
}

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

/*
 * Walk for one access. Returns 0 and *w, or the page-fault error code (with PFEC_* set as the
 * hardware would) in *code and -1. Sets accessed bits, and the dirty bit for writes.
 */
static int walk(struct soft_cpu *cpu, uint64_t va, enum soft_access acc, bool user, struct walk *w,
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

/* ---- TLB ---- */

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

static void tlb_fill(struct soft_cpu *cpu, bool user, enum soft_access acc, uint64_t va,
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

const uint8_t *soft_phys_ptr(struct soft_cpu *cpu, gpa_t gpa)
{
    const struct mem_region *r = mem_find(cpu->engine->config.mem, gpa);
    uint8_t *p = r ? r->hva + (gpa - r->gpa) : NULL;
    return p && cpu->shadow ? shadow_byte(cpu, p, false) : p;
}

/* ---- one access inside one page ---- */

/* Where an access goes: host memory, or nowhere (device, hole). */
struct place {
    uint8_t *host; /* NULL: device space at gpa */
    gpa_t gpa;
    bool drop; /* a store to read-only memory: ignored */
    bool code; /* a store to a page with lifted code: drop what it hits afterwards */
};

static void need_canonical(struct soft_cpu *cpu, uint64_t va)
{
    if (!canonical(va)) {
        soft_raise_code(cpu, cpu->stack_access ? V_SS : V_GP, 0);
    }
}

/* Note that the page may be in the write TLB from now on. False: somebody has code from it. */
static bool claim_write(struct soft_cpu *cpu, uint64_t page)
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

/* translate() of a replay, when the vCPU's own TLB says where the page is. */
static bool translate_cached(struct soft_cpu *cpu, uint64_t va, enum soft_access acc, bool user,
                             struct place *at)
{
    uint8_t *page = shadow_cached(cpu, va, acc == ACC_WRITE, user);
    if (!page) {
        return false;
    }
    const struct walk w = {.large = false};
    page = shadow_byte(cpu, page, acc == ACC_WRITE);
    *at = (struct place){.host = page + (va & 0xfff)};
    tlb_fill(cpu, user, acc, va, &w, page);
    return true;
}

static void translate(struct soft_cpu *cpu, uint64_t va, enum soft_access acc, bool user,
                      struct place *at)
{
    need_canonical(cpu, va);
    struct walk w;
    uint32_t code;
    if (cpu->shadow && translate_cached(cpu, va, acc, user, at)) {
        return;
    }
    if (walk(cpu, va, acc, user, &w, &code)) {
        soft_raise_pf(cpu, va, code);
    }
    *at = (struct place){.gpa = w.phys};
    const struct mem_region *r = mem_find(cpu->engine->config.mem, w.phys);
    if (!r) {
        if (cpu->shadow) {
            shadow_leave(cpu, SHADOW_DEVICE);
        }
        return;
    }
    at->host = r->hva + (w.phys - r->gpa);
    if (acc == ACC_WRITE && r->read_only) {
        at->drop = true;
        return;
    }
    if (cpu->shadow) {
        at->host = shadow_byte(cpu, at->host, acc == ACC_WRITE);
    } else if (acc == ACC_WRITE) {
        uint64_t page = soft_ram_page(cpu->engine, w.phys);
        if (page != UINT64_MAX) {
            at->code = !claim_write(cpu, page);
            if (at->code) {
                return;
            }
        }
    }
    tlb_fill(cpu, user, acc, va, &w, at->host - (w.phys & 0xfff));
}

static uint64_t host_load(const uint8_t *p, unsigned size)
{
    switch (size) {
    case 1:
        return *p;
    case 2:
        return *(const volatile guest_u16 *)p;
    case 4:
        return *(const volatile guest_u32 *)p;
    case 8:
        return *(const volatile guest_u64 *)p;
    }
    uint64_t v = 0;
    for (unsigned i = 0; i < size; i++) {
        v |= (uint64_t)p[i] << (8 * i);
    }
    return v;
}

static void host_store(uint8_t *p, unsigned size, uint64_t v)
{
    switch (size) {
    case 1:
        *p = (uint8_t)v;
        return;
    case 2:
        *(volatile guest_u16 *)p = (uint16_t)v;
        return;
    case 4:
        *(volatile guest_u32 *)p = (uint32_t)v;
        return;
    case 8:
        *(volatile guest_u64 *)p = v;
        return;
    }
    for (unsigned i = 0; i < size; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
}

/* The I/O APIC belongs to the engine; everything else outside memory is on the VM's bus. */
static uint64_t device_read(struct soft_cpu *cpu, gpa_t gpa, unsigned size)
{
    uint64_t v = gpa - IOAPIC_BASE < IOAPIC_LEN
                     ? soft_ioapic_ops.read(cpu->engine->ioapic, gpa - IOAPIC_BASE, size)
                     : bus_read(cpu->engine->config.mmio, gpa, size);
    trace(cpu, ENGINE_TRACE_EXITS, TRACE_READ, gpa, size, v);
    return v;
}

static void device_write(struct soft_cpu *cpu, gpa_t gpa, unsigned size, uint64_t v)
{
    trace(cpu, ENGINE_TRACE_EXITS, TRACE_WRITE, gpa, size, v);
    if (gpa - IOAPIC_BASE < IOAPIC_LEN) {
        soft_ioapic_ops.write(cpu->engine->ioapic, gpa - IOAPIC_BASE, size, v);
    } else {
        bus_write(cpu->engine->config.mmio, gpa, size, v);
    }
}

static uint64_t place_load(struct soft_cpu *cpu, const struct place *at, unsigned size)
{
    if (at->host) {
        return host_load(at->host, size);
    }
    uint64_t v = 0;
    soft_fp_leave(cpu);
    if (size == 1 || size == 2 || size == 4 || size == 8) {
        v = device_read(cpu, at->gpa, size);
    } else {
        for (unsigned i = 0; i < size; i++) {
            v |= device_read(cpu, at->gpa + i, 1) << (8 * i);
        }
    }
    soft_fp_enter(cpu);
    return v;
}

static void place_store(struct soft_cpu *cpu, const struct place *at, unsigned size, uint64_t v)
{
    if (at->drop) {
        return;
    }
    if (at->host) {
        host_store(at->host, size, v);
        if (at->code) {
            blocks_wrote(cpu, at->gpa, size);
        }
        return;
    }
    soft_fp_leave(cpu);
    if (size == 1 || size == 2 || size == 4 || size == 8) {
        device_write(cpu, at->gpa, size, v);
    } else {
        for (unsigned i = 0; i < size; i++) {
            device_write(cpu, at->gpa + i, 1, v >> (8 * i) & 0xff);
        }
    }
    soft_fp_enter(cpu);
}

/* An address used with the rights of the current CPL: 32 bits outside 64-bit mode. */
static uint64_t cpl_va(const struct soft_cpu *cpu, uint64_t va)
{
    return legacy_mode(cpu) ? (uint32_t)va : va;
}

/* Where the second part of an access begins; 32-bit addresses wrap around. */
static uint64_t next_page(const struct soft_cpu *cpu, uint64_t va)
{
    uint64_t next = (va | 0xfff) + 1;
    return next == 1ull << 32 ? cpl_va(cpu, next) : next;
}

static uint64_t load_as(struct soft_cpu *cpu, uint64_t va, unsigned size, bool user)
{
    struct place at, at2;
    unsigned first = 4096 - (va & 0xfff);
    need_canonical(cpu, va + size - 1); /* before the first page's faults */
    translate(cpu, va, ACC_READ, user, &at);
    if (first >= size) {
        return place_load(cpu, &at, size);
    }
    translate(cpu, next_page(cpu, va), ACC_READ, user, &at2);
    return place_load(cpu, &at, first) | place_load(cpu, &at2, size - first) << (8 * first);
}

static void store_as(struct soft_cpu *cpu, uint64_t va, unsigned size, uint64_t v, bool user)
{
    struct place at, at2;
    unsigned first = 4096 - (va & 0xfff);
    need_canonical(cpu, va + size - 1);
    translate(cpu, va, ACC_WRITE, user, &at);
    if (first >= size) {
        place_store(cpu, &at, size, v);
        return;
    }
    translate(cpu, next_page(cpu, va), ACC_WRITE, user, &at2);
    place_store(cpu, &at, first, v);
    place_store(cpu, &at2, size - first, v >> (8 * first));
}

/* ---- what cpu.h and exec.h declare ---- */

uint64_t soft_load(struct soft_cpu *cpu, uint64_t va, unsigned size)
{
    const void *p = tlb_probe(cpu->tlb_read, va, size);
    return p ? host_load(p, size) : load_as(cpu, cpl_va(cpu, va), size, cpu->cpl == 3);
}

void soft_store(struct soft_cpu *cpu, uint64_t va, unsigned size, uint64_t value)
{
    void *p = tlb_probe(cpu->tlb_write, va, size);
    if (p) {
        host_store(p, size, value);
    } else {
        store_as(cpu, cpl_va(cpu, va), size, value, cpu->cpl == 3);
    }
}

uint64_t soft_sys_load(struct soft_cpu *cpu, uint64_t va, unsigned size)
{
    const void *p = tlb_probe(cpu->tlb[0][0], va, size);
    return p ? host_load(p, size) : load_as(cpu, va, size, false);
}

void soft_sys_store(struct soft_cpu *cpu, uint64_t va, unsigned size, uint64_t value)
{
    void *p = tlb_probe(cpu->tlb[0][1], va, size);
    if (p) {
        host_store(p, size, value);
    } else {
        store_as(cpu, va, size, value, false);
    }
}

static void note_op(struct soft_cpu *cpu, const struct op *o)
{
    cpu->insn_rip = op_rip(cpu, o);
    cpu->stack_access = (o->base == R_SP || o->base == R_BP) && o->scale_seg >> 4 == 7;
    cpu->running_op = o;
}

uint64_t soft_load_slow(struct soft_cpu *cpu, const struct op *o, uint64_t va, unsigned size)
{
    note_op(cpu, o);
    uint64_t v = va >> 32 && legacy_mode(cpu) ? soft_load(cpu, (uint32_t)va, size)
                                              : load_as(cpu, va, size, cpu->cpl == 3);
    cpu->stack_access = false;
    return v;
}

void soft_store_slow(struct soft_cpu *cpu, const struct op *o, uint64_t va, unsigned size,
                     uint64_t value)
{
    note_op(cpu, o);
    if (va >> 32 && legacy_mode(cpu)) {
        soft_store(cpu, (uint32_t)va, size, value);
    } else {
        store_as(cpu, va, size, value, cpu->cpl == 3);
    }
    cpu->stack_access = false;
}

static bool same_page(uint64_t va, unsigned size)
{
    return (va & 0xfff) + size <= 4096;
}

void *soft_ptr_slow(struct soft_cpu *cpu, const struct op *o, uint64_t va, unsigned size,
                    enum soft_access acc)
{
    note_op(cpu, o);
    bool user = cpu->cpl == 3, locked = acc == ACC_LOCKED;
    struct place at, at2;
    acc = locked ? ACC_WRITE : acc;
    va = cpl_va(cpu, va);
    need_canonical(cpu, va + size - 1);
    translate(cpu, va, acc, user, &at);
    unsigned first = size;
    if (same_page(va, size)) {
        if (at.host && !at.drop && !at.code) {
            cpu->stack_access = false;
            return at.host;
        }
    } else {
        first = 4096 - (va & 0xfff);
        translate(cpu, next_page(cpu, va), acc, user, &at2);
    }
    if (locked) {
        world_stop(cpu, UINT8_MAX);
    }
    for (unsigned i = 0; i < size;) {
        struct place from = i < first ? at : at2;
        unsigned in = i < first ? i : i - first;
        unsigned left = (i < first ? first : size) - i;
        unsigned n = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
        from.gpa += in;
        from.host = from.host ? from.host + in : NULL;
        host_store(cpu->bounce + i, n, place_load(cpu, &from, n));
        i += n;
    }
    cpu->stack_access = false;
    return cpu->bounce;
}

void soft_ptr_done(struct soft_cpu *cpu, const struct op *o, uint64_t va, unsigned size, void *ptr)
{
    if (ptr == cpu->bounce) {
        note_op(cpu, o);
        soft_store_bytes(cpu, va, ptr, size);
        cpu->stack_access = false;
        world_go(cpu);
    }
}

/* Pieces of at most 8 bytes that never cross a page. */
static unsigned piece(uint64_t va, unsigned left)
{
    unsigned room = 4096 - (va & 0xfff);
    unsigned n = left < room ? left : room;
    return n >= 8 ? 8 : n >= 4 ? 4 : n >= 2 ? 2 : 1;
}

void soft_store_bytes(struct soft_cpu *cpu, uint64_t va, const void *data, unsigned len)
{
    const uint8_t *p = data;
    struct place at;
    va = cpl_va(cpu, va);
    need_canonical(cpu, va + len - 1);
    for (uint64_t a = va & ~0xfffull; a < va + len; a += 4096) {
        uint64_t probe = a < va ? va : a;
        if (!tlb_probe(cpu->tlb_write, probe, 1)) {
            translate(cpu, cpl_va(cpu, probe), ACC_WRITE, cpu->cpl == 3, &at);
        }
    }
    for (unsigned i = 0; i < len;) {
        unsigned n = piece(va + i, len - i);
        soft_store(cpu, va + i, n, host_load(p + i, n));
        i += n;
    }
}

uint64_t soft_ea(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t a;
    if (!insn->is_mem) {
        a = insn->disp64;
    } else {
        a = (uint64_t)(int64_t)insn->disp;
        if (insn->base == INSN_REG_RIP) {
            a += cpu->rip;
        } else if (insn->base != INSN_NO_REG) {
            a += cpu->gpr[insn->base];
        }
        if (insn->index != INSN_NO_REG) {
            a += cpu->gpr[insn->index] << insn->scale;
        }
    }
    if (insn->addr32) {
        a = (uint32_t)a;
    }
    return insn->seg == INSN_NO_SEG ? a : a + cpu->seg_base[insn->seg & 7];
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
    if (!canonical(va)) {
        soft_raise_code(cpu, V_GP, 0);
    }
    struct walk w;
    uint32_t code;
    if (walk(cpu, va, ACC_FETCH, user, &w, &code)) {
        soft_raise_pf(cpu, va, code);
    }
    unsigned h = code_hash(va);
    cpu->code_bloom[h >> 6] |= 1ull << (h & 63);
    *e = (struct soft_itlb_entry){key, w.phys & ~0xfffull, cpu->gen[w.global], w.global};
    *global = w.global;
    return w.phys;
}

void soft_check_access(struct soft_cpu *cpu, uint64_t va, unsigned len, enum soft_access acc)
{
    struct place at;
    va = cpl_va(cpu, va);
    need_canonical(cpu, va + len - 1);
    translate(cpu, va, acc, cpu->cpl == 3, &at);
    if (((va + len - 1) ^ va) >> 12) {
        translate(cpu, cpl_va(cpu, va + len - 1), acc, cpu->cpl == 3, &at);
    }
}

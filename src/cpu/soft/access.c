/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest-virtual memory: the slow paths of every access that the inlined probe does not satisfy:
 * misses, page crossing, device memory, stores to pages that hold lifted code.
 */
#include "cpu/soft/breakpoint.h"
#include "cpu/soft/ioapic.h"
#include "cpu/soft/legacy.h"
#include "cpu/soft/shadow.h"
#include "cpu/soft/soft.h"
#include "cpu/soft/tlb.h"
#include "cpu/soft/trace.h"

const uint8_t *soft_phys_ptr(struct soft_cpu *cpu, gpa_t gpa)
{
    const struct mem_region *r = mem_find(cpu->engine->config.mem, gpa);
    uint8_t *p = r ? r->hva + (gpa - r->gpa) : NULL;
    return p && cpu->shadow ? shadow_byte(cpu, p, false) : p;
}

/* Where an access goes: host memory, or nowhere (device, hole). */
struct place {
    uint8_t *host; /* NULL: device space at gpa */
    gpa_t gpa;
    bool drop; /* a store to read-only memory: ignored */
    bool code; /* a store to a page with lifted code: drop what it hits afterwards */
};

static void need_canonical(struct soft_cpu *cpu, uint64_t va)
{
    if (!va_canonical(va)) {
        soft_raise_code(cpu, cpu->stack_access ? V_SS : V_GP, 0);
    }
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
    soft_tlb_fill(cpu, user, acc, va, &w, page);
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
    if (soft_walk(cpu, va, acc, user, &w, &code)) {
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
            at->code = !soft_claim_write(cpu, page);
            if (at->code) {
                return;
            }
        }
    }
    soft_tlb_fill(cpu, user, acc, va, &w, at->host - (w.phys & 0xfff));
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

/* An access of an instruction, not of the processor for itself, that missed the TLB. */
static inline void look_at(struct soft_cpu *cpu, uint64_t va, unsigned size, enum soft_access acc)
{
    if (unlikely(cpu->access_checks)) {
        break_access(cpu, va, size, acc);
    }
}

uint64_t soft_load(struct soft_cpu *cpu, uint64_t va, unsigned size)
{
    const void *p = tlb_probe(cpu->tlb_read, va, size);
    if (p) {
        return host_load(p, size);
    }
    va = cpl_va(cpu, va);
    look_at(cpu, va, size, ACC_READ);
    return load_as(cpu, va, size, cpu->cpl == 3);
}

void soft_store(struct soft_cpu *cpu, uint64_t va, unsigned size, uint64_t value)
{
    void *p = tlb_probe(cpu->tlb_write, va, size);
    if (p) {
        host_store(p, size, value);
    } else {
        va = cpl_va(cpu, va);
        look_at(cpu, va, size, ACC_WRITE);
        store_as(cpu, va, size, value, cpu->cpl == 3);
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
    uint64_t v;
    note_op(cpu, o);
    if (va >> 32 && legacy_mode(cpu)) {
        v = soft_load(cpu, (uint32_t)va, size);
    } else {
        look_at(cpu, va, size, ACC_READ);
        v = load_as(cpu, va, size, cpu->cpl == 3);
    }
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
        look_at(cpu, va, size, ACC_WRITE);
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
    look_at(cpu, va, size, acc);
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

void soft_check_access(struct soft_cpu *cpu, uint64_t va, unsigned len, enum soft_access acc)
{
    struct place at;
    va = cpl_va(cpu, va);
    look_at(cpu, va, len, acc);
    need_canonical(cpu, va + len - 1);
    translate(cpu, va, acc, cpu->cpl == 3, &at);
    if (((va + len - 1) ^ va) >> 12) {
        translate(cpu, cpl_va(cpu, va + len - 1), acc, cpu->cpl == 3, &at);
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block cache: lifted instructions, keyed by where they lie in guest-physical memory, the
 * address they run at and the mode they were lifted for. Physical keys let one copy serve every
 * address space, and let a store through any alias find the code it changes. Every vCPU has its
 * own; soft.h says why, and what they tell each other.
 *
 * Memory is bump-allocated and only ever freed as a whole: when the arena is full everything goes.
 * A dropped block stays readable until then, because the vCPU may still be inside it.
 */
#include <sys/mman.h>

#include "cpu/soft/exec.h"
#include "cpu/soft/legacy.h"
#include "cpu/soft/soft.h"
#include "cpu/soft/hostcall.h"
#include "cpu/soft/stub.h"
#include "cpu/soft/xlat.h"

/* The vCPU's bit in code_by and written_by. */
static uint8_t my_bit(const struct soft_cpu *cpu)
{
    return (uint8_t)(1u << cpu->index);
}

void *blocks_alloc(struct soft_cpu *cpu, size_t bytes)
{
    struct block_cache *c = cpu->cache;
    bytes = (bytes + 15) & ~(size_t)15;
    if (BLOCK_ARENA_BYTES - c->used < bytes) {
        return NULL;
    }
    void *p = c->arena + c->used;
    c->used += bytes;
    return p;
}

void blocks_reset(struct soft_cpu *cpu)
{
    struct engine *e = cpu->engine;
    struct block_cache *c = cpu->cache;
    for (unsigned i = 0; i < 1u << BLOCK_HASH_BITS; i++) {
        c->hash[i] = NULL;
    }
    for (uint64_t i = 0; i < e->n_pages; i++) {
        if (atomic_load_explicit(&e->code_by[i], memory_order_relaxed) & my_bit(cpu)) {
            atomic_fetch_and(&e->code_by[i], (uint8_t)~my_bit(cpu));
            c->pages[i] = NULL;
        }
    }
    if (c->touched < c->used) {
        c->touched = c->used;
    }
    c->used = 0;
    c->epoch++;
    stub_reset(c->stubs);
    xlat_reset(c->xlat);
    soft_code_flush(cpu);
}

void blocks_trim(struct soft_cpu *cpu)
{
    struct block_cache *c = cpu->cache;
    if (c->used < BLOCK_ARENA_BYTES / 2 && c->touched < BLOCK_ARENA_BYTES / 2) {
        return;
    }
    blocks_reset(cpu);
    c->touched = 0;
    host_discard(c->arena, c->arena + BLOCK_ARENA_BYTES, MADV_DONTNEED);
    host_discard(c->pages, c->pages + cpu->engine->n_pages, MADV_DONTNEED); /* all NULL: zeros */
    stub_trim(c->stubs);
    stub_trim(c->xlat->area);
}

static unsigned hash_of(uint64_t rip, gpa_t phys, uint32_t mode)
{
    uint64_t h = (phys ^ (rip >> 12 << 40) ^ mode * 0x85ebca6bu) * 0x9e3779b97f4a7c15ull;
    return (unsigned)(h >> (64 - BLOCK_HASH_BITS));
}

static gpa_t page_of(const struct block *b, unsigned which)
{
    return which == 0 ? b->phys & ~0xfffull : b->phys2;
}

static void link_page(struct soft_cpu *cpu, struct block *b, unsigned which)
{
    uint64_t page = soft_ram_page(cpu->engine, page_of(b, which));
    if (page == UINT64_MAX) {
        return;
    }
    b->page_next[which] = cpu->cache->pages[page];
    cpu->cache->pages[page] = b;
}

static void insert(struct soft_cpu *cpu, struct block *b)
{
    unsigned h = hash_of(b->rip, b->phys, b->mode);
    b->hash_next = cpu->cache->hash[h];
    cpu->cache->hash[h] = b;
    link_page(cpu, b, 0);
    if (b->crosses) {
        link_page(cpu, b, 1);
    }
}

static struct block *find(struct soft_cpu *cpu, uint64_t rip, gpa_t phys, uint32_t mode)
{
    struct block *b = cpu->cache->hash[hash_of(rip, phys, mode)];
    uint64_t limit = mode & MODE_CODE_LIMIT ? cpu->seg[SEG_CS].limit : ~0ull;
    while (b && !(b->phys == phys && b->rip == rip && b->mode == mode &&
                  b->n_bytes - 1u <= limit - rip)) {
        b = b->hash_next;
    }
    return b;
}

struct block *blocks_find(struct soft_cpu *cpu)
{
    uint64_t rip = cpu->rip;
    bool global, global2 = true;
    cpu->insn_rip = rip;
    if ((cpu->mode & MODE_CODE_LIMIT) && rip > cpu->seg[SEG_CS].limit) {
        soft_raise_code(cpu, V_GP, 0);
    }
    uint64_t va = legacy_code_va(cpu, rip);
    gpa_t phys = soft_fetch_translate(cpu, va, &global);
    struct block *b = find(cpu, rip, phys, cpu->mode);
    if (b && b->crosses) {
        /* The same first page may be followed by another second page now. */
        gpa_t phys2 = soft_fetch_translate(cpu, (va & ~0xfffull) + 4096, &global2);
        if (phys2 != b->phys2) {
            blocks_drop(cpu, b->phys, 1);
            b = NULL;
        }
    }
    if (!b) {
        b = lift_block(cpu, rip, phys);
        if (!b) {
            blocks_reset(cpu);
            b = lift_block(cpu, rip, phys);
        }
        if (!b) {
            soft_fail(cpu, "the code cache cannot hold one block");
        }
        insert(cpu, b);
    }
    struct soft_jump_entry *j = soft_jump_slot(cpu, rip);
    *j = (struct soft_jump_entry){rip, b, cpu->gen[global && global2], global && global2};
    return b;
}

/* Take b off one page's list. */
static void unlink_page(struct soft_cpu *cpu, struct block *b, unsigned which)
{
    gpa_t gpa = page_of(b, which);
    uint64_t page = soft_ram_page(cpu->engine, gpa);
    if (page == UINT64_MAX) {
        return;
    }
    struct block **p = &cpu->cache->pages[page];
    while (*p != b) {
        p = &(*p)->page_next[page_of(*p, 0) == gpa ? 0 : 1];
    }
    *p = b->page_next[which];
    if (!cpu->cache->pages[page]) {
        atomic_fetch_and(&cpu->engine->code_by[page], (uint8_t)~my_bit(cpu));
    }
}

/* Turn next into the way out of b after the instruction of op. Where it is that instruction's own
 * link, as after CALL, it knows where to. Else it need not be the next instruction's: a NOP has
 * none. */
static void leave_after(const struct block *b, const struct op *op, struct op *next)
{
    uint16_t end = (uint16_t)(op->off + op->len);
    if (next->len != 0 || next->off != end) {
        next->off = end;
        next->imm = b->rip + end;
    }
    next->handler = lift_stale_next;
}

static void drop_block(struct soft_cpu *cpu, struct block *b)
{
    struct block **p = &cpu->cache->hash[hash_of(b->rip, b->phys, b->mode)];
    while (*p != b) {
        p = &(*p)->hash_next;
    }
    *p = b->hash_next;
    unlink_page(cpu, b, 0);
    if (b->crosses) {
        unlink_page(cpu, b, 1);
    }
    b->dead = true;
    /* Links from blocks of the same page carry no generation: turn the block itself into a way out.
     */
    b->ops[0].handler = lift_stale_entry;
    xlat_forget(cpu->cache->xlat, b);
    if (cpu->block == b && cpu->running_op) {
        /* The running block changed its own code: leave after this instruction. */
        struct op *next = (struct op *)cpu->running_op + 1;
        while (next->off == cpu->running_op->off && next->len) {
            next++;
        }
        leave_after(b, cpu->running_op, next);
    }
}

void blocks_drop(struct soft_cpu *cpu, gpa_t gpa, unsigned len)
{
    uint64_t page = soft_ram_page(cpu->engine, gpa);
    if (page == UINT64_MAX) {
        return;
    }
    gpa_t base = gpa & ~0xfffull;
    struct block *next, *b = cpu->cache->pages[page];
    bool any = false;
    if (!b) { /* claimed, but the lift ended in a fault */
        atomic_fetch_and(&cpu->engine->code_by[page], (uint8_t)~my_bit(cpu));
    }
    for (; b; b = next) {
        unsigned which = page_of(b, 0) == base ? 0 : 1;
        next = b->page_next[which];
        unsigned in_first = b->crosses ? 4096 - (b->phys & 0xfff) : b->n_bytes;
        gpa_t start = which == 0 ? b->phys : base;
        gpa_t end = which == 0 ? b->phys + in_first : base + (b->n_bytes - in_first);
        if (gpa < end && start < gpa + len) {
            drop_block(cpu, b);
            any = true;
        }
    }
    if (any) {
        soft_code_flush(cpu);
    }
}

/* Guests that store beside their code do so again and again: grow the last range if it is near. */
static bool join_last(struct stale_queue *q, gpa_t gpa, uint64_t len)
{
    if (q->n == 0 || q->ranges[q->n - 1].gpa >> 12 != gpa >> 12) {
        return false;
    }
    gpa_t start = q->ranges[q->n - 1].gpa, end = start + q->ranges[q->n - 1].len;
    if (end < gpa + len) {
        end = gpa + len;
    }
    if (gpa < start) {
        start = gpa;
    }
    q->ranges[q->n - 1].gpa = start;
    q->ranges[q->n - 1].len = end - start;
    return true;
}

static void post_stale(struct soft_cpu *cpu, gpa_t gpa, uint64_t len)
{
    struct stale_queue *q = &cpu->cache->stale;
    spin_lock(&q->lock);
    if (!q->overflow && !join_last(q, gpa, len)) {
        if (q->n < STALE_QUEUE) {
            q->ranges[q->n].gpa = gpa;
            q->ranges[q->n++].len = len;
        } else {
            q->overflow = true;
        }
    }
    spin_unlock(&q->lock);
    soft_notify(cpu, PEND_CODE);
}

static void post_all(struct engine *e, uint8_t who, gpa_t gpa, uint64_t len)
{
    for (unsigned i = 0; i < e->config.n_vcpus; i++) {
        if (who >> i & 1) {
            post_stale(e->cpus[i], gpa, len);
        }
    }
}

void blocks_note_write(struct engine *e, gpa_t gpa, uint64_t len)
{
    uint8_t who = 0;
    /* The bytes before the look at code_by; soft_claim_code() does it the other way round. */
    atomic_thread_fence(memory_order_seq_cst);
    for (gpa_t a = gpa & ~0xfffull; a < gpa + len; a += 4096) {
        uint64_t page = soft_ram_page(e, a);
        if (page != UINT64_MAX) {
            who |= e->code_by[page];
        }
    }
    post_all(e, who, gpa, len);
}

void blocks_wrote(struct soft_cpu *cpu, gpa_t gpa, unsigned len)
{
    uint64_t page = soft_ram_page(cpu->engine, gpa);
    if (page == UINT64_MAX) {
        return;
    }
    atomic_thread_fence(memory_order_seq_cst);
    uint8_t who = cpu->engine->code_by[page];
    if (who & my_bit(cpu)) {
        blocks_drop(cpu, gpa, len);
    }
    post_all(cpu->engine, who & (uint8_t)~my_bit(cpu), gpa, len);
}

void blocks_ask_reset(struct soft_cpu *cpu)
{
    struct stale_queue *q = &cpu->cache->stale;
    spin_lock(&q->lock);
    q->overflow = true;
    spin_unlock(&q->lock);
    soft_notify(cpu, PEND_CODE);
}

void blocks_drain(struct soft_cpu *cpu)
{
    struct stale_queue *q = &cpu->cache->stale;
    for (;;) {
        gpa_t gpa = 0;
        uint64_t len = 0;
        spin_lock(&q->lock);
        bool all = q->overflow;
        if (all) {
            q->n = 0;
            q->overflow = false;
        } else if (q->n) {
            q->n--;
            gpa = q->ranges[q->n].gpa;
            len = q->ranges[q->n].len;
        }
        spin_unlock(&q->lock);
        if (all) {
            blocks_reset(cpu);
            return;
        }
        if (!len) {
            return;
        }
        while (len) {
            uint64_t room = 4096 - (gpa & 0xfff);
            unsigned n = (unsigned)(len < room ? len : room);
            blocks_drop(cpu, gpa, n);
            gpa += n;
            len -= n;
        }
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What --check needs outside a run slice: its memory, and what it says of a difference. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "cpu/debug.h"
#include "cpu/soft/check.h"
#include "cpu/soft/stub.h"
#include "cpu/soft/xlat.h"

#define STUB_BYTES (256u << 10)

static struct soft_cpu *new_cpu(const struct soft_cpu *of)
{
    size_t size = (sizeof *of + 63) & ~(size_t)63;
    struct soft_cpu *cpu = aligned_alloc(64, size);
    if (cpu) {
        memset(cpu, 0, size);
        cpu->gen[GEN_LOCAL] = cpu->gen[GEN_GLOBAL] = cpu->gen[GEN_PAGE] = 1;
    }
    return cpu;
}

/* As much of a block cache as lifting one instruction needs. */
static int new_cache(struct block_cache **out, struct sm_error *err)
{
    struct block_cache *c = *out = calloc(1, sizeof *c);
    if (!c) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    atomic_flag_clear(&c->stale.lock);
    c->arena = malloc(BLOCK_ARENA_BYTES);
    c->builder = malloc(lift_builder_size());
    c->xlat = calloc(1, sizeof *c->xlat);
    if (!c->arena || !c->builder || !c->xlat) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    return stub_area_new(&c->stubs, STUB_BYTES, err);
}

int check_new(struct soft_cpu *cpu, struct sm_error *err)
{
    struct check *c = cpu->check = calloc(1, sizeof *c);
    if (!c) {
        return err_set(err, SM_ENOMEM, "out of memory for --check");
    }
    c->memory.real = cpu;
    c->memory.copy = aligned_alloc(4096, SHADOW_PAGES * sizeof *c->memory.copy);
    c->replay = new_cpu(cpu);
    c->before = new_cpu(cpu);
    if (!c->memory.copy || !c->replay || !c->before) {
        return err_set(err, SM_ENOMEM, "out of memory for --check");
    }
    soft_tlb_flush(c->replay, false);
    c->replay->shadow = &c->memory;
    return new_cache(&c->replay->cache, err);
}

#define SAY(cpu, ...) debug_line(&(cpu)->engine->config.debug, (cpu)->index, "check: " __VA_ARGS__)

void check_say_counts(struct soft_cpu *cpu)
{
    const struct check_counts *n = &cpu->check->counts;
    SAY(cpu,
        "%" PRIu64 " blocks compared, %" PRIu64 " passed over; instructions not replayed: %" PRIu64
        " by kind, %" PRIu64 " for a device, %" PRIu64 " that write too much, %" PRIu64
        " for a mapping that changed; %" PRIu64 " blocks beside a device's writes",
        n->compared, n->passed, n->alone, n->device, n->large, n->stale, n->moved);
}

void check_free(struct soft_cpu *cpu)
{
    struct check *c = cpu->check;
    if (!c) {
        return;
    }
    check_say_counts(cpu);
    struct block_cache *cache = c->replay ? c->replay->cache : NULL;
    if (cache) {
        free(cache->arena);
        free(cache->builder);
        free(cache->xlat);
        stub_area_free(cache->stubs);
    }
    free(cache);
    free(c->memory.copy);
    free(c->replay);
    free(c->before);
    free(c);
    cpu->check = NULL;
}

/* ---- the report ---- */

static void say_steps(const struct soft_cpu *cpu)
{
    const struct check *c = cpu->check;
    for (unsigned i = 0; i < c->n_steps; i++) {
        const struct check_step *s = &c->steps[i];
        char bytes[3 * INSN_MAX_LEN + 1] = "";
        struct insn insn;
        for (unsigned k = 0; k < s->len && k < INSN_MAX_LEN; k++) {
            snprintf(bytes + 3 * k, 4, "%02x ", s->bytes[k]);
        }
        bool known = insn_decode_mode(s->bytes, s->len, s->mode, &insn) == INSN_OK;
        SAY(cpu, "  %#" PRIx64 ": %s %s", s->rip, bytes, known ? insn.desc->name : "(bad)");
    }
}

static void say_registers(const struct soft_cpu *to, const struct soft_cpu *cpu, const char *title)
{
    static const char names[16][4] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                      "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    const uint64_t *r = cpu->gpr;
    SAY(to, "%s: rip %#" PRIx64 " rflags %#" PRIx64 " cpl %u cs %#x ss %#x", title, cpu->rip,
        soft_get_rflags(cpu), cpu->cpl, cpu->seg[SEG_CS].selector, cpu->seg[SEG_SS].selector);
    for (unsigned i = 0; i < 16; i += 4) {
        SAY(to, "  %-3s %016" PRIx64 " %-3s %016" PRIx64 " %-3s %016" PRIx64 " %-3s %016" PRIx64,
            names[i], r[i], names[i + 1], r[i + 1], names[i + 2], r[i + 2], names[i + 3], r[i + 3]);
    }
    SAY(to,
        "  cr0 %#" PRIx64 " cr2 %#" PRIx64 " cr3 %#" PRIx64 " cr4 %#" PRIx64 " efer %#" PRIx64
        " fs %#" PRIx64 " gs %#" PRIx64,
        cpu->cr0, cpu->cr2, cpu->cr3, cpu->cr4, cpu->efer, cpu->seg_base[SEG_FS],
        cpu->seg_base[SEG_GS]);
    for (unsigned i = 0; i < 16; i += 2) {
        const uint64_t *x = (const uint64_t *)(cpu->fx + 160 + 16 * i);
        SAY(to, "  xmm%-2u %016" PRIx64 "%016" PRIx64 " xmm%-2u %016" PRIx64 "%016" PRIx64, i, x[1],
            x[0], i + 1, x[3], x[2]);
    }
}

static gpa_t gpa_of(const struct mem *m, const uint8_t *host)
{
    for (unsigned i = 0; i < m->n_regions; i++) {
        const struct mem_region *r = &m->regions[i];
        if (host >= r->hva && (uint64_t)(host - r->hva) < r->len) {
            return r->gpa + (gpa_t)(host - r->hva);
        }
    }
    return UINT64_MAX;
}

static void describe(const struct soft_cpu *cpu, char *out, size_t size)
{
    const struct check_difference *d = &cpu->check->difference;
    char where[48] = "";
    if (d->host) {
        snprintf(where, sizeof where, " at GPA %#" PRIx64,
                 (uint64_t)gpa_of(cpu->engine->config.mem, d->host));
    } else if (d->index) {
        snprintf(where, sizeof where, " %u", d->index);
    }
    snprintf(out, size, "%s%s: %#" PRIx64 " in the block, %#" PRIx64 " in the replay", d->what,
             where, d->block, d->replay);
}

bool check_report(struct soft_cpu *cpu, struct sm_error *err)
{
    const struct check *c = cpu->check;
    char what[200];
    if (!c->difference.what) {
        return false;
    }
    describe(cpu, what, sizeof what);
    SAY(cpu, "the block at RIP %#" PRIx64 " (GPA %#" PRIx64 ", mode %#x, %s) and its replay differ",
        c->block->rip, (uint64_t)c->block->phys, c->block->mode,
        c->block->body == cpu->cache->xlat->interpret ? "interpreted" : "translated");
    SAY(cpu, "%s", what);
    SAY(cpu, "instructions:");
    say_steps(cpu);
    say_registers(cpu, c->before, "before");
    say_registers(cpu, cpu, "after the block");
    say_registers(cpu, c->replay, "after the replay");
    err_set(err, SM_EENGINE, "--check: the block at RIP %#llx and its replay differ: %s",
            (unsigned long long)c->block->rip, what);
    return true;
}

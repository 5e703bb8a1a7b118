/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/soft/check.h"

#include "cpu/soft/breakpoint.h"
#include "cpu/soft/hostcall.h"
#include "cpu/soft/legacy.h"
#include "cpu/soft/watch.h"

#define FX_COMPARED 416 /* of the FXSAVE image: the rest is the system's */
#define DMA_SETTLES_NS 2000000

/* No libc here, and sizes are multiples of 8. */
static void copy(void *to, const void *from, size_t bytes)
{
    size_t n = bytes / 8;
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}
_Static_assert(offsetof(struct soft_cpu, tlb) % 8 == 0, "copied as words");

static void copy_registers(struct soft_cpu *to, const struct soft_cpu *from)
{
    struct block_cache *cache = to->cache;
    struct shadow *shadow = to->shadow;
    copy(to, from, offsetof(struct soft_cpu, tlb));
    to->cache = cache;
    to->shadow = shadow;
    to->check = NULL;
    to->trace = 0;
    to->link_from = NULL;
    to->failure = NULL;
    to->world_held = false;
    to->stopped = 0;
    to->tlb_read = to->tlb[to->cpl == 3][0];
    to->tlb_write = to->tlb[to->cpl == 3][1];
}

bool check_alone(const struct insn *i)
{
    switch (i->desc->id) {
    case I_IN:
    case I_OUT:
    case I_INS:
    case I_OUTS:
    case I_RDTSC:
    case I_RDTSCP:
    case I_RDPMC:
    case I_RDMSR:
    case I_WRMSR:
    case I_RDRAND:
    case I_RDSEED:
    case I_XSAVE: /* say what the host's processor finds in its initial state, now and then */
    case I_XSAVEOPT:
    case I_PAUSE: /* gives way to other vCPUs */
        return true;
    case I_MOV_CR: /* the task priority */
        return i->reg == 8;
    default:
        return false;
    }
}

/* ---- the replay ---- */

/* The block of one instruction at the replay's RIP; NULL: the page is another one by now. */
static struct block *lift_again(struct check *c)
{
    struct soft_cpu *s = c->replay;
    const struct block *b = c->block;
    bool global;
    s->insn_rip = s->rip;
    uint64_t va = legacy_code_va(s, s->rip);
    c->fetching = true;
    gpa_t phys = soft_fetch_translate(s, va, &global);
    if (phys - b->phys != s->rip - b->rip) {
        return NULL;
    }
    s->cache->used = 0;
    struct block *one = lift_block(s, s->rip, phys);
    if (!one) { /* the stubs are full */
        blocks_reset(s);
        one = lift_block(s, s->rip, phys);
    }
    if (!one) {
        shadow_leave(s, SHADOW_FAILED);
    }
    c->fetching = false;
    return one;
}

static void note_step(struct check *c, const struct block *one)
{
    struct check_step *step = &c->steps[c->n_steps];
    step->rip = one->rip;
    step->len = (uint8_t)one->n_bytes;
    step->mode = (uint8_t)legacy_insn_mode(one->mode);
    for (unsigned i = 0; i < INSN_MAX_LEN; i++) {
        step->bytes[i] = i < one->n_bytes ? one->bytes[i] : 0;
    }
}

/* Is the replay still inside the block, at the instruction after the one just executed? */
static bool goes_on(const struct check *c)
{
    const struct soft_cpu *s = c->replay;
    const struct check_step *last = &c->steps[c->n_steps - 1];
    return s->rip == last->rip + last->len && s->rip - c->block->rip < c->block->n_bytes &&
           c->n_steps < c->limit;
}

/* May it leave the flags alone? By a count of 0. */
static bool flags_by_count(const struct insn *i)
{
    bool shift = i->desc->id >= I_ROL && i->desc->id <= I_SHRD;
    return i->rep != REP_NONE || (shift && i->desc->op[1] != O_1 && i->imm == 0);
}

static void note_flags(struct check *c, const struct insn *i)
{
    if (!flags_by_count(i)) {
        c->undefined &= ~(unsigned)i->desc->flags_written;
    }
    c->undefined |= i->desc->flags_undefined;
}

static void execute(struct check *c)
{
    struct soft_cpu *s = c->replay;
    struct insn insn;
    for (;;) {
        struct block *one = lift_again(c);
        if (!one) {
            c->end = CHECK_CUT;
            return;
        }
        note_step(c, one);
        const struct check_step *step = &c->steps[c->n_steps];
        bool known = insn_decode_mode(step->bytes, step->len, step->mode, &insn) == INSN_OK;
        if (known && (check_alone(&insn) || (insn.desc->flags_read & c->undefined))) {
            c->end = CHECK_CUT;
            return;
        }
        atomic_store_explicit(&s->pending, 0, memory_order_relaxed);
        watch_ops(s, one);
        c->n_steps++;
        if (known) {
            note_flags(c, &insn);
        }
        if (!goes_on(c)) {
            return;
        }
    }
}

/* Not inlined, and nothing in locals: it is where exceptions land. */
static __attribute__((noinline)) void replay(struct check *c)
{
    if (__builtin_setjmp(c->replay->landing)) {
        bool cut = c->memory.stop != SHADOW_GOES_ON || c->replay->failure || c->fetching ||
                   c->replay->exc_vector == BREAK_AGAIN;
        c->end = cut ? CHECK_CUT : CHECK_RAISED;
        return;
    }
    execute(c);
}

static void replay_from(struct soft_cpu *cpu, unsigned limit)
{
    struct check *c = cpu->check;
    c->limit = limit;
    c->n_steps = c->undefined = 0;
    c->fetching = false;
    c->end = CHECK_AT_RIP;
    shadow_clear(&c->memory);
    copy_registers(c->replay, cpu);
    soft_tlb_forget(c->replay);
    soft_fp_enter(c->replay);
    replay(c);
    soft_fp_leave(c->replay);
}

static void begin(struct soft_cpu *cpu, struct block *b)
{
    struct check *c = cpu->check;
    c->block = b;
    c->dma = atomic_load(&cpu->engine->device_writes);
    soft_fp_leave(cpu);
    copy_registers(c->before, cpu);
    replay_from(cpu, BLOCK_MAX_INSNS);
    c->cut = c->end == CHECK_CUT;
    c->large = c->memory.stop == SHADOW_FULL;
    if (c->cut) {
        uint64_t *count = c->fetching                        ? &c->counts.stale
                          : c->large                         ? &c->counts.large
                          : c->memory.stop != SHADOW_GOES_ON ? &c->counts.device
                                                             : &c->counts.alone;
        ++*count;
        if (c->n_steps > 0) { /* again, without the beginnings of the one that was cut off */
            replay_from(cpu, c->n_steps);
        }
    }
    soft_fp_enter(cpu);
    c->active = true;
}

/* ---- the comparison ---- */

static void differ(struct check *c, const char *what, unsigned index, uint64_t block,
                   uint64_t replay)
{
    if (!c->difference.what) {
        c->difference = (struct check_difference){
            .what = what, .index = index, .block = block, .replay = replay};
    }
}

#define COMPARE(field, name)                                                                       \
    if (cpu->field != s->field) {                                                                  \
        differ(c, name, 0, cpu->field, s->field);                                                  \
    }

static void compare_system(struct check *c, const struct soft_cpu *cpu)
{
    const struct soft_cpu *s = c->replay;
    COMPARE(sys_flags, "RFLAGS without the arithmetic flags");
    COMPARE(cpl, "CPL");
    COMPARE(cr0, "CR0");
    COMPARE(cr2, "CR2");
    COMPARE(cr3, "CR3");
    COMPARE(cr4, "CR4");
    COMPARE(cr8, "CR8");
    COMPARE(xcr0, "XCR0");
    COMPARE(efer, "EFER");
    COMPARE(dr6, "DR6");
    COMPARE(dr7, "DR7");
    COMPARE(gdt_base, "GDT base");
    COMPARE(gdt_limit, "GDT limit");
    COMPARE(idt_base, "IDT base");
    COMPARE(idt_limit, "IDT limit");
    COMPARE(kernel_gs_base, "kernel GS base");
    COMPARE(int_shadow, "interrupt shadow");
    COMPARE(halted, "HLT state");
    COMPARE(nmi_blocked, "NMI block");
    for (unsigned i = 0; i < 4; i++) {
        COMPARE(dr[i], "DR0 to DR3");
    }
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        COMPARE(seg[i].selector, "segment selector");
        COMPARE(seg[i].attr, "segment attributes");
        COMPARE(seg[i].limit, "segment limit");
        COMPARE(seg[i].base, "segment base");
        COMPARE(seg_base[i], "segment base");
    }
}

static void compare_registers(struct check *c, const struct soft_cpu *cpu)
{
    const struct soft_cpu *s = c->replay;
    for (unsigned i = 0; i < 16; i++) {
        if (cpu->gpr[i] != s->gpr[i]) {
            differ(c, "general register", i, cpu->gpr[i], s->gpr[i]);
        }
    }
    uint16_t defined = (uint16_t) ~((c->undefined & 0xd5) << 8 | (c->undefined & IF_OF ? 1 : 0));
    if ((cpu->flags ^ s->flags) & defined) {
        differ(c, "arithmetic flags (LAHF, SETO)", 0, cpu->flags, s->flags);
    }
    for (unsigned i = 0; i < FX_COMPARED; i += 8) {
        uint64_t a = *(const uint64_t *)(cpu->fx + i), b = *(const uint64_t *)(s->fx + i);
        if (a != b) {
            differ(c, "FP state, FXSAVE image byte", i, a, b);
        }
    }
    bool avx = (cpu->features & INSN_FEATURE(IFT_AVX)) != 0;
    for (unsigned i = CPU_XSAVE_AVX; avx && i < CPU_XSAVE_BYTES; i += 8) {
        uint64_t a = *(const uint64_t *)(cpu->fx + i), b = *(const uint64_t *)(s->fx + i);
        if (a != b) {
            differ(c, "FP state, XSAVE image byte", i, a, b);
        }
    }
}

static void compare_memory(struct check *c)
{
    for (unsigned p = 0; p < c->memory.n; p++) {
        const volatile uint64_t *a = (const volatile uint64_t *)c->memory.host[p];
        const uint64_t *b = (const uint64_t *)c->memory.copy[p];
        for (unsigned i = 0; i < 4096 / 8 && !c->difference.what; i++) {
            if (a[i] != b[i]) {
                differ(c, "memory", 0, a[i], b[i]);
                c->difference.host = c->memory.host[p] + 8 * i;
            }
        }
    }
}

static void compare_end(struct check *c, const struct soft_cpu *cpu, bool raised)
{
    const struct soft_cpu *s = c->replay;
    bool expected = c->end == CHECK_RAISED;
    if (raised != expected) {
        differ(c, raised ? "an exception in the block only" : "an exception in the replay only", 0,
               raised ? cpu->exc_vector : 0, expected ? s->exc_vector : 0);
        return;
    }
    if (raised) {
        COMPARE(exc_vector, "exception");
        COMPARE(exc_has_code, "exception with error code");
        COMPARE(exc_code, "error code");
        COMPARE(insn_rip, "RIP of the exception");
    } else {
        COMPARE(rip, "RIP");
    }
}

/* Did a device write meanwhile? It says so after it wrote: leave it a moment. */
static bool device_wrote(struct soft_cpu *cpu)
{
    _Atomic uint32_t never = 0;
    const struct timespec moment = {.tv_nsec = DMA_SETTLES_NS};
    if (atomic_load(&cpu->engine->device_writes) == cpu->check->dma) {
        host_wait(&never, 0, &moment);
    }
    return atomic_load(&cpu->engine->device_writes) != cpu->check->dma;
}

/* The block before may be tied to where it went: then this must be the one. */
static void compare_links(struct soft_cpu *cpu, const struct block *b)
{
    struct check *c = cpu->check;
    const struct block *left = c->left;
    c->left = NULL;
    if (!left || c->left_epoch != cpu->cache->epoch || left->dead || left->mode != b->mode ||
        (left->mode & MODE_CODE_LIMIT)) {
        return;
    }
    for (unsigned i = 0; i < left->n_ops; i++) {
        const struct op *o = &left->ops[i];
        const struct block *to = (const struct block *)o->disp;
        bool tied = o->len == 0 && o->imm == b->rip && o->scale_seg <= GEN_PAGE &&
                    o->gen == cpu->gen[o->scale_seg];
        if (tied && to != b && !to->dead) {
            differ(c, "block that a link leads to", i, to->rip, b->rip);
        }
    }
}

static void release_world(struct soft_cpu *cpu)
{
    cpu->world_held = false;
    world_go(cpu);
}

static void compare(struct soft_cpu *cpu, bool raised)
{
    struct check *c = cpu->check;
    c->active = false;
    soft_fp_leave(cpu);
    compare_end(c, cpu, raised);
    compare_registers(c, cpu);
    compare_system(c, cpu);
    compare_memory(c);
    c->counts.compared++;
    if (c->counts.compared % CHECK_SAYS == 0) {
        check_say_counts(cpu);
    }
    soft_fp_enter(cpu);
    if (c->difference.what && device_wrote(cpu)) {
        c->difference.what = NULL;
        c->counts.compared--;
        c->counts.moved++;
    }
    release_world(cpu);
    if (c->difference.what) {
        soft_fail(cpu, "a block and its replay differ");
    }
}

/* ---- the block itself ---- */

/* The block left early: it changed its own code, or repeats a string instruction later. */
static void catch_up(struct soft_cpu *cpu, uint64_t to)
{
    const struct check *c = cpu->check;
    bool inside = true;
    while (cpu->rip != to && inside) {
        inside = false;
        for (unsigned i = 0; i < c->n_steps; i++) {
            inside |= c->steps[i].rip == cpu->rip;
        }
        if (inside) {
            watch_one(cpu, false);
        }
    }
}

/* The instructions before the one that is not replayed, then that one. */
static void run_to_cut(struct soft_cpu *cpu)
{
    struct check *c = cpu->check;
    if (c->n_steps > 0 && c->end == CHECK_AT_RIP) {
        watch_one(cpu, false);
        catch_up(cpu, c->replay->rip);
        compare(cpu, false);
    } else {
        c->active = false;
        release_world(cpu);
    }
    uint64_t rip = cpu->rip;
    do {
        watch_one(cpu, false);
        /* A repeated one that fills many pages: no use in trying again at its next item. */
    } while (c->large && cpu->rip == rip && !(cpu->mode & MODE_STEP) &&
             !atomic_load(&cpu->pending));
}

/* Nothing new to be expected of it this time? */
static bool well_known(struct soft_cpu *cpu, struct block *b)
{
    struct check *c = cpu->check;
    unsigned every = cpu->engine->config.debug.check_every;
    if (every <= 1 || b->checked < CHECK_FIRST) {
        b->checked++;
        return false;
    }
    if (c->until > 0) {
        c->until--;
        return true;
    }
    c->until = every - 1;
    return false;
}

void check_run(struct soft_cpu *cpu, struct block *b)
{
    struct check *c = cpu->check;
    if (well_known(cpu, b)) {
        c->left = NULL;
        c->counts.passed++;
        watch_ops(cpu, b);
        return;
    }
    world_stop(cpu, UINT8_MAX);
    cpu->world_held = true;
    if (atomic_load(&cpu->pending) & PEND_CODE) { /* it may not be the right block any more */
        release_world(cpu);
        return;
    }
    compare_links(cpu, b);
    begin(cpu, b);
    if (c->cut) {
        run_to_cut(cpu);
    } else {
        watch_ops(cpu, b);
        const struct op *link_from = cpu->link_from;
        if (c->end == CHECK_AT_RIP && cpu->rip != c->replay->rip) {
            catch_up(cpu, c->replay->rip);
            link_from = NULL;
        }
        cpu->link_from = link_from;
        compare(cpu, false);
        c->left = b;
        c->left_epoch = cpu->cache->epoch;
    }
}

void check_landed(struct soft_cpu *cpu)
{
    if (cpu->check->active && cpu->exc_vector != BREAK_AGAIN &&
        !(atomic_load(&cpu->pending) & PEND_SHUTDOWN)) {
        compare(cpu, true);
    }
    cpu->check->active = false;
    release_world(cpu);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The run loop of a vCPU: pending work, interrupts, halting, finding the next block; and the
 * landing of every exception that a handler raises. Blocks call each other without coming back
 * here, until one ends in something unknown, or must_stop() says so.
 */
#include "cpu/soft/breakpoint.h"
#include "cpu/soft/fpstate.h"
#include "cpu/soft/hostcall.h"
#include "cpu/soft/legacy.h"
#include "cpu/soft/ops.h"
#include "cpu/soft/run.h"
#include "cpu/soft/time.h"
#include "cpu/soft/trace.h"
#include "cpu/soft/watch.h"

/* Blocks between two looks at the clock: some tens of microseconds. */
#define POLL_BLOCKS 2048

const struct bus *soft_pio(struct soft_cpu *cpu)
{
    return cpu->engine->config.pio;
}

struct mem *soft_mem(struct soft_cpu *cpu)
{
    return cpu->engine->config.mem;
}

struct stub_area *soft_stubs(struct soft_cpu *cpu)
{
    return cpu->cache->stubs;
}

struct soft_ioapic *soft_ioapic(struct engine *e)
{
    return e->ioapic;
}

uint64_t soft_tsc_khz(const struct engine *e)
{
    return e->tsc_khz;
}

struct soft_cpu *soft_vcpu(struct engine *e, unsigned index)
{
    return index < e->config.n_vcpus ? e->cpus[index] : NULL;
}

_Noreturn static void land(struct soft_cpu *cpu)
{
    __builtin_longjmp(cpu->landing, 1);
}

_Noreturn void soft_raise(struct soft_cpu *cpu, unsigned vector)
{
    cpu->exc_vector = (uint8_t)vector;
    cpu->exc_has_code = false;
    cpu->exc_code = 0;
    land(cpu);
}

_Noreturn void soft_raise_code(struct soft_cpu *cpu, unsigned vector, uint32_t code)
{
    cpu->exc_vector = (uint8_t)vector;
    cpu->exc_has_code = true;
    cpu->exc_code = code;
    land(cpu);
}

_Noreturn void soft_raise_pf(struct soft_cpu *cpu, uint64_t va, uint32_t code)
{
    cpu->cr2 = va;
    soft_raise_code(cpu, V_PF, code);
}

_Noreturn void soft_fail(struct soft_cpu *cpu, const char *why)
{
    cpu->failure = why;
    atomic_fetch_or(&cpu->pending, PEND_SHUTDOWN);
    land(cpu);
}

_Noreturn void soft_shutdown(struct soft_cpu *cpu)
{
    cpu->failure = NULL;
    atomic_fetch_or(&cpu->pending, PEND_SHUTDOWN);
    land(cpu);
}

void soft_notify(struct soft_cpu *cpu, uint32_t pend_bits)
{
    atomic_fetch_or(&cpu->pending, pend_bits);
    if (atomic_load(&cpu->waiting)) {
        host_wake(&cpu->pending);
    }
}

/* Sleep until something is pending or the APIC timer expires; or less, to see whether this vCPU has
 * come to rest. */
static void sleep_halted(struct soft_cpu *cpu)
{
    uint64_t ns = soft_lapic_deadline_ns(cpu), from = time_host_tsc();
    if (ns > IDLE_WINDOW_MS * 1000000ull && idle_waits(&cpu->idle, from)) {
        ns = IDLE_WINDOW_MS * 1000000ull;
    }
    struct timespec t = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    if (ns == 0) {
        return;
    }
    trace(cpu, ENGINE_TRACE_EXITS, TRACE_HALT, 0, 0, 0);
    world_rest(cpu);
    atomic_store(&cpu->waiting, true);
    if (atomic_load(&cpu->pending) == 0) {
        host_wait(&cpu->pending, 0, ns == UINT64_MAX ? NULL : &t);
    }
    atomic_store(&cpu->waiting, false);
    world_enter(cpu);
    if (idle_slept(&cpu->idle, from, time_host_tsc())) {
        blocks_trim(cpu);
    }
}

uint64_t soft_get_rflags(const struct soft_cpu *cpu)
{
    return (cpu->flags >> 8 & 0xd5) | (cpu->flags & FLG_OF ? IF_OF : 0) | cpu->sys_flags | 2;
}

void soft_set_rflags(struct soft_cpu *cpu, uint64_t rflags)
{
    const uint64_t defined =
        FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_RF | FL_AC | FL_VIF | FL_VIP | FL_ID;
    cpu->flags = (uint16_t)((rflags & 0xd5) << 8 | 0x200 | (rflags & IF_OF ? FLG_OF : 0));
    cpu->sys_flags = rflags & defined;
}

/* Does the guest want misaligned accesses to fault now? Then they all must miss the TLB. */
static void check_alignment(struct soft_cpu *cpu)
{
    bool on = cpu->cpl == 3 && (cpu->sys_flags & FL_AC) && (cpu->cr0 & CR0_AM);
    if (on && !(cpu->access_checks & ACCESS_ALIGN)) {
        soft_tlb_forget(cpu);
    }
    cpu->access_checks = (uint8_t)((cpu->access_checks & ~ACCESS_ALIGN) | (on ? ACCESS_ALIGN : 0));
}

void soft_update_mode(struct soft_cpu *cpu)
{
    uint32_t old = cpu->mode;
    cpu->cpl = (cpu->seg[SEG_SS].attr >> 5) & 3;
    uint32_t mode = soft_fp_mode_bits(cpu);
    mode |= cpu->cpl == 3 ? MODE_USER : 0;
    mode |= (cpu->sys_flags & FL_TF) ? MODE_STEP : 0;
    cpu->tlb_read = cpu->tlb[cpu->cpl == 3][0];
    cpu->tlb_write = cpu->tlb[cpu->cpl == 3][1];
    mode |= cpu->break_code || cpu->break_careful ? MODE_BREAK : 0;
    cpu->mode = mode | legacy_mode_bits(cpu, old);
    check_alignment(cpu);
    if ((old ^ mode) & ~(MODE_USER | MODE_SEGMENTS | MODE_BREAK)) {
        soft_code_flush(cpu); /* links were made for the other mode */
    }
}

/* INIT first: a vCPU that was told both is to start anew. */
static void handle_start(struct soft_cpu *cpu, uint32_t p)
{
    atomic_fetch_and(&cpu->pending, ~(p & (PEND_INIT | PEND_SIPI)));
    if (p & PEND_INIT) {
        if (cpu->apic_base & APIC_BASE_BSP) {
            soft_shutdown(cpu); /* it would run the firmware, which this machine has none of */
        }
        soft_sys_init(cpu);
        soft_tlb_flush(cpu, false);
    }
    if ((p & PEND_SIPI) && cpu->wait_sipi) {
        soft_sys_start(cpu, atomic_load(&cpu->sipi_vector));
    }
}

/* Bits of pending that the loop itself deals with. True: leave the loop with *exit. */
static bool handle_pending(struct soft_cpu *cpu, uint32_t p, enum vcpu_exit *exit)
{
    if (p & PEND_SHUTDOWN) {
        *exit = cpu->failure ? VCPU_EXIT_FAILED : VCPU_EXIT_SHUTDOWN;
        return true;
    }
    if (p & PEND_KICK) {
        atomic_fetch_and(&cpu->pending, ~PEND_KICK);
        *exit = VCPU_EXIT_KICKED;
        return true;
    }
    if (p & PEND_STOP) {
        world_rest(cpu);
        world_enter(cpu);
    }
    if (p & PEND_CODE) {
        atomic_fetch_and(&cpu->pending, ~PEND_CODE);
        blocks_drain(cpu);
    }
    if ((p & PEND_IRQ) && !cpu->int_shadow) {
        atomic_fetch_and(&cpu->pending, ~PEND_IRQ);
        cpu->irq_check = true;
    }
    if (p & PEND_NMI) {
        atomic_fetch_and(&cpu->pending, ~PEND_NMI);
        cpu->nmi_latched = !cpu->wait_sipi;
    }
    if (p & (PEND_INIT | PEND_SIPI)) {
        handle_start(cpu, p);
    }
    return false;
}

static void try_nmi(struct soft_cpu *cpu)
{
    if (cpu->nmi_blocked) {
        return;
    }
    cpu->link_from = NULL;
    cpu->nmi_latched = false;
    cpu->nmi_blocked = true;
    soft_deliver_irq(cpu, V_NMI);
}

static void try_interrupt(struct soft_cpu *cpu)
{
    if (!(cpu->sys_flags & FL_IF)) {
        return;
    }
    int vector = soft_lapic_accept(cpu);
    if (vector < 0) {
        cpu->irq_check = false;
        return;
    }
    cpu->link_from = NULL;
    cpu->insn_rip = cpu->rip;
    soft_deliver_irq(cpu, (unsigned)vector);
}

static struct block *next_block(struct soft_cpu *cpu)
{
    const struct soft_jump_entry *j = soft_jump_slot(cpu, cpu->rip);
    struct block *b = j->block;
    if (!(j->rip == cpu->rip && j->gen == cpu->gen[j->global] && b && b->mode == cpu->mode)) {
        b = blocks_find(cpu);
    }
    if (cpu->link_from) {
        branch_link(cpu, b);
    }
    return b;
}

static void run_block(struct soft_cpu *cpu, struct block *b)
{
    cpu->block = b;
#ifdef SOFT_TAILCALL
    b->ops[0].handler(cpu, b->ops);
#else
    for (const struct op *o = b->ops; o;) {
        o = o->handler(cpu, o);
    }
#endif
}

static bool wants_halt(struct soft_cpu *cpu)
{
    if (likely(!cpu->halted && !cpu->wait_sipi)) {
        return false;
    }
    if (cpu->halted && (cpu->sys_flags & FL_IF) && soft_lapic_ready(cpu)) {
        cpu->halted = false;
        cpu->irq_check = true;
        return true; /* go round once more: the interrupt comes first */
    }
    sleep_halted(cpu);
    soft_lapic_poll(cpu);
    return true;
}

static void step_trap(struct soft_cpu *cpu, uint32_t mode)
{
    bool skip = cpu->no_step;
    cpu->no_step = false;
    unsigned why = (mode & MODE_STEP) && !skip ? DR6_BS : 0;
    if (unlikely(mode & MODE_BREAK)) {
        why |= break_done(cpu, skip && cpu->int_shadow);
    }
    if (why) {
        break_raise(cpu, why);
    }
}

enum { LOOP_RUN, LOOP_AGAIN, LOOP_EXIT };

/* All that comes before a block. LOOP_EXIT: with *exit. */
static inline int before_block(struct soft_cpu *cpu, enum vcpu_exit *exit)
{
    uint32_t p = atomic_load(&cpu->pending);
    if (p && handle_pending(cpu, p, exit)) {
        return LOOP_EXIT;
    }
    if (cpu->budget < 0) {
        cpu->budget = POLL_BLOCKS;
        soft_lapic_poll(cpu);
    }
    bool shadow = cpu->int_shadow;
    cpu->int_shadow = false;
    if (cpu->nmi_latched && !shadow) {
        try_nmi(cpu);
    }
    if (cpu->irq_check && !shadow) {
        try_interrupt(cpu);
    }
    return wants_halt(cpu) ? LOOP_AGAIN : LOOP_RUN;
}

static void landed(struct soft_cpu *cpu)
{
    cpu->link_from = NULL;
    cpu->stack_access = false;
    world_go(cpu);
    if (!(atomic_load(&cpu->pending) & PEND_SHUTDOWN) && !break_landed(cpu)) {
        soft_deliver_exception(cpu);
    }
}

/* Not inlined: it must be another frame than the raising functions', and keeps nothing in locals.
 */
__attribute__((noinline)) enum vcpu_exit soft_run_slice(struct soft_cpu *cpu)
{
    if (__builtin_setjmp(cpu->landing)) {
        landed(cpu);
    }
    for (;;) {
        enum vcpu_exit exit;
        int what = before_block(cpu, &exit);
        if (what == LOOP_EXIT) {
            return exit;
        }
        if (what == LOOP_RUN) {
            uint32_t mode = cpu->mode;
            if (unlikely(mode & MODE_BREAK)) {
                break_run(cpu);
            } else {
                run_block(cpu, next_block(cpu));
            }
            step_trap(cpu, mode);
        }
    }
}

__attribute__((noinline)) enum vcpu_exit soft_run_slice_watched(struct soft_cpu *cpu)
{
    if (__builtin_setjmp(cpu->landing)) {
        watch_landed(cpu);
        landed(cpu);
    }
    for (;;) {
        enum vcpu_exit exit;
        int what = before_block(cpu, &exit);
        if (what == LOOP_EXIT) {
            return exit;
        }
        if (what == LOOP_RUN) {
            uint32_t mode = cpu->mode;
            if (unlikely(mode & MODE_BREAK)) {
                break_run(cpu);
            } else {
                watch_run(cpu, next_block(cpu));
            }
            step_trap(cpu, mode);
        }
    }
}

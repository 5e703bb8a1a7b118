// SPDX-License-Identifier: Apache-2.0
#include "cpu/soft/lift_mem.h"
#include "cpu/soft/native.h"

/* #NM or #UD as the control registers say. Source: SDM vol. 3, 2.5 and table 9-1; KVM agrees. */
static void check_available(struct soft_cpu *cpu, unsigned class)
{
    bool em = (cpu->cr0 & CR0_EM) != 0;
    bool ts = (cpu->cr0 & CR0_TS) != 0;
    bool no_fxsr = (cpu->cr4 & CR4_OSFXSR) == 0;
    if ((class == NC_MMX && em) || (class == NC_SSE && (em || no_fxsr))) {
        soft_raise(cpu, V_UD);
    }
    if (class == NC_AVX || class == NC_XSAVE) {
        if (class == NC_AVX ? !native_avx_on(cpu) : (cpu->cr4 & CR4_OSXSAVE) == 0) {
            soft_raise(cpu, V_UD);
        }
        em = false;
    }
    if (class == NC_WAIT) {
        ts = ts && (cpu->cr0 & CR0_MP) != 0;
        em = false;
    }
    if (ts || em) {
        soft_raise(cpu, V_NM);
    }
}

/* All vector and x87 registers, before an instruction that may have to be undone. */
static void take_state(struct soft_cpu *cpu, struct fx_image *fx)
{
    if (!native_host(cpu)->xsave) {
        fx_save(fx);
        return;
    }
    for (unsigned i = XS_BV / 8; i < XS_AVX / 8; i++) {
        fx->q[i] = 0;
    }
    xs_save(fx, XS_COMPONENTS);
}

static void put_state(struct soft_cpu *cpu, const struct fx_image *fx)
{
    if (native_host(cpu)->xsave) {
        xs_restore(fx, XS_COMPONENTS);
    } else {
        fx_restore(fx);
    }
}

/* Guest sticky flags gather in cpu->mxcsr; the host's are clear between instructions. */
static uint32_t take_flags(void)
{
    uint32_t v = host_mxcsr();
    host_set_mxcsr(v & ~MXCSR_FLAGS);
    return v & MXCSR_FLAGS;
}

static const struct op *run_copy(struct soft_cpu *cpu, const struct op *o,
                                 const struct native_wrap *w)
{
    struct op *run = native_host(cpu)->run;
    run[0] = *o;
    run[0].handler = w->inner;
    run[0].imm = w->imm;
    return native_run(cpu, run, NULL);
}

/* The same to find out what it raises. A store is checked, which comes first, and goes to scratch
 * memory. */
static const struct op *run_trial(struct soft_cpu *cpu, const struct op *o,
                                  const struct native_wrap *w)
{
    if ((w->checks & NC_STORE) == 0) {
        return run_copy(cpu, o, w);
    }
    struct op *run = native_host(cpu)->run;
    op_ptr(cpu, o, (w->checks & NC_ADDR32) != 0 ? op_ea32(cpu, o) : op_ea(cpu, o), o->src,
           ACC_WRITE);
    run[0] = *o;
    run[0].handler = (op_handler)(uintptr_t)w->imm; /* behind the probe */
    return native_run(cpu, run, native_host(cpu)->bounce);
}

/*
 * The flags an instruction raises when at least one of them is unmasked, its effects undone.
 * Exceptions found before the computation (IE DE ZE) suppress those found after it (OE UE PE).
 * While underflow is unmasked the host flushes to zero, which reports exact tiny results too, as
 * the guest expects, but always says "inexact": a second run without flushing tells (it still says
 * so for a tiny result that only denormalisation makes inexact, where the processor would not).
 */
static uint32_t trap_flags(struct soft_cpu *cpu, const struct op *o, const struct native_wrap *w,
                           uint32_t raised, const struct fx_image *before)
{
    uint32_t unmasked = ~(cpu->mxcsr >> 7) & MXCSR_FLAGS;
    put_state(cpu, before);
    if ((raised & unmasked & 7u) != 0) {
        return raised & 7u;
    }
    if ((raised & unmasked & 0x10u) != 0) {
        uint32_t host = host_mxcsr();
        host_set_mxcsr(host & ~MXCSR_FTZ);
        run_trial(cpu, o, w);
        raised = take_flags() | 0x10u;
        put_state(cpu, before);
    }
    return raised;
}

static __attribute__((noinline)) const struct op *
run_sse_checked(struct soft_cpu *cpu, const struct op *o, const struct native_wrap *w)
{
    struct fx_image before;
    uint64_t gpr = cpu->gpr[o->dst];
    uint16_t flags = cpu->flags;
    take_state(cpu, &before);
    const struct op *next = run_trial(cpu, o, w);
    uint32_t raised = take_flags();
    if ((raised & ~(cpu->mxcsr >> 7)) == 0) {
        if ((w->checks & NC_STORE) != 0) {
            next = run_copy(cpu, o, w);
            take_flags();
        }
        cpu->mxcsr |= raised;
        return next;
    }
    raised = trap_flags(cpu, o, w, raised, &before);
    cpu->gpr[o->dst] = gpr;
    cpu->flags = flags;
    cpu->mxcsr |= raised;
    cpu->insn_rip = op_rip(cpu, o);
    soft_raise(cpu, (cpu->cr4 & CR4_OSXMMEXCPT) != 0 ? V_XM : V_UD);
}

OP(op_native_checked)
{
    const struct native_wrap *w = (const struct native_wrap *)(uintptr_t)o->imm;
    const struct op *next;
    cpu->insn_rip = op_rip(cpu, o);
    check_available(cpu, w->checks & NC_CLASS);
    if ((w->checks & NC_ES) != 0 && (host_fsw() & FSW_ES) != 0) {
        soft_raise(cpu, V_MF);
    }
    if ((w->checks & NC_XM) != 0 && (cpu->mode & MODE_SSE_TRAP) != 0) {
        next = run_sse_checked(cpu, o, w);
    } else {
        next = run_copy(cpu, o, w);
    }
    if (next == NULL) {
        return NULL; /* the mode changed; cpu->rip is set */
    }
    NEXT;
}

op_handler native_checked_handler(void)
{
    return op_native_checked;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Native execution of x87, MMX and SSE instructions, between native.c (lifting), native_ops.c
 * (slow paths), native_checked.c (modes that trap) and fpstate.c (control and state instructions).
 *
 * Every such instruction becomes a stub, which is the operation's handler: for a memory operand,
 * address computation and TLB probe; the instruction itself, its memory operand replaced by [rdx],
 * its general registers by memory in soft_cpu or by eax; the dispatch of the next operation. When
 * the probe misses it leaves to a slow path in C, which enters the stub again behind the probe
 * (op.imm).
 *
 * FP control: the guest's FCW is in the host register. The guest's MXCSR is too, unless it unmasks
 * an exception: then the host runs with everything masked and the sticky flags clear, cpu->mxcsr
 * holds the guest's MXCSR, MODE_SSE_TRAP is set, and arithmetic goes through native_checked, which
 * finds out what would have trapped. The host never takes a floating-point signal.
 *
 * Everything here runs inside run slices.
 */
#ifndef SM_SOFT_NATIVE_H
#define SM_SOFT_NATIVE_H

#include "cpu/soft/exec.h"

typedef const struct op *(*native_stub)(struct soft_cpu *cpu, const struct op *o, void *mem);

/* What soft_cpu.host_fx holds: the host's side of the exchange (XMM registers need no keeping,
 * calls clobber them; the x87 stack is empty at calls), and scratch memory of the native executor.
 */
struct host_fp {
    uint32_t mxcsr;
    uint16_t fcw;
    bool avx;         /* vzeroupper exists */
    struct op run[2]; /* the operation that native_checked wraps: slow paths may remember it */
    uint64_t bounce[2]
        __attribute__((aligned(16))); /* aligned, which soft_cpu.bounce need not be */
} __attribute__((may_alias));

static inline struct host_fp *native_host(struct soft_cpu *cpu)
{
    _Static_assert(sizeof(struct host_fp) <= sizeof(cpu->host_fx), "fits");
    return (struct host_fp *)cpu->host_fx;
}

/* What native_checked does before and around an instruction. */
#define NC_CLASS 0x0fu /* which CR0/CR4 bits forbid it: */
#define NC_X87 1u      /* EM or TS: #NM */
#define NC_MMX 2u      /* EM: #UD; TS: #NM */
#define NC_SSE 3u      /* EM or not OSFXSR: #UD; TS: #NM */
#define NC_WAIT 4u     /* MP and TS: #NM */
#define NC_FXSR 5u     /* EM or TS: #NM */
#define NC_ES 0x10u    /* #MF when an x87 exception is pending */
#define NC_XM 0x20u    /* may raise SIMD exceptions */

/* The operand of native_checked, stored in the stub area: the operation it wraps. */
struct native_wrap {
    op_handler inner;
    uint64_t imm; /* op.imm of the wrapped operation */
    uint32_t checks;
    uint32_t zero;
};

/* Handler that applies NC_* (op.imm is a struct native_wrap). */
op_handler native_checked_handler(void);

/* Where a stub goes whose operand at va misses the TLB or is misaligned; op.src is the operand's
 * size. */
typedef const struct op *(*native_slow)(struct soft_cpu *cpu, const struct op *o, uint64_t va);
native_slow native_slow_path(bool store, bool align);

/* Handler of MASKMOVQ and MASKMOVDQU. op.imm is a stub that writes data and mask, size bytes each,
 * to bounce[0] and bounce[16]. */
op_handler native_maskmov_handler(unsigned size, bool addr32);

/* Run a stub or handler and come back, whatever the dispatch: fills out[1]. out[0] is the
 * operation. */
const struct op *native_run(struct soft_cpu *cpu, struct op out[2], void *mem);

/* Handler of a state instruction (I_FXSAVE to I_FNCLEX); fills op->src and op->dst for it. */
op_handler fpstate_handler(const struct insn *insn, struct op *op);

/* The guest's MXCSR while its state is in the host; set wants no reserved bits. */
uint32_t fpstate_mxcsr(const struct soft_cpu *cpu);
void fpstate_set_mxcsr(struct soft_cpu *cpu, uint32_t mxcsr);

#define MXCSR_FLAGS 0x003fu
#define MXCSR_MASKS 0x1f80u
#define MXCSR_FTZ 0x8000u
#define MXCSR_VALID 0xffffu /* what the guest sees as MXCSR_MASK */

static inline uint32_t host_mxcsr(void)
{
    uint32_t v;
    __asm__ volatile("stmxcsr %0" : "=m"(v));
    return v;
}

static inline void host_set_mxcsr(uint32_t v)
{
    __asm__ volatile("ldmxcsr %0" : : "m"(v));
}

static inline uint16_t host_fsw(void)
{
    uint16_t v;
    __asm__ volatile("fnstsw %0" : "=a"(v));
    return v;
}

static inline uint16_t host_fcw(void)
{
    uint16_t v;
    __asm__ volatile("fnstcw %0" : "=m"(v));
    return v;
}

#define FSW_ES 0x80u
#define FCW_MASKS 0x3fu

#endif

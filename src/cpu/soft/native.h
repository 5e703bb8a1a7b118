/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Native execution of x87, MMX, SSE and AVX instructions, between native.c (lifting), native_ops.c
 * (slow paths), native_avx.c (masked moves, gathers), native_checked.c (modes that trap), fpstate.c
 * and xsave.c (control and state instructions).
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
    bool xsave;       /* the model has AVX: the exchange is by XSAVE and XRSTOR */
    struct op run[2]; /* the operation that native_checked wraps: slow paths may remember it */
    uint64_t bounce[4]
        __attribute__((aligned(32))); /* aligned, which soft_cpu.bounce need not be */
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
#define NC_AVX 6u      /* not OSXSAVE, or XCR0 without SSE and AVX: #UD; TS: #NM */
#define NC_XSAVE 7u    /* not OSXSAVE: #UD; TS: #NM */
#define NC_ES 0x10u    /* #MF when an x87 exception is pending */
#define NC_XM 0x20u    /* may raise SIMD exceptions */
#define NC_STORE 0x40u /* with NC_XM: and writes memory (VCVTPS2PH alone) */
#define NC_ADDR32 0x80u

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

/* The same for VMASKMOVPx and VPMASKMOVx: only the elements that the mask selects are accessed.
 * op.dst is the mask's register, op.src the operand's size. */
native_slow native_vmask_slow_path(bool store, unsigned element);

/* Handler of a gather; fills op->src, op->dst and op->imm for it. */
op_handler native_gather_handler(const struct insn *insn, struct op *op);

/* Handler of MASKMOVQ and MASKMOVDQU. op.imm is a stub that writes data and mask, size bytes each,
 * to bounce[0] and bounce[16]. */
op_handler native_maskmov_handler(unsigned size, bool addr32);

/* Run a stub or handler and come back, whatever the dispatch: fills out[1]. out[0] is the
 * operation. */
const struct op *native_run(struct soft_cpu *cpu, struct op out[2], void *mem);

/* Handler of a state instruction (I_FXSAVE to I_FNCLEX); fills op->src and op->dst for it. */
op_handler fpstate_handler(const struct insn *insn, struct op *op);
/* The same for I_XSAVE, I_XSAVEOPT and I_XRSTOR; needs op->dst as fpstate_handler() fills it. */
op_handler xsave_handler(unsigned id);

/* May the guest use AVX? */
static inline bool native_avx_on(const struct soft_cpu *cpu)
{
    return (cpu->cr4 & CR4_OSXSAVE) != 0 && (cpu->xcr0 & 6) == 6;
}

/* The one mandatory prefix (F2 and F3 win over 66), or 66 as operand size, or 0. A prefix without
 * meaning is dropped: it must not reach a host that gives it one. */
uint8_t native_kept_prefix(const struct insn *insn);

/* The guest's MXCSR while its state is in the host; set wants no reserved bits. */
uint32_t fpstate_mxcsr(const struct soft_cpu *cpu);
void fpstate_set_mxcsr(struct soft_cpu *cpu, uint32_t mxcsr);

/*
 * An XSAVE image in the standard format, or the FXSAVE image that it begins with (64-bit form).
 * Source: SDM vol. 1, 13.4 and 10.5.1.
 */
#define FX_FCW 0
#define FX_FSW 2
#define FX_FTW 4
#define FX_FOP 6 /* FOP, FIP, FDP: 18 bytes */
#define FX_MXCSR 24
#define FX_MXCSR_MASK 28
#define FX_X87 32
#define FX_XMM 160
#define FX_XMM8 288 /* XMM8 and up: in 64-bit mode only */
#define FX_USED 416 /* the processor leaves the rest alone */
#define FX_SIZE 512
#define XS_BV 512 /* header: components that are not in their initial state */
#define XS_AVX 576
#define XS_SIZE CPU_XSAVE_BYTES
#define XS_COMPONENTS 7u /* x87, SSE, AVX */

struct fx_image {
    union {
        uint8_t b[XS_SIZE];
        uint16_t w[XS_SIZE / 2];
        uint32_t d[XS_SIZE / 4];
        uint64_t q[XS_SIZE / 8];
    };
} __attribute__((aligned(64), may_alias));

static inline void fx_save(struct fx_image *fx)
{
    __asm__ volatile("fxsave %0" : "=m"(*fx));
}

static inline void fx_restore(const struct fx_image *fx)
{
    __asm__ volatile("fxrstor %0" : : "m"(*fx));
}

/* The header must be valid: zero but for XSTATE_BV. */
static inline void xs_save(struct fx_image *fx, uint32_t components)
{
    __asm__ volatile("xsave %0" : "+m"(*fx) : "a"(components), "d"(0));
}

static inline void xs_restore(const struct fx_image *fx, uint32_t components)
{
    __asm__ volatile("xrstor %0" : : "m"(*fx), "a"(components), "d"(0));
}

/* No host address that x87 noted may be seen by the guest. */
static inline void fx_scrub(struct fx_image *fx, uint32_t mxcsr)
{
    fx->w[FX_FOP / 2] = 0;
    fx->q[1] = 0;
    fx->q[2] = 0;
    fx->d[FX_MXCSR / 4] = mxcsr;
    fx->d[FX_MXCSR_MASK / 4] = 0xffffu;
}

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

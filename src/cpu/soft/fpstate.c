// SPDX-License-Identifier: Apache-2.0
/*
 * FP control and state instructions, and the exchange of guest and host FP state. Images go through
 * local copies: the host's code and data addresses that x87 records must not be seen in guest
 * memory even for a moment, and a guest must not change an image between check and use. Source: SDM
 * vol. 1, 8.1.8-8.1.10 and 10.5; vol. 2, FXSAVE.
 */
#include "cpu/soft/fpstate.h"

#include "cpu/soft/fpstate_op.h"

#define FP_ENV_MAX 28
#define FP_SAVE_MAX 108

static inline struct fx_image *cpu_fx(struct soft_cpu *cpu)
{
    return (struct fx_image *)cpu->fx;
}

/* ---- MXCSR ---- */

static bool all_masked(uint32_t mxcsr)
{
    return (mxcsr & MXCSR_MASKS) == MXCSR_MASKS;
}

uint32_t fpstate_mxcsr(const struct soft_cpu *cpu)
{
    uint32_t host = host_mxcsr();
    return all_masked(cpu->mxcsr) ? host : cpu->mxcsr | (host & MXCSR_FLAGS);
}

void fpstate_set_mxcsr(struct soft_cpu *cpu, uint32_t mxcsr)
{
    cpu->mxcsr = mxcsr;
    if (!all_masked(mxcsr)) {
        /* Flush-to-zero has no effect while underflow is unmasked; see trap_flags() for its use. */
        bool underflow = (mxcsr & 0x800u) == 0;
        mxcsr = (mxcsr & ~MXCSR_FLAGS) | MXCSR_MASKS | (underflow ? MXCSR_FTZ : 0);
    }
    host_set_mxcsr(mxcsr);
}

/* ---- exchange with the host ---- */

static bool host_has_avx(void)
{
    uint32_t a = 1, b, c = 0, d;
    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    if ((c & (1u << 27)) == 0 || (c & (1u << 28)) == 0) { /* OSXSAVE, AVX */
        return false;
    }
    __asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (a & 6u) == 6u;
}

void soft_fp_init(struct soft_cpu *cpu)
{
    struct fx_image *fx = cpu_fx(cpu);
    for (unsigned i = 0; i < XS_SIZE / 8; i++) {
        fx->q[i] = 0;
    }
    fx->q[XS_BV / 8] = XS_COMPONENTS;
    fx->w[FX_FCW / 2] = 0x37f;
    fx_scrub(fx, 0x1f80);
    cpu->mxcsr = 0x1f80;
    cpu->fp_in_host = false;
    native_host(cpu)->avx = host_has_avx();
    native_host(cpu)->xsave = (cpu->features & INSN_FEATURE(IFT_AVX)) != 0;
}

void soft_fp_enter(struct soft_cpu *cpu)
{
    struct fx_image *fx = cpu_fx(cpu);
    native_host(cpu)->mxcsr = host_mxcsr();
    native_host(cpu)->fcw = host_fcw();
    fx_scrub(fx, fx->d[FX_MXCSR / 4] & MXCSR_VALID);
    if (native_host(cpu)->xsave) {
        xs_restore(fx, XS_COMPONENTS);
    } else {
        if (native_host(cpu)->avx) {
            __asm__ volatile("vzeroupper"); /* dirty upper halves slow SSE code down */
        }
        fx_restore(fx);
    }
    fpstate_set_mxcsr(cpu, fx->d[FX_MXCSR / 4]);
    cpu->fp_in_host = true;
}

void soft_fp_leave(struct soft_cpu *cpu)
{
    struct fx_image *fx = cpu_fx(cpu);
    uint32_t mxcsr = fpstate_mxcsr(cpu);
    if (native_host(cpu)->xsave) {
        xs_save(fx, XS_COMPONENTS);
        __asm__ volatile("vzeroupper");
    } else {
        fx_save(fx);
    }
    fx_scrub(fx, mxcsr);
    __asm__ volatile("fninit\n\tfldcw %0" : : "m"(native_host(cpu)->fcw));
    host_set_mxcsr(native_host(cpu)->mxcsr);
    cpu->fp_in_host = false;
}

uint32_t soft_fp_mode_bits(const struct soft_cpu *cpu)
{
    const struct fx_image *fx = (const struct fx_image *)cpu->fx;
    uint32_t mxcsr = cpu->fp_in_host ? fpstate_mxcsr(cpu) : fx->d[FX_MXCSR / 4];
    uint16_t fcw = cpu->fp_in_host ? host_fcw() : fx->w[FX_FCW / 2];
    uint16_t fsw = cpu->fp_in_host ? host_fsw() : fx->w[FX_FSW / 2];
    uint32_t mode = 0;
    if ((cpu->cr0 & (CR0_TS | CR0_EM)) != 0 || (cpu->cr4 & CR4_OSFXSR) == 0) {
        mode |= MODE_FP_OFF;
    }
    if ((cpu->features & INSN_FEATURE(IFT_AVX)) != 0 && !native_avx_on(cpu)) {
        mode |= MODE_AVX_OFF;
    }
    if (!all_masked(mxcsr)) {
        mode |= MODE_SSE_TRAP;
    }
    if ((fcw & FCW_MASKS) != FCW_MASKS || (fsw & FSW_ES) != 0) {
        mode |= MODE_X87_TRAP;
    }
    return mode;
}

/* ---- instructions ---- */

/* Copies between guest memory and local images, each a whole number of 16-bit units. */
static void copy16(void *to, const void *from, unsigned len)
{
    volatile guest_u16 *t = to;
    const volatile guest_u16 *f = from;
    for (unsigned i = 0; i < len / 2; i++) {
        t[i] = f[i];
    }
}

static void load_image(struct soft_cpu *cpu, const struct op *o, void *to, unsigned len)
{
    copy16(to, op_ptr(cpu, o, fps_ea(cpu, o), len, ACC_READ), len);
}

static uint64_t fx_address(struct soft_cpu *cpu, const struct op *o)
{
    uint64_t va = fps_ea(cpu, o);
    if ((va & 15) != 0) {
        /* unlike for SSE operands, a non-canonical stack address comes before the alignment */
        bool stack = (o->base == R_SP || o->base == R_BP) && o->scale_seg >> 4 == LIFT_NO_SEG;
        bool canonical = (uint64_t)((int64_t)(va << 16) >> 16) == va;
        cpu->insn_rip = op_rip(cpu, o);
        soft_raise_code(cpu, stack && !canonical ? V_SS : V_GP, 0);
    }
    return va;
}

static __attribute__((noinline)) void fxsave(struct soft_cpu *cpu, const struct op *o)
{
    uint64_t va = fx_address(cpu, o);
    void *p = op_ptr(cpu, o, va, FX_SIZE, ACC_WRITE);
    struct fx_image fx;
    fx_save(&fx);
    fx_scrub(&fx, fpstate_mxcsr(cpu));
    fps_copy(p, &fx, cpu->mode & MODE_LEGACY ? FX_XMM8 : FX_USED);
    soft_ptr_done(cpu, o, va, FX_SIZE, p);
}

OP(op_fxsave)
{
    fxsave(cpu, o);
    NEXT;
}

OP(op_fxrstor)
{
    uint64_t va = fx_address(cpu, o);
    struct fx_image fx;
    fps_copy(&fx, op_ptr(cpu, o, va, FX_SIZE, ACC_READ), FX_SIZE);
    uint32_t mxcsr = fx.d[FX_MXCSR / 4];
    if ((mxcsr & ~MXCSR_VALID) != 0) {
        cpu->insn_rip = op_rip(cpu, o);
        soft_raise_code(cpu, V_GP, 0);
    }
    if (cpu->mode & MODE_LEGACY) {
        struct fx_image now;
        fx_save(&now);
        fps_copy(&fx.b[FX_XMM8], &now.b[FX_XMM8], FX_USED - FX_XMM8);
    }
    fx_scrub(&fx, mxcsr);
    fx_restore(&fx);
    fpstate_set_mxcsr(cpu, mxcsr);
    return fps_leave_block(cpu, o);
}

OP(op_ldmxcsr)
{
    uint32_t mxcsr = load32(cpu, o, fps_ea(cpu, o));
    if ((mxcsr & ~MXCSR_VALID) != 0) {
        cpu->insn_rip = op_rip(cpu, o);
        soft_raise_code(cpu, V_GP, 0);
    }
    fpstate_set_mxcsr(cpu, mxcsr);
    return fps_leave_block(cpu, o);
}

OP(op_stmxcsr)
{
    store32(cpu, o, fps_ea(cpu, o), fpstate_mxcsr(cpu));
    NEXT;
}

OP(op_emms)
{
    __asm__ volatile("emms");
    NEXT;
}

OP(op_fwait) /* the check for exceptions is native_checked's */
{
    NEXT;
}

OP(op_fldcw)
{
    uint16_t fcw = load16(cpu, o, fps_ea(cpu, o));
    __asm__ volatile("fldcw %0" : : "m"(fcw));
    return fps_leave_block(cpu, o);
}

OP(op_fnstcw)
{
    store16(cpu, o, fps_ea(cpu, o), host_fcw());
    NEXT;
}

OP(op_fnstsw_mem)
{
    store16(cpu, o, fps_ea(cpu, o), host_fsw());
    NEXT;
}

OP(op_fnstsw_ax)
{
    cpu->gpr[R_AX] = (cpu->gpr[R_AX] & ~(uint64_t)0xffff) | host_fsw();
    NEXT;
}

OP(op_fninit)
{
    __asm__ volatile("fninit");
    return fps_leave_block(cpu, o);
}

OP(op_fnclex)
{
    __asm__ volatile("fnclex");
    return fps_leave_block(cpu, o);
}

/* Instruction, data pointer and opcode out of an environment image. */
static void scrub_env(void *image, bool small)
{
    uint16_t *w = image;
    for (unsigned i = small ? 3 : 6; i < (small ? 7u : 13u); i++) {
        w[i] = 0;
    }
}

static unsigned env_size(const struct op *o)
{
    return (o->dst & FPS_16BIT) != 0 ? 14 : 28;
}

OP(op_fldenv)
{
    uint16_t image[FP_ENV_MAX / 2];
    load_image(cpu, o, image, env_size(o));
    scrub_env(image, env_size(o) == 14);
    if (env_size(o) == 14) {
        __asm__ volatile("data16 fldenv %0" : : "m"(image));
    } else {
        __asm__ volatile("fldenv %0" : : "m"(image));
    }
    return fps_leave_block(cpu, o);
}

OP(op_frstor)
{
    uint16_t image[FP_SAVE_MAX / 2];
    load_image(cpu, o, image, env_size(o) + 80);
    scrub_env(image, env_size(o) == 14);
    if (env_size(o) == 14) {
        __asm__ volatile("data16 frstor %0" : : "m"(image));
    } else {
        __asm__ volatile("frstor %0" : : "m"(image));
    }
    return fps_leave_block(cpu, o);
}

OP(op_fnstenv)
{
    uint16_t image[FP_ENV_MAX / 2];
    unsigned len = env_size(o);
    uint64_t va = fps_ea(cpu, o);
    void *p = op_ptr(cpu, o, va, len, ACC_WRITE);
    if (len == 14) {
        __asm__ volatile("data16 fnstenv %0" : "=m"(image));
    } else {
        __asm__ volatile("fnstenv %0" : "=m"(image));
    }
    scrub_env(image, len == 14);
    copy16(p, image, len);
    soft_ptr_done(cpu, o, va, len, p);
    return fps_leave_block(cpu, o); /* FNSTENV masks all exceptions */
}

OP(op_fnsave)
{
    uint16_t image[FP_SAVE_MAX / 2];
    unsigned len = env_size(o) + 80;
    uint64_t va = fps_ea(cpu, o);
    void *p = op_ptr(cpu, o, va, len, ACC_WRITE);
    if (env_size(o) == 14) {
        __asm__ volatile("data16 fnsave %0" : "=m"(image));
    } else {
        __asm__ volatile("fnsave %0" : "=m"(image));
    }
    scrub_env(image, env_size(o) == 14);
    copy16(p, image, len);
    soft_ptr_done(cpu, o, va, len, p);
    return fps_leave_block(cpu, o);
}

op_handler fpstate_handler(const struct insn *insn, struct op *op)
{
    op->dst = (uint8_t)((lift_addr32(insn) ? FPS_ADDR32 : 0) | (insn->opsize == 2 ? FPS_16BIT : 0));
    switch (insn->desc->id) {
    case I_XSAVE:
    case I_XSAVEOPT:
    case I_XRSTOR:
        return xsave_handler(insn->desc->id);
    case I_FXSAVE:
        return op_fxsave;
    case I_FXRSTOR:
        return op_fxrstor;
    case I_LDMXCSR:
        return op_ldmxcsr;
    case I_STMXCSR:
        return op_stmxcsr;
    case I_EMMS:
        return op_emms;
    case I_FWAIT:
        return op_fwait;
    case I_FLDCW:
        return op_fldcw;
    case I_FNSTCW:
        return op_fnstcw;
    case I_FNSTSW_MEM:
        return op_fnstsw_mem;
    case I_FNSTSW_AX:
        return op_fnstsw_ax;
    case I_FLDENV:
        return op_fldenv;
    case I_FNSTENV:
        return op_fnstenv;
    case I_FRSTOR:
        return op_frstor;
    case I_FNSAVE:
        return op_fnsave;
    case I_FNINIT:
        return op_fninit;
    default:
        return op_fnclex;
    }
}

// SPDX-License-Identifier: Apache-2.0
/*
 * XSAVE, XSAVEOPT and XRSTOR in the standard format, with the components x87, SSE and AVX. As in
 * fpstate.c, images go through a local copy. XSAVEOPT leaves components in their initial state out;
 * it does not track what was modified, as the host's own tracking does not know the guest. Source:
 * SDM vol. 1, 13.7-13.9.
 */
#include "cpu/soft/fpstate_op.h"

#define XS_HEADER_END 576
#define XS_YMM8 (XS_AVX + 128) /* YMM8 and up: in 64-bit mode only */

/* The components that the guest asks for. */
static uint32_t requested(const struct soft_cpu *cpu)
{
    return (uint32_t)(cpu->gpr[R_AX] & cpu->xcr0 & XS_COMPONENTS);
}

static _Noreturn void general_protection(struct soft_cpu *cpu, const struct op *o)
{
    cpu->insn_rip = op_rip(cpu, o);
    soft_raise_code(cpu, V_GP, 0);
}

static uint64_t image_address(struct soft_cpu *cpu, const struct op *o)
{
    uint64_t va = fps_ea(cpu, o);
    if ((va & 63) != 0) {
        general_protection(cpu, o);
    }
    return va;
}

static void copy_part(uint8_t *to, const struct fx_image *from, unsigned at, unsigned end)
{
    fps_copy(to + at, from->b + at, end - at);
}

static __attribute__((noinline)) void save(struct soft_cpu *cpu, const struct op *o, bool optimized)
{
    uint64_t va = image_address(cpu, o);
    uint32_t want = requested(cpu);
    unsigned size = (want & 4) != 0 ? XS_SIZE : XS_HEADER_END;
    struct fx_image fx;
    uint8_t *p = op_ptr(cpu, o, va, size, ACC_WRITE);
    for (unsigned i = XS_BV / 8; i < XS_HEADER_END / 8; i++) {
        fx.q[i] = 0;
    }
    fps_copy(&fx.q[XS_BV / 8], p + XS_BV, 8);
    xs_save(&fx, want);
    fx_scrub(&fx, fpstate_mxcsr(cpu));
    uint32_t write = optimized ? want & (uint32_t)fx.q[XS_BV / 8] : want;
    if ((write & 1) != 0) {
        copy_part(p, &fx, FX_FCW, FX_MXCSR);
        copy_part(p, &fx, FX_X87, FX_XMM);
    }
    if ((want & 6) != 0) {
        copy_part(p, &fx, FX_MXCSR, FX_X87);
    }
    bool legacy = (cpu->mode & MODE_LEGACY) != 0;
    if ((write & 2) != 0) {
        copy_part(p, &fx, FX_XMM, legacy ? FX_XMM8 : FX_USED);
    }
    if ((write & 4) != 0) {
        copy_part(p, &fx, XS_AVX, legacy ? XS_YMM8 : XS_SIZE);
    }
    copy_part(p, &fx, XS_BV, XS_BV + 8);
    soft_ptr_done(cpu, o, va, size, p);
}

OP(op_xsave)
{
    save(cpu, o, false);
    NEXT;
}

OP(op_xsaveopt)
{
    save(cpu, o, true);
    NEXT;
}

/* Outside 64-bit mode the registers from 8 up stay: put what they hold into the image. A component
 * that the image leaves out is initial for the others. */
static void keep_upper(struct fx_image *fx, uint32_t want)
{
    struct fx_image now;
    for (unsigned i = XS_BV / 8; i < XS_HEADER_END / 8; i++) {
        now.q[i] = 0;
    }
    xs_save(&now, 6);
    static const struct {
        uint32_t bit, at, upper, end;
    } parts[2] = {{2, FX_XMM, FX_XMM8, FX_USED}, {4, XS_AVX, XS_YMM8, XS_SIZE}};
    for (unsigned k = 0; k < 2; k++) {
        if (!(want & parts[k].bit)) {
            continue;
        }
        for (unsigned i = parts[k].at / 8; i < parts[k].upper / 8; i++) {
            fx->q[i] = fx->q[XS_BV / 8] & parts[k].bit ? fx->q[i] : 0;
        }
        bool holds = (now.q[XS_BV / 8] & parts[k].bit) != 0;
        for (unsigned i = parts[k].upper / 8; i < parts[k].end / 8; i++) {
            fx->q[i] = holds ? now.q[i] : 0;
        }
        fx->q[XS_BV / 8] |= parts[k].bit;
    }
}

OP(op_xrstor)
{
    uint64_t va = image_address(cpu, o);
    uint32_t want = requested(cpu);
    struct fx_image fx;
    fps_copy(&fx, op_ptr(cpu, o, va, XS_HEADER_END, ACC_READ), XS_HEADER_END);
    uint64_t present = fx.q[XS_BV / 8];
    uint32_t mxcsr = fx.d[FX_MXCSR / 4];
    bool sse = (want & 6) != 0;
    if ((present & ~cpu->xcr0) != 0 || fx.q[XS_BV / 8 + 1] != 0 || fx.q[XS_BV / 8 + 2] != 0 ||
        (sse && (mxcsr & ~MXCSR_VALID) != 0)) {
        general_protection(cpu, o);
    }
    if ((want & present & 4) != 0) {
        fps_copy(fx.b + XS_AVX, op_ptr(cpu, o, va + XS_AVX, XS_SIZE - XS_AVX, ACC_READ),
                 XS_SIZE - XS_AVX);
    }
    for (unsigned i = XS_BV / 8 + 1; i < XS_HEADER_END / 8; i++) {
        fx.q[i] = 0;
    }
    if (cpu->mode & MODE_LEGACY) {
        keep_upper(&fx, want);
    }
    fx_scrub(&fx, mxcsr & MXCSR_VALID);
    xs_restore(&fx, want);
    if (sse) {
        fpstate_set_mxcsr(cpu, mxcsr);
    }
    return fps_leave_block(cpu, o);
}

op_handler xsave_handler(unsigned id)
{
    return id == I_XSAVE ? op_xsave : id == I_XSAVEOPT ? op_xsaveopt : op_xrstor;
}

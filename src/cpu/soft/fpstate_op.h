/* SPDX-License-Identifier: Apache-2.0 */
/* What the handlers of FP state instructions (fpstate.c, xsave.c) share. */
#ifndef SM_SOFT_FPSTATE_OP_H
#define SM_SOFT_FPSTATE_OP_H

#include "cpu/soft/lift_mem.h"
#include "cpu/soft/native.h"

#define FPS_ADDR32 1u /* op.dst: operand has a 67 prefix */
#define FPS_16BIT 2u  /* op.dst: 16-bit form of FLDENV and its family */

static inline uint64_t fps_ea(const struct soft_cpu *cpu, const struct op *o)
{
    return (o->dst & FPS_ADDR32) != 0 ? op_ea32(cpu, o) : op_ea(cpu, o);
}

/* Between guest memory and a local image; len is a multiple of 8. */
static inline void fps_copy(void *to, const void *from, unsigned len)
{
    volatile guest_u64 *t = to;
    const volatile guest_u64 *f = from;
    for (unsigned i = 0; i < len / 8; i++) {
        t[i] = f[i];
    }
}

/* FP control changed: the next block may need another mode. */
static inline const struct op *fps_leave_block(struct soft_cpu *cpu, const struct op *o)
{
    cpu->rip = op_rip(cpu, o) + o->len;
    soft_update_mode(cpu);
    return NULL;
}

#endif

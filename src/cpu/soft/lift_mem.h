/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a decoded memory operand to the address fields of a cached operation. Pure; any thread.
 *
 * A 67 prefix truncates the sum to 32 bits before the segment base is added, which op_ea() cannot
 * do: when lift_addr32() says so, the handler must use op_ea32() instead. Outside 64-bit mode the
 * slow paths truncate (legacy.h).
 */
#ifndef SM_SOFT_LIFT_MEM_H
#define SM_SOFT_LIFT_MEM_H

#include "cpu/soft/exec.h"

#define LIFT_NO_SEG 7 /* seg_base[7] is always 0 */

/*
 * Fill base, index, scale_seg and disp of *op from the ModRM memory operand (insn->is_mem) or the
 * moffs of insn. next_rip is the address of the following instruction (RIP-relative operands).
 */
static inline void lift_mem(const struct insn *insn, uint64_t next_rip, struct op *op)
{
    unsigned seg = insn->seg == INSN_NO_SEG ? LIFT_NO_SEG : insn->seg & 7u;
    op->index = SOFT_ZERO_REG;
    op->base = SOFT_ZERO_REG;
    op->scale_seg = (uint8_t)(seg << 4);
    if (!insn->is_mem) { /* moffs */
        op->disp = insn->addr32 ? (uint32_t)insn->disp64 : insn->disp64;
        return;
    }
    op->disp = (uint64_t)(int64_t)insn->disp;
    if (insn->mode != INSN_64 && insn->base == INSN_NO_REG && insn->index == INSN_NO_REG) {
        op->disp = (uint32_t)insn->disp;
    }
    if (insn->base == INSN_REG_RIP) {
        op->disp += next_rip;
        if (insn->addr32) {
            op->disp = (uint32_t)op->disp;
        }
        return;
    }
    if (insn->base != INSN_NO_REG) {
        op->base = insn->base;
    }
    if (insn->index != INSN_NO_REG) {
        op->index = insn->index;
        op->scale_seg |= insn->scale & 3u;
    }
}

/* True when op_ea() would give a wrong address and op_ea32() is needed. */
static inline bool lift_addr32(const struct insn *insn)
{
    return insn->addr32 && insn->is_mem && insn->base != INSN_REG_RIP && insn->mode == INSN_64;
}

/* Effective address of an operand with a 67 prefix. */
static inline uint64_t op_ea32(const struct soft_cpu *cpu, const struct op *o)
{
    uint64_t sum = cpu->gpr[o->base] + (cpu->gpr[o->index] << (o->scale_seg & 3)) + o->disp;
    return (uint32_t)sum + cpu->seg_base[o->scale_seg >> 4];
}

#endif

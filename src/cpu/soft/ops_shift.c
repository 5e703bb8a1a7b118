/* SPDX-License-Identifier: Apache-2.0 */
/* Shifts and rotates. A count of zero (after masking) changes no flag, so the guest's go in first.
 */
#include "cpu/soft/ops.h"

#define SHIFT(name, ins, bits, T, sfx)                                                             \
    static inline T name##_do##bits(struct soft_cpu *cpu, T d, uint8_t count)                      \
    {                                                                                              \
        uint16_t f = cpu->flags;                                                                   \
        __asm__(FLAGS_IN ins sfx " %%cl, %[d]" FLAGS_OUT                                           \
                : "+a"(f), [d] "+q"(d)                                                             \
                : "c"(count)                                                                       \
                : "cc");                                                                           \
        cpu->flags = f;                                                                            \
        return d;                                                                                  \
    }                                                                                              \
    OP(name##_ri##bits)                                                                            \
    {                                                                                              \
        SETREG##bits(o->dst, name##_do##bits(cpu, REG(T, o->dst), (uint8_t)o->imm));               \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(name##_rc##bits)                                                                            \
    {                                                                                              \
        SETREG##bits(o->dst, name##_do##bits(cpu, REG(T, o->dst), REG(uint8_t, R_CX * 8)));        \
        NEXT;                                                                                      \
    }                                                                                              \
    SHIFT_MEM(name, xi, bits, T, (uint8_t)o->imm)                                                  \
    SHIFT_MEM(name, xc, bits, T, REG(uint8_t, R_CX * 8))

/* What the shift takes after the operand: a count, or a source and a count. */
#define SHIFT_MEM(name, form, bits, T, ...)                                                        \
    OP(name##_##form##bits)                                                                        \
    {                                                                                              \
        uint64_t va = op_ea(cpu, o);                                                               \
        guest_u##bits *p = op_ptr(cpu, o, va, sizeof(T), ACC_WRITE);                               \
        uint16_t before = cpu->flags;                                                              \
        *p = name##_do##bits(cpu, *p, __VA_ARGS__);                                                \
        if (unlikely(op_ptr_bounced(cpu, p))) {                                                    \
            uint16_t after = cpu->flags;                                                           \
            cpu->flags = before;                                                                   \
            soft_ptr_done(cpu, o, va, sizeof(T), p);                                               \
            cpu->flags = after;                                                                    \
        }                                                                                          \
        NEXT;                                                                                      \
    }

#define SHIFT_WIDTHS(name, ins)                                                                    \
    SHIFT(name, ins, 8, uint8_t, "b")                                                              \
    SHIFT(name, ins, 16, uint16_t, "w")                                                            \
    SHIFT(name, ins, 32, uint32_t, "l")                                                            \
    SHIFT(name, ins, 64, uint64_t, "q")
SHIFT_WIDTHS(rol, "rol")
SHIFT_WIDTHS(ror, "ror")
SHIFT_WIDTHS(rcl, "rcl")
SHIFT_WIDTHS(rcr, "rcr")
SHIFT_WIDTHS(shl, "shl")
SHIFT_WIDTHS(shr, "shr")
SHIFT_WIDTHS(sar, "sar")

/* By a constant that is not zero, flags dead or not needed as input: the common cases. */
#define SHIFT_CONST(name, ins, OPR, bits, T, S, sfx)                                               \
    OP(name##_k##bits)                                                                             \
    {                                                                                              \
        T d = REG(T, o->dst);                                                                      \
        uint16_t f;                                                                                \
        __asm__(ins sfx " %%cl, %[d]" FLAGS_OUT                                                    \
                : "=&a"(f), [d] "+q"(d)                                                            \
                : "c"((uint8_t)o->imm)                                                             \
                : "cc");                                                                           \
        cpu->flags = f;                                                                            \
        SETREG##bits(o->dst, d);                                                                   \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(name##_n##bits)                                                                             \
    {                                                                                              \
        SETREG##bits(o->dst, REG(S, o->dst) OPR(o->imm &(sizeof(T) * 8 - 1)));                     \
        NEXT;                                                                                      \
    }
SHIFT_CONST(shl, "shl", <<, 32, uint32_t, uint32_t, "l")
SHIFT_CONST(shl, "shl", <<, 64, uint64_t, uint64_t, "q")
SHIFT_CONST(shr, "shr", >>, 32, uint32_t, uint32_t, "l")
SHIFT_CONST(shr, "shr", >>, 64, uint64_t, uint64_t, "q")
SHIFT_CONST(sar, "sar", >>, 32, uint32_t, int32_t, "l")
SHIFT_CONST(sar, "sar", >>, 64, uint64_t, int64_t, "q")

#define DSHIFT(name, ins, bits, T, sfx)                                                            \
    static inline T name##_do##bits(struct soft_cpu *cpu, T d, T s, uint8_t count)                 \
    {                                                                                              \
        uint16_t f = cpu->flags;                                                                   \
        __asm__(FLAGS_IN ins sfx " %%cl, %[s], %[d]" FLAGS_OUT                                     \
                : "+a"(f), [d] "+r"(d)                                                             \
                : [s] "r"(s), "c"(count)                                                           \
                : "cc");                                                                           \
        cpu->flags = f;                                                                            \
        return d;                                                                                  \
    }                                                                                              \
    OP(name##_r##bits)                                                                             \
    {                                                                                              \
        uint8_t n = o->index ? REG(uint8_t, R_CX * 8) : (uint8_t)o->imm;                           \
        SETREG##bits(o->dst, name##_do##bits(cpu, REG(T, o->dst), REG(T, o->src), n));             \
        NEXT;                                                                                      \
    }                                                                                              \
    SHIFT_MEM(name, xi, bits, T, REG(T, o->src), (uint8_t)o->imm)                                  \
    SHIFT_MEM(name, xc, bits, T, REG(T, o->src), REG(uint8_t, R_CX * 8))

#define DSHIFT_WIDTHS(name, ins)                                                                   \
    DSHIFT(name, ins, 16, uint16_t, "w")                                                           \
    DSHIFT(name, ins, 32, uint32_t, "l")                                                           \
    DSHIFT(name, ins, 64, uint64_t, "q")
DSHIFT_WIDTHS(shld, "shld")
DSHIFT_WIDTHS(shrd, "shrd")

#define ROW4(name, form)                                                                           \
    {                                                                                              \
        name##_##form##8, name##_##form##16, name##_##form##32, name##_##form##64                  \
    }
#define SHIFT_ROWS(name)                                                                           \
    {                                                                                              \
        ROW4(name, ri), ROW4(name, rc), ROW4(name, xi), ROW4(name, xc)                             \
    }

static void lift_shift(struct lift *l)
{
    static const op_handler table[8][4][4] = {
        SHIFT_ROWS(rol), SHIFT_ROWS(ror), SHIFT_ROWS(rcl), SHIFT_ROWS(rcr),
        SHIFT_ROWS(shl), SHIFT_ROWS(shr), SHIFT_ROWS(shl), SHIFT_ROWS(sar),
    };
    static const op_handler fast[4][2][2] = {
        {{shl_k32, shl_k64}, {shl_n32, shl_n64}},
        {{shr_k32, shr_k64}, {shr_n32, shr_n64}},
        {{shl_k32, shl_k64}, {shl_n32, shl_n64}},
        {{sar_k32, sar_k64}, {sar_n32, sar_n64}},
    };
    const struct insn *i = l->insn;
    unsigned row = i->desc->id - I_ROL, w = width_of(i->opsize);
    bool by_cl = i->desc->op[1] == O_CL;
    uint8_t count = i->desc->op[1] == O_1 ? 1 : (uint8_t)i->imm;
    unsigned form = (i->is_mem ? 2 : 0) + by_cl;
    struct op *o =
        i->is_mem ? lift_emit_mem(l, table[row][form][w]) : lift_emit(l, table[row][form][w]);
    o->imm = count;
    if (i->is_mem) {
        return;
    }
    o->dst = lift_reg(i, i->rm, i->opsize);
    if (!by_cl && row >= 4 && i->opsize >= 4 && (count & (i->opsize * 8 - 1))) {
        o->handler = fast[row - 4][0][w - W32];
        l->no_flags = fast[row - 4][1][w - W32];
    }
}

static void lift_dshift(struct lift *l)
{
    static const op_handler table[2][3][3] = {
        {{shld_r16, shld_r32, shld_r64},
         {shld_xi16, shld_xi32, shld_xi64},
         {shld_xc16, shld_xc32, shld_xc64}},
        {{shrd_r16, shrd_r32, shrd_r64},
         {shrd_xi16, shrd_xi32, shrd_xi64},
         {shrd_xc16, shrd_xc32, shrd_xc64}},
    };
    const struct insn *i = l->insn;
    bool by_cl = i->desc->op[2] == O_CL;
    unsigned row = i->desc->id - I_SHLD, w = width_of(i->opsize) - 1;
    struct op *o =
        i->is_mem ? lift_emit_mem(l, table[row][1 + by_cl][w]) : lift_emit(l, table[row][0][w]);
    o->imm = (uint8_t)i->imm;
    o->src = (uint8_t)(i->reg * 8);
    if (!i->is_mem) {
        o->dst = (uint8_t)(i->rm * 8);
        o->index = by_cl;
    }
}

bool shift_lift(struct lift *l)
{
    switch (l->insn->desc->id) {
    case I_ROL ... I_SAR:
        lift_shift(l);
        return true;
    case I_SHLD:
    case I_SHRD:
        lift_dshift(l);
        return true;
    default:
        return false;
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* BMI1, BMI2, LZCNT and MOVBE on general registers. */
#include "cpu/soft/ops.h"

/* On 32 and 64 bits. o->dst: the target; o->imm: the register in vvvv, as a byte offset, or the
 * immediate. */

/* d = op(s, v), with flags; the order of the operands in AT&T form is `order`. */
#define BMI3(name, ins, order, bits, T, sfx)                                                       \
    RM_DO(name, bits, T)                                                                           \
    {                                                                                              \
        T d, v = REG(T, o->imm);                                                                   \
        uint16_t f = cpu->flags;                                                                   \
        __asm__(FLAGS_IN ins sfx order FLAGS_OUT                                                   \
                : "+a"(f), [d] "=&r"(d)                                                            \
                : [s] "r"(s), [v] "r"(v)                                                           \
                : "cc");                                                                           \
        cpu->flags = f;                                                                            \
        SETREG##bits(o->dst, d);                                                                   \
        NEXT;                                                                                      \
    }                                                                                              \
    RM_FORMS(name, bits, T)
/* The same without flags. */
#define BMI3_NOFLAGS(name, ins, order, bits, T, sfx)                                               \
    RM_DO(name, bits, T)                                                                           \
    {                                                                                              \
        T d, v = REG(T, o->imm);                                                                   \
        __asm__(ins sfx order : [d] "=r"(d) : [s] "r"(s), [v] "r"(v));                             \
        SETREG##bits(o->dst, d);                                                                   \
        NEXT;                                                                                      \
    }                                                                                              \
    RM_FORMS(name, bits, T)
/* d = op(s), with flags. */
#define BMI2OP(name, ins, bits, T, sfx)                                                            \
    RM_DO(name, bits, T)                                                                           \
    {                                                                                              \
        T d;                                                                                       \
        uint16_t f = cpu->flags;                                                                   \
        __asm__(FLAGS_IN ins sfx " %[s], %[d]" FLAGS_OUT                                           \
                : "+a"(f), [d] "=&r"(d)                                                            \
                : [s] "r"(s)                                                                       \
                : "cc");                                                                           \
        cpu->flags = f;                                                                            \
        SETREG##bits(o->dst, d);                                                                   \
        NEXT;                                                                                      \
    }                                                                                              \
    RM_FORMS(name, bits, T)

#define BOTH(M, ...) M(__VA_ARGS__, 32, uint32_t, "l") M(__VA_ARGS__, 64, uint64_t, "q")
#define SOURCE_FIRST " %[s], %[v], %[d]"
#define SOURCE_SECOND " %[v], %[s], %[d]"

BOTH(BMI3, andn, "andn", SOURCE_FIRST)
BOTH(BMI3, bzhi, "bzhi", SOURCE_SECOND)
BOTH(BMI3, bextr, "bextr", SOURCE_SECOND)
BOTH(BMI3_NOFLAGS, pdep, "pdep", SOURCE_FIRST)
BOTH(BMI3_NOFLAGS, pext, "pext", SOURCE_FIRST)
BOTH(BMI3_NOFLAGS, shlx, "shlx", SOURCE_SECOND)
BOTH(BMI3_NOFLAGS, sarx, "sarx", SOURCE_SECOND)
BOTH(BMI3_NOFLAGS, shrx, "shrx", SOURCE_SECOND)
BOTH(BMI2OP, blsr, "blsr")
BOTH(BMI2OP, blsmsk, "blsmsk")
BOTH(BMI2OP, blsi, "blsi")

#define RORX(bits, T)                                                                              \
    RM_DO(rorx, bits, T)                                                                           \
    {                                                                                              \
        unsigned n = (unsigned)o->imm & (bits - 1);                                                \
        SETREG##bits(o->dst, s >> n | s << (-n & (bits - 1)));                                     \
        NEXT;                                                                                      \
    }                                                                                              \
    RM_FORMS(rorx, bits, T)
RORX(32, uint32_t)
RORX(64, uint64_t)

/* The high half goes to dst, the low one to vvvv; the high one wins where both are one. */
#define MULX(bits, T, W)                                                                           \
    RM_DO(mulx, bits, T)                                                                           \
    {                                                                                              \
        W product = (W)s * REG(T, R_DX * 8);                                                       \
        SETREG##bits(o->imm, product);                                                             \
        SETREG##bits(o->dst, product >> bits);                                                     \
        NEXT;                                                                                      \
    }                                                                                              \
    RM_FORMS(mulx, bits, T)
MULX(32, uint32_t, uint64_t)
MULX(64, uint64_t, unsigned __int128)

#define MOVBE(bits, T)                                                                             \
    OP(movbe_load##bits)                                                                           \
    {                                                                                              \
        T v = load##bits(cpu, o, op_ea(cpu, o));                                                   \
        SETREG##bits(o->dst, __builtin_bswap##bits(v));                                            \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(movbe_store##bits)                                                                          \
    {                                                                                              \
        store##bits(cpu, o, op_ea(cpu, o), __builtin_bswap##bits(REG(T, o->src)));                 \
        NEXT;                                                                                      \
    }
MOVBE(16, uint16_t)
MOVBE(32, uint32_t)
MOVBE(64, uint64_t)

static void lift_movbe(struct lift *l)
{
    static const op_handler table[2][3] = {{movbe_load16, movbe_load32, movbe_load64},
                                           {movbe_store16, movbe_store32, movbe_store64}};
    const struct insn *i = l->insn;
    bool store = i->desc->op[0] == O_M;
    struct op *o = lift_emit_mem(l, table[store][width_of(i->opsize) - 1]);
    o->dst = (uint8_t)(i->reg * 8);
    o->src = (uint8_t)(i->reg * 8);
}

static void lift_bmi(struct lift *l, const op_handler *table)
{
    const struct insn *i = l->insn;
    op_handler h = table[(i->is_mem ? 2 : 0) + (i->opsize == 8)];
    struct op *o = i->is_mem ? lift_emit_mem(l, h) : lift_emit(l, h);
    if (!i->is_mem) {
        o->src = (uint8_t)(i->rm * 8);
    }
    o->dst = (uint8_t)((i->desc->op[0] == O_B ? i->vvvv : i->reg) * 8);
    o->imm = i->desc->id == I_RORX ? (uint64_t)i->imm : i->vvvv * 8u;
}

#define FOUR(name)                                                                                 \
    {                                                                                              \
        name##_r32, name##_r64, name##_x32, name##_x64                                             \
    }

bool bmi_lift(struct lift *l)
{
    static const op_handler table[][4] = {
        [I_ANDN - I_ANDN] = FOUR(andn),     [I_BLSR - I_ANDN] = FOUR(blsr),
        [I_BLSMSK - I_ANDN] = FOUR(blsmsk), [I_BLSI - I_ANDN] = FOUR(blsi),
        [I_BZHI - I_ANDN] = FOUR(bzhi),     [I_BEXTR - I_ANDN] = FOUR(bextr),
        [I_PDEP - I_ANDN] = FOUR(pdep),     [I_PEXT - I_ANDN] = FOUR(pext),
        [I_SHLX - I_ANDN] = FOUR(shlx),     [I_SARX - I_ANDN] = FOUR(sarx),
        [I_SHRX - I_ANDN] = FOUR(shrx),     [I_RORX - I_ANDN] = FOUR(rorx),
        [I_MULX - I_ANDN] = FOUR(mulx),
    };
    switch (l->insn->desc->id) {
    case I_ANDN ... I_MULX:
        lift_bmi(l, table[l->insn->desc->id - I_ANDN]);
        return true;
    case I_MOVBE:
        lift_movbe(l);
        return true;
    default:
        return false;
    }
}

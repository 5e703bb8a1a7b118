/* SPDX-License-Identifier: Apache-2.0 */
/* ADD OR ADC SBB AND SUB XOR CMP TEST, INC DEC NOT NEG. */
#include "cpu/soft/ops.h"

/* An instruction either ignores CF, or gets the guest's through BT. */
#define TEXT_NO_CARRY ""
#define IN_NO_CARRY
#define TEXT_CARRY "btw $8, %w[c]\n\t"
#define IN_CARRY , [c] "r"(cpu->flags)

/* Register destination; back: 1 writes the result, 0 only sets flags. */
#define ALU_TO_REG(name, ins, carry, back, bits, T, sfx, form, SRC)                                \
    OP(name##_##form##bits)                                                                        \
    {                                                                                              \
        T s = SRC;                                                                                 \
        T d = REG(T, o->dst);                                                                      \
        uint16_t f;                                                                                \
        __asm__(TEXT_##carry ins sfx " %[s], %[d]" FLAGS_OUT                                       \
                : "=&a"(f), [d] "+q"(d)                                                            \
                : [s] "q"(s)IN_##carry                                                             \
                : "cc");                                                                           \
        cpu->flags = f;                                                                            \
        if (back) {                                                                                \
            SETREG##bits(o->dst, d);                                                               \
        }                                                                                          \
        NEXT;                                                                                      \
    }

/* Memory destination, read and written. */
#define ALU_TO_MEM(name, ins, carry, bits, T, sfx, form, SRC, EA, LOCK)                            \
    OP(name##_##form##bits)                                                                        \
    {                                                                                              \
        uint64_t va = EA(cpu, o);                                                                  \
        guest_u##bits *p = op_ptr(cpu, o, va, sizeof(T), LOCK_ACC(LOCK));                          \
        T s = SRC;                                                                                 \
        uint16_t f;                                                                                \
        __asm__ volatile(TEXT_##carry LOCK ins sfx " %[s], %[d]" FLAGS_OUT                         \
                         : "=&a"(f), [d] "+m"(*p)                                                  \
                         : [s] "q"(s)IN_##carry                                                    \
                         : "cc", "memory");                                                        \
        op_ptr_finish(cpu, o, va, sizeof(T), p);                                                   \
        cpu->flags = f;                                                                            \
        NEXT;                                                                                      \
    }

/* Memory compared, not written. */
#define ALU_CMP_MEM(name, ins, bits, T, sfx, form, SRC, EA)                                        \
    OP(name##_##form##bits)                                                                        \
    {                                                                                              \
        T d = load##bits(cpu, o, EA(cpu, o));                                                      \
        T s = SRC;                                                                                 \
        uint16_t f;                                                                                \
        __asm__(ins sfx " %[s], %[d]" FLAGS_OUT : "=&a"(f) : [d] "q"(d), [s] "q"(s) : "cc");       \
        cpu->flags = f;                                                                            \
        NEXT;                                                                                      \
    }

#define ALU_NO_FLAGS(name, OPR, bits, T)                                                           \
    OP(name##_nrr##bits)                                                                           \
    {                                                                                              \
        SETREG##bits(o->dst, REG(T, o->dst) OPR REG(T, o->src));                                   \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(name##_nri##bits)                                                                           \
    {                                                                                              \
        SETREG##bits(o->dst, REG(T, o->dst) OPR(T) o->imm);                                        \
        NEXT;                                                                                      \
    }

#define ALU_READS(name, ins, carry, back, bits, T, sfx)                                            \
    ALU_TO_REG(name, ins, carry, back, bits, T, sfx, rr, REG(T, o->src))                           \
    ALU_TO_REG(name, ins, carry, back, bits, T, sfx, ri, (T)o->imm)                                \
    ALU_TO_REG(name, ins, carry, back, bits, T, sfx, rm, load##bits(cpu, o, op_ea_simple(cpu, o))) \
    ALU_TO_REG(name, ins, carry, back, bits, T, sfx, rx, load##bits(cpu, o, op_ea(cpu, o)))

#define ALU_WRITES(name, ins, carry, bits, T, sfx)                                                 \
    ALU_TO_MEM(name, ins, carry, bits, T, sfx, mr, REG(T, o->src), op_ea_simple, "")               \
    ALU_TO_MEM(name, ins, carry, bits, T, sfx, xr, REG(T, o->src), op_ea, "")                      \
    ALU_TO_MEM(name, ins, carry, bits, T, sfx, mi, (T)o->imm, op_ea_simple, "")                    \
    ALU_TO_MEM(name, ins, carry, bits, T, sfx, xi, (T)o->imm, op_ea, "")                           \
    ALU_TO_MEM(name, ins, carry, bits, T, sfx, lr, REG(T, o->src), op_ea, "lock ")                 \
    ALU_TO_MEM(name, ins, carry, bits, T, sfx, li, (T)o->imm, op_ea, "lock ")

#define ALU_COMPARES(name, ins, bits, T, sfx)                                                      \
    ALU_READS(name, ins, NO_CARRY, 0, bits, T, sfx)                                                \
    ALU_CMP_MEM(name, ins, bits, T, sfx, mr, REG(T, o->src), op_ea_simple)                         \
    ALU_CMP_MEM(name, ins, bits, T, sfx, xr, REG(T, o->src), op_ea)                                \
    ALU_CMP_MEM(name, ins, bits, T, sfx, mi, (T)o->imm, op_ea_simple)                              \
    ALU_CMP_MEM(name, ins, bits, T, sfx, xi, (T)o->imm, op_ea)

#define ALU_FULL(name, ins, carry, bits, T, sfx)                                                   \
    ALU_READS(name, ins, carry, 1, bits, T, sfx)                                                   \
    ALU_WRITES(name, ins, carry, bits, T, sfx)

#define ALL_WIDTHS(M, ...)                                                                         \
    M(__VA_ARGS__, 8, uint8_t, "b")                                                                \
    M(__VA_ARGS__, 16, uint16_t, "w")                                                              \
    M(__VA_ARGS__, 32, uint32_t, "l")                                                              \
    M(__VA_ARGS__, 64, uint64_t, "q")
#define ALL_WIDTHS_C(M, ...)                                                                       \
    M(__VA_ARGS__, 8, uint8_t)                                                                     \
    M(__VA_ARGS__, 16, uint16_t) M(__VA_ARGS__, 32, uint32_t) M(__VA_ARGS__, 64, uint64_t)

ALL_WIDTHS(ALU_FULL, add, "add", NO_CARRY)
ALL_WIDTHS(ALU_FULL, or, "or", NO_CARRY)
ALL_WIDTHS(ALU_FULL, adc, "adc", CARRY)
ALL_WIDTHS(ALU_FULL, sbb, "sbb", CARRY)
ALL_WIDTHS(ALU_FULL, and, "and", NO_CARRY)
ALL_WIDTHS(ALU_FULL, sub, "sub", NO_CARRY)
ALL_WIDTHS(ALU_FULL, xor, "xor", NO_CARRY)
ALL_WIDTHS(ALU_COMPARES, cmp, "cmp")
ALL_WIDTHS(ALU_COMPARES, test, "test")
ALL_WIDTHS_C(ALU_NO_FLAGS, add, +)
ALL_WIDTHS_C(ALU_NO_FLAGS, or, |)
ALL_WIDTHS_C(ALU_NO_FLAGS, and, &)
ALL_WIDTHS_C(ALU_NO_FLAGS, sub, -)
ALL_WIDTHS_C(ALU_NO_FLAGS, xor, ^)

/* One operand. INC and DEC keep CF: it goes in before, so that LAHF hands it back. */
#define ALU1(name, ins, carry, bits, T, sfx)                                                       \
    OP(name##_r##bits)                                                                             \
    {                                                                                              \
        T d = REG(T, o->dst);                                                                      \
        uint16_t f;                                                                                \
        __asm__(TEXT_##carry ins sfx " %[d]" FLAGS_OUT                                             \
                : "=&a"(f), [d] "+q"(d)                                                            \
                : [none] "i"(0)IN_##carry                                                          \
                : "cc");                                                                           \
        cpu->flags = f;                                                                            \
        SETREG##bits(o->dst, d);                                                                   \
        NEXT;                                                                                      \
    }                                                                                              \
    ALU1_MEM(name##_x##bits, ins, carry, bits, T, sfx, "")                                         \
    ALU1_MEM(name##_l##bits, ins, carry, bits, T, sfx, "lock ")

#define ALU1_MEM(full, ins, carry, bits, T, sfx, LOCK)                                             \
    OP(full)                                                                                       \
    {                                                                                              \
        uint64_t va = op_ea(cpu, o);                                                               \
        guest_u##bits *p = op_ptr(cpu, o, va, sizeof(T), LOCK_ACC(LOCK));                          \
        uint16_t f;                                                                                \
        __asm__ volatile(TEXT_##carry LOCK ins sfx " %[d]" FLAGS_OUT                               \
                         : "=&a"(f), [d] "+m"(*p)                                                  \
                         : [none] "i"(0)IN_##carry                                                 \
                         : "cc", "memory");                                                        \
        op_ptr_finish(cpu, o, va, sizeof(T), p);                                                   \
        cpu->flags = f;                                                                            \
        NEXT;                                                                                      \
    }

#define ALU1_NO_FLAGS(name, EXPR, bits, T)                                                         \
    OP(name##_nr##bits)                                                                            \
    {                                                                                              \
        T d = REG(T, o->dst);                                                                      \
        SETREG##bits(o->dst, EXPR);                                                                \
        NEXT;                                                                                      \
    }

ALL_WIDTHS(ALU1, inc, "inc", CARRY)
ALL_WIDTHS(ALU1, dec, "dec", CARRY)
ALL_WIDTHS(ALU1, neg, "neg", NO_CARRY)
ALL_WIDTHS_C(ALU1_NO_FLAGS, inc, d + 1)
ALL_WIDTHS_C(ALU1_NO_FLAGS, dec, d - 1)
ALL_WIDTHS_C(ALU1_NO_FLAGS, not, ~d)

#define NOT_MEM(full, T, sfx, LOCK)                                                                \
    OP(full)                                                                                       \
    {                                                                                              \
        uint64_t va = op_ea(cpu, o);                                                               \
        T *p = op_ptr(cpu, o, va, sizeof(T), LOCK_ACC(LOCK));                                      \
        __asm__ volatile(LOCK "not" sfx " %0" : "+m"(*p) : : "memory");                            \
        op_ptr_finish(cpu, o, va, sizeof(T), p);                                                   \
        NEXT;                                                                                      \
    }
NOT_MEM(not_x8, uint8_t, "b", "")
NOT_MEM(not_x16, uint16_t, "w", "")
NOT_MEM(not_x32, uint32_t, "l", "")
NOT_MEM(not_x64, uint64_t, "q", "")
NOT_MEM(not_l8, uint8_t, "b", "lock ")
NOT_MEM(not_l16, uint16_t, "w", "lock ")
NOT_MEM(not_l32, uint32_t, "l", "lock ")
NOT_MEM(not_l64, uint64_t, "q", "lock ")

/* XOR r,r and SUB r,r are how zero is made. */
OP(zero_flags)
{
    SETREG64(o->dst, 0);
    cpu->flags = FLG_ZF | FLG_PF | 0x200;
    NEXT;
}
OP(zero_no_flags)
{
    SETREG64(o->dst, 0);
    NEXT;
}

/* ---- choosing a handler ---- */

enum { F_RR, F_RI, F_RM, F_RX, F_MR, F_XR, F_MI, F_XI, F_LR, F_LI, F_NRR, F_NRI, F_COUNT };

#define ROW4(name, form)                                                                           \
    {                                                                                              \
        name##_##form##8, name##_##form##16, name##_##form##32, name##_##form##64                  \
    }
#define ROWS_READ(name)                                                                            \
    [F_RR] = ROW4(name, rr), [F_RI] = ROW4(name, ri), [F_RM] = ROW4(name, rm),                     \
    [F_RX] = ROW4(name, rx), [F_MR] = ROW4(name, mr), [F_XR] = ROW4(name, xr),                     \
    [F_MI] = ROW4(name, mi), [F_XI] = ROW4(name, xi)
#define ROWS_FULL(name) ROWS_READ(name), [F_LR] = ROW4(name, lr), [F_LI] = ROW4(name, li)
#define ROWS_NF(name) ROWS_FULL(name), [F_NRR] = ROW4(name, nrr), [F_NRI] = ROW4(name, nri)

static const op_handler alu_table[9][F_COUNT][4] = {
    {ROWS_NF(add)}, {ROWS_NF(or)},  {ROWS_FULL(adc)}, {ROWS_FULL(sbb)},  {ROWS_NF(and)},
    {ROWS_NF(sub)}, {ROWS_NF(xor)}, {ROWS_READ(cmp)}, {ROWS_READ(test)},
};

static bool alu2_lift(struct lift *l, unsigned row)
{
    const struct insn *i = l->insn;
    unsigned w = width_of(i->opsize);
    bool imm = i->desc->op[1] == O_I || i->desc->op[1] == O_IB;
    bool acc = i->desc->op[0] == O_ACC;
    bool to_reg = i->desc->op[0] == O_G || acc || !i->is_mem;
    struct op *o;
    if (to_reg && i->is_mem && !acc) {
        o = lift_emit_mem(l, alu_table[row][lift_simple(i) ? F_RM : F_RX][w]);
        o->dst = lift_reg(i, i->reg, i->opsize);
        return true;
    }
    if (to_reg) {
        unsigned dst = acc ? 0 : i->desc->op[0] == O_G ? i->reg : i->rm;
        unsigned src = i->desc->op[0] == O_G ? i->rm : i->reg;
        if (!imm && dst == src && i->opsize >= 4 &&
            (row == I_XOR - I_ADD || row == I_SUB - I_ADD)) {
            o = lift_emit(l, zero_flags);
            l->no_flags = zero_no_flags;
        } else {
            o = lift_emit(l, alu_table[row][imm ? F_RI : F_RR][w]);
            l->no_flags = alu_table[row][imm ? F_NRI : F_NRR][w];
        }
        o->dst = lift_reg(i, dst, i->opsize);
        o->src = lift_reg(i, src, i->opsize);
        o->imm = (uint64_t)i->imm;
        return true;
    }
    unsigned form = i->lock          ? (imm ? F_LI : F_LR)
                    : lift_simple(i) ? (imm ? F_MI : F_MR)
                                     : (imm ? F_XI : F_XR);
    o = lift_emit_mem(l, alu_table[row][form][w]);
    o->src = lift_reg(i, i->reg, i->opsize);
    o->imm = (uint64_t)i->imm;
    return true;
}

static const op_handler alu1_table[4][4][4] = {
    {ROW4(inc, r), ROW4(inc, x), ROW4(inc, l), ROW4(inc, nr)},
    {ROW4(dec, r), ROW4(dec, x), ROW4(dec, l), ROW4(dec, nr)},
    {ROW4(neg, r), ROW4(neg, x), ROW4(neg, l), {NULL}},
    {ROW4(not, nr), ROW4(not, x), ROW4(not, l), {NULL}},
};

static bool alu1_lift(struct lift *l, unsigned row)
{
    const struct insn *i = l->insn;
    unsigned w = width_of(i->opsize);
    if (i->is_mem) {
        lift_emit_mem(l, alu1_table[row][i->lock ? 2 : 1][w]);
        return true;
    }
    lift_emit(l, alu1_table[row][0][w])->dst = lift_reg(i, i->rm, i->opsize);
    l->no_flags = alu1_table[row][3][w];
    return true;
}

bool alu_lift(struct lift *l)
{
    switch (l->insn->desc->id) {
    case I_ADD ... I_CMP:
        return alu2_lift(l, l->insn->desc->id - I_ADD);
    case I_TEST:
        return alu2_lift(l, 8);
    case I_INC:
        return alu1_lift(l, 0);
    case I_DEC:
        return alu1_lift(l, 1);
    case I_NEG:
        return alu1_lift(l, 2);
    case I_NOT:
        return alu1_lift(l, 3);
    default:
        return false;
    }
}

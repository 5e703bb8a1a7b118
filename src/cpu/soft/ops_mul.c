/* SPDX-License-Identifier: Apache-2.0 */
/* MUL IMUL DIV IDIV. Division is checked beforehand: the host must never trap. */
#include "cpu/soft/ops.h"

/* Source operand: register, or memory when o->imm is set. */
#define SOURCE(bits, T) (o->imm ? (T)load##bits(cpu, o, op_ea(cpu, o)) : REG(T, o->src))

/* One-operand forms: result in rDX:rAX. Flags are fetched with the product parked elsewhere. */
#define MUL1(name, ins, bits, T, sfx)                                                              \
    OP(name##bits)                                                                                 \
    {                                                                                              \
        T s = SOURCE(bits, T), lo = REG(T, 0), hi;                                                 \
        uint16_t f = cpu->flags;                                                                   \
        T out;                                                                                     \
        __asm__(ins sfx " %[s]\n\tmov %%rax, %q[out]" FLAGS_OUT                                    \
                : "+a"(lo), "=&d"(hi), [out] "=&r"(out)                                            \
                : [s] "r"(s)                                                                       \
                : "cc");                                                                           \
        f = (uint16_t)lo;                                                                          \
        __asm__("" : "+r"(f));                                                                     \
        cpu->flags = f;                                                                            \
        SETREG##bits(0, out);                                                                      \
        SETREG##bits(R_DX * 8, hi);                                                                \
        NEXT;                                                                                      \
    }
MUL1(mul, "mul", 16, uint16_t, "w")
MUL1(mul, "mul", 32, uint32_t, "l")
MUL1(mul, "mul", 64, uint64_t, "q")
MUL1(imul1_, "imul", 16, uint16_t, "w")
MUL1(imul1_, "imul", 32, uint32_t, "l")
MUL1(imul1_, "imul", 64, uint64_t, "q")

#define MUL1_BYTE(name, ins)                                                                       \
    OP(name)                                                                                       \
    {                                                                                              \
        uint8_t s = SOURCE(8, uint8_t);                                                            \
        uint64_t ax = REG(uint8_t, 0), out;                                                        \
        __asm__(ins "b %[s]\n\tmov %%rax, %[out]" FLAGS_OUT                                        \
                : "+a"(ax), [out] "=&r"(out)                                                       \
                : [s] "q"(s)                                                                       \
                : "cc");                                                                           \
        cpu->flags = (uint16_t)ax;                                                                 \
        SETREG16(0, out);                                                                          \
        NEXT;                                                                                      \
    }
MUL1_BYTE(mul8, "mul")
MUL1_BYTE(imul1_8, "imul")

/* Two and three operands: the factor is a register's old value, or the immediate. */
#define IMUL2(bits, T, sfx)                                                                        \
    static inline T imul_do##bits(struct soft_cpu *cpu, T d, T s)                                  \
    {                                                                                              \
        uint16_t f;                                                                                \
        __asm__("imul" sfx " %[s], %[d]" FLAGS_OUT : "=&a"(f), [d] "+r"(d) : [s] "r"(s) : "cc");   \
        cpu->flags = f;                                                                            \
        return d;                                                                                  \
    }                                                                                              \
    OP(imul2_r##bits)                                                                              \
    {                                                                                              \
        SETREG##bits(o->dst, imul_do##bits(cpu, REG(T, o->dst), REG(T, o->src)));                  \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(imul2_x##bits)                                                                              \
    {                                                                                              \
        T s = load##bits(cpu, o, op_ea(cpu, o));                                                   \
        SETREG##bits(o->dst, imul_do##bits(cpu, REG(T, o->dst), s));                               \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(imul3_r##bits)                                                                              \
    {                                                                                              \
        SETREG##bits(o->dst, imul_do##bits(cpu, (T)o->imm, REG(T, o->src)));                       \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(imul3_x##bits)                                                                              \
    {                                                                                              \
        T s = load##bits(cpu, o, op_ea(cpu, o));                                                   \
        SETREG##bits(o->dst, imul_do##bits(cpu, (T)o->imm, s));                                    \
        NEXT;                                                                                      \
    }
IMUL2(16, uint16_t, "w")
IMUL2(32, uint32_t, "l")
IMUL2(64, uint64_t, "q")

static _Noreturn void divide_error(struct soft_cpu *cpu, const struct op *o)
{
    cpu->insn_rip = op_rip(cpu, o);
    soft_raise(cpu, V_DE);
}

OP(div8)
{
    uint8_t d = SOURCE(8, uint8_t);
    uint16_t n = REG(uint16_t, 0);
    if (d == 0 || n / d > 0xff) {
        divide_error(cpu, o);
    }
    SETREG16(0, (n % d) << 8 | n / d);
    NEXT;
}
OP(idiv8)
{
    int8_t d = (int8_t)SOURCE(8, uint8_t);
    int n = REG(int16_t, 0);
    if (d == 0 || n / d != (int8_t)(n / d)) {
        divide_error(cpu, o);
    }
    SETREG16(0, (uint8_t)(n % d) << 8 | (uint8_t)(n / d));
    NEXT;
}

#define DIV_NARROW(bits, T, S, W, SW)                                                              \
    OP(div##bits)                                                                                  \
    {                                                                                              \
        T d = SOURCE(bits, T);                                                                     \
        W n = (W)REG(T, R_DX * 8) << bits | REG(T, 0);                                             \
        if (d == 0 || n / d > (T)-1) {                                                             \
            divide_error(cpu, o);                                                                  \
        }                                                                                          \
        SETREG##bits(0, n / d);                                                                    \
        SETREG##bits(R_DX * 8, n % d);                                                             \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(idiv##bits)                                                                                 \
    {                                                                                              \
        S d = (S)SOURCE(bits, T);                                                                  \
        SW n = (SW)((W)REG(T, R_DX * 8) << bits | REG(T, 0));                                      \
        /* the only quotient that the wide type cannot hold either */                              \
        if (d == 0 || (d == -1 && n == (SW)((W)1 << (2 * bits - 1))) || n / d != (S)(n / d)) {     \
            divide_error(cpu, o);                                                                  \
        }                                                                                          \
        SETREG##bits(0, n / d);                                                                    \
        SETREG##bits(R_DX * 8, n % d);                                                             \
        NEXT;                                                                                      \
    }
DIV_NARROW(16, uint16_t, int16_t, uint32_t, int32_t)
DIV_NARROW(32, uint32_t, int32_t, uint64_t, int64_t)

static inline void host_div(uint64_t *hi, uint64_t *lo, uint64_t d)
{
    __asm__("divq %2" : "+a"(*lo), "+d"(*hi) : "r"(d) : "cc");
}

OP(div64)
{
    uint64_t d = SOURCE(64, uint64_t), hi = cpu->gpr[R_DX], lo = cpu->gpr[R_AX];
    if (hi >= d) { /* covers zero */
        divide_error(cpu, o);
    }
    host_div(&hi, &lo, d);
    cpu->gpr[R_AX] = lo;
    cpu->gpr[R_DX] = hi;
    NEXT;
}

OP(idiv64)
{
    int64_t sd = (int64_t)SOURCE(64, uint64_t);
    uint64_t hi = cpu->gpr[R_DX], lo = cpu->gpr[R_AX];
    bool neg_n = (int64_t)hi < 0, neg_q = neg_n != (sd < 0);
    if (neg_n) {
        hi = ~hi + (lo == 0);
        lo = -lo;
    }
    uint64_t d = sd < 0 ? -(uint64_t)sd : (uint64_t)sd;
    if (hi >= d) {
        divide_error(cpu, o);
    }
    host_div(&hi, &lo, d);
    if (lo > (neg_q ? 1ull << 63 : (1ull << 63) - 1)) {
        divide_error(cpu, o);
    }
    cpu->gpr[R_AX] = neg_q ? -lo : lo;
    cpu->gpr[R_DX] = neg_n ? -hi : hi;
    NEXT;
}

#define ROW4(name)                                                                                 \
    {                                                                                              \
        name##8, name##16, name##32, name##64                                                      \
    }

static void lift_one(struct lift *l, const op_handler *row)
{
    const struct insn *i = l->insn;
    op_handler h = row[width_of(i->opsize)];
    if (i->is_mem) {
        lift_emit_mem(l, h)->imm = 1;
    } else {
        lift_emit(l, h)->src = lift_reg(i, i->rm, i->opsize);
    }
}

static void lift_imul(struct lift *l, bool three)
{
    static const op_handler table[2][2][3] = {
        {{imul2_r16, imul2_r32, imul2_r64}, {imul2_x16, imul2_x32, imul2_x64}},
        {{imul3_r16, imul3_r32, imul3_r64}, {imul3_x16, imul3_x32, imul3_x64}},
    };
    const struct insn *i = l->insn;
    op_handler h = table[three][i->is_mem][width_of(i->opsize) - 1];
    struct op *o = i->is_mem ? lift_emit_mem(l, h) : lift_emit(l, h);
    o->dst = (uint8_t)(i->reg * 8);
    o->imm = (uint64_t)i->imm;
    if (!i->is_mem) {
        o->src = (uint8_t)(i->rm * 8);
    }
}

bool mul_lift(struct lift *l)
{
    static const op_handler rows[4][4] = {ROW4(mul), ROW4(imul1_), ROW4(div), ROW4(idiv)};
    switch (l->insn->desc->id) {
    case I_MUL:
        lift_one(l, rows[0]);
        return true;
    case I_IMUL1:
        lift_one(l, rows[1]);
        return true;
    case I_DIV:
        lift_one(l, rows[2]);
        return true;
    case I_IDIV:
        lift_one(l, rows[3]);
        return true;
    case I_IMUL2:
        lift_imul(l, false);
        return true;
    case I_IMUL3:
        lift_imul(l, true);
        return true;
    default:
        return false;
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* MOV and its relatives: no flags are written here. */
#include "cpu/soft/ops.h"

#define MOV_WIDTH(bits, T)                                                                         \
    OP(mov_rr##bits)                                                                               \
    {                                                                                              \
        SETREG##bits(o->dst, REG(T, o->src));                                                      \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(mov_ri##bits)                                                                               \
    {                                                                                              \
        SETREG##bits(o->dst, o->imm);                                                              \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(mov_rm##bits)                                                                               \
    {                                                                                              \
        SETREG##bits(o->dst, load##bits(cpu, o, op_ea_simple(cpu, o)));                            \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(mov_rx##bits)                                                                               \
    {                                                                                              \
        SETREG##bits(o->dst, load##bits(cpu, o, op_ea(cpu, o)));                                   \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(mov_mr##bits)                                                                               \
    {                                                                                              \
        store##bits(cpu, o, op_ea_simple(cpu, o), REG(T, o->src));                                 \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(mov_xr##bits)                                                                               \
    {                                                                                              \
        store##bits(cpu, o, op_ea(cpu, o), REG(T, o->src));                                        \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(mov_mi##bits)                                                                               \
    {                                                                                              \
        store##bits(cpu, o, op_ea_simple(cpu, o), (T)o->imm);                                      \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(mov_xi##bits)                                                                               \
    {                                                                                              \
        store##bits(cpu, o, op_ea(cpu, o), (T)o->imm);                                             \
        NEXT;                                                                                      \
    }
MOV_WIDTH(8, uint8_t)
MOV_WIDTH(16, uint16_t)
MOV_WIDTH(32, uint32_t)
MOV_WIDTH(64, uint64_t)

/* Widening: from S (sbits) to a register of bits. */
#define EXTEND(name, S, sbits, bits, T)                                                            \
    OP(name##_r)                                                                                   \
    {                                                                                              \
        SETREG##bits(o->dst, (T)REG(S, o->src));                                                   \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(name##_m)                                                                                   \
    {                                                                                              \
        SETREG##bits(o->dst, (T)(S)load##sbits(cpu, o, op_ea_simple(cpu, o)));                     \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(name##_x)                                                                                   \
    {                                                                                              \
        SETREG##bits(o->dst, (T)(S)load##sbits(cpu, o, op_ea(cpu, o)));                            \
        NEXT;                                                                                      \
    }
EXTEND(zx8_16, uint8_t, 8, 16, uint16_t)
EXTEND(zx8_32, uint8_t, 8, 32, uint32_t)
EXTEND(zx16_16, uint16_t, 16, 16, uint16_t)
EXTEND(zx16_32, uint16_t, 16, 32, uint32_t)
EXTEND(sx8_16, int8_t, 8, 16, int16_t)
EXTEND(sx8_32, int8_t, 8, 32, int32_t)
EXTEND(sx8_64, int8_t, 8, 64, int64_t)
EXTEND(sx16_16, int16_t, 16, 16, int16_t)
EXTEND(sx16_32, int16_t, 16, 32, int32_t)
EXTEND(sx16_64, int16_t, 16, 64, int64_t)
EXTEND(sx32_32, int32_t, 32, 32, int32_t)
EXTEND(sx32_64, int32_t, 32, 64, int64_t)

OP(lea16)
{
    SETREG16(o->dst, op_ea(cpu, o));
    NEXT;
}
OP(lea32)
{
    SETREG32(o->dst, op_ea(cpu, o));
    NEXT;
}
OP(lea64)
{
    SETREG64(o->dst, op_ea(cpu, o));
    NEXT;
}
OP(lea64_simple)
{
    SETREG64(o->dst, op_ea_simple(cpu, o));
    NEXT;
}

#define XCHG_WIDTH(bits, T)                                                                        \
    OP(xchg_rr##bits)                                                                              \
    {                                                                                              \
        T a = REG(T, o->dst), b = REG(T, o->src);                                                  \
        SETREG##bits(o->dst, b);                                                                   \
        SETREG##bits(o->src, a);                                                                   \
        NEXT;                                                                                      \
    }
XCHG_WIDTH(8, uint8_t)
XCHG_WIDTH(16, uint16_t)
XCHG_WIDTH(32, uint32_t)
XCHG_WIDTH(64, uint64_t)

/* CMOVcc reads its source whatever the condition, and clears the upper half of a 32-bit target. */
#define CMOV_WIDTH(cc, bits, T)                                                                    \
    OP(cmov##cc##_r##bits)                                                                         \
    {                                                                                              \
        T v = REG(T, o->src), d = REG(T, o->dst);                                                  \
        SETREG##bits(o->dst, COND_##cc(cpu->flags) ? v : d);                                       \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(cmov##cc##_x##bits)                                                                         \
    {                                                                                              \
        T v = load##bits(cpu, o, op_ea(cpu, o)), d = REG(T, o->dst);                               \
        SETREG##bits(o->dst, COND_##cc(cpu->flags) ? v : d);                                       \
        NEXT;                                                                                      \
    }
#define CMOV(cc, ...)                                                                              \
    CMOV_WIDTH(cc, 16, uint16_t) CMOV_WIDTH(cc, 32, uint32_t) CMOV_WIDTH(cc, 64, uint64_t)
EACH_COND(CMOV, 0)

#define SETCC(cc, ...)                                                                             \
    OP(set##cc##_r)                                                                                \
    {                                                                                              \
        SETREG8(o->dst, COND_##cc(cpu->flags) ? 1 : 0);                                            \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(set##cc##_x)                                                                                \
    {                                                                                              \
        store8(cpu, o, op_ea(cpu, o), COND_##cc(cpu->flags) ? 1 : 0);                              \
        NEXT;                                                                                      \
    }
EACH_COND(SETCC, 0)

OP(cbw)
{
    REG(int16_t, 0) = REG(int8_t, 0);
    NEXT;
}
OP(cwde)
{
    SETREG32(0, REG(int16_t, 0));
    NEXT;
}
OP(cdqe)
{
    SETREG64(0, (int64_t)REG(int32_t, 0));
    NEXT;
}
OP(cwd)
{
    SETREG16(R_DX * 8, REG(int16_t, 0) >> 15);
    NEXT;
}
OP(cdq)
{
    SETREG32(R_DX * 8, REG(int32_t, 0) >> 31);
    NEXT;
}
OP(cqo)
{
    SETREG64(R_DX * 8, REG(int64_t, 0) >> 63);
    NEXT;
}

/* BSWAP of a 16-bit register is undefined; like the processors, it clears the register's low half.
 */
OP(bswap16)
{
    SETREG16(o->dst, 0);
    NEXT;
}
OP(bswap32)
{
    SETREG32(o->dst, __builtin_bswap32(REG(uint32_t, o->dst)));
    NEXT;
}
OP(bswap64)
{
    SETREG64(o->dst, __builtin_bswap64(REG(uint64_t, o->dst)));
    NEXT;
}

OP(xlat)
{
    uint64_t va = cpu->gpr[R_BX] + REG(uint8_t, 0);
    if (o->src) {
        va = (uint32_t)va;
    }
    SETREG8(0, load8(cpu, o, va + cpu->seg_base[o->scale_seg >> 4]));
    NEXT;
}

OP(sahf)
{
    cpu->flags = (uint16_t)((cpu->flags & FLG_OF) | ((REG(uint16_t, 0) & 0xd500) | 0x200));
    NEXT;
}
OP(lahf)
{
    SETREG8(1, (cpu->flags >> 8 & 0xd5) | 2);
    NEXT;
}

#define ROW4(name)                                                                                 \
    {                                                                                              \
        name##8, name##16, name##32, name##64                                                      \
    }
enum { M_RR, M_RI, M_RM, M_RX, M_MR, M_XR, M_MI, M_XI };
static const op_handler mov_table[8][4] = {
    ROW4(mov_rr), ROW4(mov_ri), ROW4(mov_rm), ROW4(mov_rx),
    ROW4(mov_mr), ROW4(mov_xr), ROW4(mov_mi), ROW4(mov_xi),
};

static void lift_mov(struct lift *l)
{
    const struct insn *i = l->insn;
    unsigned w = width_of(i->opsize);
    enum insn_operand d = i->desc->op[0], s = i->desc->op[1];
    bool imm = s == O_I || s == O_IV || s == O_IB;
    bool short_form = lift_simple(i);
    struct op *o;
    if (d == O_O || s == O_O) { /* moffs */
        o = lift_emit_mem(l, mov_table[d == O_O ? M_XR : M_RX][w]);
        o->dst = o->src = 0;
        return;
    }
    if (i->is_mem && d == O_G) {
        lift_emit_mem(l, mov_table[short_form ? M_RM : M_RX][w])->dst =
            lift_reg(i, i->reg, i->opsize);
        return;
    }
    if (i->is_mem) {
        o = lift_emit_mem(l, mov_table[(short_form ? M_MR : M_XR) + (imm ? M_MI - M_MR : 0)][w]);
        o->src = lift_reg(i, i->reg, i->opsize);
        o->imm = (uint64_t)i->imm;
        return;
    }
    o = lift_emit(l, mov_table[imm ? M_RI : M_RR][w]);
    o->dst = lift_reg(i, d == O_G ? i->reg : i->rm, i->opsize);
    o->src = lift_reg(i, d == O_G ? i->rm : i->reg, i->opsize);
    o->imm = (uint64_t)i->imm;
}

#define ROW3(name)                                                                                 \
    {                                                                                              \
        name##_r, name##_m, name##_x                                                               \
    }
static void lift_extend(struct lift *l)
{
    static const op_handler zx[2][2][3] = {{ROW3(zx8_16), ROW3(zx8_32)},
                                           {ROW3(zx16_16), ROW3(zx16_32)}};
    static const op_handler sx[3][3][3] = {{ROW3(sx8_16), ROW3(sx8_32), ROW3(sx8_64)},
                                           {ROW3(sx16_16), ROW3(sx16_32), ROW3(sx16_64)},
                                           {ROW3(sx16_16), ROW3(sx32_32), ROW3(sx32_64)}};
    const struct insn *i = l->insn;
    unsigned to = width_of(i->opsize) - 1;
    unsigned from = i->desc->id == I_MOVSXD ? 2 : width_of(i->desc->mem_size);
    unsigned from_bytes = i->desc->id == I_MOVSXD ? 4u : 1u << from;
    const op_handler *h = i->desc->id == I_MOVZX ? zx[from][to > 1 ? 1 : to] : sx[from][to];
    struct op *o = i->is_mem ? lift_emit_mem(l, h[lift_simple(i) ? 1 : 2]) : lift_emit(l, h[0]);
    o->dst = lift_reg(i, i->reg, i->opsize);
    if (!i->is_mem) {
        o->src = lift_reg(i, i->rm, from_bytes);
    }
}

static void lift_cmov(struct lift *l)
{
#define CMOV_ROW(cc, ...)                                                                          \
    {{cmov##cc##_r16, cmov##cc##_r32, cmov##cc##_r64},                                             \
     {cmov##cc##_x16, cmov##cc##_x32, cmov##cc##_x64}},
    static const op_handler table[16][2][3] = {EACH_COND(CMOV_ROW, 0)};
    const struct insn *i = l->insn;
    op_handler h = table[i->cond][i->is_mem][width_of(i->opsize) - 1];
    struct op *o = i->is_mem ? lift_emit_mem(l, h) : lift_emit(l, h);
    o->dst = (uint8_t)(i->reg * 8);
    if (!i->is_mem) {
        o->src = (uint8_t)(i->rm * 8);
    }
}

static void lift_setcc(struct lift *l)
{
#define SET_ROW(cc, ...) {set##cc##_r, set##cc##_x},
    static const op_handler table[16][2] = {EACH_COND(SET_ROW, 0)};
    const struct insn *i = l->insn;
    if (i->is_mem) {
        lift_emit_mem(l, table[i->cond][1]);
    } else {
        lift_emit(l, table[i->cond][0])->dst = lift_reg(i, i->rm, 1);
    }
}

static void lift_lea(struct lift *l)
{
    static const op_handler table[3] = {lea16, lea32, lea64};
    const struct insn *i = l->insn;
    struct insn plain = *i;
    plain.seg = INSN_NO_SEG; /* LEA ignores segment bases */
    const struct insn *saved = l->insn;
    l->insn = &plain;
    bool simple64 = i->opsize == 8 && lift_simple(&plain);
    struct op *o = lift_emit_mem(l, simple64 ? lea64_simple : table[width_of(i->opsize) - 1]);
    l->insn = saved;
    o->dst = (uint8_t)(i->reg * 8);
}

bool mov_lift(struct lift *l)
{
    static const op_handler convert[2][3] = {{cbw, cwde, cdqe}, {cwd, cdq, cqo}};
    static const op_handler bswap[3] = {bswap16, bswap32, bswap64};
    static const op_handler xchg[4] = ROW4(xchg_rr);
    const struct insn *i = l->insn;
    struct op *o;
    switch (i->desc->id) {
    case I_MOV:
    case I_MOVNTI:
        lift_mov(l);
        return true;
    case I_MOVZX:
    case I_MOVSX:
    case I_MOVSXD:
        lift_extend(l);
        return true;
    case I_LEA:
        lift_lea(l);
        return true;
    case I_CMOVCC:
        lift_cmov(l);
        return true;
    case I_SETCC:
        lift_setcc(l);
        return true;
    case I_CBW:
        lift_emit(l, convert[0][width_of(i->opsize) - 1]);
        return true;
    case I_CWD:
        lift_emit(l, convert[1][width_of(i->opsize) - 1]);
        return true;
    case I_BSWAP:
        lift_emit(l, bswap[width_of(i->opsize) - 1])->dst = (uint8_t)(i->rm * 8);
        return true;
    case I_XCHG: /* memory forms: ops_atomic.c */
        if (i->is_mem) {
            return false;
        }
        o = lift_emit(l, xchg[width_of(i->opsize)]);
        o->dst =
            i->desc->op[0] == O_ACC || i->desc->op[1] == O_ACC ? 0 : lift_reg(i, i->reg, i->opsize);
        o->src = lift_reg(i, i->rm, i->opsize);
        return true;
    case I_XLAT:
        o = lift_emit(l, xlat);
        o->src = i->addr32;
        o->scale_seg = (uint8_t)((i->seg == INSN_NO_SEG ? LIFT_NO_SEG : i->seg) << 4);
        return true;
    case I_SAHF:
        lift_emit(l, sahf);
        return true;
    case I_LAHF:
        lift_emit(l, lahf);
        return true;
    default:
        return false;
    }
}

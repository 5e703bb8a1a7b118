/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A compare or test and the conditional jump after it as one operation: the pair is about one
 * instruction in six of real code. The flags are still stored, since nobody knows who reads them
 * next.
 */
#include "cpu/soft/ops.h"

#define FUSED(cc, name, ins, bits, T, sfx, LEFT, RIGHT)                                            \
    OP(name##_j##cc##_##bits)                                                                      \
    {                                                                                              \
        T a = LEFT, b = RIGHT;                                                                     \
        uint16_t f;                                                                                \
        __asm__(ins sfx " %[b], %[a]" FLAGS_OUT : "=&a"(f) : [a] "q"(a), [b] "q"(b) : "cc");       \
        cpu->flags = f;                                                                            \
        if (COND_##cc(f))                                                                          \
            return take_link(cpu, o + 1);                                                          \
        DISPATCH(o + 2);                                                                           \
    }

#define DST(T) REG(T, o->dst)
#define SRC(T) REG(T, o->src)
#define MEM(bits) load##bits(cpu, o, op_ea_simple(cpu, o))
#define MEMX(bits) load##bits(cpu, o, op_ea(cpu, o))

#define CMP_RR(cc, bits, T, sfx) FUSED(cc, cmp_rr, "cmp", bits, T, sfx, DST(T), SRC(T))
#define CMP_RI(cc, bits, T, sfx) FUSED(cc, cmp_ri, "cmp", bits, T, sfx, DST(T), (T)o->imm)
#define CMP_RM(cc, bits, T, sfx) FUSED(cc, cmp_rm, "cmp", bits, T, sfx, DST(T), MEM(bits))
#define CMP_MR(cc, bits, T, sfx) FUSED(cc, cmp_mr, "cmp", bits, T, sfx, MEM(bits), SRC(T))
#define CMP_MI(cc, bits, T, sfx) FUSED(cc, cmp_mi, "cmp", bits, T, sfx, MEM(bits), (T)o->imm)
#define CMP_XI(cc, bits, T, sfx) FUSED(cc, cmp_xi, "cmp", bits, T, sfx, MEMX(bits), (T)o->imm)
#define TEST_RR(cc, bits, T, sfx) FUSED(cc, test_rr, "test", bits, T, sfx, DST(T), SRC(T))
#define TEST_RI(cc, bits, T, sfx) FUSED(cc, test_ri, "test", bits, T, sfx, DST(T), (T)o->imm)
#define TEST_MI(cc, bits, T, sfx) FUSED(cc, test_mi, "test", bits, T, sfx, MEM(bits), (T)o->imm)

#define WIDTHS(cc, FORM)                                                                           \
    FORM(cc, 8, uint8_t, "b") FORM(cc, 32, uint32_t, "l") FORM(cc, 64, uint64_t, "q")
EACH_COND(WIDTHS, CMP_RR)
EACH_COND(WIDTHS, CMP_RI)
EACH_COND(WIDTHS, CMP_RM)
EACH_COND(WIDTHS, CMP_MR)
EACH_COND(WIDTHS, CMP_MI)
EACH_COND(WIDTHS, CMP_XI)
EACH_COND(WIDTHS, TEST_RR)
EACH_COND(WIDTHS, TEST_RI)
EACH_COND(WIDTHS, TEST_MI)

enum {
    CMP_FORM_RR,
    CMP_FORM_RI,
    CMP_FORM_RM,
    CMP_FORM_MR,
    CMP_FORM_MI,
    CMP_FORM_XI,
    TEST_FORM_RR,
    TEST_FORM_RI,
    TEST_FORM_MI,
    FORM_NONE
};

#define COND_ROW(cc, name) {name##_j##cc##_8, name##_j##cc##_32, name##_j##cc##_64},
static const op_handler fused[FORM_NONE][16][3] = {
    {EACH_COND(COND_ROW, cmp_rr)},  {EACH_COND(COND_ROW, cmp_ri)},  {EACH_COND(COND_ROW, cmp_rm)},
    {EACH_COND(COND_ROW, cmp_mr)},  {EACH_COND(COND_ROW, cmp_mi)},  {EACH_COND(COND_ROW, cmp_xi)},
    {EACH_COND(COND_ROW, test_rr)}, {EACH_COND(COND_ROW, test_ri)}, {EACH_COND(COND_ROW, test_mi)},
};

static unsigned form_of(const struct insn *i)
{
    bool imm = i->desc->op[1] == O_I || i->desc->op[1] == O_IB;
    bool simple = lift_simple(i);
    if (i->desc->id == I_CMP) {
        if (!i->is_mem) {
            return imm ? CMP_FORM_RI : CMP_FORM_RR;
        }
        if (imm) {
            return simple ? CMP_FORM_MI : lift_addr32(i) ? FORM_NONE : CMP_FORM_XI;
        }
        return !simple ? FORM_NONE : i->desc->op[0] == O_G ? CMP_FORM_RM : CMP_FORM_MR;
    }
    if (i->desc->id == I_TEST) {
        if (!i->is_mem) {
            return imm ? TEST_FORM_RI : TEST_FORM_RR;
        }
        return imm && simple ? TEST_FORM_MI : FORM_NONE;
    }
    return FORM_NONE;
}

bool fuse_lift(struct lift *l, const struct insn *cmp)
{
    unsigned form = form_of(cmp);
    if (form == FORM_NONE || cmp->opsize == 2) {
        return false;
    }
    unsigned w = cmp->opsize == 1 ? 0 : cmp->opsize == 4 ? 1 : 2;
    l->ops[l->n - 1].handler = fused[form][l->insn->cond][w];
    lift_emit_sides(l, lift_target(l));
    return true;
}

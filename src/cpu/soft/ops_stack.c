/* SPDX-License-Identifier: Apache-2.0 */
/* PUSH POP ENTER LEAVE. The store comes before the change of RSP, so that a fault changes nothing.
 */
#include "cpu/soft/ops.h"

#define RSP cpu->gpr[R_SP]

/* Register and immediate operands leave the address fields free: base says "stack" for #SS. */
OP(push_r64)
{
    uint64_t sp = RSP - 8;
    store64(cpu, o, sp, REG(uint64_t, o->src));
    RSP = sp;
    NEXT;
}
OP(push_r16)
{
    uint64_t sp = RSP - 2;
    store16(cpu, o, sp, REG(uint16_t, o->src));
    RSP = sp;
    NEXT;
}
OP(push_i64)
{
    uint64_t sp = RSP - 8;
    store64(cpu, o, sp, o->imm);
    RSP = sp;
    NEXT;
}
OP(push_i16)
{
    uint64_t sp = RSP - 2;
    store16(cpu, o, sp, (uint16_t)o->imm);
    RSP = sp;
    NEXT;
}
OP(push_x64)
{
    uint64_t v = load64(cpu, o, op_ea(cpu, o)), sp = RSP - 8;
    op_need_stack(cpu, o, cpu->tlb_write, sp, 8);
    store64(cpu, o, sp, v);
    RSP = sp;
    NEXT;
}
OP(push_x16)
{
    uint16_t v = load16(cpu, o, op_ea(cpu, o));
    uint64_t sp = RSP - 2;
    op_need_stack(cpu, o, cpu->tlb_write, sp, 2);
    store16(cpu, o, sp, v);
    RSP = sp;
    NEXT;
}

OP(pop_r64)
{
    uint64_t v = load64(cpu, o, RSP);
    RSP += 8;
    REG(uint64_t, o->dst) = v;
    NEXT;
}
OP(pop_r16)
{
    uint16_t v = load16(cpu, o, RSP);
    RSP += 2;
    REG(uint16_t, o->dst) = v;
    NEXT;
}

/* POP to memory computes its address with RSP already raised. */
#define POP_MEM(bits, T)                                                                           \
    OP(pop_x##bits)                                                                                \
    {                                                                                              \
        uint64_t sp = RSP;                                                                         \
        op_need_stack(cpu, o, cpu->tlb_read, sp, sizeof(T));                                       \
        T v = load##bits(cpu, o, sp);                                                              \
        uint64_t va = op_ea(cpu, o) + (o->base == R_SP ? sizeof(T) : 0);                           \
        store##bits(cpu, o, va, v);                                                                \
        RSP = sp + sizeof(T);                                                                      \
        NEXT;                                                                                      \
    }
POP_MEM(16, uint16_t)
POP_MEM(64, uint64_t)

OP(leave64)
{
    uint64_t bp = cpu->gpr[R_BP];
    uint64_t v = load64(cpu, o, bp);
    cpu->gpr[R_BP] = v;
    RSP = bp + 8;
    NEXT;
}
OP(leave16)
{
    uint64_t bp = cpu->gpr[R_BP];
    uint16_t v = load16(cpu, o, bp);
    REG(uint16_t, R_BP * 8) = v;
    RSP = bp + 2;
    NEXT;
}

/* ENTER size, level; frame pointers of outer levels are copied (Intel SDM vol. 2, ENTER). */
OP(enter)
{
    unsigned level = o->dst & 31, width = o->src;
    uint64_t sp = RSP, bp = cpu->gpr[R_BP];
    sp -= width;
    if (width == 8) {
        store64(cpu, o, sp, bp);
    } else {
        store16(cpu, o, sp, (uint16_t)bp);
    }
    uint64_t frame = sp;
    for (unsigned i = 1; i < level; i++) {
        bp -= width;
        sp -= width;
        if (width == 8) {
            store64(cpu, o, sp, load64(cpu, o, bp));
        } else {
            store16(cpu, o, sp, load16(cpu, o, bp));
        }
    }
    if (level) {
        sp -= width;
        if (width == 8) {
            store64(cpu, o, sp, frame);
        } else {
            store16(cpu, o, sp, (uint16_t)frame);
        }
    }
    sp -= o->imm;
    /* the new stack top must be writable, or ENTER faults without effect */
    void *p = op_ptr(cpu, o, sp, width, ACC_WRITE);
    (void)p;
    if (width == 8) {
        cpu->gpr[R_BP] = frame;
    } else {
        REG(uint16_t, R_BP * 8) = (uint16_t)frame;
    }
    RSP = sp;
    NEXT;
}

static struct op *stack_op(struct lift *l, op_handler h)
{
    struct op *o = lift_emit(l, h);
    o->base = R_SP;
    return o;
}

static void lift_push(struct lift *l)
{
    const struct insn *i = l->insn;
    bool wide = i->opsize == 8;
    switch (i->desc->op[0]) {
    case O_I:
    case O_IB:
        stack_op(l, wide ? push_i64 : push_i16)->imm = (uint64_t)i->imm;
        return;
    default:
        if (i->is_mem) {
            lift_emit_mem(l, wide ? push_x64 : push_x16);
        } else {
            stack_op(l, wide ? push_r64 : push_r16)->src = (uint8_t)(i->rm * 8);
        }
    }
}

bool stack_lift(struct lift *l)
{
    const struct insn *i = l->insn;
    struct op *o;
    switch (i->desc->id) {
    case I_PUSH:
        lift_push(l);
        return true;
    case I_POP:
        if (i->is_mem) {
            lift_emit_mem(l, i->opsize == 8 ? pop_x64 : pop_x16);
            if (lift_addr32(i) && i->base == R_SP) { /* address32() runs with the old RSP */
                l->ops[l->n - 2].disp += i->opsize;
            }
        } else {
            stack_op(l, i->opsize == 8 ? pop_r64 : pop_r16)->dst = (uint8_t)(i->rm * 8);
        }
        return true;
    case I_LEAVE:
        stack_op(l, i->opsize == 8 ? leave64 : leave16);
        return true;
    case I_ENTER:
        o = stack_op(l, enter);
        o->imm = (uint16_t)i->imm;
        o->dst = (uint8_t)i->imm2;
        o->src = i->opsize;
        return true;
    default:
        return false;
    }
}

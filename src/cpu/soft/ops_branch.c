/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jumps, calls, returns, and how blocks are tied together. A branch with a fixed target ends in a
 * link operation: imm is the target, disp the target's block once it is known, gen the generation
 * in which a link to another page stays true. Within one page no generation is needed: block and
 * target lie in the same physical page, and both die together when it is written.
 */
#include "cpu/soft/legacy.h"
#include "cpu/soft/ops.h"

static const struct op *link_unknown(struct soft_cpu *cpu, const struct op *o)
{
    cpu->rip = o->imm;
    cpu->link_from = o;
    cpu->link_epoch = cpu->cache->epoch;
    return NULL;
}

static inline const struct op *enter_block(struct soft_cpu *cpu, const struct op *o)
{
    struct block *b = (struct block *)o->disp;
    if (must_stop(cpu)) {
        cpu->rip = o->imm;
        return NULL;
    }
    cpu->block = b;
    DISPATCH(b->ops);
}

const struct op *link_same_page(struct soft_cpu *cpu, const struct op *o)
{
    return enter_block(cpu, o);
}

static const struct op *link_local(struct soft_cpu *cpu, const struct op *o)
{
    if (likely(o->gen == cpu->gen[GEN_LOCAL])) {
        return enter_block(cpu, o);
    }
    return link_unknown(cpu, o);
}

static const struct op *link_global(struct soft_cpu *cpu, const struct op *o)
{
    if (likely(o->gen == cpu->gen[GEN_GLOBAL])) {
        return enter_block(cpu, o);
    }
    return link_unknown(cpu, o);
}

void branch_link(struct soft_cpu *cpu, struct block *target)
{
    struct op *o = (struct op *)cpu->link_from;
    cpu->link_from = NULL;
    if (!o || cpu->link_epoch != cpu->cache->epoch || o->imm != target->rip || cpu->block->dead ||
        cpu->block->mode != target->mode) {
        return;
    }
    const struct soft_jump_entry *j = soft_jump_slot(cpu, target->rip);
    o->disp = (uint64_t)(uintptr_t)target;
    bool same_page =
        legacy_code_va(cpu, target->rip) >> 12 == legacy_code_va(cpu, cpu->block->rip) >> 12;
    if (!target->crosses && same_page && !cpu->block->crosses) {
        o->scale_seg = GEN_PAGE;
        o->gen = cpu->gen[GEN_PAGE];
        o->handler = link_same_page;
    } else {
        o->scale_seg = j->global ? GEN_GLOBAL : GEN_LOCAL;
        o->gen = j->gen;
        o->handler = j->global ? link_global : link_local;
    }
}

/* The same under a code segment limit, which may be another the next time: disp holds the branch's
 * offset in the block, and nothing is linked. */
static const struct op *link_limited(struct soft_cpu *cpu, const struct op *o)
{
    if (o->imm > cpu->seg[SEG_CS].limit) {
        cpu->insn_rip = cpu->block->rip + o->disp;
        soft_raise_code(cpu, V_GP, 0);
    }
    cpu->rip = o->imm;
    return NULL;
}

void lift_emit_link(struct lift *l, uint64_t target)
{
    struct op *o = lift_emit(l, l->cpu->mode & MODE_CODE_LIMIT ? link_limited : link_unknown);
    o->imm = target;
    o->disp = l->off;
    o->scale_seg = GEN_PAGE;
    o->gen = 0; /* of no generation yet */
    o->len = 0; /* not an instruction of its own */
    o->off = (uint16_t)(l->off + l->insn->len);
}

/* Past so many conditional jumps a block goes on: most are not taken, and a block entered costs
 * more. */
#define MAX_BRANCHES 4

void lift_emit_sides(struct lift *l, uint64_t taken)
{
    lift_emit_link(l, taken);
    l->end = ++l->branches >= MAX_BRANCHES;
    if (l->end) {
        lift_emit_link(l, l->next_rip);
    }
}

/* Conditional: the next operation is the link of the taken side, the one after of the other. */
#define JCC(cc, ...)                                                                               \
    OP(jcc##cc)                                                                                    \
    {                                                                                              \
        if (COND_##cc(cpu->flags))                                                                 \
            return take_link(cpu, o + 1);                                                          \
        DISPATCH(o + 2);                                                                           \
    }
EACH_COND(JCC, 0)

/* LOOPcc and JRCXZ; a 67 prefix (src) makes the counter ECX. */
#define LOOPS(name, COND)                                                                          \
    OP(name)                                                                                       \
    {                                                                                              \
        uint64_t c = o->src ? (uint32_t)(cpu->gpr[R_CX] - 1) : cpu->gpr[R_CX] - 1;                 \
        cpu->gpr[R_CX] = c;                                                                        \
        o += COND ? 1 : 2;                                                                         \
        DISPATCH(o);                                                                               \
    }
LOOPS(loop, c != 0)
LOOPS(loope, c != 0 && (cpu->flags & FLG_ZF))
LOOPS(loopne, c != 0 && !(cpu->flags & FLG_ZF))
OP(jrcxz)
{
    uint64_t c = o->src ? (uint32_t)cpu->gpr[R_CX] : cpu->gpr[R_CX];
    o += c == 0 ? 1 : 2;
    DISPATCH(o);
}

/* disp holds the return address; the link follows. */
OP(call_link)
{
    uint64_t sp = cpu->gpr[R_SP] - 8;
    store64(cpu, o, sp, o->disp);
    cpu->gpr[R_SP] = sp;
    NEXT;
}

static _Noreturn void bad_target(struct soft_cpu *cpu, const struct op *o)
{
    cpu->insn_rip = op_rip(cpu, o);
    soft_raise_code(cpu, V_GP, 0);
}

/* A branch to a non-canonical address faults at the branch itself (Intel SDM vol. 2, JMP, CALL,
 * RET). */
static inline bool canonical(uint64_t va)
{
    return likely((uint64_t)((int64_t)(va << 16) >> 16) == va);
}

OP(jmp_r)
{
    uint64_t to = REG(uint64_t, o->src);
    if (!canonical(to)) {
        bad_target(cpu, o);
    }
    return op_jump(cpu, to);
}
OP(jmp_x)
{
    uint64_t to = load64(cpu, o, op_ea(cpu, o));
    if (!canonical(to)) {
        bad_target(cpu, o);
    }
    return op_jump(cpu, to);
}

static inline const struct op *call_to(struct soft_cpu *cpu, const struct op *o, uint64_t to)
{
    if (!canonical(to)) {
        bad_target(cpu, o);
    }
    uint64_t sp = cpu->gpr[R_SP] - 8;
    op_need_stack(cpu, o, cpu->tlb_write, sp, 8);
    store64(cpu, o, sp, op_rip(cpu, o) + o->len);
    cpu->gpr[R_SP] = sp;
    return op_jump(cpu, to);
}
OP(call_r)
{
    return call_to(cpu, o, REG(uint64_t, o->src));
}
OP(call_x)
{
    return call_to(cpu, o, load64(cpu, o, op_ea(cpu, o)));
}

OP(ret)
{
    uint64_t sp = cpu->gpr[R_SP];
    uint64_t to = load64(cpu, o, sp);
    if (!canonical(to)) {
        bad_target(cpu, o);
    }
    cpu->gpr[R_SP] = sp + 8 + o->imm;
    return op_jump(cpu, to);
}

bool branch_lift(struct lift *l)
{
#define JCC_ROW(cc, ...) jcc##cc,
    static const op_handler jcc[16] = {EACH_COND(JCC_ROW, 0)};
    static const op_handler loops[4] = {loopne, loope, loop, jrcxz};
    const struct insn *i = l->insn;
    uint64_t target = lift_target(l);
    struct op *o;
    l->end = true;
    switch (i->desc->id) {
    case I_JCC:
        lift_emit(l, jcc[i->cond]);
        lift_emit_sides(l, target);
        return true;
    case I_LOOPNE ... I_JRCXZ:
        lift_emit(l, loops[i->desc->id - I_LOOPNE])->src = i->addr32;
        lift_emit_link(l, target);
        lift_emit_link(l, l->next_rip);
        return true;
    case I_JMP:
        lift_emit_link(l, target);
        return true;
    case I_CALL:
        o = lift_emit(l, call_link);
        o->disp = l->next_rip;
        o->base = R_SP;
        lift_emit_link(l, target);
        return true;
    case I_JMP_RM:
        if (i->is_mem) {
            lift_emit_mem(l, jmp_x);
        } else {
            lift_emit(l, jmp_r)->src = (uint8_t)(i->rm * 8);
        }
        return true;
    case I_CALL_RM:
        if (i->is_mem) {
            lift_emit_mem(l, call_x);
        } else {
            lift_emit(l, call_r)->src = (uint8_t)(i->rm * 8);
        }
        return true;
    case I_RET:
        o = lift_emit(l, ret);
        o->imm = i->desc->op[0] == O_IW ? (uint16_t)i->imm : 0;
        o->base = R_SP;
        return true;
    default:
        l->end = false;
        return false;
    }
}

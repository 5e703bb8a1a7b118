/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Far control transfers in 64-bit mode: IRET, RETF, far JMP and CALL, INT n. Source: Intel SDM
 * vol. 2.
 *
 * Limit: call gates are not followed (#GP with the gate's selector); no 64-bit system uses them.
 */
#include "cpu/soft/segment.h"
#include "cpu/soft/sys.h"

struct frame {
    uint64_t rip, rsp;
    uint16_t cs, ss;
};

static void check_target(struct soft_cpu *cpu, const struct seg_state *cs, uint64_t rip)
{
    if (cs->attr & SA_L ? !sys_canonical(rip) : rip > cs->limit)
        sys_gp(cpu);
}

/* Code segment rules of IRET and RETF. */
static void check_return(struct soft_cpu *cpu, uint16_t selector, struct seg_state *out)
{
    unsigned rpl = SEL_RPL(selector);
    struct segment_desc d;
    unsigned dpl;

    if (SEL_NULL(selector))
        sys_gp(cpu);
    if (!segment_read(cpu, selector, &d))
        soft_raise_code(cpu, V_GP, SEL_ERR(selector));
    dpl = SA_DPL(d.seg.attr);
    if ((d.seg.attr & (SA_S | SA_CODE)) != (SA_S | SA_CODE) || rpl < cpu->cpl ||
        (d.seg.attr & SA_CONFORM ? dpl > rpl : dpl != rpl) ||
        (d.seg.attr & (SA_L | SA_DB)) == (SA_L | SA_DB))
        soft_raise_code(cpu, V_GP, SEL_ERR(selector));
    if (!(d.seg.attr & SA_P))
        soft_raise_code(cpu, V_NP, SEL_ERR(selector));
    segment_mark_accessed(cpu, &d);
    *out = d.seg;
}

/* Take a frame whose SS is to be loaded. */
static void enter_frame(struct soft_cpu *cpu, const struct frame *f, const uint64_t *flags)
{
    unsigned rpl = SEL_RPL(f->cs);
    bool outer = rpl > cpu->cpl;
    struct seg_state cs, ss;

    check_return(cpu, f->cs, &cs);
    segment_check_stack(cpu, f->ss, rpl, (cs.attr & SA_L) && rpl != 3, &ss);
    check_target(cpu, &cs, f->rip);

    if (flags != NULL)
        sys_set_flags(cpu, *flags);
    cpu->seg[SEG_CS] = cs;
    cpu->seg[SEG_SS] = ss;
    cpu->rip = f->rip;
    cpu->gpr[R_SP] = f->rsp;
    if (outer)
        segment_drop_inner(cpu, rpl);
    soft_update_mode(cpu);
}

static void check_stack_range(struct soft_cpu *cpu, unsigned bytes)
{
    uint64_t sp = cpu->gpr[R_SP];

    if (!sys_canonical(sp) || !sys_canonical(sp + bytes - 1))
        soft_raise_code(cpu, V_SS, 0);
}

static void iret(struct soft_cpu *cpu, unsigned size)
{
    uint64_t sp = cpu->gpr[R_SP];
    struct frame f;
    uint64_t flags;

    cpu->nmi_blocked = false; /* even if this one faults (SDM vol. 3, 7.7.1) */
    if (cpu->sys_flags & FL_NT)
        sys_gp(cpu);
    check_stack_range(cpu, 5 * size);
    f.rip = soft_load(cpu, sp, size);
    f.cs = (uint16_t)soft_load(cpu, sp + size, size);
    flags = soft_load(cpu, sp + 2 * size, size);
    f.rsp = soft_load(cpu, sp + 3 * size, size);
    f.ss = (uint16_t)soft_load(cpu, sp + 4 * size, size);
    flags = sys_popped_flags(cpu, flags, size, true);
    enter_frame(cpu, &f, &flags);
}

static void retf(struct soft_cpu *cpu, unsigned size, unsigned drop)
{
    uint64_t sp = cpu->gpr[R_SP];
    struct seg_state cs;
    struct frame f;

    check_stack_range(cpu, 2 * size);
    f.rip = soft_load(cpu, sp, size);
    f.cs = (uint16_t)soft_load(cpu, sp + size, size);
    if (!SEL_NULL(f.cs) && SEL_RPL(f.cs) > cpu->cpl) {
        sp += 2 * size + drop;
        f.rsp = soft_load(cpu, sp, size) + drop;
        f.ss = (uint16_t)soft_load(cpu, sp + size, size);
        enter_frame(cpu, &f, NULL);
        return;
    }
    check_return(cpu, f.cs, &cs);
    check_target(cpu, &cs, f.rip);
    cpu->seg[SEG_CS] = cs;
    cpu->rip = f.rip;
    cpu->gpr[R_SP] = sp + 2 * size + drop;
    soft_update_mode(cpu);
}

static void jump_far(struct soft_cpu *cpu, const struct insn *insn, bool call)
{
    unsigned size = insn->opsize;
    uint64_t va = soft_ea(cpu, insn);
    uint64_t rip = soft_load(cpu, va, size);
    uint16_t selector = (uint16_t)soft_load(cpu, va + size, 2);
    struct segment_desc d;
    unsigned attr;

    if (SEL_NULL(selector))
        sys_gp(cpu);
    if (!segment_read(cpu, selector, &d))
        soft_raise_code(cpu, V_GP, SEL_ERR(selector));
    attr = d.seg.attr;
    if ((attr & (SA_S | SA_CODE)) != (SA_S | SA_CODE) ||
        (attr & (SA_L | SA_DB)) == (SA_L | SA_DB) ||
        (attr & SA_CONFORM ? SA_DPL(attr) > cpu->cpl
                           : SA_DPL(attr) != cpu->cpl || SEL_RPL(selector) > cpu->cpl))
        soft_raise_code(cpu, V_GP, SEL_ERR(selector));
    if (!(attr & SA_P))
        soft_raise_code(cpu, V_NP, SEL_ERR(selector));
    check_target(cpu, &d.seg, rip);
    segment_mark_accessed(cpu, &d);
    if (call) {
        uint64_t sp = cpu->gpr[R_SP];

        if (!sys_canonical(sp - 1) || !sys_canonical(sp - 2 * size))
            soft_raise_code(cpu, V_SS, 0);
        soft_store(cpu, sp - 2 * size, size, cpu->rip);
        soft_store(cpu, sp - size, size, cpu->seg[SEG_CS].selector);
        cpu->gpr[R_SP] = sp - 2 * size;
    }
    cpu->seg[SEG_CS] = d.seg;
    cpu->seg[SEG_CS].selector = (uint16_t)((selector & ~3u) | cpu->cpl);
    cpu->rip = rip;
    soft_update_mode(cpu);
}

void sys_far(struct soft_cpu *cpu, const struct insn *insn)
{
    switch (insn->desc->id) {
    case I_IRET:
        iret(cpu, insn->opsize);
        break;
    case I_RETF:
        retf(cpu, insn->opsize, (unsigned)insn->imm & 0xffff);
        break;
    case I_JMP_FAR:
        jump_far(cpu, insn, false);
        break;
    case I_CALL_FAR:
        jump_far(cpu, insn, true);
        break;
    case I_INT3:
        soft_deliver_int(cpu, V_BP);
        break;
    case I_INT1:
        deliver_int1(cpu);
        break;
    default: /* I_INT */
        soft_deliver_int(cpu, (unsigned)insn->imm & 0xff);
        break;
    }
}

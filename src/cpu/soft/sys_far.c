/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Far control transfers: IRET, RETF, far JMP and CALL, INT n. Source: Intel SDM vol. 2.
 *
 * Limits: call gates are not followed (#GP with the gate's selector), and outside long mode there
 * are no task switches (#GP) and no virtual-8086 mode (IRET to it: #GP).
 */
#include "cpu/soft/legacy.h"
#include "cpu/soft/sys.h"

struct frame {
    uint64_t rip, rsp;
    uint16_t cs, ss;
};

static bool long_code(const struct soft_cpu *cpu, unsigned attr)
{
    return (cpu->efer & EFER_LMA) && (attr & SA_L);
}

/* L and D together mean nothing in long mode; before it L is ignored. */
static bool bad_size(const struct soft_cpu *cpu, unsigned attr)
{
    return long_code(cpu, attr) && (attr & SA_DB);
}

static void check_target(struct soft_cpu *cpu, const struct seg_state *cs, uint64_t rip)
{
    if (long_code(cpu, cs->attr) ? !sys_canonical(rip) : rip > cs->limit)
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
        (d.seg.attr & SA_CONFORM ? dpl > rpl : dpl != rpl) || bad_size(cpu, d.seg.attr))
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
    uint64_t keep = 0;
    struct seg_state cs, ss;

    check_return(cpu, f->cs, &cs);
    segment_check_stack(cpu, f->ss, rpl, long_code(cpu, cs.attr) && rpl != 3, &ss);
    check_target(cpu, &cs, f->rip);

    if (flags != NULL)
        sys_set_flags(cpu, *flags);
    if (legacy_mode(cpu) && !(ss.attr & SA_DB))
        keep = 0xffff0000;
    cpu->seg[SEG_CS] = cs;
    cpu->seg[SEG_SS] = ss;
    cpu->rip = f->rip;
    cpu->gpr[R_SP] = (cpu->gpr[R_SP] & keep) | (f->rsp & ~keep);
    if (outer)
        segment_drop_inner(cpu, rpl);
    soft_update_mode(cpu);
}

/* Take a frame without SS: legacy code that stays at its privilege, real mode. */
static void enter_same(struct soft_cpu *cpu, const struct frame *f, uint64_t sp,
                       const uint64_t *flags)
{
    struct seg_state cs;

    if (!legacy_real(cpu)) {
        check_return(cpu, f->cs, &cs);
        check_target(cpu, &cs, f->rip);
        cpu->seg[SEG_CS] = cs;
    } else {
        check_target(cpu, &cpu->seg[SEG_CS], f->rip);
        segment_set_real_code(cpu, f->cs);
    }
    cpu->rip = f->rip;
    stack_set(cpu, sp);
    if (flags != NULL)
        sys_set_flags(cpu, *flags);
    soft_update_mode(cpu);
}

static void check_stack_range(struct soft_cpu *cpu, unsigned bytes)
{
    uint64_t sp = cpu->gpr[R_SP];

    if (!legacy_mode(cpu) && (!sys_canonical(sp) || !sys_canonical(sp + bytes - 1)))
        soft_raise_code(cpu, V_SS, 0);
}

static void iret(struct soft_cpu *cpu, unsigned size)
{
    uint64_t sp = cpu->gpr[R_SP];
    bool real = legacy_real(cpu);
    struct frame f;
    uint64_t flags;

    cpu->nmi_blocked = false; /* even if this one faults (SDM vol. 3, 7.7.1) */
    if ((cpu->sys_flags & FL_NT) && !real)
        sys_gp(cpu);
    check_stack_range(cpu, 5 * size);
    f.rip = stack_load(cpu, sp, size);
    f.cs = (uint16_t)stack_load(cpu, sp + size, size);
    flags = stack_load(cpu, sp + 2 * size, size);
    if ((flags & FL_VM) && size == 4 && cpu->cpl == 0 && !real && !(cpu->efer & EFER_LMA))
        sys_gp(cpu);
    flags = sys_popped_flags(cpu, flags, size, true);
    if (real || (legacy_mode(cpu) && SEL_RPL(f.cs) == cpu->cpl)) {
        enter_same(cpu, &f, sp + 3 * size, &flags);
        return;
    }
    f.rsp = stack_load(cpu, sp + 3 * size, size);
    f.ss = (uint16_t)stack_load(cpu, sp + 4 * size, size);
    enter_frame(cpu, &f, &flags);
}

static void retf(struct soft_cpu *cpu, unsigned size, unsigned drop)
{
    uint64_t sp = cpu->gpr[R_SP];
    struct frame f;

    check_stack_range(cpu, 2 * size);
    f.rip = stack_load(cpu, sp, size);
    f.cs = (uint16_t)stack_load(cpu, sp + size, size);
    sp += 2 * size + drop;
    if (!legacy_real(cpu) && !SEL_NULL(f.cs) && SEL_RPL(f.cs) > cpu->cpl) {
        f.rsp = stack_load(cpu, sp, size) + drop;
        f.ss = (uint16_t)stack_load(cpu, sp + size, size);
        enter_frame(cpu, &f, NULL);
        return;
    }
    enter_same(cpu, &f, sp, NULL);
}

/* The code segment that a far JMP or CALL names. */
static void check_jump(struct soft_cpu *cpu, uint16_t selector, uint64_t rip,
                       struct segment_desc *d)
{
    unsigned attr;

    if (SEL_NULL(selector))
        sys_gp(cpu);
    if (!segment_read(cpu, selector, d))
        soft_raise_code(cpu, V_GP, SEL_ERR(selector));
    attr = d->seg.attr;
    if ((attr & (SA_S | SA_CODE)) != (SA_S | SA_CODE) || bad_size(cpu, attr) ||
        (attr & SA_CONFORM ? SA_DPL(attr) > cpu->cpl
                           : SA_DPL(attr) != cpu->cpl || SEL_RPL(selector) > cpu->cpl))
        soft_raise_code(cpu, V_GP, SEL_ERR(selector));
    if (!(attr & SA_P))
        soft_raise_code(cpu, V_NP, SEL_ERR(selector));
    check_target(cpu, &d->seg, rip);
    segment_mark_accessed(cpu, d);
}

static void push_return(struct soft_cpu *cpu, unsigned size)
{
    uint64_t sp = cpu->gpr[R_SP];

    if (!legacy_mode(cpu) && (!sys_canonical(sp - 1) || !sys_canonical(sp - 2 * size)))
        soft_raise_code(cpu, V_SS, 0);
    stack_store(cpu, sp - 2 * size, size, cpu->rip);
    stack_store(cpu, sp - size, size, cpu->seg[SEG_CS].selector);
    stack_set(cpu, sp - 2 * size);
}

static void jump_far(struct soft_cpu *cpu, const struct insn *insn, bool call)
{
    unsigned size = insn->opsize;
    uint64_t rip = (uint64_t)insn->imm;
    uint16_t selector = (uint16_t)insn->imm2;
    struct segment_desc d;

    if (insn->is_mem) {
        uint64_t va = soft_ea(cpu, insn);

        rip = soft_load(cpu, va, size);
        selector = (uint16_t)soft_load(cpu, va + size, 2);
    }
    if (legacy_real(cpu))
        check_target(cpu, &cpu->seg[SEG_CS], rip);
    else
        check_jump(cpu, selector, rip, &d);
    if (call)
        push_return(cpu, size);
    if (legacy_real(cpu)) {
        segment_set_real_code(cpu, selector);
    } else {
        cpu->seg[SEG_CS] = d.seg;
        cpu->seg[SEG_CS].selector = (uint16_t)((selector & ~3u) | cpu->cpl);
    }
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

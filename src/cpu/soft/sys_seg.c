/* SPDX-License-Identifier: Apache-2.0 */
/* Instructions on segment registers and descriptor tables. Source: Intel SDM vol. 2. */
#include "cpu/soft/legacy.h"
#include "cpu/soft/sys.h"

/* Vol. 3A, 6.8.3: after a load of SS neither interrupts nor single-step traps come before the next
 * instruction, which may load RSP. */
static void loaded_ss(struct soft_cpu *cpu)
{
    cpu->int_shadow = true;
    cpu->no_step = true;
}

static void mov_sreg(struct soft_cpu *cpu, const struct insn *insn)
{
    if (insn->desc->op[0] != O_S) {
        if (insn->reg > SEG_GS)
            soft_raise(cpu, V_UD);
        sys_write_rm16(cpu, insn, cpu->seg[insn->reg].selector);
        return;
    }
    if (insn->reg > SEG_GS || insn->reg == SEG_CS)
        soft_raise(cpu, V_UD);
    segment_load(cpu, insn->reg, sys_read_rm16(cpu, insn));
    if (insn->reg == SEG_SS)
        loaded_ss(cpu);
}

static enum seg_index pushed_segment(const struct insn *insn)
{
    if (insn->bytes[insn->opcode_off] != 0x0f) /* 06 ES, 0E CS, 16 SS, 1E DS, and + 1 */
        return insn->bytes[insn->opcode_off] >> 3 & 3;
    return insn->bytes[insn->opcode_off + 1] & 8 ? SEG_GS : SEG_FS; /* 0F A0/A1, 0F A8/A9 */
}

static void push_sreg(struct soft_cpu *cpu, const struct insn *insn)
{
    stack_push(cpu, insn->opsize, cpu->seg[pushed_segment(insn)].selector);
}

static void pop_sreg(struct soft_cpu *cpu, const struct insn *insn)
{
    enum seg_index index = pushed_segment(insn);
    uint64_t sp = cpu->gpr[R_SP];
    uint64_t selector = stack_load(cpu, sp, insn->opsize);

    stack_set(cpu, sp + insn->opsize); /* by the old stack's size */
    uint64_t raised = cpu->gpr[R_SP];
    cpu->gpr[R_SP] = sp;
    segment_load(cpu, index, (uint16_t)selector);
    cpu->gpr[R_SP] = raised;
    if (index == SEG_SS)
        loaded_ss(cpu);
}

static void load_pointer(struct soft_cpu *cpu, const struct insn *insn, enum seg_index index)
{
    uint64_t va = soft_ea(cpu, insn);
    uint64_t offset = soft_load(cpu, va, insn->opsize);
    uint16_t selector = (uint16_t)soft_load(cpu, va + insn->opsize, 2);

    segment_load(cpu, index, selector);
    sys_write_reg(cpu, insn->reg, insn->opsize, offset);
}

static void load_table(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t va, base;
    uint32_t limit;

    sys_need_cpl0(cpu);
    va = soft_ea(cpu, insn);
    limit = (uint32_t)soft_load(cpu, va, 2);
    base = soft_load(cpu, va + 2, legacy_mode(cpu) ? 4 : 8);
    if (insn->opsize == 2)
        base &= 0xffffff;
    if (!sys_canonical(base))
        sys_gp(cpu);
    if (insn->desc->id == I_LGDT) {
        cpu->gdt_base = base;
        cpu->gdt_limit = limit;
    } else {
        cpu->idt_base = base;
        cpu->idt_limit = limit;
    }
}

static void store_table(struct soft_cpu *cpu, const struct insn *insn)
{
    bool gdt = insn->desc->id == I_SGDT;
    uint32_t limit = gdt ? cpu->gdt_limit : cpu->idt_limit;
    uint64_t base = gdt ? cpu->gdt_base : cpu->idt_base;
    uint8_t out[10];

    out[0] = (uint8_t)limit;
    out[1] = (uint8_t)(limit >> 8);
    for (unsigned i = 0; i < 8; i++)
        out[2 + i] = (uint8_t)(base >> (8 * i));
    soft_store_bytes(cpu, soft_ea(cpu, insn), out, legacy_mode(cpu) ? 6 : 10);
}

static void lldt(struct soft_cpu *cpu, const struct insn *insn)
{
    struct segment_desc d;
    uint16_t selector;

    sys_need_cpl0(cpu);
    selector = sys_read_rm16(cpu, insn);
    if (SEL_NULL(selector)) {
        cpu->seg[SEG_LDTR] = (struct seg_state){.selector = selector};
        return;
    }
    if ((selector & 4) || !segment_read(cpu, selector, &d) || SA_TYPE(d.seg.attr) != ST_LDT)
        soft_raise_code(cpu, V_GP, SEL_ERR(selector));
    if (!(d.seg.attr & SA_P))
        soft_raise_code(cpu, V_NP, SEL_ERR(selector));
    if (!segment_read_upper(cpu, &d) || !sys_canonical(d.seg.base))
        soft_raise_code(cpu, V_GP, SEL_ERR(selector));
    cpu->seg[SEG_LDTR] = d.seg;
}

static void ltr(struct soft_cpu *cpu, const struct insn *insn)
{
    struct segment_desc d;
    uint16_t selector;

    sys_need_cpl0(cpu);
    selector = sys_read_rm16(cpu, insn);
    if (SEL_NULL(selector))
        sys_gp(cpu);
    if ((selector & 4) || !segment_read(cpu, selector, &d) ||
        SA_TYPE(d.seg.attr) != ST_TSS_AVAILABLE)
        soft_raise_code(cpu, V_GP, SEL_ERR(selector));
    if (!(d.seg.attr & SA_P))
        soft_raise_code(cpu, V_NP, SEL_ERR(selector));
    if (!segment_read_upper(cpu, &d) || !sys_canonical(d.seg.base))
        soft_raise_code(cpu, V_GP, SEL_ERR(selector));
    d.seg.attr |= 2; /* busy */
    soft_sys_store(cpu, d.va + 5, 1, d.seg.attr & 0xff);
    cpu->seg[SEG_TR] = d.seg;
}

/* Rights common to LAR, LSL, VERR and VERW. */
static bool visible(struct soft_cpu *cpu, uint16_t selector, struct segment_desc *d)
{
    unsigned attr;

    if (SEL_NULL(selector) || !segment_read(cpu, selector, d))
        return false;
    attr = d->seg.attr;
    if ((attr & (SA_S | SA_CODE | SA_CONFORM)) == (SA_S | SA_CODE | SA_CONFORM))
        return true;
    return SA_DPL(attr) >= cpu->cpl && SA_DPL(attr) >= SEL_RPL(selector);
}

static bool readable_type(unsigned attr, bool gates)
{
    unsigned type = SA_TYPE(attr);

    return (attr & SA_S) || type == ST_LDT || type == ST_TSS_AVAILABLE || type == ST_TSS_BUSY ||
           (gates && type == ST_CALL_GATE);
}

static void query(struct soft_cpu *cpu, const struct insn *insn)
{
    uint16_t selector = sys_read_rm16(cpu, insn);
    struct segment_desc d;
    bool ok = visible(cpu, selector, &d);
    uint64_t result = 0;

    switch (insn->desc->id) {
    case I_LAR:
        ok = ok && readable_type(d.seg.attr, true);
        if (ok)
            result = d.raw >> 32 & (insn->opsize == 2 ? 0xff00 : 0x00f0ff00);
        break;
    case I_LSL:
        ok = ok && readable_type(d.seg.attr, false);
        if (ok)
            result = d.seg.limit;
        break;
    case I_VERR:
        ok = ok && (d.seg.attr & SA_S) && (d.seg.attr & (SA_CODE | SA_WRITE)) != SA_CODE;
        break;
    default: /* I_VERW */
        ok = ok && (d.seg.attr & (SA_S | SA_CODE | SA_WRITE)) == (SA_S | SA_WRITE);
        break;
    }
    if (ok && (insn->desc->id == I_LAR || insn->desc->id == I_LSL))
        sys_write_reg(cpu, insn->reg, insn->opsize, result);
    cpu->flags = (uint16_t)(ok ? cpu->flags | FLAGS_ZF : cpu->flags & ~FLAGS_ZF);
}

void sys_seg(struct soft_cpu *cpu, const struct insn *insn)
{
    switch (insn->desc->id) {
    case I_MOV_SREG:
        mov_sreg(cpu, insn);
        break;
    case I_PUSH_SREG:
        push_sreg(cpu, insn);
        break;
    case I_POP_SREG:
        pop_sreg(cpu, insn);
        break;
    case I_LSS:
        load_pointer(cpu, insn, SEG_SS);
        break;
    case I_LFS:
        load_pointer(cpu, insn, SEG_FS);
        break;
    case I_LGS:
        load_pointer(cpu, insn, SEG_GS);
        break;
    case I_LES:
        load_pointer(cpu, insn, SEG_ES);
        break;
    case I_LDS:
        load_pointer(cpu, insn, SEG_DS);
        break;
    case I_LGDT:
    case I_LIDT:
        load_table(cpu, insn);
        break;
    case I_SGDT:
    case I_SIDT:
        store_table(cpu, insn);
        break;
    case I_LLDT:
        lldt(cpu, insn);
        break;
    case I_LTR:
        ltr(cpu, insn);
        break;
    case I_SLDT:
        sys_write_rm16(cpu, insn, cpu->seg[SEG_LDTR].selector);
        break;
    case I_STR:
        sys_write_rm16(cpu, insn, cpu->seg[SEG_TR].selector);
        break;
    default: /* I_LAR, I_LSL, I_VERR, I_VERW */
        query(cpu, insn);
        break;
    }
}

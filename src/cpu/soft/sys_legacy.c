/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instructions that 64-bit mode does not have: BCD arithmetic, PUSHA, BOUND, ARPL, INTO; and POP to
 * memory, ENTER and XLAT outside 64-bit mode. Source: Intel SDM vol. 2.
 */
#include "cpu/soft/legacy.h"
#include "cpu/soft/sys.h"

#define AL ((uint8_t)cpu->gpr[R_AX])

static bool flag(const struct soft_cpu *cpu, unsigned bit)
{
    return (soft_get_rflags(cpu) & bit) != 0;
}

static void set_al(struct soft_cpu *cpu, uint8_t value)
{
    sys_write_reg(cpu, R_AX, 1, value);
}

/* SF, ZF and PF of a byte result; the others as given. */
static void set_flags(struct soft_cpu *cpu, uint8_t result, unsigned others)
{
    unsigned f = others | (result & 0x80 ? IF_SF : 0) | (result == 0 ? IF_ZF : 0) |
                 (__builtin_parity(result) ? 0 : IF_PF);
    cpu->flags = (uint16_t)((f & 0xd5) << 8 | FLAGS_KEEP1 | (f & IF_OF ? 1 : 0));
}

static void daa_das(struct soft_cpu *cpu, int sign)
{
    uint8_t old = AL, al = old;
    bool carry = flag(cpu, IF_CF), low = (old & 15) > 9 || flag(cpu, IF_AF), cf = false;
    if (low) {
        cf = carry || (sign > 0 ? old > 0xf9 : old < 6);
        al = (uint8_t)(al + sign * 6);
    }
    if (old > 0x99 || carry) {
        al = (uint8_t)(al + sign * 0x60);
        cf = true;
    }
    set_al(cpu, al);
    set_flags(cpu, al, (low ? IF_AF : 0) | (cf ? IF_CF : 0));
}

static void aaa_aas(struct soft_cpu *cpu, int sign)
{
    uint16_t ax = (uint16_t)cpu->gpr[R_AX];
    bool adjust = (ax & 15) > 9 || flag(cpu, IF_AF);
    if (adjust) {
        ax = (uint16_t)(ax + sign * 0x106);
    }
    ax &= 0xff0f;
    sys_write_reg(cpu, R_AX, 2, ax);
    set_flags(cpu, (uint8_t)ax, adjust ? IF_AF | IF_CF : 0);
}

static void aam(struct soft_cpu *cpu, uint8_t base)
{
    uint8_t al = AL;
    if (base == 0) {
        soft_raise(cpu, V_DE);
    }
    sys_write_reg(cpu, R_AX, 2, (unsigned)(al / base) << 8 | al % base);
    set_flags(cpu, (uint8_t)(al % base), 0);
}

static void aad(struct soft_cpu *cpu, uint8_t base)
{
    uint8_t al = (uint8_t)(AL + (uint8_t)(cpu->gpr[R_AX] >> 8) * base);
    sys_write_reg(cpu, R_AX, 2, al);
    set_flags(cpu, al, 0);
}

static void pusha(struct soft_cpu *cpu, unsigned size)
{
    uint64_t sp = cpu->gpr[R_SP];
    stack_load(cpu, sp - 8 * size, size); /* fault before the first store */
    for (unsigned r = 0; r < 8; r++) {
        stack_store(cpu, sp - (r + 1) * size, size, cpu->gpr[r]);
    }
    stack_set(cpu, sp - 8 * size);
}

static void popa(struct soft_cpu *cpu, unsigned size)
{
    uint64_t sp = cpu->gpr[R_SP], values[8];
    for (unsigned r = 0; r < 8; r++) {
        values[r] = stack_load(cpu, sp + (7 - r) * size, size);
    }
    for (unsigned r = 0; r < 8; r++) {
        if (r != R_SP) {
            sys_write_reg(cpu, r, size, values[r]);
        }
    }
    stack_set(cpu, sp + 8 * size);
}

static void bound(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->opsize;
    uint64_t va = soft_ea(cpu, insn);
    uint64_t low = soft_load(cpu, va, size), high = soft_load(cpu, va + size, size);
    int32_t index = (int32_t)cpu->gpr[insn->reg];
    bool inside = size == 2 ? (int16_t)index >= (int16_t)low && (int16_t)index <= (int16_t)high
                            : index >= (int32_t)low && index <= (int32_t)high;
    if (!inside) {
        soft_raise(cpu, V_BR);
    }
}

static void arpl(struct soft_cpu *cpu, const struct insn *insn)
{
    if (legacy_real(cpu)) {
        soft_raise(cpu, V_UD);
    }
    uint16_t selector = sys_read_rm16(cpu, insn);
    unsigned rpl = SEL_RPL(cpu->gpr[insn->reg]);
    bool less = SEL_RPL(selector) < rpl;
    if (less) {
        uint16_t raised = (uint16_t)((selector & ~3u) | rpl);
        if (insn->is_mem) {
            soft_store(cpu, soft_ea(cpu, insn), 2, raised);
        } else {
            sys_write_reg(cpu, insn->rm, 2, raised);
        }
    }
    cpu->flags = (uint16_t)(less ? cpu->flags | FLAGS_ZF : cpu->flags & ~FLAGS_ZF);
}

/* The address is computed with ESP already raised. */
static void pop_mem(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->opsize;
    uint64_t sp = cpu->gpr[R_SP];
    uint64_t value = stack_load(cpu, sp, size);
    soft_store(cpu, soft_ea(cpu, insn), size, value);
    stack_set(cpu, sp + size);
}

static void enter(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->opsize, level = insn->imm2 & 31;
    uint64_t sp = cpu->gpr[R_SP] - size, bp = cpu->gpr[R_BP], frame = sp;
    stack_store(cpu, sp, size, bp);
    for (unsigned i = 1; i < level; i++) {
        bp -= size;
        sp -= size;
        stack_store(cpu, sp, size, stack_load(cpu, bp, size));
    }
    if (level) {
        sp -= size;
        stack_store(cpu, sp, size, frame);
    }
    sp -= (uint16_t)insn->imm;
    uint64_t mask = cpu->mode & MODE_STACK16 ? 0xffff : 0xffffffff;
    soft_check_access(cpu, legacy_linear(cpu, SEG_SS, (uint32_t)(sp & mask), size, ACC_WRITE), size,
                      ACC_WRITE);
    sys_write_reg(cpu, R_BP, size, frame);
    stack_set(cpu, sp);
}

static void xlat(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t offset = cpu->gpr[R_BX] + AL;
    unsigned segment = insn->seg == INSN_NO_SEG ? SEG_DS : insn->seg;
    uint32_t at = insn->addr16 ? (uint16_t)offset : (uint32_t)offset;
    set_al(cpu, (uint8_t)soft_load(cpu, legacy_linear(cpu, segment, at, 1, ACC_READ), 1));
}

void sys_legacy(struct soft_cpu *cpu, const struct insn *insn)
{
    switch (insn->desc->id) {
    case I_DAA:
        daa_das(cpu, 1);
        break;
    case I_DAS:
        daa_das(cpu, -1);
        break;
    case I_AAA:
        aaa_aas(cpu, 1);
        break;
    case I_AAS:
        aaa_aas(cpu, -1);
        break;
    case I_AAM:
        aam(cpu, (uint8_t)insn->imm);
        break;
    case I_AAD:
        aad(cpu, (uint8_t)insn->imm);
        break;
    case I_SALC:
        set_al(cpu, flag(cpu, IF_CF) ? 0xff : 0);
        break;
    case I_PUSHA:
        pusha(cpu, insn->opsize);
        break;
    case I_POPA:
        popa(cpu, insn->opsize);
        break;
    case I_BOUND:
        bound(cpu, insn);
        break;
    case I_ARPL:
        arpl(cpu, insn);
        break;
    case I_POP:
        pop_mem(cpu, insn);
        break;
    case I_ENTER:
        enter(cpu, insn);
        break;
    case I_XLAT:
        xlat(cpu, insn);
        break;
    default: /* I_INTO */
        if (flag(cpu, IF_OF)) {
            soft_deliver_int(cpu, V_OF);
        }
        break;
    }
}

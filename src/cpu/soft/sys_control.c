/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control and debug registers, cache and TLB instructions. Source: Intel SDM vol. 3, 2.5 and 18.2.
 *
 * Limits: paging exists in long mode only.
 */
#include "cpu/soft/breakpoint.h"
#include "cpu/soft/lapic.h"
#include "cpu/soft/segment.h"
#include "cpu/soft/sys.h"

#define CR0_ET 0x10u
#define CR0_NW 0x20000000u
#define CR0_CD 0x40000000u
#define CR0_DEFINED                                                                                \
    (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD |     \
     CR0_PG)

#define CR4_PSE 0x10u
#define CR4_PCE 0x100u
#define CR4_ALLOWED                                                                                \
    (CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT |      \
     CR4_FSGSBASE | CR4_SMEP)
/* Changing one of these changes what translations mean. */
#define CR4_PAGING (CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP)

#define DR6_FIXED 0xffff0ff0u
#define DR6_WRITABLE 0xe00fu
#define DR7_FIXED 0x400u
#define DR7_ZERO 0xd800u

bool sys_cr0_valid(uint64_t value)
{
    return !(value >> 32) && (value & (CR0_PE | CR0_PG)) != CR0_PG &&
           (value & (CR0_NW | CR0_CD)) != CR0_NW;
}

bool sys_cr4_valid(const struct soft_cpu *cpu, uint64_t value)
{
    uint64_t allowed = CR4_ALLOWED;

    if (cpu->features & INSN_FEATURE(IFT_XSAVE))
        allowed |= CR4_OSXSAVE;
    return !(value & ~allowed);
}

bool sys_xcr0_valid(const struct soft_cpu *cpu, uint64_t value)
{
    uint64_t allowed = cpu->features & INSN_FEATURE(IFT_XSAVE) ? XCR0_MODEL : XCR0_X87;

    return !(value & ~allowed) && (value & XCR0_X87) && (!(value & XCR0_AVX) || (value & XCR0_SSE));
}

/* Long mode begins and ends with paging (SDM vol. 3, 10.8.5). */
static void switch_paging(struct soft_cpu *cpu, bool on)
{
    bool code64 = cpu->seg[SEG_CS].attr & SA_L;

    if (!on) {
        if ((cpu->efer & EFER_LMA) && code64)
            sys_gp(cpu);
        cpu->efer &= ~(uint64_t)EFER_LMA;
        return;
    }
    if (!(cpu->efer & EFER_LME))
        soft_fail(cpu, "the guest turned on 32-bit paging, which the soft engine does not have");
    if (!(cpu->cr4 & CR4_PAE) || code64)
        sys_gp(cpu);
    cpu->efer |= EFER_LMA;
}

static void set_cr0(struct soft_cpu *cpu, uint64_t value)
{
    uint64_t old = cpu->cr0;

    if (!sys_cr0_valid(value))
        sys_gp(cpu);
    if ((old ^ value) & CR0_PG)
        switch_paging(cpu, value & CR0_PG);
    cpu->cr0 = (value & CR0_DEFINED) | CR0_ET;
    if ((old ^ cpu->cr0) & (CR0_WP | CR0_PG))
        soft_tlb_flush(cpu, false);
    soft_update_mode(cpu);
}

static void set_cr4(struct soft_cpu *cpu, uint64_t value)
{
    uint64_t old = cpu->cr4;

    if (!sys_cr4_valid(cpu, value) || (!(value & CR4_PAE) && (cpu->efer & EFER_LMA)))
        sys_gp(cpu);
    cpu->cr4 = value;
    if ((old ^ value) & CR4_PAGING)
        soft_tlb_flush(cpu, false);
    soft_update_mode(cpu);
}

static void set_cr(struct soft_cpu *cpu, unsigned reg, uint64_t value)
{
    switch (reg) {
    case 0:
        set_cr0(cpu, value);
        break;
    case 2:
        cpu->cr2 = value;
        break;
    case 3:
        if (value >> MODEL_PHYS_BITS)
            sys_gp(cpu);
        cpu->cr3 = value;
        soft_tlb_flush(cpu, true);
        break;
    case 4:
        set_cr4(cpu, value);
        break;
    case 8:
        if (value > 15)
            sys_gp(cpu);
        cpu->cr8 = value;
        cpu->lapic->tpr_low = 0;
        soft_lapic_recheck(cpu);
        break;
    default:
        soft_raise(cpu, V_UD);
    }
}

static uint64_t get_cr(struct soft_cpu *cpu, unsigned reg)
{
    switch (reg) {
    case 0:
        return cpu->cr0;
    case 2:
        return cpu->cr2;
    case 3:
        return cpu->cr3;
    case 4:
        return cpu->cr4;
    case 8:
        return cpu->cr8;
    default:
        soft_raise(cpu, V_UD);
    }
}

static void mov_cr(struct soft_cpu *cpu, const struct insn *insn)
{
    sys_need_cpl0(cpu);
    if (insn->desc->op[0] == O_C)
        set_cr(cpu, insn->reg, cpu->gpr[insn->rm]);
    else
        sys_write_reg(cpu, insn->rm, insn->opsize, get_cr(cpu, insn->reg));
}

static void mov_dr(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned reg = insn->reg;
    bool write = insn->desc->op[0] == O_D;
    uint64_t value = cpu->gpr[insn->rm];

    sys_need_cpl0(cpu);
    if (reg >= 8 || ((reg == 4 || reg == 5) && (cpu->cr4 & CR4_DE)))
        soft_raise(cpu, V_UD);
    if (cpu->dr7 & DR7_GD) {
        cpu->dr6 |= DR6_BD;
        cpu->dr7 &= ~(uint64_t)DR7_GD;
        soft_raise(cpu, V_DB);
    }
    if (reg == 4 || reg == 5)
        reg += 2;
    if (!write) {
        sys_write_reg(cpu, insn->rm, insn->opsize,
                      reg < 4    ? cpu->dr[reg]
                      : reg == 6 ? cpu->dr6
                                 : cpu->dr7);
        return;
    }
    if (reg >= 4 && value >> 32)
        sys_gp(cpu);
    if (reg < 4)
        cpu->dr[reg] = value;
    else if (reg == 6)
        cpu->dr6 = (value & DR6_WRITABLE) | DR6_FIXED;
    else
        cpu->dr7 = (value & ~(uint64_t)DR7_ZERO) | DR7_FIXED;
    break_changed(cpu);
    soft_update_mode(cpu);
}

static void need_osxsave(struct soft_cpu *cpu)
{
    if (!(cpu->cr4 & CR4_OSXSAVE))
        soft_raise(cpu, V_UD);
}

static void xgetbv(struct soft_cpu *cpu)
{
    need_osxsave(cpu);
    if ((uint32_t)cpu->gpr[R_CX] != 0)
        sys_gp(cpu);
    cpu->gpr[R_AX] = (uint32_t)cpu->xcr0;
    cpu->gpr[R_DX] = cpu->xcr0 >> 32;
}

static void xsetbv(struct soft_cpu *cpu)
{
    uint64_t value = (uint32_t)cpu->gpr[R_AX] | cpu->gpr[R_DX] << 32;

    need_osxsave(cpu);
    sys_need_cpl0(cpu);
    if ((uint32_t)cpu->gpr[R_CX] != 0 || !sys_xcr0_valid(cpu, value))
        sys_gp(cpu);
    cpu->xcr0 = value;
    soft_update_mode(cpu);
}

static void lmsw(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t value;

    sys_need_cpl0(cpu);
    value = sys_read_rm16(cpu, insn);
    /* The low four bits; PE can be set but not cleared. */
    set_cr0(cpu, (cpu->cr0 & ~(uint64_t)(CR0_MP | CR0_EM | CR0_TS)) | (value & 15));
}

void sys_control(struct soft_cpu *cpu, const struct insn *insn)
{
    switch (insn->desc->id) {
    case I_MOV_CR:
        mov_cr(cpu, insn);
        break;
    case I_MOV_DR:
        mov_dr(cpu, insn);
        break;
    case I_CLTS:
        sys_need_cpl0(cpu);
        cpu->cr0 &= ~(uint64_t)CR0_TS;
        soft_update_mode(cpu);
        break;
    case I_LMSW:
        lmsw(cpu, insn);
        break;
    case I_SMSW:
        sys_write_rm16(cpu, insn, cpu->cr0);
        break;
    case I_XGETBV:
        xgetbv(cpu);
        break;
    case I_XSETBV:
        xsetbv(cpu);
        break;
    case I_INVLPG:
        sys_need_cpl0(cpu);
        soft_tlb_invlpg(cpu, soft_ea(cpu, insn));
        break;
    default: /* I_INVD, I_WBINVD: our caches are coherent */
        sys_need_cpl0(cpu);
        break;
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The entry to the privileged half: dispatch, the instructions that are one step, and reset. Runs
 * inside a run slice; faults leave through soft_raise() before any register changes.
 */
#include "cpu/model.h"
#include "cpu/soft/breakpoint.h"
#include "cpu/soft/cpuid.h"
#include "cpu/soft/lapic.h"
#include "cpu/soft/legacy.h"
#include "cpu/soft/segment.h"
#include "cpu/soft/sys.h"

#define CR0_RESET 0x60000010u
#define PAT_RESET 0x0007040600070406ull
#define APIC_BASE_RESET 0xfee00c00ull /* enabled, x2APIC mode */
#define MTRR_RESET 0xc06u             /* MTRRs and fixed ranges on, write-back by default */
#define DR6_RESET 0xffff0ff0u
#define DR7_RESET 0x400u

static void set_edx_eax(struct soft_cpu *cpu, uint64_t value)
{
    cpu->gpr[R_AX] = (uint32_t)value;
    cpu->gpr[R_DX] = value >> 32;
}

static void cpuid(struct soft_cpu *cpu)
{
    uint32_t out[4];

    soft_cpuid((uint32_t)cpu->gpr[R_AX], (uint32_t)cpu->gpr[R_CX], cpu, out);
    cpu->gpr[R_AX] = out[0];
    cpu->gpr[R_BX] = out[1];
    cpu->gpr[R_CX] = out[2];
    cpu->gpr[R_DX] = out[3];
}

static void rdtsc(struct soft_cpu *cpu, bool with_aux)
{
    if ((cpu->cr4 & CR4_TSD) && cpu->cpl != 0)
        sys_gp(cpu);
    set_edx_eax(cpu, soft_rdtsc(cpu));
    if (with_aux)
        cpu->gpr[R_CX] = (uint32_t)cpu->tsc_aux;
}

static void rdmsr(struct soft_cpu *cpu)
{
    uint64_t value;

    sys_need_cpl0(cpu);
    if (soft_rdmsr(cpu, (uint32_t)cpu->gpr[R_CX], &value) != 0)
        sys_gp(cpu);
    set_edx_eax(cpu, value);
}

static void wrmsr(struct soft_cpu *cpu)
{
    uint64_t value = (uint32_t)cpu->gpr[R_AX] | cpu->gpr[R_DX] << 32;

    sys_need_cpl0(cpu);
    if (soft_wrmsr(cpu, (uint32_t)cpu->gpr[R_CX], value) != 0)
        sys_gp(cpu);
}

static void random(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t value;
    bool ok;

    __asm__ volatile("rdrand %0" : "=r"(value), "=@ccc"(ok) : : "cc");
    sys_write_reg(cpu, insn->rm, insn->opsize, ok ? value : 0);
    cpu->flags = (uint16_t)(FLAGS_KEEP1 | (ok ? FLAGS_CF : 0)); /* the others are cleared */
}

static void base_reg(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned id = insn->desc->id;
    enum seg_index seg = id == I_RDFSBASE || id == I_WRFSBASE ? SEG_FS : SEG_GS;
    uint64_t value;

    if (!(cpu->cr4 & CR4_FSGSBASE))
        soft_raise(cpu, V_UD);
    if (id == I_RDFSBASE || id == I_RDGSBASE) {
        sys_write_reg(cpu, insn->rm, insn->opsize, cpu->seg_base[seg]);
        return;
    }
    value = insn->opsize == 8 ? cpu->gpr[insn->rm] : (uint32_t)cpu->gpr[insn->rm];
    if (!sys_canonical(value))
        sys_gp(cpu);
    cpu->seg_base[seg] = value;
}

static void swapgs(struct soft_cpu *cpu)
{
    uint64_t base = cpu->seg_base[SEG_GS];

    sys_need_cpl0(cpu);
    cpu->seg_base[SEG_GS] = cpu->kernel_gs_base;
    cpu->kernel_gs_base = base;
}

static void misc(struct soft_cpu *cpu, const struct insn *insn)
{
    switch (insn->desc->id) {
    case I_HLT:
        sys_need_cpl0(cpu);
        cpu->halted = true;
        break;
    case I_SWAPGS:
        swapgs(cpu);
        break;
    case I_CPUID:
        cpuid(cpu);
        break;
    case I_RDTSC:
        rdtsc(cpu, false);
        break;
    case I_RDTSCP:
        rdtsc(cpu, true);
        break;
    case I_RDMSR:
        rdmsr(cpu);
        break;
    case I_WRMSR:
        wrmsr(cpu);
        break;
    case I_RDRAND:
        random(cpu, insn);
        break;
    case I_RDFSBASE:
    case I_RDGSBASE:
    case I_WRFSBASE:
    case I_WRGSBASE:
        base_reg(cpu, insn);
        break;
    case I_RDPMC: /* no counters */
        sys_gp(cpu);
    default: /* VMCALL, VMMCALL, RDSEED (not in the model) and what the decoder does not send here
              */
        soft_raise(cpu, V_UD);
    }
}

void soft_sys_exec(struct soft_cpu *cpu, const struct insn *insn)
{
    switch (insn->desc->id) {
    case I_CLI:
    case I_STI:
    case I_PUSHF:
    case I_POPF:
        sys_flags(cpu, insn);
        break;
    case I_IN:
    case I_OUT:
    case I_INS:
    case I_OUTS:
        sys_io(cpu, insn);
        break;
    case I_SYSCALL:
    case I_SYSRET:
    case I_SYSENTER:
    case I_SYSEXIT:
        sys_call(cpu, insn);
        break;
    case I_INT3:
    case I_INT:
    case I_INT1:
    case I_IRET:
    case I_RETF:
    case I_JMP_FAR:
    case I_CALL_FAR:
        sys_far(cpu, insn);
        break;
    case I_MOV_CR:
    case I_MOV_DR:
    case I_CLTS:
    case I_LMSW:
    case I_SMSW:
    case I_XGETBV:
    case I_XSETBV:
    case I_INVLPG:
    case I_INVD:
    case I_WBINVD:
        sys_control(cpu, insn);
        break;
    case I_MOV_SREG:
    case I_LGDT:
    case I_SGDT:
    case I_LIDT:
    case I_SIDT:
    case I_LLDT:
    case I_SLDT:
    case I_LTR:
    case I_STR:
    case I_LAR:
    case I_LSL:
    case I_VERR:
    case I_VERW:
    case I_PUSH_SREG:
    case I_POP_SREG:
    case I_LSS:
    case I_LFS:
    case I_LGS:
    case I_LES:
    case I_LDS:
        sys_seg(cpu, insn);
        break;
    case I_PUSHA ... I_SALC:
    case I_POP:
    case I_ENTER:
    case I_XLAT:
        sys_legacy(cpu, insn);
        break;
    case I_MOVS:
    case I_CMPS:
    case I_STOS:
    case I_LODS:
    case I_SCAS:
        sys_string(cpu, insn);
        break;
    default:
        misc(cpu, insn);
        break;
    }
}

static void reset_segments(struct soft_cpu *cpu)
{
    for (unsigned i = 0; i < SEG_COUNT; i++)
        cpu->seg[i] =
            (struct seg_state){.limit = 0xffff, .attr = SA_P | SA_S | SA_WRITE | SA_ACCESSED};
    cpu->seg[SEG_CS].selector = 0xf000;
    cpu->seg[SEG_CS].base = 0xffff0000;
    cpu->seg[SEG_CS].attr |= SA_CODE;
    cpu->seg[SEG_LDTR].attr = SA_P | ST_LDT;
    cpu->seg[SEG_TR].attr = SA_P | ST_TSS_BUSY;
    for (unsigned i = 0; i < 8; i++)
        cpu->seg_base[i] = 0;
}

static void reset_msrs(struct soft_cpu *cpu)
{
    uint64_t bsp = cpu->index == 0 ? APIC_BASE_BSP : 0;

    cpu->star = cpu->lstar = cpu->cstar = cpu->fmask = cpu->kernel_gs_base = 0;
    cpu->sysenter_cs = cpu->sysenter_esp = cpu->sysenter_eip = 0;
    cpu->tsc_aux = 0;
    cpu->pat = PAT_RESET;
    cpu->apic_base = APIC_BASE_RESET | bsp;
    cpu->misc_enable = 1; /* fast strings */
    cpu->tsc_offset = 0 - cpu->clock.tsc0;
    cpu->tsc_adjust = 0;
    cpu->mtrr_def_type = MTRR_RESET;
    for (unsigned i = 0; i < 16; i++)
        cpu->mtrr_var[i] = 0;
    for (unsigned i = 0; i < 11; i++)
        cpu->mtrr_fixed[i] = 0x0606060606060606ull;
    cpu->kvm_system_time = cpu->kvm_wall_clock = 0;
}

/* What INIT resets as well. */
static void reset_processor(struct soft_cpu *cpu)
{
    uint32_t model[4];

    for (unsigned i = 0; i < sizeof cpu->gpr / sizeof cpu->gpr[0]; i++)
        cpu->gpr[i] = 0;
    soft_cpuid(1, 0, cpu, model);
    cpu->gpr[R_DX] = model[0];
    cpu->flags = FLAGS_KEEP1;
    cpu->sys_flags = 0;
    cpu->rip = 0xfff0;
    cpu->int_shadow = false;
    cpu->halted = false;
    cpu->nmi_latched = cpu->nmi_blocked = false;
    cpu->delivering = 0;
    reset_segments(cpu);
    cpu->gdt_base = cpu->idt_base = 0;
    cpu->gdt_limit = cpu->idt_limit = 0xffff;
    cpu->cr0 = CR0_RESET;
    cpu->cr2 = cpu->cr3 = cpu->cr4 = cpu->cr8 = 0;
    cpu->efer = 0;
    cpu->dr[0] = cpu->dr[1] = cpu->dr[2] = cpu->dr[3] = 0;
    cpu->dr6 = DR6_RESET;
    cpu->dr7 = DR7_RESET;
    break_reset(cpu);
    soft_lapic_init(cpu->lapic);
}

void soft_sys_reset(struct soft_cpu *cpu)
{
    cpu->amd = model_host_is_amd();
    if (cpu->index == 0)
        time_start(&cpu->clock, soft_tsc_khz(cpu->engine));
    else
        cpu->clock = soft_vcpu(cpu->engine, 0)->clock;
    reset_processor(cpu);
    reset_msrs(cpu);
    cpu->xcr0 = XCR0_X87; /* which INIT leaves alone */
    cpu->wait_sipi = cpu->index != 0;
}

void soft_sys_init(struct soft_cpu *cpu)
{
    reset_processor(cpu);
    cpu->wait_sipi = true;
}

void soft_sys_start(struct soft_cpu *cpu, uint8_t vector)
{
    cpu->wait_sipi = false;
    cpu->seg[SEG_CS].selector = (uint16_t)(vector << 8);
    cpu->seg[SEG_CS].base = (uint64_t)vector << 12;
    cpu->rip = 0;
    soft_update_mode(cpu);
}

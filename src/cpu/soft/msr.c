/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model-specific registers of CPU model v2 (design/soft-engine.md §3). Anything not listed raises
 * #GP; Linux probes with instructions that survive it.
 */
#include "cpu/soft/lapic.h"
#include "cpu/soft/sys.h"

#define MSR_TSC 0x10u
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_KVM_WALL_CLOCK 0x11u
#define MSR_KVM_SYSTEM_TIME 0x12u
#define MSR_APIC_BASE 0x1bu
#define MSR_TSC_ADJUST 0x3bu
#define MSR_UCODE_REV 0x8bu
#define MSR_MTRR_CAP 0xfeu
#define MSR_SYSENTER_CS 0x174u
#define MSR_SYSENTER_ESP 0x175u
#define MSR_SYSENTER_EIP 0x176u
#define MSR_MISC_ENABLE 0x1a0u
#define MSR_DEBUGCTL 0x1d9u
#define MSR_MTRR_VAR0 0x200u
#define MSR_MTRR_VAR_LAST 0x20fu
#define MSR_PAT 0x277u
#define MSR_MTRR_DEF_TYPE 0x2ffu
#define MSR_X2APIC 0x800u
#define MSR_X2APIC_LAST 0x8ffu
#define MSR_KVM_WALL_CLOCK_NEW 0x4b564d00u
#define MSR_KVM_SYSTEM_TIME_NEW 0x4b564d01u
#define MSR_EFER 0xc0000080u
#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_CSTAR 0xc0000083u
#define MSR_FMASK 0xc0000084u
#define MSR_FS_BASE 0xc0000100u
#define MSR_GS_BASE 0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u
#define MSR_TSC_AUX 0xc0000103u
#define MSR_AMD_DE_CFG 0xc0011029u

#define MTRR_CAP 0x508u /* KVM's: 8 variable ranges, fixed ranges, write-combining */
#define DE_CFG_LFENCE_SERIALIZES 2u
#define EFER_WRITABLE (EFER_SCE | EFER_LME | EFER_NX)

/* Index in mtrr_fixed[], or -1. */
static int fixed_mtrr(uint32_t index)
{
    if (index == 0x250)
        return 0;
    if (index == 0x258 || index == 0x259)
        return (int)(index - 0x258) + 1;
    if (index >= 0x268 && index <= 0x26f)
        return (int)(index - 0x268) + 3;
    return -1;
}

/* AMD registers that Linux touches without care: read 0, writes ignored, as KVM does. */
static bool amd_ignored(uint32_t index)
{
    switch (index) {
    case 0xc0010010: /* SYSCFG */
    case 0xc0010015: /* HWCR */
    case 0xc001001f: /* NB_CFG */
    case 0xc0010055: /* interrupt pending message */
    case 0xc0010058: /* MMIO configuration base */
    case 0xc0010112: /* TSEG address */
    case 0xc0010113: /* TSEG mask */
    case 0xc0011022: /* DC_CFG */
    case 0xc001102a: /* BU_CFG2 */
        return true;
    default:
        return false;
    }
}

static bool memory_type(uint64_t type)
{
    return type <= 6 && type != 2 && type != 3;
}

/* All bytes are memory types; PAT also knows 7, "uncached minus". */
static bool memory_types(uint64_t value, bool pat)
{
    for (unsigned i = 0; i < 8; i++) {
        uint64_t type = value >> (8 * i) & 0xff;

        if (!memory_type(type) && !(pat && type == 7))
            return false;
    }
    return true;
}

/* The register when it is a plain field that reads as it was written, else NULL. */
static uint64_t *plain(struct soft_cpu *cpu, uint32_t index)
{
    int fixed = fixed_mtrr(index);

    if (fixed >= 0)
        return &cpu->mtrr_fixed[fixed];
    if (index >= MSR_MTRR_VAR0 && index <= MSR_MTRR_VAR_LAST)
        return &cpu->mtrr_var[index - MSR_MTRR_VAR0];
    switch (index) {
    case MSR_KVM_WALL_CLOCK:
    case MSR_KVM_WALL_CLOCK_NEW:
        return &cpu->kvm_wall_clock;
    case MSR_KVM_SYSTEM_TIME:
    case MSR_KVM_SYSTEM_TIME_NEW:
        return &cpu->kvm_system_time;
    case MSR_APIC_BASE:
        return &cpu->apic_base;
    case MSR_TSC_ADJUST:
        return &cpu->tsc_adjust;
    case MSR_SYSENTER_CS:
        return &cpu->sysenter_cs;
    case MSR_SYSENTER_ESP:
        return &cpu->sysenter_esp;
    case MSR_SYSENTER_EIP:
        return &cpu->sysenter_eip;
    case MSR_MISC_ENABLE:
        return &cpu->misc_enable;
    case MSR_PAT:
        return &cpu->pat;
    case MSR_MTRR_DEF_TYPE:
        return &cpu->mtrr_def_type;
    case MSR_EFER:
        return &cpu->efer;
    case MSR_STAR:
        return &cpu->star;
    case MSR_LSTAR:
        return &cpu->lstar;
    case MSR_CSTAR:
        return &cpu->cstar;
    case MSR_FMASK:
        return &cpu->fmask;
    case MSR_FS_BASE:
        return &cpu->seg_base[SEG_FS];
    case MSR_GS_BASE:
        return &cpu->seg_base[SEG_GS];
    case MSR_KERNEL_GS_BASE:
        return &cpu->kernel_gs_base;
    case MSR_TSC_AUX:
        return &cpu->tsc_aux;
    default:
        return NULL;
    }
}

int soft_rdmsr(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    const uint64_t *field = plain(cpu, index);

    if (field != NULL) {
        *value = *field;
        return 0;
    }
    if (index >= MSR_X2APIC && index <= MSR_X2APIC_LAST)
        return soft_lapic_read(cpu, index - MSR_X2APIC, value);
    switch (index) {
    case MSR_TSC_DEADLINE:
        *value = soft_lapic_tsc_deadline(cpu);
        return 0;
    case MSR_TSC:
        *value = soft_rdtsc(cpu);
        return 0;
    case MSR_UCODE_REV: /* as KVM gives them */
        *value = cpu->amd ? 0x01000065 : 0x100000000ull;
        return 0;
    case MSR_MTRR_CAP:
        *value = MTRR_CAP;
        return 0;
    case MSR_DEBUGCTL:
        *value = 0;
        return 0;
    case MSR_AMD_DE_CFG:
        *value = DE_CFG_LFENCE_SERIALIZES;
        return cpu->amd ? 0 : -1;
    default:
        *value = 0;
        return cpu->amd && amd_ignored(index) ? 0 : -1;
    }
}

static int write_efer(struct soft_cpu *cpu, uint64_t value)
{
    uint64_t old = cpu->efer;

    if (value & ~(uint64_t)(EFER_WRITABLE | EFER_LMA))
        return -1;
    if ((cpu->cr0 & CR0_PG) && ((old ^ value) & EFER_LME))
        return -1;
    cpu->efer = (value & EFER_WRITABLE) | (old & EFER_LMA);
    if ((old ^ cpu->efer) & EFER_NX)
        soft_tlb_flush(cpu, false);
    soft_update_mode(cpu);
    return 0;
}

static void move_tsc(struct soft_cpu *cpu, uint64_t delta)
{
    cpu->tsc_offset += delta;
    cpu->tsc_adjust += delta;
    soft_lapic_set_tsc_deadline(cpu, soft_lapic_tsc_deadline(cpu));
    pvclock_system_time(cpu); /* the page relates system time to the TSC that just moved */
}

/* May value be stored in this plain field? */
static bool allowed(const struct soft_cpu *cpu, uint32_t index, uint64_t value)
{
    if (fixed_mtrr(index) >= 0)
        return memory_types(value, false);
    if (index >= MSR_MTRR_VAR0 && index <= MSR_MTRR_VAR_LAST) {
        if (index & 1)
            return !(value >> MODEL_PHYS_BITS) && !(value & 0x7ff);
        return !(value >> MODEL_PHYS_BITS) && !(value & 0xf00) && memory_type(value & 0xff);
    }
    switch (index) {
    case MSR_APIC_BASE: /* x2APIC mode cannot be left, nor the registers' address moved */
        return value == cpu->apic_base;
    case MSR_MTRR_DEF_TYPE:
        return !(value & ~0xcffull) && memory_type(value & 0xff);
    case MSR_PAT:
        return memory_types(value, true);
    case MSR_SYSENTER_ESP:
    case MSR_SYSENTER_EIP:
    case MSR_LSTAR:
    case MSR_CSTAR:
    case MSR_FS_BASE:
    case MSR_GS_BASE:
    case MSR_KERNEL_GS_BASE:
        return sys_canonical(value);
    case MSR_SYSENTER_CS:
    case MSR_TSC_AUX:
    case MSR_FMASK:
        return !(value >> 32);
    default:
        return true;
    }
}

bool soft_msrs_valid(const struct soft_cpu *cpu, const struct cpu_state *s)
{
    const struct {
        uint32_t index;
        uint64_t value;
    } msrs[] = {
        {MSR_APIC_BASE, s->apic_base},
        {MSR_MTRR_DEF_TYPE, s->mtrr_def_type},
        {MSR_PAT, s->pat},
        {MSR_SYSENTER_ESP, s->sysenter_esp},
        {MSR_SYSENTER_EIP, s->sysenter_eip},
        {MSR_SYSENTER_CS, s->sysenter_cs},
        {MSR_LSTAR, s->lstar},
        {MSR_CSTAR, s->cstar},
        {MSR_FMASK, s->fmask},
        {MSR_KERNEL_GS_BASE, s->kernel_gs_base},
        {MSR_TSC_AUX, s->tsc_aux},
    };

    for (unsigned i = 0; i < sizeof msrs / sizeof msrs[0]; i++)
        if (!allowed(cpu, msrs[i].index, msrs[i].value))
            return false;
    for (unsigned i = 0; i < 16; i++)
        if (!allowed(cpu, MSR_MTRR_VAR0 + i, s->mtrr_var[i]))
            return false;
    for (unsigned i = 0; i < 11; i++)
        if (!memory_types(s->mtrr_fixed[i], false))
            return false;
    return true;
}

static int write_plain(struct soft_cpu *cpu, uint32_t index, uint64_t value, uint64_t *field)
{
    if (!allowed(cpu, index, value))
        return -1;
    switch (index) {
    case MSR_EFER:
        return write_efer(cpu, value);
    case MSR_TSC_ADJUST:
        move_tsc(cpu, value - cpu->tsc_adjust);
        return 0;
    case MSR_KVM_SYSTEM_TIME:
    case MSR_KVM_SYSTEM_TIME_NEW:
        *field = value;
        pvclock_system_time(cpu);
        return 0;
    case MSR_KVM_WALL_CLOCK:
    case MSR_KVM_WALL_CLOCK_NEW:
        *field = value;
        pvclock_wall_clock(cpu);
        return 0;
    default:
        *field = value;
        return 0;
    }
}

int soft_wrmsr(struct soft_cpu *cpu, uint32_t index, uint64_t value)
{
    uint64_t *field = plain(cpu, index);

    if (field != NULL)
        return write_plain(cpu, index, value, field);
    if (index >= MSR_X2APIC && index <= MSR_X2APIC_LAST)
        return soft_lapic_write(cpu, index - MSR_X2APIC, value);
    switch (index) {
    case MSR_TSC_DEADLINE:
        soft_lapic_set_tsc_deadline(cpu, value);
        return 0;
    case MSR_TSC:
        move_tsc(cpu, value - soft_rdtsc(cpu));
        return 0;
    case MSR_UCODE_REV: /* Linux writes 0 before it reads the revision */
        return 0;
    case MSR_DEBUGCTL: /* LBR and BTF are accepted and have no effect, as in KVM without them */
        return value & ~3ull ? -1 : 0;
    case MSR_AMD_DE_CFG:
        return cpu->amd ? 0 : -1;
    default:
        return cpu->amd && amd_ignored(index) ? 0 : -1;
    }
}

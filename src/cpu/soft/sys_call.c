/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SYSCALL, SYSRET, SYSENTER, SYSEXIT in long mode. Source: Intel SDM vol. 2, AMD APM vol. 3.
 * The vendors differ; cpu->amd says whom to follow, except that SYSRET always loads a whole SS
 * descriptor (Intel), which AMD software cannot tell from a correctly set-up one.
 */
#include "cpu/soft/legacy.h"
#include "cpu/soft/sys.h"

static void syscall(struct soft_cpu *cpu)
{
    uint16_t cs = (uint16_t)(cpu->star >> 32 & 0xfffc);
    uint64_t flags;

    /* from compatibility mode on AMD only; before long mode on neither, as AMD's was never used */
    if (!(cpu->efer & EFER_SCE) || !(cpu->efer & EFER_LMA) || (legacy_mode(cpu) && !cpu->amd))
        soft_raise(cpu, V_UD);
    flags = soft_get_rflags(cpu) & ~(uint64_t)FL_RF;
    cpu->gpr[R_CX] = cpu->rip;
    cpu->gpr[R_11] = flags;
    cpu->rip = legacy_mode(cpu) ? cpu->cstar : cpu->lstar;
    segment_set_flat(cpu, cs, (uint16_t)(cs + 8), 0, true);
    sys_set_flags(cpu, flags & ~cpu->fmask);
    cpu->no_step = !(cpu->sys_flags & FL_TF);
    soft_update_mode(cpu);
}

static void sysret(struct soft_cpu *cpu, bool to64)
{
    uint16_t base = (uint16_t)(cpu->star >> 48);
    uint64_t rip = to64 ? cpu->gpr[R_CX] : (uint32_t)cpu->gpr[R_CX];

    if (!(cpu->efer & EFER_SCE) || legacy_mode(cpu)) /* in compatibility mode: AMD allows it */
        soft_raise(cpu, V_UD);
    sys_need_cpl0(cpu);
    if (!cpu->amd && !sys_canonical(rip))
        sys_gp(cpu);
    cpu->rip = rip;
    segment_set_flat(cpu, (uint16_t)((base + (to64 ? 16 : 0)) | 3), (uint16_t)((base + 8) | 3), 3,
                     to64);
    sys_set_flags(cpu, cpu->gpr[R_11] & 0x3c7fd7);
    soft_update_mode(cpu);
}

static void sysenter(struct soft_cpu *cpu)
{
    uint16_t cs = (uint16_t)(cpu->sysenter_cs & 0xfffc);

    if (cpu->amd)
        soft_raise(cpu, V_UD);
    if (cs == 0)
        sys_gp(cpu);
    cpu->gpr[R_SP] = cpu->sysenter_esp;
    cpu->rip = cpu->sysenter_eip;
    cpu->sys_flags &= ~(uint64_t)(FL_IF | FL_VM | FL_RF);
    segment_set_flat(cpu, cs, (uint16_t)(cs + 8), 0, true);
    soft_update_mode(cpu);
}

static void sysexit(struct soft_cpu *cpu, bool to64)
{
    uint16_t cs = (uint16_t)(cpu->sysenter_cs & 0xfffc);
    uint64_t rip = to64 ? cpu->gpr[R_DX] : (uint32_t)cpu->gpr[R_DX];
    uint64_t rsp = to64 ? cpu->gpr[R_CX] : (uint32_t)cpu->gpr[R_CX];

    if (cpu->amd)
        soft_raise(cpu, V_UD);
    if (cs == 0 || cpu->cpl != 0 || !sys_canonical(rip) || !sys_canonical(rsp))
        sys_gp(cpu);
    cs = (uint16_t)(cs + (to64 ? 32 : 16));
    cpu->gpr[R_SP] = rsp;
    cpu->rip = rip;
    segment_set_flat(cpu, (uint16_t)(cs | 3), (uint16_t)((cs + 8) | 3), 3, to64);
    soft_update_mode(cpu);
}

void sys_call(struct soft_cpu *cpu, const struct insn *insn)
{
    bool wide = insn->rex & 8;

    switch (insn->desc->id) {
    case I_SYSCALL:
        syscall(cpu);
        break;
    case I_SYSRET:
        sysret(cpu, wide);
        break;
    case I_SYSENTER:
        sysenter(cpu);
        break;
    default: /* I_SYSEXIT */
        sysexit(cpu, wide);
        break;
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* RFLAGS as privileged state: CLI, STI, PUSHF, POPF, and the rules POPF shares with IRET. */
#include "cpu/soft/lapic.h"
#include "cpu/soft/legacy.h"
#include "cpu/soft/sys.h"

void sys_set_flags(struct soft_cpu *cpu, uint64_t rflags)
{
    uint64_t old = cpu->sys_flags;

    /* Where no instruction has a breakpoint RF has no effect, and is not kept. */
    soft_set_rflags(cpu, rflags & ~(uint64_t)(FL_VM | (cpu->break_code ? 0 : FL_RF)));
    if ((old ^ cpu->sys_flags) & (FL_TF | FL_AC))
        soft_update_mode(cpu);
    if (cpu->sys_flags & ~old & FL_IF)
        soft_lapic_recheck(cpu);
}

uint64_t sys_popped_flags(const struct soft_cpu *cpu, uint64_t image, unsigned size, bool iret)
{
    uint64_t mask = FL_ARITH | FL_TF | FL_DF | FL_NT;

    if (size >= 4)
        mask |= FL_AC | FL_ID;
    if (cpu->cpl <= sys_iopl(cpu))
        mask |= FL_IF;
    if (cpu->cpl == 0)
        mask |= FL_IOPL;
    if (size >= 4 && iret)
        mask |= FL_RF;
    if (cpu->cpl == 0 && size >= 4 && iret)
        mask |= FL_VIF | FL_VIP;
    return (soft_get_rflags(cpu) & ~mask) | (image & mask);
}

static void pushf(struct soft_cpu *cpu, unsigned size)
{
    stack_push(cpu, size, soft_get_rflags(cpu) & ~(uint64_t)(FL_RF | FL_VM));
}

static void popf(struct soft_cpu *cpu, unsigned size)
{
    uint64_t image = stack_pop(cpu, size);

    sys_set_flags(cpu, sys_popped_flags(cpu, image, size, false));
}

void sys_flags(struct soft_cpu *cpu, const struct insn *insn)
{
    switch (insn->desc->id) {
    case I_PUSHF:
        pushf(cpu, insn->opsize);
        break;
    case I_POPF:
        popf(cpu, insn->opsize);
        break;
    case I_CLI:
        if (cpu->cpl > sys_iopl(cpu))
            sys_gp(cpu);
        cpu->sys_flags &= ~(uint64_t)FL_IF;
        break;
    default: /* I_STI */
        if (cpu->cpl > sys_iopl(cpu))
            sys_gp(cpu);
        if (!(cpu->sys_flags & FL_IF)) {
            cpu->sys_flags |= FL_IF;
            cpu->int_shadow = true;
            soft_lapic_recheck(cpu);
        }
        break;
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the privileged half share. One function per group of instructions, each called
 * by soft_sys_exec() with its contract (cpu.h). All of it runs inside a run slice.
 */
#ifndef SM_SOFT_SYS_H
#define SM_SOFT_SYS_H

#include "cpu/soft/cpu.h"
#include "cpu/soft/time.h"

#define XCR0_X87 1u
#define XCR0_SSE 2u
#define XCR0_AVX 4u
#define XCR0_MODEL (XCR0_X87 | XCR0_SSE | XCR0_AVX)

#define FL_ARITH 0x8d5u
#define FLAGS_ZF 0x4000u /* in soft_cpu.flags (LAHF form) */
#define FLAGS_CF 0x0100u
#define FLAGS_KEEP1 0x0200u /* bit 1 of EFLAGS, always 1 */

static inline bool sys_canonical(uint64_t va)
{
    return (uint64_t)((int64_t)(va << 16) >> 16) == va;
}

static inline _Noreturn void sys_gp(struct soft_cpu *cpu)
{
    soft_raise_code(cpu, V_GP, 0);
}

static inline void sys_need_cpl0(struct soft_cpu *cpu)
{
    if (cpu->cpl != 0)
        sys_gp(cpu);
}

static inline unsigned sys_iopl(const struct soft_cpu *cpu)
{
    return (unsigned)(cpu->sys_flags >> 12) & 3;
}

/* Write a general register as an instruction of that operand size does. size 1 writes the low byte.
 */
static inline void sys_write_reg(struct soft_cpu *cpu, unsigned reg, unsigned size, uint64_t value)
{
    uint64_t *r = &cpu->gpr[reg];

    if (size == 8)
        *r = value;
    else if (size == 4)
        *r = (uint32_t)value;
    else if (size == 2)
        *r = (*r & ~0xffffull) | (value & 0xffff);
    else
        *r = (*r & ~0xffull) | (value & 0xff);
}

/* Relative to RSP or RBP: faults of it are #SS. */
static inline bool sys_stack_operand(const struct insn *insn)
{
    return (insn->base == R_SP || insn->base == R_BP) && insn->seg == INSN_NO_SEG;
}

/* A 16-bit r/m source. */
static inline uint16_t sys_read_rm16(struct soft_cpu *cpu, const struct insn *insn)
{
    if (!insn->is_mem)
        return (uint16_t)cpu->gpr[insn->rm];
    cpu->stack_access = sys_stack_operand(insn);
    uint16_t value = (uint16_t)soft_load(cpu, soft_ea(cpu, insn), 2);
    cpu->stack_access = false;
    return value;
}

/* A selector or status word to r/m: 16 bits to memory, operand size (zero-extended) to a register.
 */
static inline void sys_write_rm16(struct soft_cpu *cpu, const struct insn *insn, uint64_t value)
{
    if (!insn->is_mem) {
        sys_write_reg(cpu, insn->rm, insn->opsize, value);
        return;
    }
    cpu->stack_access = sys_stack_operand(insn);
    soft_store(cpu, soft_ea(cpu, insn), 2, value & 0xffff);
    cpu->stack_access = false;
}

/* Replace RFLAGS: no RF (we have no instruction breakpoints), mode and interrupt checks done. */
void sys_set_flags(struct soft_cpu *cpu, uint64_t rflags);
/* RFLAGS after POPF (or IRET) of image with that operand size at the present CPL. */
uint64_t sys_popped_flags(const struct soft_cpu *cpu, uint64_t image, unsigned size, bool iret);

void sys_flags(struct soft_cpu *cpu, const struct insn *insn); /* CLI STI PUSHF POPF */
void sys_control(struct soft_cpu *cpu,
                 const struct insn *insn);                    /* CR, DR, CLTS, LMSW, INVLPG ... */
void sys_far(struct soft_cpu *cpu, const struct insn *insn);  /* IRET, RETF, far JMP and CALL */
void sys_call(struct soft_cpu *cpu, const struct insn *insn); /* SYSCALL SYSRET SYSENTER SYSEXIT */
void sys_seg(struct soft_cpu *cpu, const struct insn *insn);  /* segment registers and tables */
void sys_io(struct soft_cpu *cpu, const struct insn *insn);   /* IN OUT INS OUTS */

/* INT1: #DB without the gate's DPL check; return address cpu->rip. */
void deliver_int1(struct soft_cpu *cpu);

/* kvm-clock: the guest wrote the MSR that holds the address of its system time (wall clock) page.
 */
void pvclock_system_time(struct soft_cpu *cpu);
void pvclock_wall_clock(struct soft_cpu *cpu);
/* The clock was set: give the guest its system time page anew. Not inside a run slice. */
void pvclock_restore(struct soft_cpu *cpu);

/* May a guest in 64-bit mode have this there? Model-specific registers: all of them at once. */
bool sys_cr0_valid(uint64_t value);
bool sys_cr4_valid(const struct soft_cpu *cpu, uint64_t value);
bool sys_xcr0_valid(const struct soft_cpu *cpu, uint64_t value);
bool soft_msrs_valid(const struct soft_cpu *cpu, const struct cpu_state *s);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hardware breakpoints (DR0-DR3, DR6, DR7) and alignment checks. Source: Intel SDM vol. 3, 18.2 and
 * 18.3.1. Neither costs anything while it is off.
 *
 * Instructions: while such a breakpoint is enabled, MODE_BREAK is in the mode. So other blocks run
 * than without; they are not translated, and the run loop runs them one by one (break_run()), or
 * single instructions of those with a breakpoint inside.
 *
 * Data and ports: a page with a watched address is kept out of the TLB, so access.c sees every
 * access to it. One that matches is not made: the instruction, which has changed nothing yet, is
 * left the way a fault leaves it, and the run loop executes it again by itself, so that the trap
 * comes right after it. What the processor does for itself never matches: descriptor tables, the
 * TSS, exception frames.
 *
 * Alignment: while CR0.AM, EFLAGS.AC and CPL 3 ask for it, the TLB has no user page at all.
 *
 * In a run slice, on the vCPU's thread; break_reset() also outside one.
 */
#ifndef SM_SOFT_BREAKPOINT_H
#define SM_SOFT_BREAKPOINT_H

#include "cpu/soft/cpu.h"

/* soft_cpu.access_checks */
#define ACCESS_BREAK 1u /* a breakpoint of data or ports is enabled */
#define ACCESS_ALIGN 2u /* misaligned accesses raise #AC */

/* soft_cpu.exc_vector: no exception; execute the instruction again. */
#define BREAK_AGAIN 0xff

#define DR6_BREAKS 0xfu /* B0 to B3 */
#define DR6_BD 0x2000u
#define DR6_BS 0x4000u
#define DR7_GD 0x2000u

/* DR0-DR3, DR7 or the TLB's rights changed. soft_update_mode() must follow. */
void break_changed(struct soft_cpu *cpu);
/* The same, of a vCPU that has just been given its state. */
void break_reset(struct soft_cpu *cpu);

/* Enabled breakpoints on the instruction at va, or on one of size bytes there, by bit. */
unsigned break_code_at(const struct soft_cpu *cpu, uint64_t va, unsigned size);
/* Must the page stay out of the TLB? */
bool break_keeps_out(const struct soft_cpu *cpu, uint64_t va, bool user);
/* The instruction at insn_rip is about to access memory: a look at what access_checks has. May
 * raise #AC, or leave for the instruction to be executed again. */
void break_access(struct soft_cpu *cpu, uint64_t va, unsigned size, enum soft_access acc);
/* The same for a port. */
void break_port(struct soft_cpu *cpu, unsigned port, unsigned size);
/* Raise #DB at cpu->rip for these reasons (bits of DR6). */
_Noreturn void break_raise(struct soft_cpu *cpu, unsigned why);

/* ---- break_run.c: the run loop's part ---- */

/* With MODE_BREAK: run the next block, or one instruction. */
void break_run(struct soft_cpu *cpu);
/* After that: the breakpoints to be reported now, by bit. ss_loaded: SS was, so they wait. */
unsigned break_done(struct soft_cpu *cpu, bool ss_loaded);
/* An exception was raised. True: there is none to be delivered (BREAK_AGAIN). */
bool break_landed(struct soft_cpu *cpu);

#endif

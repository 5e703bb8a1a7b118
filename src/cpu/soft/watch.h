/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The run loop's other way to run blocks: one by one, never from one into the next, so that each
 * can be checked (check.h), and single instructions of it traced (trace.h). In a run slice.
 */
#ifndef SM_SOFT_WATCH_H
#define SM_SOFT_WATCH_H

#include "cpu/soft/exec.h"

/* Run the block that is to be run now, as the vCPU's debugging aids want it. */
void watch_run(struct soft_cpu *cpu, struct block *b);
/* An exception was raised, and not yet delivered. */
void watch_landed(struct soft_cpu *cpu);

/* Run the block up to its first way out. */
void watch_ops(struct soft_cpu *cpu, struct block *b);
/* Run one instruction, as a block of its own; say first what it is, if traced. */
void watch_one(struct soft_cpu *cpu, bool traced);
/* MODE_STEP as RFLAGS has it: watch_one() lends it to single instructions. */
void watch_own_step_mode(struct soft_cpu *cpu);

#endif

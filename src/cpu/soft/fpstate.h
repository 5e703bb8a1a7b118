/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest FP state for the engine: its initial value, and what soft_update_mode() must know of it.
 * See cpu.h for soft_fp_enter() and soft_fp_leave(); soft_cpu.fx always holds the guest's real
 * MXCSR, and 0 for FIP, FDP and FOP. All of it belongs to the vCPU's thread and may run inside a
 * slice.
 */
#ifndef SM_SOFT_FPSTATE_H
#define SM_SOFT_FPSTATE_H

#include "cpu/soft/cpu.h"

struct stub_area; /* stub.h */

/* Power-up FP state into cpu->fx (FNINIT, MXCSR 1f80). Call once, before anything else here. */
void soft_fp_init(struct soft_cpu *cpu);

/* MODE_FP_OFF, MODE_SSE_TRAP and MODE_X87_TRAP of the current state, wherever it is. */
uint32_t soft_fp_mode_bits(const struct soft_cpu *cpu);

/* The engine's generated code (defined with the engine); the caller of native_lift serialises. */
struct stub_area *soft_stubs(struct soft_cpu *cpu);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The run loop, as the engine sees it. */
#ifndef SM_SOFT_RUN_H
#define SM_SOFT_RUN_H

#include "cpu/soft/cpu.h"

/* Run until there is an exit to report. Guest FP state is in the host registers. */
enum vcpu_exit soft_run_slice(struct soft_cpu *cpu);
/* The same, a block at a time: watch.h. */
enum vcpu_exit soft_run_slice_watched(struct soft_cpu *cpu);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The engine-neutral state of a machine: how it is saved and loaded, and carried over to another
 * host's clock. */
#ifndef SM_CPU_MACHINE_H
#define SM_CPU_MACHINE_H

#include "cpu/engine.h"
#include "hw/state.h"

#define MACHINE_STATE_VERSION 1u
#define CPU_STATE_VERSION 1u

/* Walks (hw/state.h). They check what every engine must refuse; set_state checks the rest. */
void machine_walk(struct state *s, void *machine_state);
void cpu_walk(struct state *s, void *cpu_state);

/*
 * Make a saved machine fit a new engine: guest time goes on from where it was saved, as if no time
 * had passed. now: get_machine() of the new engine. Where the host's TSC has another rate, APIC
 * deadlines are converted; the guest then sees its TSC run at the new rate, and kvm-clock at the
 * right one.
 */
void machine_resume(struct machine_state *saved, struct cpu_state *cpus, unsigned n_cpus,
                    const struct machine_state *now);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Saving and loading, as the engine's table has them (cpu/engine.h). */
#ifndef SM_SOFT_STATE_H
#define SM_SOFT_STATE_H

#include "cpu/engine.h"

int soft_get_machine(struct engine *e, struct machine_state *out, struct sm_error *err);
int soft_set_machine(struct engine *e, const struct machine_state *in, struct sm_error *err);
int soft_get_state(struct engine *e, unsigned vcpu, struct cpu_state *out, struct sm_error *err);
int soft_set_state(struct engine *e, unsigned vcpu, const struct cpu_state *in,
                   struct sm_error *err);

#endif

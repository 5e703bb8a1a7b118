/* SPDX-License-Identifier: Apache-2.0 */
/* The software engine's side of the instruction oracle: a machine whose kernel is an IDT. */
#ifndef SM_ORACLE_SOFT_H
#define SM_ORACLE_SOFT_H

#include "base/err.h"
#include <stdbool.h>

#include "oracle_case.h"

struct oracle_soft;

/* pristine (OC_IMAGE bytes) is borrowed. cpu: the CPU model's name. translate: every block. */
int oracle_soft_new(const uint8_t *pristine, const char *cpu, bool translate,
                    struct oracle_soft **out, struct sm_error *err);
void oracle_soft_free(struct oracle_soft *s);

/* Run the case to its trap. SM_ETIMEDOUT: it was interrupted; another error: the engine failed. */
int oracle_soft_run(struct oracle_soft *s, const struct oc_case *c, struct oc_result *r,
                    struct sm_error *err);

/* End a run that goes on for ever. Async-signal-safe. */
void oracle_soft_interrupt(struct oracle_soft *s);

#endif

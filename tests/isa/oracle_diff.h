/* SPDX-License-Identifier: Apache-2.0 */
/* Comparing the two outcomes of a case, and showing a case. */
#ifndef SM_ORACLE_DIFF_H
#define SM_ORACLE_DIFF_H

#include <stdbool.h>
#include <stdio.h>

#include "oracle_case.h"

/* NULL when they agree, else what the first difference is in (static text). */
const char *oracle_differ(const struct oc_case *c, const uint8_t *pristine,
                          const struct oc_result *soft, const struct oc_result *host);
/* Bytes, disassembly, inputs and both outcomes. */
void oracle_show(FILE *out, const struct oc_case *c, const struct oc_result *soft,
                 const struct oc_result *host);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the case generator to each other. */
#ifndef SM_ORACLE_GEN_PRIV_H
#define SM_ORACLE_GEN_PRIV_H

#include <stdbool.h>

#include "oracle_gen.h"

#define GEN_DF 0x400u

/* ---- oracle_encode.c */

/* Random bytes of the row; what comes out may also be another row, or no instruction. */
enum insn_error gen_encode(struct gen *g, const struct gen_row *r, uint8_t b[32],
                           struct insn *insn);
/* An instruction that must not run natively, or whose outcome is nobody's business. */
bool gen_unusable(const struct gen *g, const struct insn *i);
bool gen_is_string(const struct insn_desc *d);

/* ---- oracle_aim.c */

/* Choose registers, memory and displacements (in *i and b) for an instruction at rip. */
void gen_aim(struct gen *g, struct insn *i, uint8_t *b, uint64_t rip);

#endif

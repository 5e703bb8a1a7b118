/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cases of the instruction oracle: each a function of the run's seed and its number. An instruction
 * is a random encoding of a row of the decode table, its registers aimed so that its memory operand
 * lies at a chosen place; the rest are boundary values.
 */
#ifndef SM_ORACLE_GEN_H
#define SM_ORACLE_GEN_H

#include <stdio.h>

#include "cpu/soft/insn.h"
#include "oracle_case.h"

#define GEN_MAX_ROWS 3200

struct gen_row {
    unsigned map, opcode, prefix;
    int sub;
    const struct insn_desc *desc;
    uint64_t ran; /* instructions of it in cases */
};

struct gen {
    uint64_t seed, state;
    uint64_t model; /* INSN_MODEL_*: what may run */
    unsigned n_rows;
    struct gen_row rows[GEN_MAX_ROWS];
    struct oc_case *c; /* under construction */
    unsigned pool;
    uint64_t code;
    uint8_t anchor[3]; /* registers that sequences address memory by */
    bool sequence;
    bool more_sequences; /* two cases of three instead of one */
};

void gen_init(struct gen *g, uint64_t seed, uint64_t model);
void gen_case(struct gen *g, uint64_t number, struct oc_case *c);

/* Why an instruction is never run natively, or NULL. */
const char *gen_excluded(uint64_t model, const struct insn_desc *desc);
/* Every excluded row with its reason. */
void gen_list_excluded(uint64_t model, FILE *out);

/* oracle_value.c: what random values look like. */
uint64_t gen_rnd(struct gen *g);
unsigned gen_pick(struct gen *g, unsigned n);
uint64_t gen_int(struct gen *g);                   /* often at a boundary */
void gen_value(struct gen *g, uint8_t *p);         /* 16 bytes: integers, or floats of all kinds */
void gen_fx(struct gen *g, uint8_t *fx);           /* an FXSAVE image */
uint64_t gen_target(struct gen *g, unsigned size); /* where a memory operand goes */

#endif

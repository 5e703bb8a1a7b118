/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vCPU of test doubles around the native executor: flat guest memory (guest address = host
 * address, pages of one arena), faults recorded instead of delivered. For native_test.c only.
 */
#ifndef SM_SOFT_NATIVE_DOUBLE_H
#define SM_SOFT_NATIVE_DOUBLE_H

#include "cpu/soft/exec.h"

struct native_double {
    struct soft_cpu cpu;
    struct stub_area *stubs; /* borrowed */
    uint64_t lo, hi;         /* readable and writable addresses [lo, hi) */
    uint64_t read_only;      /* page in there that refuses writes, or 0 */
    bool bounce;             /* every slow-path access takes the bounce buffer */
    bool drop;               /* stores through the bounce buffer drop the running block */
    bool faulted;
    uint64_t rip_after;
    unsigned stub_resets; /* the stub area was full */
    unsigned slow_calls;
    unsigned mode_updates;
    struct op ops[4];
    struct block block; /* of no operations of its own; last, as its array has no length */
};

/* Put the pages of [lo, hi) into the TLBs, or empty them. */
void double_tlb(struct native_double *d, bool filled);

/* Lift insn at rip under the current state, run it and stop. Returns false when it faulted: see
 * cpu.exc_vector, exc_code, cr2. FP state goes in and out through cpu.fx. */
bool double_step(struct native_double *d, const struct insn *insn, uint64_t rip);

/* Run ops[0], ops[1] ... up to an operation whose handler is double_end(). */
bool double_run(struct native_double *d);
op_handler double_end(void);

#endif

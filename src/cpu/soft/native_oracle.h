/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One instruction on the host CPU with given registers: what native_test.c compares with. The arena
 * is one mapping: [code][unmapped][data][data][unmapped], within reach of a RIP-relative operand.
 */
#ifndef SM_SOFT_NATIVE_ORACLE_H
#define SM_SOFT_NATIVE_ORACLE_H

#include <stddef.h>
#include <stdint.h>

#define ORACLE_DATA_BYTES 8192

struct oracle_regs {
    uint64_t gpr[16];
    uint64_t rflags; /* arithmetic flags count */
    uint8_t fx[512] __attribute__((aligned(16)));
    int vector; /* exception, or -1 */
    uint64_t cr2;
    uint64_t next_rip; /* where the instruction ended, when it did */
};

struct oracle {
    uint8_t *arena;
    uint8_t *data;     /* ORACLE_DATA_BYTES, readable and writable */
    uint8_t *insn_at;  /* where the instruction will be */
    uint8_t *in, *out; /* struct oracle_regs, inside the arena */
    void *alt_stack;
};

/* One oracle per process. Returns 0 or -1. */
int oracle_init(struct oracle *o);
/* Take over the signals of faults: at the start of each test, as cmocka takes them for itself. */
void oracle_arm(void);
void oracle_fini(struct oracle *o);

/* Run the instruction at o->insn_at; *regs in and out. */
void oracle_run(struct oracle *o, const uint8_t *bytes, size_t len, struct oracle_regs *regs);

#endif

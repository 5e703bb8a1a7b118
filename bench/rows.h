/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows of `make bench`: what one static program does natively, in our guest and in QEMU's.
 * Sizes follow design/soft-engine.md §1.1.
 */
#ifndef SM_BENCH_ROWS_H
#define SM_BENCH_ROWS_H

#include <stddef.h>
#include <stdint.h>

#define ROWS_ARENA                                                                                 \
    (40u << 20) /* bytes that a row may use; 64-byte aligned, zeroed before the first */

struct row_env {
    uint8_t *arena; /* ROWS_ARENA bytes, shared by all rows: each row's init fills what it needs */
    const char *busybox; /* path of a static busybox */
    void *mapping;       /* of the page fault row */
};

struct row {
    const char *name;
    unsigned ops;                     /* run() does so many of what is reported */
    void (*init)(struct row_env *);   /* once; may be NULL */
    void (*before)(struct row_env *); /* before each run, not timed; may be NULL */
    /* The result must not depend on the machine: the three systems' results are compared. */
    uint64_t (*run)(struct row_env *);
};

extern const struct row rows_int[], rows_fp[], rows_os[], rows_smp[]; /* the last has no name */

/* xorshift64*: the same numbers everywhere. *state must not be 0. */
static inline uint64_t rows_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545f4914f6cdd1d);
}

#endif

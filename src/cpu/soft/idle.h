/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When a vCPU gives the memory of its code back to the host (blocks_trim): after two seconds in
 * which it did next to nothing. Blocks, stubs and translated code are made again when it runs: a
 * command then took 14 ms longer. Each time it takes longer until the next, up to half a minute, so
 * that a guest with a little to do now and then does not make its code again and again.
 *
 * A struct of zeros but for khz is how it begins. Times are host TSC values.
 */
#ifndef SM_SOFT_IDLE_H
#define SM_SOFT_IDLE_H

#include <stdbool.h>
#include <stdint.h>

#define IDLE_WINDOW_MS 500 /* what is looked at together */
#define IDLE_RAN_MS 10     /* a quiet window: it ran for less than this in it */
#define IDLE_FIRST 4       /* quiet windows in a row that it takes; doubled each time */
#define IDLE_LAST 64

struct soft_idle {
    uint64_t khz;   /* of the host's TSC */
    uint64_t since; /* the window began */
    uint64_t slept; /* in it */
    unsigned quiet; /* windows in a row */
    unsigned need;  /* 0: IDLE_FIRST */
    bool done;      /* in this row */
};

/* It is about to sleep: whether it must wake in time for the next window. */
bool idle_waits(const struct soft_idle *i, uint64_t now);
/* It slept. True: now is the time. */
bool idle_slept(struct soft_idle *i, uint64_t from, uint64_t to);

#endif

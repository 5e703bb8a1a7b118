/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rate of the host's time-stamp counter. Two readings some milliseconds apart tell it; who
 * knows early that it will be wanted takes the first one then, and does not wait for the second.
 */
#ifndef SM_CPU_TSC_H
#define SM_CPU_TSC_H

#include <stdint.h>

struct tsc_moment {
    uint64_t tsc, ns; /* CLOCK_MONOTONIC_RAW */
};

void tsc_now(struct tsc_moment *out);

/* In kHz: as the CPU or the hypervisor below says, if that stands a check; else measured. `since`:
 * a moment before; if it is too young or too old (a suspended host stops one clock and not the
 * other), or NULL, this waits, 4 ms at most. 0 when this host's TSC cannot be used. */
uint64_t tsc_khz(const struct tsc_moment *since);

#endif

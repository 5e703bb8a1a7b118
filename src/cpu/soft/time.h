/* SPDX-License-Identifier: Apache-2.0 */
/* The host's TSC as the source of guest time. */
#ifndef SM_SOFT_TIME_H
#define SM_SOFT_TIME_H

#include <stdint.h>

struct soft_clock; /* cpu.h */

/* ---- outside a run slice (time_host.c) ---- */

/* CLOCK_REALTIME in ns. */
uint64_t time_realtime_ns(void);

/* ---- anywhere (time.c) ---- */

static inline uint64_t time_host_tsc(void)
{
    return __builtin_ia32_rdtsc();
}

/* Start a clock now, at ns 0. khz: 100 MHz ... 8 GHz. */
void time_start(struct soft_clock *clock, uint64_t khz);
/* At this host TSC value it is ns. */
void time_set(struct soft_clock *clock, uint64_t host_tsc, uint64_t ns);
/* Nanoseconds of system time at a host TSC value. */
uint64_t time_ns(const struct soft_clock *clock, uint64_t host_tsc);

#endif

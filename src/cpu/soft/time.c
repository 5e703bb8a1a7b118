/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's TSC and the conversion from host TSC to nanoseconds. In a run slice. */
#include "cpu/soft/sys.h"

uint64_t soft_rdtsc(struct soft_cpu *cpu)
{
    return time_host_tsc() + cpu->tsc_offset;
}

void time_start(struct soft_clock *clock, uint64_t khz)
{
    int shift = -3;
    uint64_t mul;

    /* The smallest shift that lets mul, 2^32 ns per tick / 2^shift, fit in 32 bits: the most
     * precise. */
    while ((mul = (1000000ull << (32 - shift)) / khz) >> 32)
        shift++;
    clock->khz = khz;
    clock->mul = (uint32_t)mul;
    clock->shift = (int8_t)shift;
    time_set(clock, time_host_tsc(), 0);
}

void time_set(struct soft_clock *clock, uint64_t host_tsc, uint64_t ns)
{
    clock->tsc0 = host_tsc;
    clock->ns0 = ns;
}

uint64_t time_ns(const struct soft_clock *clock, uint64_t host_tsc)
{
    uint64_t ticks = host_tsc - clock->tsc0;

    ticks = clock->shift < 0 ? ticks >> -clock->shift : ticks << clock->shift;
    return clock->ns0 + (uint64_t)((unsigned __int128)ticks * clock->mul >> 32);
}

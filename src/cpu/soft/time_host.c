/* SPDX-License-Identifier: Apache-2.0 */
/* The wall clock. Ordinary host code, never inside a run slice. */
#include <time.h>

#include "cpu/soft/time.h"

uint64_t time_realtime_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

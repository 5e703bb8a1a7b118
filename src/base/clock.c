/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <time.h>

uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int64_t clock_ms(void)
{
    return (int64_t)(clock_ns() / 1000000);
}

void clock_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

int clock_wait(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t at_ms)
{
    struct timespec t = {(time_t)(at_ms / 1000), (long)(at_ms % 1000) * 1000000};
    return at_ms < 0 ? pthread_cond_wait(cond, lock) : pthread_cond_timedwait(cond, lock, &t);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Time that only goes forward (CLOCK_MONOTONIC): for how long, never for when. Any thread. */
#ifndef SM_BASE_CLOCK_H
#define SM_BASE_CLOCK_H

#include <pthread.h>
#include <stdint.h>

int64_t clock_ms(void);
uint64_t clock_ns(void);

/* A condition for clock_wait(). */
void clock_cond_init(pthread_cond_t *cond);
/* Wait until it is signalled or clock_ms() is at_ms; -1: for ever. With the lock held. 0, or
 * ETIMEDOUT. */
int clock_wait(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t at_ms);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* What pool.c (callers) and makers.c (threads) share. Everything is under lock. */
#ifndef SM_POOL_POOL_IMPL_H
#define SM_POOL_POOL_IMPL_H

#include <pthread.h>

#include "pool/pool.h"

struct waiter {
    struct waiter *next;
    pthread_cond_t wake;
    bool done;
    void *item;            /* when done and rc is 0 */
    int rc;                /* when done */
    struct sm_error error; /* of rc */
};

struct ready {
    void *item;
    int64_t since_ms;
};

struct pool {
    struct pool_config config;
    pthread_mutex_t lock;
    pthread_cond_t work; /* for makers: something changed */
    pthread_cond_t left; /* for pool_free: a caller has left pool_acquire */
    pthread_t *threads;  /* owned: config.makers */
    uint32_t n_threads;

    struct ready *ready; /* owned, oldest first */
    void **used;         /* owned, in no order */
    void **spent;        /* owned: to be ended */
    uint32_t n_ready, n_used, n_spent;
    uint32_t making, ending; /* on a thread right now */
    uint32_t renewals;       /* released items that no new one has replaced yet */

    struct waiter *first, **last; /* borrowed: on the stacks of those in pool_acquire */
    uint32_t n_waiting, inside;

    bool proven; /* one could be made */
    bool closing;
    int64_t retry_at_ms, retry_delay_ms; /* delay 0: the last try did not fail */
    struct sm_error last_error;          /* of the try that failed last */
    uint64_t acquired, made, failed, expired;
};

/* Threads of the pool. 0, or the error with none left running. */
int makers_start(struct pool *p, struct sm_error *err);
void makers_join(struct pool *p);

/* An item is free: to who waits longest, else to the shelf. */
void pool_give(struct pool *p, void *item);
void pool_spend(struct pool *p, void *item); /* to be ended by a maker */
/* The first that waits gets an item, or with item NULL this error. */
void pool_answer(struct pool *p, void *item, int rc, const struct sm_error *error);

#endif

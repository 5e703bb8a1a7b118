/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool of things that take long to make and are used by one user at a time: how many there are,
 * who gets one, what happens when one cannot be made. What they are is the owner's business (struct
 * pool_ops). Any thread may call anything but pool_free.
 *
 * Counted is every item that exists: ready, in use, being made or being ended. Their number stays
 * at or below max. Items are made where somebody waits for one and none is on its way, where fewer
 * than min live, and to replace one that was released (config.renew). No two are made at once until
 * the first has succeeded. An item that was ready for idle_ms is ended while more than min live;
 * the last one released is the first one given out, so that the others can grow old.
 *
 * When one cannot be made, the pool tries again after retry_ms, then twice that, up to
 * retry_max_ms, until it succeeds. Whoever waits goes on waiting if an item is in use or being made
 * and thus may come back; if none is, all that wait get the error, and the next one that asks
 * causes a try at once.
 */
#ifndef SM_POOL_POOL_H
#define SM_POOL_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct pool;

struct pool_ops {
    /* These may block, and are called by several threads at once. make: 0, or an error. */
    int (*make)(void *opaque, void **item, struct sm_error *err);
    void (*end)(void *opaque, void *item);
    /* Is it fit to be used? Called with the pool's lock held: must be quick. */
    bool (*usable)(void *opaque, void *item);
};

struct pool_config {
    const struct pool_ops *ops; /* borrowed, as long as the pool */
    void *opaque;               /* borrowed: for ops */
    uint32_t min, max;          /* min <= max, 1 <= max */
    uint32_t makers;            /* threads, and so items made at once; at least 1 */
    int64_t idle_ms;            /* -1: for ever */
    int64_t acquire_ms;         /* -1: for ever */
    bool renew;                 /* a released item is ended and another one made */
    uint32_t retry_ms, retry_max_ms;
};

struct pool_stats {
    uint32_t ready, used, making, waiting;    /* now */
    uint64_t acquired, made, failed, expired; /* since the start: calls that got an item; items
                                                 made; tries that failed; items ended of age */
};

/* With min > 0 the first item is made before this returns, whose error is then this one's; others
 * follow in the background. SM_ENOMEM; SM_EIO: no thread. */
int pool_new(const struct pool_config *config, struct pool **out, struct sm_error *err);

/* Ends all items, those in use too, once those being made are done; calls of pool_acquire that are
 * under way return SM_EINTR. NULL is fine. */
void pool_free(struct pool *p);

/* An item for the caller alone, first come first served. SM_ETIMEDOUT; SM_EINTR: pool_free; else
 * what make() said. */
int pool_acquire(struct pool *p, void **item, struct sm_error *err);
/* SM_EINVAL: not in use from this pool (nothing happens). Never blocks on make() or end(). */
int pool_release(struct pool *p, void *item, struct sm_error *err);

void pool_stats(struct pool *p, struct pool_stats *out);

#endif

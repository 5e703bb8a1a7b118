// SPDX-License-Identifier: Apache-2.0
/* The callers' side. An item is handed to whoever waits longest, never left for the quickest. */
#include "pool/pool.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "pool/pool_impl.h"

void pool_answer(struct pool *p, void *item, int rc, const struct sm_error *error)
{
    struct waiter *w = p->first;
    p->first = w->next;
    if (!p->first)
        p->last = &p->first;
    p->n_waiting--;
    w->done = true;
    w->item = item;
    w->rc = rc;
    if (error)
        w->error = *error;
    if (item) {
        p->used[p->n_used++] = item;
        p->acquired++;
    }
    pthread_cond_signal(&w->wake);
}

void pool_give(struct pool *p, void *item)
{
    if (p->first)
        pool_answer(p, item, 0, NULL);
    else
        p->ready[p->n_ready++] = (struct ready){item, clock_ms()};
    pthread_cond_broadcast(&p->work); /* somebody has to wait for its old age */
}

void pool_spend(struct pool *p, void *item)
{
    p->spent[p->n_spent++] = item;
    pthread_cond_broadcast(&p->work);
}

static void destroy(struct pool *p)
{
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->left);
    free(p->threads);
    free(p->ready);
    free(p->used);
    free(p->spent);
    free(p);
}

/* The first item on the caller's thread: what is wrong with it is then said where it can be seen.
 */
static int make_first(struct pool *p, struct sm_error *err)
{
    void *item;
    int rc = p->config.min ? p->config.ops->make(p->config.opaque, &item, err) : 0;
    if (rc || !p->config.min)
        return rc;
    p->made++;
    p->proven = true;
    p->ready[p->n_ready++] = (struct ready){item, clock_ms()};
    return 0;
}

int pool_new(const struct pool_config *config, struct pool **out, struct sm_error *err)
{
    *out = NULL;
    struct pool *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(err, SM_ENOMEM, "out of memory");
    p->config = *config;
    p->last = &p->first;
    pthread_mutex_init(&p->lock, NULL);
    clock_cond_init(&p->work);
    pthread_cond_init(&p->left, NULL);
    p->threads = calloc(config->makers, sizeof *p->threads);
    p->ready = calloc(config->max, sizeof *p->ready);
    p->used = calloc(config->max, sizeof *p->used);
    p->spent = calloc(config->max, sizeof *p->spent);
    int rc = p->threads && p->ready && p->used && p->spent
                 ? make_first(p, err)
                 : err_set(err, SM_ENOMEM, "out of memory");
    rc = rc ? rc : makers_start(p, err);
    if (rc) {
        while (p->n_ready)
            config->ops->end(config->opaque, p->ready[--p->n_ready].item);
        destroy(p);
        return rc;
    }
    *out = p;
    return 0;
}

void pool_free(struct pool *p)
{
    static const struct sm_error closed = {.code = SM_EINTR, .text = "the pool was freed"};
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->closing = true;
    while (p->first)
        pool_answer(p, NULL, SM_EINTR, &closed);
    while (p->n_ready)
        pool_spend(p, p->ready[--p->n_ready].item);
    while (p->n_used)
        pool_spend(p, p->used[--p->n_used]);
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    makers_join(p);
    pthread_mutex_lock(&p->lock);
    while (p->inside)
        pthread_cond_wait(&p->left, &p->lock);
    pthread_mutex_unlock(&p->lock);
    destroy(p);
}

/* From the shelf, the freshest first. NULL: nothing fit for use is there. */
static void *take_ready(struct pool *p)
{
    while (p->n_ready) {
        void *item = p->ready[--p->n_ready].item;
        if (p->config.ops->usable(p->config.opaque, item)) {
            p->used[p->n_used++] = item;
            p->acquired++;
            return item;
        }
        pool_spend(p, item);
    }
    return NULL;
}

static int timed_out(struct pool *p, struct sm_error *err)
{
    int n = p->retry_delay_ms ? (int)sizeof p->last_error.text : 0;
    return err_set(
        err, SM_ETIMEDOUT,
        "none came free within %lld ms: %u in use, %u being made, at most %u (max)%s%.*s",
        (long long)p->config.acquire_ms, p->n_used, p->making, p->config.max,
        n ? "; the last could not be made: " : "", n, p->last_error.text);
}

static void leave_queue(struct pool *p, struct waiter *w)
{
    struct waiter **link = &p->first;
    while (*link != w)
        link = &(*link)->next;
    *link = w->next;
    if (!w->next)
        p->last = link;
    p->n_waiting--;
}

static int wait_turn(struct pool *p, void **item, struct sm_error *err)
{
    int64_t deadline = p->config.acquire_ms < 0 ? -1 : clock_ms() + p->config.acquire_ms;
    struct waiter w = {0};
    if (p->closing)
        return err_set(err, SM_EINTR, "the pool was freed");
    clock_cond_init(&w.wake);
    *p->last = &w;
    p->last = &w.next;
    p->n_waiting++;
    pthread_cond_broadcast(&p->work);
    while (!w.done && (deadline < 0 || clock_ms() < deadline))
        clock_wait(&w.wake, &p->lock, deadline);
    pthread_cond_destroy(&w.wake);
    if (!w.done) {
        leave_queue(p, &w);
        return timed_out(p, err);
    }
    *item = w.item;
    if (w.rc && err)
        *err = w.error;
    return w.rc;
}

int pool_acquire(struct pool *p, void **item, struct sm_error *err)
{
    pthread_mutex_lock(&p->lock);
    *item = take_ready(p);
    int rc = 0;
    if (!*item) {
        p->inside++;
        rc = wait_turn(p, item, err);
        p->inside--;
        pthread_cond_signal(&p->left);
    }
    pthread_mutex_unlock(&p->lock);
    return rc;
}

int pool_release(struct pool *p, void *item, struct sm_error *err)
{
    uint32_t i = 0;
    pthread_mutex_lock(&p->lock);
    while (i < p->n_used && p->used[i] != item)
        i++;
    if (i == p->n_used) {
        pthread_mutex_unlock(&p->lock);
        return err_set(err, SM_EINVAL, "it is not in use from this pool");
    }
    p->used[i] = p->used[--p->n_used];
    if (p->config.renew)
        p->renewals++;
    if (!p->config.renew && p->config.ops->usable(p->config.opaque, item))
        pool_give(p, item);
    else
        pool_spend(p, item);
    pthread_mutex_unlock(&p->lock);
    return 0;
}

void pool_stats(struct pool *p, struct pool_stats *out)
{
    pthread_mutex_lock(&p->lock);
    *out = (struct pool_stats){
        .ready = p->n_ready,
        .used = p->n_used,
        .making = p->making,
        .waiting = p->n_waiting,
        .acquired = p->acquired,
        .made = p->made,
        .failed = p->failed,
        .expired = p->expired,
    };
    pthread_mutex_unlock(&p->lock);
}

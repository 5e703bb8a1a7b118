// SPDX-License-Identifier: Apache-2.0
/*
 * The pool's threads. Each looks at the whole state, does the one thing that is most due, and looks
 * again: end what is spent (its memory may be what the next one needs), make what is wanted, end
 * what is too old, sleep until something changes or is due.
 */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/thread.h"
#include "pool/pool_impl.h"

static uint32_t living(const struct pool *p)
{
    return p->n_ready + p->n_used + p->making;
}

static bool wanted(const struct pool *p)
{
    if (living(p) + p->n_spent + p->ending >= p->config.max || (p->making && !p->proven))
        return false;
    return p->n_waiting > p->making || living(p) < p->config.min || p->renewals;
}

/* Somebody waits, and nothing that exists can ever come to them: no reason to put it off. */
static bool desperate(const struct pool *p)
{
    return p->first && living(p) == 0;
}

static void end_one(struct pool *p)
{
    void *item = p->spent[--p->n_spent];
    p->ending++;
    pthread_mutex_unlock(&p->lock);
    p->config.ops->end(p->config.opaque, item);
    pthread_mutex_lock(&p->lock);
    p->ending--;
    pthread_cond_broadcast(&p->work);
}

static void failed(struct pool *p, int rc, const struct sm_error *error)
{
    int64_t delay = p->retry_delay_ms ? p->retry_delay_ms * 2 : p->config.retry_ms;
    p->failed++;
    p->last_error = *error;
    p->retry_delay_ms = delay < p->config.retry_max_ms ? delay : p->config.retry_max_ms;
    p->retry_at_ms = clock_ms() + p->retry_delay_ms;
    while (desperate(p))
        pool_answer(p, NULL, rc, error);
}

static void make_one(struct pool *p)
{
    struct sm_error error = {0};
    void *item = NULL;
    p->making++;
    if (p->renewals)
        p->renewals--;
    pthread_mutex_unlock(&p->lock);
    int rc = p->config.ops->make(p->config.opaque, &item, &error);
    pthread_mutex_lock(&p->lock);
    p->making--;
    if (rc) {
        failed(p, rc, &error);
    } else {
        p->made++;
        p->proven = true;
        p->retry_delay_ms = 0;
        p->retry_at_ms = 0;
        if (p->closing)
            pool_spend(p, item);
        else
            pool_give(p, item);
    }
    pthread_cond_broadcast(&p->work);
}

/* When the oldest is too old; -1: never. */
static int64_t expiry(const struct pool *p)
{
    return p->n_ready && p->config.idle_ms >= 0 && living(p) > p->config.min
               ? p->ready[0].since_ms + p->config.idle_ms
               : -1;
}

static void expire_one(struct pool *p)
{
    void *item = p->ready[0].item;
    memmove(p->ready, p->ready + 1, --p->n_ready * sizeof *p->ready);
    p->expired++;
    pool_spend(p, item);
}

static void *maker(void *opaque)
{
    struct pool *p = opaque;
    pthread_mutex_lock(&p->lock);
    while (p->n_spent || !p->closing) {
        int64_t now = clock_ms(), old = expiry(p), wake = old;
        bool put_off = now < p->retry_at_ms && !desperate(p);
        if (p->n_spent) {
            end_one(p);
        } else if (wanted(p) && !put_off) {
            make_one(p);
        } else if (old >= 0 && old <= now) {
            expire_one(p);
        } else {
            if (wanted(p) && (wake < 0 || p->retry_at_ms < wake))
                wake = p->retry_at_ms;
            clock_wait(&p->work, &p->lock, wake);
        }
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

int makers_start(struct pool *p, struct sm_error *err)
{
    int rc = 0;
    while (!rc && p->n_threads < p->config.makers) {
        if (thread_start(&p->threads[p->n_threads], maker, p))
            rc = err_sys(err, "cannot start a thread");
        else
            p->n_threads++;
    }
    if (rc) {
        pthread_mutex_lock(&p->lock);
        p->closing = true;
        pthread_cond_broadcast(&p->work);
        pthread_mutex_unlock(&p->lock);
        makers_join(p);
    }
    return rc;
}

void makers_join(struct pool *p)
{
    for (uint32_t i = 0; i < p->n_threads; i++)
        pthread_join(p->threads[i], NULL);
}

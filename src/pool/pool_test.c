// SPDX-License-Identifier: Apache-2.0
/* Every rule of pool.h, with items that are numbers, and makers that can be slow, fail or be held.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <setjmp.h>
#include <cmocka.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "pool/pool.h"

#define ITEMS 4096
#define PATIENCE_MS 20000 /* for what must come at some time, however busy the host */

struct item {
    bool alive, sick, used;
};

/* A factory that is watched. */
struct factory {
    pthread_mutex_t lock;
    struct item items[ITEMS];
    unsigned made, ended, live, most_live, making, most_making, tries;
    unsigned fail; /* so many tries fail */
    bool hold;     /* make() waits while this is set */
    unsigned make_ms;
};

static void pause_ms(unsigned ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool held(struct factory *f)
{
    pthread_mutex_lock(&f->lock);
    bool hold = f->hold;
    pthread_mutex_unlock(&f->lock);
    return hold;
}

static int make(void *opaque, void **item, struct sm_error *err)
{
    struct factory *f = opaque;
    pthread_mutex_lock(&f->lock);
    f->tries++;
    if (++f->making > f->most_making)
        f->most_making = f->making;
    if (++f->live > f->most_live)
        f->most_live = f->live;
    bool fails = f->fail > 0;
    f->fail -= fails;
    pthread_mutex_unlock(&f->lock);
    pause_ms(f->make_ms);
    while (held(f))
        pause_ms(1);
    pthread_mutex_lock(&f->lock);
    f->making--;
    f->live -= fails;
    if (!fails) {
        assert_true(f->made < ITEMS);
        f->items[f->made].alive = true;
        *item = &f->items[f->made++];
    }
    pthread_mutex_unlock(&f->lock);
    return fails ? err_set(err, SM_EENGINE, "the engine is cold") : 0;
}

static void end(void *opaque, void *item)
{
    struct factory *f = opaque;
    struct item *i = item;
    pthread_mutex_lock(&f->lock);
    assert_true(i->alive);
    i->alive = false;
    f->ended++;
    f->live--;
    pthread_mutex_unlock(&f->lock);
}

static bool usable(void *opaque, void *item)
{
    return !((struct item *)item)->sick;
}

static const struct pool_ops ops = {.make = make, .end = end, .usable = usable};

static int set_up(void **state)
{
    struct factory *f = calloc(1, sizeof *f);
    pthread_mutex_init(&f->lock, NULL);
    *state = f;
    return f ? 0 : -1;
}

/* Whatever was made has been ended. */
static int tear_down(void **state)
{
    struct factory *f = *state;
    bool clean = f->made == f->ended && f->live == 0 && f->making == 0;
    free(f);
    return clean ? 0 : -1;
}

static struct pool_config basic(struct factory *f)
{
    return (struct pool_config){.ops = &ops,
                                .opaque = f,
                                .max = 4,
                                .makers = 2,
                                .idle_ms = -1,
                                .acquire_ms = PATIENCE_MS,
                                .renew = true,
                                .retry_ms = 20,
                                .retry_max_ms = 100};
}

static struct pool *make_pool(const struct pool_config *c)
{
    struct sm_error err = {0};
    struct pool *p;
    if (pool_new(c, &p, &err))
        fail_msg("%s", err.text);
    return p;
}

static struct item *acquire(struct pool *p)
{
    struct sm_error err = {0};
    void *item;
    if (pool_acquire(p, &item, &err))
        fail_msg("%s", err.text);
    struct item *i = item;
    assert_true(i->alive);
    assert_false(i->used);
    i->used = true;
    return i;
}

static void release(struct pool *p, struct item *i)
{
    i->used = false;
    assert_int_equal(pool_release(p, i, NULL), 0);
}

/* Wait until the pool has just so many ready, and none on the way. */
static void settle(struct pool *p, uint32_t ready)
{
    struct pool_stats s;
    for (int64_t end_ms = now_ms() + PATIENCE_MS; now_ms() < end_ms; pause_ms(1)) {
        pool_stats(p, &s);
        if (s.ready == ready && s.making == 0)
            return;
    }
    fail_msg("%u ready, %u being made; expected %u", s.ready, s.making, ready);
}

static void wait_for(struct factory *f, const unsigned *count, unsigned at_least)
{
    for (int64_t end_ms = now_ms() + PATIENCE_MS; now_ms() < end_ms; pause_ms(1)) {
        pthread_mutex_lock(&f->lock);
        bool there = *count >= at_least;
        pthread_mutex_unlock(&f->lock);
        if (there)
            return;
    }
    fail_msg("%u, expected %u", *count, at_least);
}

static void hold(struct factory *f, bool on)
{
    pthread_mutex_lock(&f->lock);
    f->hold = on;
    pthread_mutex_unlock(&f->lock);
}

static void lazy_growth(void **state)
{
    struct factory *f = *state;
    struct pool_config c = basic(f);
    struct pool *p = make_pool(&c);
    struct item *a, *b;
    struct pool_stats s;
    pause_ms(20);
    assert_int_equal(f->tries, 0); /* min is 0: nothing before it is wanted */
    a = acquire(p);
    assert_int_equal(f->made, 1);
    b = acquire(p);
    assert_ptr_not_equal(a, b);
    assert_int_equal(f->made, 2);
    pool_stats(p, &s);
    assert_int_equal(s.used, 2);
    assert_int_equal(s.ready, 0);
    assert_int_equal(s.acquired, 2);
    assert_int_equal(s.made, 2);
    release(p, a);
    release(p, b);
    settle(p, 2); /* both renewed */
    assert_int_equal(f->made, 4);
    assert_false(a->alive);
    assert_false(b->alive);
    pool_free(p);
}

static void min_is_kept(void **state)
{
    struct factory *f = *state;
    struct pool_config c = basic(f);
    c.min = 3;
    c.idle_ms = 10;
    struct pool *p = make_pool(&c);
    assert_true(f->made >= 1); /* the first was made before pool_new returned */
    settle(p, 3);
    pause_ms(60);
    settle(p, 3); /* however old */
    assert_int_equal(f->ended, 0);
    struct item *i[4];
    for (int n = 0; n < 4; n++)
        i[n] = acquire(p);
    for (int n = 0; n < 4; n++)
        release(p, i[n]);
    wait_for(f, &f->ended, 5); /* the four that were used, and one of old age */
    settle(p, 3);
    struct pool_stats s;
    pool_stats(p, &s);
    assert_true(s.expired >= 1);
    assert_int_equal(f->live, 3);
    pool_free(p);
}

static void a_fixed_pool(void **state)
{
    struct factory *f = *state;
    struct pool_config c = basic(f);
    c.min = c.max = 2;
    struct pool *p = make_pool(&c);
    for (int n = 0; n < 20; n++) {
        struct item *a = acquire(p), *b = acquire(p);
        release(p, a);
        release(p, b);
    }
    settle(p, 2);
    assert_int_equal(f->most_live, 2); /* an item counts until it has ended */
    assert_int_equal(f->made, 42);
    pool_free(p);
}

static void max_and_timeout(void **state)
{
    struct factory *f = *state;
    struct pool_config c = basic(f);
    struct sm_error err = {0};
    void *none = &err;
    c.max = 2;
    c.acquire_ms = 50;
    struct pool *p = make_pool(&c);
    struct item *a = acquire(p), *b = acquire(p);
    int64_t t0 = now_ms();
    assert_int_equal(pool_acquire(p, &none, &err), SM_ETIMEDOUT);
    assert_true(now_ms() - t0 >= 50);
    assert_null(none);
    assert_string_equal(err.text,
                        "none came free within 50 ms: 2 in use, 0 being made, at most 2 (max)");
    assert_int_equal(f->made, 2);
    struct pool_stats s;
    pool_stats(p, &s);
    assert_int_equal(s.waiting, 0);
    release(p, a);
    release(p, b);
    settle(p, 2);
    release(p, acquire(p)); /* and all goes on */
    settle(p, 2);
    pool_free(p);
}

static void keeping(void **state)
{
    struct factory *f = *state;
    struct pool_config c = basic(f);
    c.renew = false;
    struct pool *p = make_pool(&c);
    struct item *a = acquire(p), *b = acquire(p);
    release(p, a);
    release(p, b);
    assert_ptr_equal(acquire(p), b); /* the last one is the warmest */
    assert_int_equal(f->made, 2);
    b->sick = true;
    release(p, b); /* what is broken is not kept */
    wait_for(f, &f->ended, 1);
    assert_false(b->alive);
    a->sick = true; /* dies while it is ready */
    struct item *d = acquire(p);
    assert_ptr_not_equal(d, a);
    wait_for(f, &f->ended, 2);
    release(p, d);
    pool_free(p);
}

static void idle_ones_expire(void **state)
{
    struct factory *f = *state;
    struct pool_config c = basic(f);
    c.renew = false;
    c.idle_ms = 30;
    c.min = 1;
    struct pool *p = make_pool(&c);
    struct item *i[4];
    for (int n = 0; n < 4; n++)
        i[n] = acquire(p);
    for (int n = 0; n < 4; n++)
        release(p, i[n]);
    wait_for(f, &f->ended, 3);
    settle(p, 1);
    assert_true(i[3]->alive); /* the oldest went */
    struct pool_stats s;
    pool_stats(p, &s);
    assert_int_equal(s.expired, 3);
    pool_free(p);
}

static void not_from_here(void **state)
{
    struct factory *f = *state;
    struct pool_config c = basic(f);
    struct sm_error err = {0};
    struct pool *p = make_pool(&c);
    struct item *a = acquire(p);
    release(p, a);
    assert_int_equal(pool_release(p, a, &err), SM_EINVAL); /* twice */
    assert_int_equal(pool_release(p, &err, &err), SM_EINVAL);
    settle(p, 1);
    pool_free(p);
}

/* pool_new with min says what is wrong; without, the first acquire does, at once. */
static void it_cannot_be_made(void **state)
{
    struct factory *f = *state;
    struct pool_config c = basic(f);
    struct sm_error err = {0};
    struct pool *p;
    void *item;
    f->fail = 1;
    c.min = 2;
    assert_int_equal(pool_new(&c, &p, &err), SM_EENGINE);
    assert_null(p);
    assert_string_equal(err.text, "the engine is cold");
    c.min = 0;
    c.retry_ms = c.retry_max_ms = PATIENCE_MS; /* only because it is wanted is it tried again */
    f->fail = 2;
    p = make_pool(&c);
    int64_t t0 = now_ms();
    for (int n = 0; n < 2; n++) {
        memset(&err, 0, sizeof err);
        assert_int_equal(pool_acquire(p, &item, &err), SM_EENGINE);
        assert_string_equal(err.text, "the engine is cold");
        assert_null(item);
    }
    release(p, acquire(p));
    assert_true(now_ms() - t0 < PATIENCE_MS);
    settle(p, 1);
    struct pool_stats s;
    pool_stats(p, &s);
    assert_int_equal(s.failed, 2);
    pool_free(p);
}

/* Below min, it is tried again with longer and longer pauses. */
static void backing_off(void **state)
{
    struct factory *f = *state;
    struct pool_config c = basic(f);
    c.min = 2;
    c.makers = 1;
    f->make_ms = 5;
    hold(f, false);
    struct pool *p = make_pool(&c);
    settle(p, 2);
    f->fail = 4;
    struct item *a = acquire(p);
    int64_t t0 = now_ms();
    release(p, a); /* its replacement fails 4 times: pauses of 20, 40, 80, 100 ms */
    settle(p, 1);
    wait_for(f, &f->made, 3);
    assert_true(now_ms() - t0 >= 240);
    assert_int_equal(f->tries, 3 + 4);
    settle(p, 2);
    pool_free(p);
}

/* While one is in use, who waits goes on waiting; the timeout says why nothing came. */
static void failing_beside_one_in_use(void **state)
{
    struct factory *f = *state;
    struct pool_config c = basic(f);
    struct sm_error err = {0};
    void *item;
    c.acquire_ms = 150;
    struct pool *p = make_pool(&c);
    struct item *a = acquire(p);
    f->fail = 1000;
    assert_int_equal(pool_acquire(p, &item, &err), SM_ETIMEDOUT);
    assert_non_null(
        strstr(err.text, "at most 4 (max); the last could not be made: the engine is "));
    assert_true(f->tries <= 1 + 5); /* after 0, 20, 60, 140 ms */
    f->fail = 0;
    release(p, a);
    settle(p, 1);
    pool_free(p);
}

struct caller {
    struct pool *pool;
    pthread_t thread;
    int rc, rounds;
    struct sm_error err;
    void *item;
};

static void *call(void *opaque)
{
    struct caller *c = opaque;
    c->rc = pool_acquire(c->pool, &c->item, &c->err);
    return NULL;
}

static void start_callers(struct pool *p, struct caller *callers, int n)
{
    struct pool_stats s;
    for (int i = 0; i < n; i++) {
        callers[i] = (struct caller){.pool = p};
        assert_int_equal(pthread_create(&callers[i].thread, NULL, call, &callers[i]), 0);
        do /* one after the other, so that their order is known */
            pool_stats(p, &s);
        while (s.waiting < (uint32_t)i + 1);
    }
}

/* All that wait get the error when nothing is left that could come. */
static void nobody_waits_for_nothing(void **state)
{
    struct factory *f = *state;
    struct pool_config c = basic(f);
    struct caller callers[3];
    c.acquire_ms = -1;
    struct pool *p = make_pool(&c);
    f->fail = 1;
    hold(f, true);
    start_callers(p, callers, 3);
    hold(f, false);
    for (int i = 0; i < 3; i++) {
        pthread_join(callers[i].thread, NULL);
        assert_int_equal(callers[i].rc, SM_EENGINE);
        assert_string_equal(callers[i].err.text, "the engine is cold");
    }
    assert_int_equal(f->tries, 1); /* until one succeeds there is one try at a time */
    pool_free(p);
}

static void first_come_first_served(void **state)
{
    struct factory *f = *state;
    struct pool_config c = basic(f);
    struct caller callers[3];
    c.max = 1;
    c.renew = false;
    struct pool *p = make_pool(&c);
    struct item *a = acquire(p);
    start_callers(p, callers, 3);
    for (int i = 0; i < 3; i++) {
        release(p, a);
        pthread_join(callers[i].thread, NULL);
        assert_int_equal(callers[i].rc, 0);
        assert_ptr_equal(callers[i].item, a);
    }
    release(p, a);
    pool_free(p);
}

static void freed_while_waited_for(void **state)
{
    struct factory *f = *state;
    struct pool_config c = basic(f);
    struct caller callers[3];
    c.acquire_ms = -1;
    c.max = 1;
    struct pool *p = make_pool(&c);
    acquire(p); /* never released: freed with the pool */
    start_callers(p, callers, 3);
    pool_free(p);
    for (int i = 0; i < 3; i++) {
        pthread_join(callers[i].thread, NULL);
        assert_int_equal(callers[i].rc, SM_EINTR);
        assert_string_equal(callers[i].err.text, "the pool was freed");
    }
}

static void *free_it(void *pool)
{
    pool_free(pool);
    return NULL;
}

/* An item that is finished while the pool is being freed ends with it. */
static void freed_while_making(void **state)
{
    struct factory *f = *state;
    struct pool_config c = basic(f);
    struct caller caller;
    pthread_t freeing;
    struct pool *p = make_pool(&c);
    hold(f, true);
    start_callers(p, &caller, 1);
    wait_for(f, &f->tries, 1);
    assert_int_equal(pthread_create(&freeing, NULL, free_it, p), 0);
    pthread_join(caller.thread, NULL);
    assert_int_equal(caller.rc, SM_EINTR);
    hold(f, false);
    pthread_join(freeing, NULL);
    assert_int_equal(f->made, 1);
    assert_int_equal(f->ended, 1);
}

static void *many_rounds(void *opaque)
{
    struct caller *c = opaque;
    for (int i = 0; i < c->rounds; i++) {
        struct item *item = acquire(c->pool); /* checks that nobody else has it */
        if (i % 7 == 3)
            pause_ms(1);
        if (i % 11 == 5)
            item->sick = true;
        release(c->pool, item);
    }
    return NULL;
}

/* 20 threads over 4, some tries fail, some items break; with both ways to release. */
static void storm(struct factory *f, bool renew)
{
    struct pool_config c = basic(f);
    struct caller callers[20];
    c.renew = renew;
    c.makers = 3;
    c.min = 1;
    c.idle_ms = 1;
    c.acquire_ms = -1;
    c.retry_ms = c.retry_max_ms = 1;
    struct pool *p = make_pool(&c);
    for (int i = 0; i < 20; i++) {
        callers[i] = (struct caller){.pool = p, .rounds = 60};
        assert_int_equal(pthread_create(&callers[i].thread, NULL, many_rounds, &callers[i]), 0);
    }
    for (int i = 0; i < 20; i++)
        pthread_join(callers[i].thread, NULL);
    struct pool_stats s;
    pool_stats(p, &s);
    assert_int_equal(s.acquired, 20 * 60);
    assert_int_equal(s.used, 0);
    assert_true(f->most_live <= 4);
    assert_true(f->most_making <= 3);
    settle(p, 1);
    pool_free(p);
}

static void storm_renewing(void **state)
{
    storm(*state, true);
}

static void storm_keeping(void **state)
{
    storm(*state, false);
}

static void starts_at_once(void **state)
{
    struct factory *f = *state;
    struct pool_config c = basic(f);
    struct caller callers[6];
    c.max = 6;
    c.makers = 3;
    struct pool *p = make_pool(&c);
    hold(f, true);
    start_callers(p, callers, 6);
    pause_ms(20);
    assert_int_equal(f->tries, 1); /* nothing has succeeded yet */
    hold(f, false);
    for (int i = 0; i < 6; i++)
        pthread_join(callers[i].thread, NULL);
    assert_int_equal(f->made, 6);
    hold(f, true);
    for (int i = 0; i < 6; i++)
        assert_int_equal(pool_release(p, callers[i].item, NULL), 0);
    wait_for(f, &f->making, 3);
    pause_ms(20);
    assert_int_equal(f->making, 3); /* one per thread */
    hold(f, false);
    settle(p, 6);
    pool_free(p);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(lazy_growth),
        T(min_is_kept),
        T(a_fixed_pool),
        T(max_and_timeout),
        T(keeping),
        T(idle_ones_expire),
        T(not_from_here),
        T(it_cannot_be_made),
        T(backing_off),
        T(failing_beside_one_in_use),
        T(nobody_waits_for_nothing),
        T(first_come_first_served),
        T(freed_while_waited_for),
        T(freed_while_making),
        T(storm_renewing),
        T(storm_keeping),
        T(starts_at_once),
    };
    alarm(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

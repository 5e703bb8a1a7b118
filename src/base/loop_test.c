/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/loop.h"

struct counter {
    struct loop_source src;
    struct loop *loop;
    struct counter *victim; /* removed and freed by the first event */
    atomic_uint calls;
};

static void count(struct loop_source *src, uint32_t events)
{
    struct counter *c = src->opaque;
    uint64_t n;

    if (events & EPOLLIN)
        assert_int_equal(read(src->fd, &n, sizeof n), sizeof n);
    c->calls++;
    if (c->victim != NULL) {
        loop_remove(c->loop, &c->victim->src);
        close(c->victim->src.fd);
        free(c->victim);
        c->victim = NULL;
    }
}

static struct counter *counter(struct loop *l)
{
    struct counter *c = calloc(1, sizeof *c);

    c->loop = l;
    c->src = (struct loop_source){.fd = eventfd(0, EFD_NONBLOCK), .ready = count, .opaque = c};
    assert_true(c->src.fd >= 0);
    return c;
}

static void poke(struct counter *c)
{
    uint64_t one = 1;

    assert_int_equal(write(c->src.fd, &one, sizeof one), sizeof one);
}

static void drop(struct counter *c)
{
    loop_lock(c->loop);
    loop_remove(c->loop, &c->src);
    loop_unlock(c->loop);
    close(c->src.fd);
    free(c);
}

static void events_arrive(void **state)
{
    struct loop *l;
    struct counter *c;

    assert_int_equal(loop_new(&l, NULL), 0);
    c = counter(l);
    assert_int_equal(loop_add(l, &c->src, EPOLLIN, NULL), 0);
    assert_int_equal(loop_start(l, NULL), 0);
    for (unsigned i = 1; i <= 1000; i++) {
        poke(c);
        while (c->calls != i)
            usleep(10);
    }
    loop_stop(l);
    loop_stop(l);
    assert_int_equal(loop_start(l, NULL), 0); /* it can go again */
    poke(c);
    while (c->calls != 1001)
        usleep(10);
    drop(c);
    loop_free(l);
    loop_free(NULL);
}

/* Both are ready in one batch; the first to run frees the other, whose event must be dropped. */
static void removal_within_a_batch(void **state)
{
    struct loop *l;
    struct counter *a, *b;

    assert_int_equal(loop_new(&l, NULL), 0);
    for (int i = 0; i < 100; i++) {
        a = counter(l);
        b = counter(l);
        a->victim = b;
        assert_int_equal(loop_add(l, &a->src, EPOLLIN, NULL), 0);
        assert_int_equal(loop_add(l, &b->src, EPOLLIN, NULL), 0);
        poke(a);
        poke(b);
        assert_int_equal(loop_poll(l, 0), 2);
        assert_int_equal(a->calls, 1);
        assert_int_equal(loop_poll(l, 0), 0);
        drop(a);
    }
    loop_free(l);
}

static void change_and_errors(void **state)
{
    struct loop *l;
    struct counter *c;
    struct loop_source bad = {.fd = -1, .ready = count};
    struct sm_error err;

    assert_int_equal(loop_new(&l, NULL), 0);
    assert_int_equal(loop_add(l, &bad, EPOLLIN, &err), SM_EIO);
    loop_remove(l, &bad); /* not there: nothing happens */
    c = counter(l);
    assert_int_equal(loop_add(l, &c->src, 0, NULL), 0);
    poke(c);
    assert_int_equal(loop_poll(l, 0), 0);
    loop_change(l, &c->src, EPOLLIN);
    assert_int_equal(loop_poll(l, 0), 1);
    assert_int_equal(c->calls, 1);
    drop(c);
    loop_free(l);
}

struct contender {
    struct loop *loop;
    unsigned *shared;
};

static void *contend(void *opaque)
{
    struct contender *c = opaque;

    for (int i = 0; i < 20000; i++) {
        loop_lock(c->loop);
        ++*c->shared;
        loop_unlock(c->loop);
    }
    return NULL;
}

static void bump(struct loop_source *src, uint32_t events)
{
    ++*(unsigned *)src->opaque; /* always ready: the loop never sleeps */
}

static void lock_excludes_and_is_not_starved(void **state)
{
    unsigned shared = 0;
    struct loop *l;
    struct loop_source src = {.fd = eventfd(1, 0), .ready = bump, .opaque = &shared};
    struct contender c;
    pthread_t threads[2];

    assert_int_equal(loop_new(&l, NULL), 0);
    c = (struct contender){l, &shared};
    assert_int_equal(loop_add(l, &src, EPOLLIN, NULL), 0);
    assert_int_equal(loop_start(l, NULL), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, contend, &c), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    loop_stop(l);
    assert_true(shared >= 40000);
    loop_remove(l, &src);
    close(src.fd);
    loop_free(l);
}

/* Threads add and remove sources while the loop delivers to them. */
static void *churn(void *opaque)
{
    struct loop *l = opaque;

    for (int i = 0; i < 2000; i++) {
        struct counter *c = counter(l);

        loop_lock(l);
        assert_int_equal(loop_add(l, &c->src, EPOLLIN, NULL), 0);
        loop_unlock(l);
        poke(c);
        drop(c);
    }
    return NULL;
}

static void churn_is_safe(void **state)
{
    struct loop *l;
    pthread_t threads[2];

    assert_int_equal(loop_new(&l, NULL), 0);
    assert_int_equal(loop_start(l, NULL), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn, l), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    loop_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_arrive),     cmocka_unit_test(removal_within_a_batch),
        cmocka_unit_test(change_and_errors), cmocka_unit_test(lock_excludes_and_is_not_starved),
        cmocka_unit_test(churn_is_safe),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

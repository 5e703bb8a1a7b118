/* SPDX-License-Identifier: Apache-2.0 */
/* Threads and what they wait by. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/thread.h"

static void *read_mask(void *opaque)
{
    pthread_sigmask(SIG_SETMASK, NULL, opaque);
    return opaque;
}

/* The new thread hears of nothing but its own faults; its maker's mask stays as it was. */
static void test_signals(void **state)
{
    sigset_t before, mask, after;
    pthread_t thread;
    void *result;
    (void)state;
    sigemptyset(&before);
    sigaddset(&before, SIGUSR2);
    sigaddset(&before, SIGSEGV);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    assert_int_equal(thread_start(&thread, read_mask, &mask), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, &mask);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int n = 1; n < 32; n++) {
        bool fault = n == SIGSEGV || n == SIGBUS || n == SIGFPE || n == SIGILL || n == SIGTRAP;
        bool never = n == SIGKILL || n == SIGSTOP;
        assert_int_equal(sigismember(&mask, n), !fault && !never);
        assert_int_equal(sigismember(&after, n), sigismember(&before, n));
    }
}

struct meeting {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool here;
};

static void *arrive(void *opaque)
{
    struct meeting *m = opaque;
    pthread_mutex_lock(&m->lock);
    m->here = true;
    pthread_cond_signal(&m->cond);
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

/* A wait ends by its signal, or not before its time. */
static void test_wait(void **state)
{
    struct meeting m = {.lock = PTHREAD_MUTEX_INITIALIZER};
    pthread_t thread;
    (void)state;
    clock_cond_init(&m.cond);
    pthread_mutex_lock(&m.lock);
    int64_t until = clock_ms() + 30;
    while (clock_wait(&m.cond, &m.lock, until) == 0) {
    }
    assert_true(clock_ms() >= until);
    assert_int_equal(clock_wait(&m.cond, &m.lock, 0), ETIMEDOUT);
    assert_int_equal(thread_start(&thread, arrive, &m), 0);
    while (!m.here) {
        assert_int_equal(clock_wait(&m.cond, &m.lock, -1), 0);
    }
    pthread_mutex_unlock(&m.lock);
    pthread_join(thread, NULL);
    uint64_t ns = clock_ns();
    assert_true(clock_ms() >= (int64_t)(ns / 1000000));
    pthread_cond_destroy(&m.cond);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signals),
        cmocka_unit_test(test_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

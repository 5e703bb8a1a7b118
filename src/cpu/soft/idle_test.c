/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cpu/soft/idle.h"

#define KHZ 1000000ull

struct clock {
    struct soft_idle idle;
    uint64_t now;
    unsigned times;
};

/* As in sleep_halted(): a sleep is cut short where the vCPU waits for the next window. */
static void run_and_sleep(struct clock *c, uint64_t run_ms, uint64_t sleep_ms)
{
    c->now += run_ms * KHZ;
    while (sleep_ms) {
        uint64_t ms = sleep_ms;
        if (ms > IDLE_WINDOW_MS && idle_waits(&c->idle, c->now)) {
            ms = IDLE_WINDOW_MS;
        }
        c->times += idle_slept(&c->idle, c->now, c->now + ms * KHZ);
        c->now += ms * KHZ;
        sleep_ms -= ms;
    }
}

static void once_when_quiet(void **state)
{
    struct clock c = {.idle.khz = KHZ, .now = 77 * KHZ};
    run_and_sleep(&c, 300, IDLE_WINDOW_MS);
    run_and_sleep(&c, 1, (IDLE_FIRST - 1) * IDLE_WINDOW_MS);
    assert_int_equal(c.times, 0);
    run_and_sleep(&c, 1, IDLE_WINDOW_MS);
    assert_int_equal(c.times, 1);
    for (int i = 0; i < 1000; i++) { /* what an idle guest does */
        run_and_sleep(&c, 1, 250);
    }
    assert_int_equal(c.times, 1);
    assert_false(idle_waits(&c.idle, c.now));
}

static void not_while_it_works(void **state)
{
    struct clock c = {.idle.khz = KHZ};
    for (int i = 0; i < 1000; i++) {
        run_and_sleep(&c, 3, 97); /* 3 % */
    }
    assert_int_equal(c.times, 0);
    run_and_sleep(&c, 400, 1); /* no sleep at all, nearly */
    run_and_sleep(&c, 400, 1);
    assert_int_equal(c.times, 0);
}

/* A long sleep after some work counts for as many windows as it lasts. */
static void again_later(void **state)
{
    struct clock c = {.idle.khz = KHZ};
    unsigned need = IDLE_FIRST;
    for (unsigned n = 1; n < 8; n++) {
        run_and_sleep(&c, 100, need * IDLE_WINDOW_MS);
        assert_int_equal(c.times, n - 1);
        assert_true(idle_waits(&c.idle, c.now));
        run_and_sleep(&c, 0, IDLE_WINDOW_MS);
        assert_int_equal(c.times, n);
        need = need < IDLE_LAST ? 2 * need : need;
    }
    assert_int_equal(need, IDLE_LAST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(once_when_quiet),
        cmocka_unit_test(not_while_it_works),
        cmocka_unit_test(again_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

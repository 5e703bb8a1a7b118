/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-rng (checklist RNG-01): bounded requests, a bounded rate, and bytes that differ. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "dev/fake_driver.h"
#include "dev/rng.h"

struct fixture {
    struct fake_driver f;
    struct rng *r;
};

static int setup(void **state)
{
    static struct fixture x;
    struct virtio_env env;

    fake_init(&x.f);
    env = fake_env(&x.f);
    assert_int_equal(rng_new(&env, &x.r, NULL), 0);
    fake_attach(&x.f, rng_virtio(x.r));
    assert_int_equal(fake_start(&x.f, 1, 256, 0), 0xf);
    *state = &x;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *x = *state;

    fake_detach(&x->f);
    rng_free(x->r);
    fake_fini(&x->f);
    return 0;
}

static bool all_zero(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (p[i] != 0)
            return false;
    return true;
}

static void bytes_differ(void **state)
{
    struct fixture *x = *state;
    const uint8_t *p = mem_ptr(x->f.mem, FAKE_BUFFERS, 0x4000);
    struct fake_desc d[2] = {{FAKE_BUFFERS, 64, FAKE_WRITE},
                             {FAKE_BUFFERS + 0x1000, 64, FAKE_WRITE}};
    uint32_t head, len;

    fake_offer(&x->f, 0, 0, d, 2);
    fake_kick(&x->f, 0);
    assert_true(fake_used(&x->f, 0, &head, &len));
    assert_int_equal(len, 128);
    assert_false(all_zero(p, 64));
    assert_memory_not_equal(p, p + 0x1000, 64);
    assert_true(all_zero(p + 64, 0x1000 - 64));
    assert_true(all_zero(p + 0x1040, 0x1000));
}

static void huge_and_readable_requests(void **state)
{
    struct fixture *x = *state;
    const uint8_t *p = mem_ptr(x->f.mem, FAKE_BUFFERS, FAKE_RAM - FAKE_BUFFERS);
    struct fake_desc big = {FAKE_BUFFERS, 8u << 20, FAKE_WRITE}, out = {FAKE_BUFFERS, 64};
    uint32_t head, len;

    fake_offer(&x->f, 0, 0, &out, 1);
    fake_kick(&x->f, 0);
    assert_true(fake_used(&x->f, 0, &head, &len));
    assert_int_equal(len, 0);
    assert_true(all_zero(p, 64));
    fake_offer(&x->f, 0, 0, &big, 1);
    fake_kick(&x->f, 0);
    assert_true(fake_used(&x->f, 0, &head, &len));
    assert_int_equal(len, RNG_REQUEST_MAX);
    assert_false(all_zero(p + RNG_REQUEST_MAX - 16, 16));
    assert_true(all_zero(p + RNG_REQUEST_MAX, 1u << 20));
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void rate_is_bounded_and_all_is_served(void **state)
{
    struct fixture *x = *state;
    struct fake_desc d = {FAKE_BUFFERS, RNG_REQUEST_MAX, FAKE_WRITE};
    const unsigned n = 40; /* 10 periods' worth */
    double start = now();

    for (unsigned i = 0; i < n; i++)
        fake_offer(&x->f, 0, 0, &d, 1);
    fake_write(&x->f, 0x50, 0);
    while (fake_used_index(&x->f, 0) != n && now() - start < 10)
        loop_poll(x->f.loop, 100);
    assert_int_equal(fake_used_index(&x->f, 0), n);
    assert_true(now() - start > 8 * RNG_PERIOD_MS / 1e3);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(bytes_differ),
        T(huge_and_readable_requests),
        T(rate_is_bounded_and_all_is_served),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

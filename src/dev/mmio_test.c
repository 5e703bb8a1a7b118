/* SPDX-License-Identifier: Apache-2.0 */
/* The register window and the device life cycle (checklist VQ-13, 14, 15, 17, 18, 19). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/le.h"
#include "dev/fake_driver.h"

struct device {
    struct fake_driver f;
    struct virtio v;
    unsigned starts, resets, kicks[2];
    struct virtq_chain c;
};

static void config(void *opaque, uint8_t *out)
{
    for (uint8_t i = 0; i < 11; i++)
        out[i] = (uint8_t)(0x10 + i);
}

static void start(void *opaque)
{
    ((struct device *)opaque)->starts++;
}

static void reset(void *opaque)
{
    ((struct device *)opaque)->resets++;
}

static void kick(void *opaque, unsigned queue)
{
    struct device *d = opaque;

    d->kicks[queue]++;
    while (virtq_pop(&d->v.queues[queue], &d->c) > 0)
        virtq_push(&d->v.queues[queue], &d->c, 0);
    virtio_interrupt(&d->v, queue);
}

static const struct virtio_ops ops = {
    .name = "test",
    .device_id = 0x1234,
    .n_queues = 2,
    .config_len = 11,
    .features = 1ull << 40 | 0x5,
    .config = config,
    .start = start,
    .kick = kick,
    .reset = reset,
};

static int setup(void **state)
{
    static struct device d;
    struct virtio_env env;

    memset(&d, 0, sizeof d);
    fake_init(&d.f);
    env = fake_env(&d.f);
    assert_int_equal(virtio_init(&d.v, &ops, &d, &env, NULL), 0);
    fake_attach(&d.f, &d.v);
    *state = &d;
    return 0;
}

static int teardown(void **state)
{
    struct device *d = *state;

    fake_detach(&d->f);
    virtio_fini(&d->v);
    fake_fini(&d->f);
    return 0;
}

static void identity(void **state)
{
    struct device *d = *state;

    assert_int_equal(fake_read(&d->f, 0x000), 0x74726976);
    assert_int_equal(fake_read(&d->f, 0x004), 2);
    assert_int_equal(fake_read(&d->f, 0x008), 0x1234);
    assert_int_equal(fake_read(&d->f, 0x034), 256);
    fake_write(&d->f, 0x014, 0);
    assert_int_equal(fake_read(&d->f, 0x010), 0x5 | 1u << 29);
    fake_write(&d->f, 0x014, 1);
    assert_int_equal(fake_read(&d->f, 0x010), 1 << 8 | 1);
    fake_write(&d->f, 0x014, 2);
    assert_int_equal(fake_read(&d->f, 0x010), 0);
    fake_write(&d->f, 0x014, 0xffffffff);
    assert_int_equal(fake_read(&d->f, 0x010), 0);
    fake_write(&d->f, 0x030, 2); /* no such queue */
    assert_int_equal(fake_read(&d->f, 0x034), 0);
    assert_int_equal(fake_read(&d->f, 0x044), 0);
    assert_int_equal(fake_read(&d->f, 0x0b0), 0xffffffff);
    assert_int_equal(fake_read(&d->f, 0x0bc), 0xffffffff);
    assert_int_equal(fake_read(&d->f, 0x070), 0);
}

/* VQ-17: every offset and width, in a state where a stray write could do harm. */
static void all_offsets_and_widths(void **state)
{
    static const unsigned sizes[] = {1, 2, 4, 8};
    struct device *d = *state;

    assert_int_equal(fake_start(&d->f, 2, 8, 0), 0xf);
    for (unsigned s = 0; s < 4; s++) {
        unsigned size = sizes[s];
        uint64_t ones = size == 8 ? ~0ull : (1ull << 8 * size) - 1;

        for (uint64_t at = 0; at < 0x1000; at++) {
            uint64_t got = bus_read(&d->f.bus, FAKE_MMIO + at, size);

            if (at + size > 0x1000) {
                assert_true(got == ones); /* leaves the window: like nothing there */
            } else if (at >= 0x100) {
                uint64_t want = 0;

                for (unsigned i = 0; i < size && at - 0x100 + i < 11; i++)
                    want |= (uint64_t)(0x10 + at - 0x100 + i) << (8 * i);
                assert_true(got == want);
            } else if (size != 4 || at % 4 != 0) {
                assert_true(got == 0);
            }
            /* Status 0 is a reset and ISR is needed below; every other write must be harmless now.
             */
            if (!(size == 4 && (at == 0x70 || at == 0x64)))
                bus_write(&d->f.bus, FAKE_MMIO + at, size, 0x1);
        }
    }
    fake_run(&d->f);
    assert_int_equal(fake_read(&d->f, 0x070), 0xf);
    assert_int_equal(d->resets, 1);
    assert_int_equal(d->v.queues[0].size, 8);
    assert_int_equal(fake_read(&d->f, 0x004), 2);
}

static void status_steps(void **state)
{
    struct device *d = *state;
    struct fake_driver *f = &d->f;

    fake_write(f, 0x70, 2); /* DRIVER without ACKNOWLEDGE */
    assert_int_equal(fake_read(f, 0x70), 0);
    fake_write(f, 0x70, 4); /* DRIVER_OK alone */
    assert_int_equal(fake_read(f, 0x70), 0);
    fake_write(f, 0x70, 0xffffff30); /* bits that do not exist */
    assert_int_equal(fake_read(f, 0x70), 0);
    fake_write(f, 0x70, 1);
    fake_write(f, 0x70, 3);
    assert_int_equal(fake_read(f, 0x70), 3);
    fake_write(f, 0x70, 7); /* skips FEATURES_OK */
    assert_int_equal(fake_read(f, 0x70), 3);
    fake_write(f, 0x70, 0xb); /* without VERSION_1 */
    assert_int_equal(fake_read(f, 0x70), 3);
    fake_write(f, 0x24, 1);
    fake_write(f, 0x20, 1 | 1 << 1); /* a feature not offered */
    fake_write(f, 0x70, 0xb);
    assert_int_equal(fake_read(f, 0x70), 3);
    fake_write(f, 0x20, 1);
    fake_write(f, 0x24, 9); /* no such half */
    fake_write(f, 0x20, 0xffffffff);
    fake_write(f, 0x70, 0xb);
    assert_int_equal(fake_read(f, 0x70), 0xb);
    fake_write(f, 0x24, 0);
    fake_write(f, 0x20, 5); /* too late */
    assert_true(d->v.driver_features == VIRTIO_F_VERSION_1);
    fake_write(f, 0x70, 1); /* must not clear */
    assert_int_equal(fake_read(f, 0x70), 0xb);
    assert_int_equal(d->starts, 0);
    fake_write(f, 0x70, 0xf);
    fake_write(f, 0x70, 0xf);
    assert_int_equal(d->starts, 1);
    fake_write(f, 0x70, 0x4f); /* the driver cannot set NEEDS_RESET */
    assert_int_equal(fake_read(f, 0x70), 0xf);
    fake_write(f, 0x70, 0x8f);
    assert_int_equal(fake_read(f, 0x70), 0x8f);
    fake_write(f, 0x70, 0xf);
    assert_int_equal(fake_read(f, 0x70), 0x8f);
    fake_write(f, 0x70, 0);
    assert_int_equal(fake_read(f, 0x70), 0);
    assert_int_equal(d->resets, 1);
}

/* VQ-13 */
static void kicks_count_only_when_live(void **state)
{
    struct device *d = *state;
    struct fake_driver *f = &d->f;
    struct fake_desc desc = {FAKE_BUFFERS, 16};

    fake_kick(f, 0);
    fake_negotiate(f, VIRTIO_F_VERSION_1);
    fake_set_queue(f, 0, 8, FAKE_QUEUE_AT(0), 1);
    fake_offer(f, 0, 0, &desc, 1);
    fake_kick(f, 0);
    assert_int_equal(d->kicks[0], 0);
    fake_write(f, 0x70, 0xf);
    fake_run(f);
    assert_int_equal(fake_used_index(f, 0), 1); /* what waited is seen at DRIVER_OK */
    assert_int_equal(d->kicks[1], 0);           /* queue 1 was never made ready */
    fake_kick(f, 1);
    assert_int_equal(d->kicks[1], 0);
    fake_write(f, 0x70, 0x8f); /* FAILED */
    fake_offer(f, 0, 0, &desc, 1);
    fake_kick(f, 0);
    assert_int_equal(fake_used_index(f, 0), 1);
    fake_write(f, 0x50, 0);
    fake_write(f, 0x70, 0); /* reset with a kick under way */
    fake_run(f);
    assert_int_equal(fake_used_index(f, 0), 1);
    for (uint32_t q = 2; q < 100; q++)
        fake_write(f, 0x50, q);
    fake_write(f, 0x50, 0xffff);
    fake_write(f, 0x50, 0xffffffff);
    fake_run(f);
}

/* VQ-18: a million kicks with nothing to do become few wake-ups. */
static void kick_storm(void **state)
{
    struct device *d = *state;

    assert_int_equal(fake_start(&d->f, 2, 8, 0), 0xf);
    d->kicks[0] = 0;
    for (int i = 0; i < 1000000; i++)
        fake_write(&d->f, 0x50, 0);
    fake_run(&d->f);
    assert_int_equal(d->kicks[0], 1);
}

/* VQ-15 */
static void reset_many_times(void **state)
{
    struct device *d = *state;
    struct fake_desc desc = {FAKE_BUFFERS, 16};

    for (int i = 0; i < 10000; i++) {
        uint16_t size = (uint16_t)(1u << i % 9);

        assert_int_equal(fake_start(&d->f, 2, size, i & 1 ? VIRTIO_F_EVENT_IDX : 0), 0xf);
        fake_offer(&d->f, 0, 0, &desc, 1);
        fake_write(&d->f, 0x50, 0);
        if (i & 2)
            fake_run(&d->f);
    }
    assert_int_equal(d->resets, 10000);
    fake_write(&d->f, 0x70, 0);
    assert_int_equal(d->f.level, 0);
}

/* VQ-19 */
static void interrupt_levels(void **state)
{
    struct device *d = *state;
    struct fake_driver *f = &d->f;
    struct fake_desc desc = {FAKE_BUFFERS, 16};

    fake_start(f, 2, 8, 0);
    fake_offer(f, 0, 0, &desc, 1);
    fake_kick(f, 0);
    assert_int_equal(fake_read(f, 0x60), 1);
    assert_int_equal(fake_read(f, 0x60), 1); /* reading does not acknowledge */
    assert_int_equal(f->level, 1);
    loop_lock(f->loop);
    virtio_config_changed(&d->v);
    loop_unlock(f->loop);
    assert_int_equal(fake_read(f, 0x60), 3);
    assert_int_equal(fake_read(f, 0xfc), 1);
    fake_write(f, 0x64, 1); /* partial: the line stays up */
    assert_int_equal(f->level, 1);
    fake_write(f, 0x64, 0xfffffffc);
    assert_int_equal(f->level, 1);
    fake_write(f, 0x64, 2);
    assert_int_equal(f->level, 0);
    assert_int_equal(f->edges, 1);
    fake_offer(f, 0, 0, &desc, 1);
    fake_kick(f, 0);
    assert_int_equal(f->level, 1);
    fake_write(f, 0x70, 0); /* reset drops it */
    assert_int_equal(f->level, 0);
    assert_int_equal(fake_read(f, 0x60), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(identity),         T(all_offsets_and_widths),
        T(status_steps),     T(kicks_count_only_when_live),
        T(kick_storm),       T(reset_many_times),
        T(interrupt_levels),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

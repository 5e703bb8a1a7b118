/* SPDX-License-Identifier: Apache-2.0 */
/* Hostile rings against a device that takes every chain it is given (checklist VQ-01 ... VQ-21). */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "base/le.h"
#include "dev/fake_driver.h"

struct taker {
    struct fake_driver f;
    struct virtio v;
    struct virtq_chain last;
    unsigned taken, resets, starts, kicks;
    uint32_t fill; /* bytes to write into each chain */
    bool hold;     /* take nothing */
};

static void start(void *opaque)
{
    ((struct taker *)opaque)->starts++;
}

static void reset(void *opaque)
{
    ((struct taker *)opaque)->resets++;
}

static void kick(void *opaque, unsigned queue)
{
    struct taker *t = opaque;
    struct virtq *q = &t->v.queues[queue];
    uint8_t bytes[256];

    t->kicks++;
    memset(bytes, 0x5a, sizeof bytes);
    while (!t->hold && virtq_pop(q, &t->last) > 0) {
        uint32_t n = t->fill < sizeof bytes ? t->fill : (uint32_t)sizeof bytes;

        t->taken++;
        virtq_push(q, &t->last, virtq_chain_write(&t->last, 0, bytes, n));
    }
    virtio_interrupt(&t->v, queue);
}

static const struct virtio_ops taker_ops = {
    .name = "taker", .device_id = 42, .n_queues = 2, .start = start, .kick = kick, .reset = reset};

static int setup(void **state)
{
    static struct taker t;
    struct virtio_env env;

    memset(&t, 0, sizeof t);
    fake_init(&t.f);
    env = fake_env(&t.f);
    assert_int_equal(virtio_init(&t.v, &taker_ops, &t, &env, NULL), 0);
    fake_attach(&t.f, &t.v);
    *state = &t;
    return 0;
}

static int teardown(void **state)
{
    struct taker *t = *state;

    fake_detach(&t->f);
    virtio_fini(&t->v);
    fake_fini(&t->f);
    return 0;
}

static struct taker *begin(void **state, uint16_t size, uint64_t features)
{
    struct taker *t = *state;

    assert_int_equal(fake_start(&t->f, 2, size, features), 0xf);
    t->taken = 0;
    return t;
}

static void good_chains(void **state)
{
    struct taker *t = begin(state, 8, 0);
    const struct fake_desc d[] = {{FAKE_BUFFERS, 16},
                                  {FAKE_BUFFERS + 0x1000, 8},
                                  {FAKE_BUFFERS + 0x2000, 4, FAKE_WRITE},
                                  {FAKE_BUFFERS + 0x3000, 100, FAKE_WRITE}};
    uint32_t head, len;
    uint8_t *a = mem_ptr_write(t->f.mem, FAKE_BUFFERS, 16), out[30];
    struct iovec iov[VIRTQ_MAX_SIZE];

    memcpy(a, "0123456789abcdef", 16);
    memcpy(mem_ptr_write(t->f.mem, FAKE_BUFFERS + 0x1000, 8), "ghijklmn", 8);
    t->fill = 10;
    t->f.wrote = 0;
    fake_offer(&t->f, 0, 3, d, 4);
    fake_kick(&t->f, 0);
    assert_int_equal(t->taken, 1);
    assert_int_equal(t->last.n_out, 2);
    assert_int_equal(t->last.n_in, 2);
    assert_int_equal(t->last.out_bytes, 24);
    assert_int_equal(t->last.in_bytes, 104);
    assert_true(fake_used(&t->f, 0, &head, &len));
    assert_int_equal(head, 3);
    assert_int_equal(len, 10);
    assert_false(fake_used(&t->f, 0, &head, &len));
    assert_int_equal(t->f.wrote, 10 + 8 + 2); /* payload, used element, used index */
    assert_int_equal(*(uint8_t *)mem_ptr(t->f.mem, FAKE_BUFFERS + 0x2003, 1), 0x5a);
    assert_int_equal(*(uint8_t *)mem_ptr(t->f.mem, FAKE_BUFFERS + 0x3005, 1), 0x5a);
    assert_int_equal(*(uint8_t *)mem_ptr(t->f.mem, FAKE_BUFFERS + 0x3006, 1), 0);
    assert_int_equal(virtq_chain_read(&t->last, 14, out, sizeof out), 10);
    assert_memory_equal(out, "efghijklmn", 10);
    assert_int_equal(virtq_chain_read(&t->last, 24, out, sizeof out), 0);
    assert_int_equal(virtq_chain_slice(&t->last, false, 14, 4, iov), 2);
    assert_int_equal(iov[0].iov_len + iov[1].iov_len, 4);
    assert_int_equal(t->f.level, 1);
}

/* VQ-02: as many descriptors as the queue has are fine. VQ-09: the same head again is answered. */
static void longest_chain_and_same_heads(void **state)
{
    struct taker *t = begin(state, 256, 0);
    struct fake_desc d[256];
    uint32_t head, len;

    for (unsigned i = 0; i < 256; i++)
        d[i] = (struct fake_desc){FAKE_BUFFERS + i * 0x1000, 0x1000, i < 100 ? 0 : FAKE_WRITE};
    fake_offer(&t->f, 0, 0, d, 256);
    for (int i = 0; i < 255; i++)
        fake_put_avail(&t->f, 0, 0);
    fake_kick(&t->f, 0);
    assert_int_equal(t->taken, 256);
    for (int i = 0; i < 256; i++) {
        assert_true(fake_used(&t->f, 0, &head, &len));
        assert_int_equal(head, 0);
    }
}

static void ring_wraps(void **state)
{
    struct taker *t = begin(state, 4, VIRTIO_F_EVENT_IDX);
    struct fake_desc d = {FAKE_BUFFERS, 16};
    uint32_t head, len;

    for (uint32_t i = 0; i < 70000; i++) {
        fake_offer(&t->f, 1, i % 4, &d, 1);
        fake_kick(&t->f, 1);
        assert_true(fake_used(&t->f, 1, &head, &len));
        assert_int_equal(head, i % 4);
    }
    assert_int_equal(t->taken, 70000);
    assert_int_equal(fake_read(&t->f, 0x70), 0xf);
}

struct bad_chain {
    const char *what;
    struct fake_desc d[4]; /* from index 0 on; index and flags exactly as given */
    uint16_t head;
};

static const struct bad_chain bad_chains[] = {
    {"self loop", {{FAKE_BUFFERS, 16, FAKE_NEXT, 0}}},
    {"two-cycle", {{FAKE_BUFFERS, 16, FAKE_NEXT, 1}, {FAKE_BUFFERS, 16, FAKE_NEXT, 0}}},
    {"long cycle",
     {{FAKE_BUFFERS, 16, FAKE_NEXT, 1},
      {FAKE_BUFFERS, 16, FAKE_NEXT, 2},
      {FAKE_BUFFERS, 16, FAKE_NEXT, 3},
      {FAKE_BUFFERS, 16, FAKE_NEXT, 1}}},
    {"next == size", {{FAKE_BUFFERS, 16, FAKE_NEXT, 8}}},
    {"next == 0xffff", {{FAKE_BUFFERS, 16, FAKE_NEXT, 0xffff}}},
    {"head == size", {{FAKE_BUFFERS, 16}}, 8},
    {"head == 0xffff", {{FAKE_BUFFERS, 16}}, 0xffff},
    {"wraps 2^64", {{~0ull - 8, 16}}},
    {"wraps to RAM", {{~0ull - 8, 0x2000}}},
    {"length 0", {{FAKE_BUFFERS, 0}}},
    {"length 0xffffffff", {{FAKE_BUFFERS, 0xffffffff}}},
    {"all ones", {{~0ull, 0xffffffff, 0xffff, 0xffff}}},
    {"past RAM", {{FAKE_RAM, 16}}},
    {"across the end of RAM", {{FAKE_RAM - 8, 16}}},
    {"hole", {{0xc0000000, 16}}},
    {"MMIO window", {{FAKE_MMIO + 0x50, 4}}},
    {"pmem window", {{FAKE_WINDOW, 16}}},
    {"pmem window, writable", {{FAKE_WINDOW, 16, FAKE_WRITE}}},
    {"indirect", {{FAKE_BUFFERS, 16, FAKE_INDIRECT}}},
    {"indirect and next", {{FAKE_BUFFERS, 32, FAKE_INDIRECT | FAKE_NEXT, 1}, {FAKE_BUFFERS, 1}}},
    {"readable after writable",
     {{FAKE_BUFFERS, 16, FAKE_NEXT | FAKE_WRITE, 1}, {FAKE_BUFFERS, 16, 0}}},
};

static void bad_chains_are_refused(void **state)
{
    for (unsigned i = 0; i < sizeof bad_chains / sizeof bad_chains[0]; i++) {
        const struct bad_chain *b = &bad_chains[i];
        struct taker *t = begin(state, 8, 0);
        struct fake_desc good = {FAKE_BUFFERS, 16};

        for (uint16_t n = 0; n < 4; n++)
            fake_put_desc(&t->f, 0, n, b->d[n]);
        fake_put_avail(&t->f, 0, b->head);
        fake_kick(&t->f, 0);
        if (t->taken != 0)
            fail_msg("%s: taken", b->what);
        assert_int_equal(fake_used_index(&t->f, 0), 0);
        assert_int_equal(fake_read(&t->f, 0x70), 0x4f);
        assert_int_equal(fake_read(&t->f, 0x60), VIRTIO_ISR_CONFIG);
        /* VQ-13: nothing is consumed while DEVICE_NEEDS_RESET, on any queue. */
        fake_offer(&t->f, 1, 0, &good, 1);
        fake_kick(&t->f, 1);
        assert_int_equal(t->taken, 0);
        /* And a reset makes it whole. */
        t = begin(state, 8, 0);
        fake_offer(&t->f, 0, 0, &good, 1);
        fake_kick(&t->f, 0);
        assert_int_equal(t->taken, 1);
    }
}

/* VQ-02: one more descriptor than the queue has. VQ-04: 2^32 bytes in all. */
static void too_much(void **state)
{
    struct taker *t = begin(state, 256, 0);
    struct fake_desc d[256];

    for (unsigned i = 0; i < 256; i++)
        d[i] = (struct fake_desc){0, FAKE_RAM};
    fake_offer(&t->f, 0, 0, d, 255); /* 255 * 16 MiB is below 4 GiB */
    fake_kick(&t->f, 0);
    assert_int_equal(t->taken, 1);
    t->taken = 0;
    fake_offer(&t->f, 0, 0, d, 256);
    fake_kick(&t->f, 0);
    assert_int_equal(t->taken, 0);
    assert_int_equal(fake_read(&t->f, 0x70), 0x4f);
}

/* VQ-08 */
static void avail_index(void **state)
{
    static const uint16_t bad[] = {9, 0x8000, 0xffff, 8 + 1 + 4};

    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct taker *t = begin(state, 8, VIRTIO_F_EVENT_IDX);
        uint8_t *avail = mem_ptr_write(t->f.mem, FAKE_QUEUE_AT(0) + FAKE_AVAIL, 64);
        struct fake_desc d = {FAKE_BUFFERS, 16};

        for (uint16_t n = 0; n < 8; n++)
            fake_put_desc(&t->f, 0, n, d);
        le16_put(avail + 20, 0x7777); /* used_event poisoned */
        le16_put(avail + 2, bad[i]);
        fake_kick(&t->f, 0);
        assert_int_equal(t->taken, 0);
        assert_int_equal(fake_read(&t->f, 0x70), 0x4f);
    }
}

/* VQ-10: what is latched at DRIVER_OK stays. */
static void geometry_is_latched(void **state)
{
    struct taker *t = begin(state, 8, 0);
    struct fake_desc d = {FAKE_BUFFERS, 16};

    fake_write(&t->f, 0x030, 0);
    fake_write(&t->f, 0x044, 0);
    fake_set_queue(&t->f, 0, 256, 0xfff00000, 1);
    t->f.queues[0].size = 8;
    fake_write(&t->f, 0x030, 77);
    fake_offer(&t->f, 0, 0, &d, 1);
    fake_kick(&t->f, 0);
    assert_int_equal(t->taken, 1);
    assert_int_equal(fake_used_index(&t->f, 0), 1);
    assert_int_equal(fake_read(&t->f, 0x70), 0xf);
}

/* VQ-10, VQ-11: geometry that must not start. */
static void bad_geometry(void **state)
{
    struct taker *t = *state;
    static const struct {
        uint32_t size;
        gpa_t desc, avail, used;
    } bad[] = {
        {0, 0x1000, 0x2000, 0x3000},          {3, 0x1000, 0x2000, 0x3000},
        {512, 0x10000, 0x20000, 0x30000},     {0x10008, 0x1000, 0x2000, 0x3000},
        {0xffffffff, 0x1000, 0x2000, 0x3000}, {8, 0x1008, 0x2000, 0x3000},
        {8, 0x1000, 0x2001, 0x3000},          {8, 0x1000, 0x2000, 0x3002},
        {8, 0x1000, 0x1000, 0x3000},          {8, 0x1000, 0x107e, 0x3000},
        {8, 0x1000, 0x2000, 0x2014},          {8, 0x1000, 0x3000, 0x1040},
        {8, FAKE_RAM, 0x2000, 0x3000},        {8, FAKE_RAM - 0x40, 0x2000, 0x3000},
        {8, 0x1000, FAKE_RAM - 8, 0x3000},    {8, 0x1000, 0x2000, FAKE_RAM - 8},
        {8, ~0xfull, 0x2000, 0x3000},         {8, 0x1000, ~1ull, 0x3000},
        {8, 0x1000, 0x2000, ~3ull},           {8, FAKE_WINDOW, 0x2000, 0x3000},
        {8, 0x1000, 0x2000, FAKE_WINDOW},     {8, FAKE_MMIO, 0x2000, 0x3000},
    };

    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        fake_negotiate(&t->f, VIRTIO_F_VERSION_1);
        fake_set_queue(&t->f, 1, 8, FAKE_QUEUE_AT(1), 1);
        fake_write(&t->f, 0x030, 0);
        fake_write(&t->f, 0x038, bad[i].size);
        fake_write(&t->f, 0x080, (uint32_t)bad[i].desc);
        fake_write(&t->f, 0x084, (uint32_t)(bad[i].desc >> 32));
        fake_write(&t->f, 0x090, (uint32_t)bad[i].avail);
        fake_write(&t->f, 0x094, (uint32_t)(bad[i].avail >> 32));
        fake_write(&t->f, 0x0a0, (uint32_t)bad[i].used);
        fake_write(&t->f, 0x0a4, (uint32_t)(bad[i].used >> 32));
        fake_write(&t->f, 0x044, 1);
        t->starts = t->kicks = 0;
        fake_write(&t->f, 0x070, 0xf);
        fake_kick(&t->f, 0);
        fake_kick(&t->f, 1);
        if (fake_read(&t->f, 0x70) != 0x4f)
            fail_msg("geometry %u started", i);
        assert_int_equal(t->starts + t->kicks, 0);
    }
}

/* VQ-12: the guest's copies of our indexes are not read back. */
static void used_ring_is_write_only(void **state)
{
    struct taker *t = begin(state, 8, 0);
    struct fake_desc d = {FAKE_BUFFERS, 16};

    fake_offer(&t->f, 0, 0, &d, 1);
    fake_kick(&t->f, 0);
    memset(mem_ptr_write(t->f.mem, FAKE_QUEUE_AT(0) + FAKE_USED, 70), 0xff, 70);
    fake_offer(&t->f, 0, 1, &d, 1);
    fake_kick(&t->f, 0);
    assert_int_equal(t->taken, 2);
    assert_int_equal(fake_used_index(&t->f, 0), 2);
}

/* VQ-19 and 2.7.10: when an interrupt is due. */
static void interrupt_suppression(void **state)
{
    struct taker *t = begin(state, 8, 0);
    uint8_t *avail = mem_ptr_write(t->f.mem, FAKE_QUEUE_AT(0) + FAKE_AVAIL, 64);
    struct fake_desc d = {FAKE_BUFFERS, 16};

    le16_put(avail, 1);
    fake_offer(&t->f, 0, 0, &d, 1);
    fake_kick(&t->f, 0);
    assert_int_equal(t->f.level, 0);
    le16_put(avail, 0);
    fake_kick(&t->f, 0); /* nothing new: no interrupt */
    assert_int_equal(t->f.level, 0);

    t = begin(state, 8, VIRTIO_F_EVENT_IDX);
    t->f.edges = 0;
    le16_put(avail + 20, 2); /* used_event: interrupt when the third is used */
    for (int i = 0; i < 2; i++) {
        fake_offer(&t->f, 0, 0, &d, 1);
        fake_kick(&t->f, 0);
        assert_int_equal(t->f.level, 0);
    }
    fake_offer(&t->f, 0, 0, &d, 1);
    fake_kick(&t->f, 0);
    assert_int_equal(t->f.level, 1);
    fake_write(&t->f, 0x64, 1);
    assert_int_equal(t->f.level, 0);
    fake_offer(&t->f, 0, 0, &d, 1);
    fake_kick(&t->f, 0);
    assert_int_equal(t->f.level, 0);
    assert_int_equal(t->f.edges, 1);
    /* avail_event asks for a notification about the next chain. */
    assert_int_equal(le16_get(mem_ptr(t->f.mem, FAKE_QUEUE_AT(0) + FAKE_USED + 4 + 8 * 8, 2)), 4);
}

struct racer {
    struct fake_driver *f;
    atomic_bool stop;
};

/* VQ-16: another vCPU rewrites descriptors and the ring while the device works. */
static void *rewrite(void *opaque)
{
    struct racer *r = opaque;
    volatile uint64_t *desc = mem_ptr_write(r->f->mem, FAKE_QUEUE_AT(0), 128);
    volatile uint16_t *avail = mem_ptr_write(r->f->mem, FAKE_QUEUE_AT(0) + FAKE_AVAIL, 64);
    static const uint64_t addr[] = {FAKE_BUFFERS, ~0ull, FAKE_RAM - 8, FAKE_WINDOW, 0x10000};
    uint32_t x = 1;

    while (!r->stop) {
        x = x * 1664525 + 1013904223;
        desc[(x >> 8) % 8 * 2] = addr[(x >> 16) % 5];
        desc[(x >> 4) % 8 * 2 + 1] =
            (x >> 10) % 64 | (uint64_t)(x >> 20 & 7) << 32 | (uint64_t)(x >> 24 & 15) << 48;
        if ((x >> 28) == 0)
            avail[2 + (x >> 12) % 8] = x >> 9 & 15;
    }
    return NULL;
}

static void concurrent_rewrites(void **state)
{
    struct taker *t = *state;
    struct racer r = {&t->f};
    struct timespec a, b;
    unsigned rounds = 0, taken = 0;
    pthread_t thread;

    t->fill = 64;
    begin(state, 8, 0);
    assert_int_equal(pthread_create(&thread, NULL, rewrite, &r), 0);
    clock_gettime(CLOCK_MONOTONIC, &a);
    do {
        begin(state, 8, 0);
        for (int i = 0; i < 8; i++)
            fake_put_avail(&t->f, 0, (uint16_t)i);
        fake_kick(&t->f, 0);
        taken += t->taken;
        rounds++;
        clock_gettime(CLOCK_MONOTONIC, &b);
    } while (b.tv_sec - a.tv_sec < 2);
    r.stop = true;
    pthread_join(thread, NULL);
    assert_true(rounds > 100 && taken > 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(good_chains),
        T(longest_chain_and_same_heads),
        T(ring_wraps),
        T(bad_chains_are_refused),
        T(too_much),
        T(avail_index),
        T(geometry_is_latched),
        T(bad_geometry),
        T(used_ring_is_write_only),
        T(interrupt_suppression),
        T(concurrent_rewrites),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-balloon: what the guest gives up is the host's again, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "base/le.h"
#include "dev/balloon.h"
#include "dev/fake_driver.h"

#define PAGE MEM_PAGE_SIZE
#define PAGES 8 /* from FAKE_BUFFERS on: full of 0x5a */
#define REPORTING 2
#define LIST (FAKE_BUFFERS + (1u << 20)) /* page numbers */

struct fixture {
    struct fake_driver f;
    struct balloon *b;
};

static void begin(struct fixture *x, uint64_t features)
{
    struct virtio_env env;

    fake_init(&x->f);
    env = fake_env(&x->f);
    assert_int_equal(balloon_new(&env, &x->b, NULL), 0);
    fake_attach(&x->f, balloon_virtio(x->b));
    assert_int_equal(fake_start(&x->f, 5, 64, features), 0xf);
    memset(mem_ptr_write(x->f.mem, FAKE_BUFFERS, PAGES * PAGE), 0x5a, PAGES * PAGE);
}

static void end(struct fixture *x)
{
    fake_detach(&x->f);
    balloon_free(x->b);
    fake_fini(&x->f);
}

/* Which of the pages the host still holds, by bit. Changes none. */
static unsigned held(struct fixture *x)
{
    unsigned char in[PAGES];
    unsigned bits = 0;

    assert_int_equal(
        mincore((void *)mem_ptr(x->f.mem, FAKE_BUFFERS, PAGES * PAGE), PAGES * PAGE, in), 0);
    for (unsigned i = 0; i < PAGES; i++)
        bits |= (in[i] & 1u) << i;
    return bits;
}

static void offer(struct fixture *x, unsigned queue, const struct fake_desc *d, unsigned n)
{
    uint32_t head, len;

    fake_offer(&x->f, queue, 0, d, n);
    fake_kick(&x->f, queue);
    assert_true(fake_used(&x->f, queue, &head, &len));
    assert_int_equal(len, 0);
}

static void what_it_is(void **state)
{
    struct fixture x;

    begin(&x, BALLOON_F_REPORTING);
    assert_int_equal(fake_read(&x.f, 0x008), 5);
    fake_write(&x.f, 0x014, 0);
    /* Nothing is offered that is not done: no statistics, no hints, no poison. */
    assert_int_equal(fake_read(&x.f, 0x010), (uint32_t)(BALLOON_F_REPORTING | VIRTIO_F_EVENT_IDX));
    assert_int_equal(fake_read(&x.f, 0x100), 0); /* no pages are wanted */
    end(&x);
}

static void reported_pages_go(void **state)
{
    const struct fake_desc d[2] = {{FAKE_BUFFERS + PAGE, PAGE, FAKE_WRITE},
                                   {FAKE_BUFFERS + 4 * PAGE, 2 * PAGE, FAKE_WRITE}};
    struct fixture x;
    uint64_t before;

    begin(&x, BALLOON_F_REPORTING);
    assert_int_equal(held(&x), 0xff);
    before = x.f.wrote;
    offer(&x, REPORTING, d, 2);
    assert_int_equal(held(&x), 0xff & ~(1u << 1 | 1u << 4 | 1u << 5));
    assert_true(x.f.wrote - before >= 3 * PAGE); /* the CPU has no code from them any more */
    const uint8_t *p = mem_ptr(x.f.mem, FAKE_BUFFERS, PAGES * PAGE);
    assert_int_equal(p[PAGE], 0);
    assert_int_equal(p[6 * PAGE - 1], 0);
    assert_int_equal(p[PAGE - 1], 0x5a);
    assert_int_equal(p[2 * PAGE], 0x5a);
    assert_int_equal(p[6 * PAGE], 0x5a);
    end(&x);
}

/* The number that the specification gives to the queue. */
static void queue_4_too(void **state)
{
    const struct fake_desc d = {FAKE_BUFFERS, PAGE, FAKE_WRITE};
    struct fixture x;

    begin(&x, BALLOON_F_REPORTING);
    offer(&x, 4, &d, 1);
    assert_int_equal(held(&x), 0xfe);
    end(&x);
}

static void parts_of_pages_stay(void **state)
{
    const struct fake_desc d[4] = {{FAKE_BUFFERS + 1, 2 * PAGE - 1, FAKE_WRITE},
                                   {FAKE_BUFFERS + 3 * PAGE, 2 * PAGE - 1, FAKE_WRITE},
                                   {FAKE_BUFFERS + 6 * PAGE + 8, PAGE, FAKE_WRITE},
                                   {FAKE_BUFFERS + 7 * PAGE + 8, 16, FAKE_WRITE}};
    struct fixture x;

    begin(&x, BALLOON_F_REPORTING);
    offer(&x, REPORTING, d, 4);
    assert_int_equal(held(&x), 0xff & ~(1u << 1 | 1u << 3));
    end(&x);
}

static void only_what_was_agreed(void **state)
{
    const struct fake_desc d = {FAKE_BUFFERS, PAGE, FAKE_WRITE}, out = {FAKE_BUFFERS, PAGE};
    struct fixture x;

    begin(&x, 0);
    offer(&x, REPORTING, &d, 1);
    assert_int_equal(held(&x), 0xff);
    end(&x);
    begin(&x, BALLOON_F_REPORTING);
    offer(&x, REPORTING, &out, 1); /* readable: no report */
    assert_int_equal(held(&x), 0xff);
    end(&x);
}

static void not_ram(void **state)
{
    static const struct fake_desc bad[] = {
        {FAKE_WINDOW, PAGE, FAKE_WRITE},         {FAKE_MMIO, PAGE, FAKE_WRITE},
        {FAKE_RAM - PAGE, 2 * PAGE, FAKE_WRITE}, {~0ull - PAGE, 2 * PAGE, FAKE_WRITE},
        {FAKE_BUFFERS, 0, FAKE_WRITE},           {FAKE_RAM, PAGE, FAKE_WRITE},
        {FAKE_BUFFERS, 0xffffffffu, FAKE_WRITE},
    };
    struct fixture x;

    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        begin(&x, BALLOON_F_REPORTING);
        fake_offer(&x.f, REPORTING, 0, &bad[i], 1);
        fake_kick(&x.f, REPORTING);
        assert_true(fake_read(&x.f, 0x070) & VIRTIO_S_NEEDS_RESET);
        assert_int_equal(held(&x), 0xff);
        end(&x);
    }
}

static void inflate(struct fixture *x, const uint32_t *pfns, unsigned n, uint32_t len)
{
    struct fake_desc d = {LIST, len, 0};
    uint8_t *p = mem_ptr_write(x->f.mem, LIST, 4 * n);

    for (unsigned i = 0; i < n; i++)
        le32_put(p + 4 * i, pfns[i]);
    offer(x, 0, &d, 1);
}

static void inflated_pages_go(void **state)
{
    const uint32_t base = FAKE_BUFFERS / PAGE;
    const uint32_t pfns[] = {base,    base + 3, 0xffffffff, FAKE_RAM / PAGE, FAKE_WINDOW / PAGE,
                             base + 7};
    const struct fake_desc d = {LIST, sizeof pfns, 0};
    struct fixture x;

    begin(&x, 0);
    inflate(&x, pfns, 6, sizeof pfns);
    assert_int_equal(held(&x), 0xff & ~(1u << 0 | 1u << 3 | 1u << 7));
    inflate(&x, &(uint32_t){base + 1}, 1, 3); /* a number cut short */
    assert_int_equal(held(&x), 0xff & ~(1u << 0 | 1u << 3 | 1u << 7));
    *(uint8_t *)mem_ptr_write(x.f.mem, FAKE_BUFFERS, 1) = 1;
    offer(&x, 1, &d, 1); /* deflate: the guest uses them again */
    assert_int_equal(held(&x), 0xff & ~(1u << 3 | 1u << 7));
    end(&x);
}

/* One request cannot keep the I/O thread for long. */
static void requests_are_bounded(void **state)
{
    static uint32_t pfns[BALLOON_INFLATE_MAX + 1];
    const uint32_t base = FAKE_BUFFERS / PAGE;
    struct fixture x;

    for (unsigned i = 0; i < BALLOON_INFLATE_MAX; i++)
        pfns[i] = base;
    pfns[BALLOON_INFLATE_MAX] = base + 1;
    begin(&x, 0);
    inflate(&x, pfns, BALLOON_INFLATE_MAX + 1, sizeof pfns);
    assert_int_equal(held(&x), 0xfe);
    end(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_it_is),           cmocka_unit_test(reported_pages_go),
        cmocka_unit_test(queue_4_too),          cmocka_unit_test(parts_of_pages_stay),
        cmocka_unit_test(only_what_was_agreed), cmocka_unit_test(not_ram),
        cmocka_unit_test(inflated_pages_go),    cmocka_unit_test(requests_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

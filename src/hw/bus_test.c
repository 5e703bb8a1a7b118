/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "hw/bus.h"

struct device {
    uint64_t offset, value;
    unsigned size, reads, writes;
};

static uint64_t dev_read(void *opaque, uint64_t offset, unsigned size)
{
    struct device *d = opaque;

    d->reads++;
    d->offset = offset;
    d->size = size;
    return 0x1122334455667788ull;
}

static void dev_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct device *d = opaque;

    d->writes++;
    d->offset = offset;
    d->size = size;
    d->value = value;
}

static const struct bus_ops ops = {dev_read, dev_write};

static void reaches_the_right_device(void **state)
{
    struct bus b = {0};
    struct device a = {0}, z = {0};

    assert_int_equal(bus_add(&b, 0x2000, 0x10, &ops, &z, NULL), 0);
    assert_int_equal(bus_add(&b, 0x1000, 0x1000, &ops, &a, NULL), 0);
    assert_int_equal(bus_read(&b, 0x1ffc, 4), 0x55667788);
    assert_int_equal(a.offset, 0xffc);
    assert_int_equal(a.size, 4);
    assert_int_equal(bus_read(&b, 0x2000, 1), 0x88);
    assert_int_equal(z.offset, 0);
    assert_true(bus_read(&b, 0x2008, 8) == 0x1122334455667788ull);
    bus_write(&b, 0x2002, 2, 0xabcdef01);
    assert_int_equal(z.value, 0xef01); /* no more than the access carries */
    assert_int_equal(z.offset, 2);
}

static void nothing_there(void **state)
{
    struct bus b = {0};
    struct device a = {0};

    assert_true(bus_read(&b, 0, 8) == ~0ull);
    assert_int_equal(bus_add(&b, 0x1000, 0x10, &ops, &a, NULL), 0);
    assert_int_equal(bus_read(&b, 0xfff, 1), 0xff);
    assert_int_equal(bus_read(&b, 0xfff, 2), 0xffff);
    assert_int_equal(bus_read(&b, 0x100e, 4), 0xffffffff); /* straddles the end */
    assert_true(bus_read(&b, ~0ull, 8) == ~0ull);
    bus_write(&b, 0x100d, 4, 1);
    bus_write(&b, 0x1010, 1, 1);
    assert_int_equal(a.reads + a.writes, 0);
}

static void bad_ranges(void **state)
{
    struct bus b = {0};
    struct device a = {0};

    assert_int_equal(bus_add(&b, 0x1000, 0x1000, &ops, &a, NULL), 0);
    assert_int_equal(bus_add(&b, 0x1fff, 1, &ops, &a, NULL), SM_EINVAL);
    assert_int_equal(bus_add(&b, 0x0, 0x1001, &ops, &a, NULL), SM_EINVAL);
    assert_int_equal(bus_add(&b, 0x5000, 0, &ops, &a, NULL), SM_EINVAL);
    assert_int_equal(bus_add(&b, ~0ull, 2, &ops, &a, NULL), SM_EINVAL);
    assert_int_equal(bus_add(&b, ~0ull, 1, &ops, &a, NULL), 0);
    assert_int_equal(bus_read(&b, ~0ull, 1), 0x88);
    for (unsigned i = b.n_ranges; i < BUS_MAX_RANGES; i++)
        assert_int_equal(bus_add(&b, 0x100000 - i * 16, 16, &ops, &a, NULL), 0);
    assert_int_equal(bus_add(&b, 0x200000, 1, &ops, &a, NULL), SM_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reaches_the_right_device),
        cmocka_unit_test(nothing_there),
        cmocka_unit_test(bad_ranges),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

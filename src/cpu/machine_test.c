/* SPDX-License-Identifier: Apache-2.0 */
/* The engine-neutral state: round trips, impossible values, another clock, and the soft engine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cpu/machine.h"

static const uint8_t digest[STATE_DIGEST_SIZE];

/* Every byte different, as far as the walk's own checks allow. */
static void fill(struct cpu_state *c, struct machine_state *m)
{
    uint8_t *p = (uint8_t *)c;
    for (size_t i = 0; i < sizeof *c; i++)
        p[i] = (uint8_t)(i * 7 + 1);
    c->events = (struct cpu_events){.exception_pending = true,
                                    .exception_vector = 13,
                                    .exception_code = 5,
                                    .nmi_masked = true,
                                    .shadow = 2};
    c->mp = CPU_HALTED;
    c->cr8 = 9;
    *m = (struct machine_state){.ioapic_id = 0x5000000,
                                .ioapic_lines = 0xabcdef,
                                .host_tsc = 1234567,
                                .tsc_khz = 2000000,
                                .system_ns = 99};
    for (unsigned i = 0; i < ENGINE_IOAPIC_PINS; i++)
        m->ioapic_redirect[i] = i * 0x1111111111;
}

static void test_round_trip(void **state)
{
    static struct cpu_state a, b;
    static struct state_file f;
    struct machine_state m, n = {0};
    struct buf one = {0}, two = {0};
    fill(&a, &m);
    assert_int_equal(state_begin(&one, digest, NULL), 0);
    assert_int_equal(state_save(&one, "cpu0", 1, cpu_walk, &a, NULL), 0);
    assert_int_equal(state_save(&one, "machine", 1, machine_walk, &m, NULL), 0);
    assert_int_equal(state_open(&f, one.data, one.len, digest, NULL), 0);
    assert_int_equal(state_load(&f, "cpu0", 1, cpu_walk, &b, NULL), 0);
    assert_int_equal(state_load(&f, "machine", 1, machine_walk, &n, NULL), 0);
    assert_memory_equal(&m, &n, sizeof m);
    assert_memory_equal(a.gpr, b.gpr, sizeof a.gpr);
    assert_memory_equal(a.lapic, b.lapic, sizeof a.lapic);
    assert_memory_equal(a.xsave, b.xsave, sizeof a.xsave);
    assert_int_equal(state_begin(&two, digest, NULL), 0);
    assert_int_equal(state_save(&two, "cpu0", 1, cpu_walk, &b, NULL), 0);
    assert_int_equal(state_save(&two, "machine", 1, machine_walk, &n, NULL), 0);
    assert_int_equal(one.len, two.len);
    assert_memory_equal(one.data, two.data, one.len);
    buf_fini(&one);
    buf_fini(&two);
}

static int reload(const struct cpu_state *c, const struct machine_state *m)
{
    static struct cpu_state copy;
    static struct state_file f;
    struct machine_state copy_m = *m;
    struct buf file = {0};
    copy = *c;
    assert_int_equal(state_begin(&file, digest, NULL), 0);
    assert_int_equal(state_save(&file, "c", 1, cpu_walk, &copy, NULL), 0);
    assert_int_equal(state_save(&file, "m", 1, machine_walk, &copy_m, NULL), 0);
    assert_int_equal(state_open(&f, file.data, file.len, digest, NULL), 0);
    int rc = state_load(&f, "c", 1, cpu_walk, &copy, NULL);
    rc = rc ? rc : state_load(&f, "m", 1, machine_walk, &copy_m, NULL);
    buf_fini(&file);
    return rc;
}

static void test_impossible(void **state)
{
    static struct cpu_state c, good;
    struct machine_state m, fine;
    fill(&good, &fine);
    assert_int_equal(reload(&good, &fine), 0);
#define REFUSED(field, value)                                                                      \
    do {                                                                                           \
        c = good;                                                                                  \
        m = fine;                                                                                  \
        field = value;                                                                             \
        assert_int_equal(reload(&c, &m), SM_ECORRUPT);                                             \
    } while (0)
    REFUSED(c.mp, CPU_MP_COUNT);
    REFUSED(c.cr8, 16);
    REFUSED(c.events.shadow, 4);
    REFUSED(c.events.exception_vector, 32);
    REFUSED(m.ioapic_lines, 1u << 24);
    REFUSED(m.ioapic_select, 256);
    REFUSED(m.ioapic_id, 1);
    REFUSED(m.tsc_khz, 0);
    REFUSED(m.tsc_khz, UINT64_MAX);
    REFUSED(m.system_ns, UINT64_MAX);
#undef REFUSED
}

/* 3 GHz there, 2 GHz here: a deadline 3000 ticks ahead is 2000 ahead now. */
static void test_another_clock(void **state)
{
    static struct cpu_state c[2];
    struct machine_state m = {.host_tsc = 1000000, .tsc_khz = 3000000, .system_ns = 5};
    struct machine_state now = {.host_tsc = 70, .tsc_khz = 2000000};
    memset(c, 0, sizeof c);
    c[0].tsc_offset = (uint64_t)-400000; /* its TSC was 600000 */
    c[0].tsc_deadline = 603000;
    c[1].tsc_offset = 10;
    c[1].tsc_deadline = UINT64_MAX;
    machine_resume(&m, c, 2, &now);
    assert_int_equal(c[0].tsc_offset + 70, 600000);
    assert_int_equal(c[0].tsc_deadline, 602000);
    assert_int_equal(c[1].tsc_offset + 70, 1000010);
    assert_int_equal(c[1].tsc_deadline, UINT64_MAX / 2);
    assert_int_equal(m.tsc_khz, 2000000);
    assert_int_equal(m.host_tsc, 70);
    assert_int_equal(m.system_ns, 5);
}

/* A deadline that has passed, and none at all, stay what they are. */
static void test_deadlines_that_are_none(void **state)
{
    static struct cpu_state c[2];
    struct machine_state m = {.host_tsc = 1000, .tsc_khz = 3000000}, now = {.tsc_khz = 2000000};
    memset(c, 0, sizeof c);
    c[1].tsc_deadline = 999;
    machine_resume(&m, c, 2, &now);
    assert_int_equal(c[0].tsc_deadline, 0);
    assert_int_equal(c[1].tsc_deadline, 999);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_impossible),
        cmocka_unit_test(test_another_clock),
        cmocka_unit_test(test_deadlines_that_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

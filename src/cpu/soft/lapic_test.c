/* SPDX-License-Identifier: Apache-2.0 */
/* Local APIC priorities, messages and timer; I/O APIC edges, levels and EOI. */
#include <time.h>

#include "cpu/soft/sys_double.h"
#include "cpu/tsc.h"

enum {
    X_ID = 0x802,
    X_VERSION,
    X_TPR = 0x808,
    X_PPR = 0x80a,
    X_EOI,
    X_LDR = 0x80d,
    X_SVR = 0x80f,
    X_ISR = 0x810,
    X_TMR = 0x818,
    X_IRR = 0x820,
    X_ESR = 0x828,
    X_ICR = 0x830,
    X_LVTT = 0x832,
    X_LVT_LINT0 = 0x835,
    X_TMICT = 0x838,
    X_TMCCT,
    X_TDCR = 0x83e,
    X_SELF = 0x83f,
};

static uint64_t rd(struct soft_cpu *cpu, uint32_t msr)
{
    uint64_t value = 0;

    assert_int_equal(soft_rdmsr(cpu, msr, &value), 0);
    return value;
}

static void wr(struct soft_cpu *cpu, uint32_t msr, uint64_t value)
{
    assert_int_equal(soft_wrmsr(cpu, msr, value), 0);
}

static int setup(void **state)
{
    struct soft_cpu *cpu = double_new();

    *state = cpu;
    wr(cpu, X_SVR, 0x1ff);
    wr(double_other(cpu), X_SVR, 0x1ff);
    return 0;
}

static int teardown(void **state)
{
    double_free(*state);
    return 0;
}

static bool pending(struct soft_cpu *cpu)
{
    return atomic_exchange(&cpu->pending, 0) & PEND_IRQ;
}

static void test_priorities(void **state)
{
    struct soft_cpu *cpu = *state;

    assert_int_equal(soft_lapic_accept(cpu), -1);
    soft_lapic_post(cpu, 0x31, false);
    soft_lapic_post(cpu, 0xef, false);
    soft_lapic_post(cpu, 0x45, false);
    assert_true(pending(cpu));
    assert_int_equal(rd(cpu, X_IRR + 1), 1u << 17);
    assert_int_equal(rd(cpu, X_IRR + 2), 1u << 5);
    assert_int_equal(rd(cpu, X_IRR + 7), 1u << 15);
    assert_int_equal(soft_lapic_accept(cpu), 0xef);
    assert_int_equal(rd(cpu, X_ISR + 7), 1u << 15);
    assert_int_equal(rd(cpu, X_PPR), 0xe0);
    assert_false(soft_lapic_ready(cpu)); /* lower classes wait */
    soft_lapic_post(cpu, 0xe1, false);
    assert_false(soft_lapic_ready(cpu)); /* the same class waits as well */
    soft_lapic_post(cpu, 0xf0, false);
    assert_int_equal(soft_lapic_accept(cpu), 0xf0); /* nests */
    pending(cpu);
    wr(cpu, X_EOI, 0);
    assert_int_equal(rd(cpu, X_PPR), 0xe0);
    assert_false(pending(cpu));
    wr(cpu, X_EOI, 0);
    assert_true(pending(cpu));
    assert_int_equal(soft_lapic_accept(cpu), 0xe1);
    wr(cpu, X_EOI, 0);
    assert_int_equal(soft_lapic_accept(cpu), 0x45);
    wr(cpu, X_EOI, 0);
    assert_int_equal(soft_lapic_accept(cpu), 0x31);
    wr(cpu, X_EOI, 0);
    wr(cpu, X_EOI, 0); /* nothing in service: no effect */
    assert_int_equal(soft_lapic_accept(cpu), -1);
    assert_int_equal(rd(cpu, X_PPR), 0);
}

static void test_every_vector(void **state)
{
    struct soft_cpu *cpu = *state;

    for (unsigned v = 0; v < 256; v++) {
        soft_lapic_post(cpu, v, v & 1);
        if (v < 16) {
            assert_int_equal(soft_lapic_accept(cpu), -1);
            continue;
        }
        assert_int_equal(rd(cpu, X_IRR + v / 32), 1u << (v & 31));
        assert_int_equal(rd(cpu, X_TMR + v / 32) >> (v & 31) & 1, v & 1);
        assert_int_equal(soft_lapic_accept(cpu), v);
        assert_int_equal(rd(cpu, X_ISR + v / 32), 1u << (v & 31));
        wr(cpu, X_EOI, 0);
    }
}

static void test_tpr(void **state)
{
    struct soft_cpu *cpu = *state;

    wr(cpu, X_TPR, 0x57);
    assert_int_equal(cpu->cr8, 5);
    assert_int_equal(rd(cpu, X_PPR), 0x57);
    soft_lapic_post(cpu, 0x5f, false);
    assert_false(soft_lapic_ready(cpu));
    soft_lapic_post(cpu, 0x60, false);
    assert_int_equal(soft_lapic_accept(cpu), 0x60);
    wr(cpu, X_EOI, 0);
    pending(cpu);
    cpu->gpr[R_AX] = 4;
    assert_runs(cpu, "\x44\x0f\x22\xc0"); /* mov cr8, rax */
    assert_true(pending(cpu));
    assert_int_equal(rd(cpu, X_TPR), 0x40);
    assert_int_equal(soft_lapic_accept(cpu), 0x5f);
}

static void test_software_disabled(void **state)
{
    struct soft_cpu *cpu = *state;

    wr(cpu, X_LVT_LINT0, 0x700);
    wr(cpu, X_SVR, 0xff);
    assert_int_equal(rd(cpu, X_LVT_LINT0), 0x10700);
    wr(cpu, X_LVT_LINT0, 0x700); /* the mask cannot be cleared now */
    assert_int_equal(rd(cpu, X_LVT_LINT0), 0x10700);
    soft_lapic_post(cpu, 0x50, false);
    assert_int_equal(soft_lapic_accept(cpu), -1);
}

static void test_register_access(void **state)
{
    struct soft_cpu *cpu = *state;
    static const uint32_t no_read[] = {0x800, 0x804, 0x809,  X_EOI, 0x80c, 0x80e,
                                       0x82f, 0x831, X_SELF, 0x840, 0x8ff};
    static const uint32_t no_write[] = {0x800,     X_ID,  X_VERSION, X_PPR,   X_LDR, X_ISR,
                                        X_TMR + 7, X_IRR, 0x831,     X_TMCCT, 0x83a, 0x8ff};
    static const struct {
        uint32_t msr;
        uint64_t value;
    } bad[] = {
        {X_TPR, 0x100},    {X_EOI, 1},        {X_SVR, 0x11ff},       {X_ESR, 1},
        {X_LVTT, 0x600ec}, {X_LVTT, 0x1ffff}, {X_TDCR, 4},           {X_SELF, 0x100},
        {X_ICR, 1 << 20},  {X_ICR, 1 << 13},  {X_TMICT, 1ull << 32},
    };
    uint64_t value;

    for (unsigned i = 0; i < sizeof no_read / sizeof no_read[0]; i++)
        assert_int_equal(soft_rdmsr(cpu, no_read[i], &value), -1);
    for (unsigned i = 0; i < sizeof no_write / sizeof no_write[0]; i++)
        assert_int_equal(soft_wrmsr(cpu, no_write[i], 0), -1);
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(soft_wrmsr(cpu, bad[i].msr, bad[i].value), -1);
    assert_int_equal(rd(cpu, X_VERSION), 0x50014);
    assert_int_equal(rd(double_other(cpu), X_ID), 1);
    assert_int_equal(rd(double_other(cpu), X_LDR), 2);
}

static void test_messages(void **state)
{
    struct soft_cpu *cpu = *state, *other = double_other(cpu);
    static const struct {
        uint64_t icr;
        bool self, other;
    } rows[] = {
        {0x0000000000000041, true, false},  /* physical 0 */
        {0x0000000100000041, false, true},  /* physical 1 */
        {0x0000000200000041, false, false}, /* nobody */
        {0xffffffff00000041, true, true},   /* broadcast */
        {0x0000000300000841, true, true},   /* logical, cluster 0, both */
        {0x0000000200000841, false, true},  {0x0001000300000841, false, false}, /* cluster 1 */
        {0x0000000100040041, true, false},  /* self, destination ignored */
        {0x0000000000080041, true, true},   /* all */
        {0x00000000000c0041, false, true},  /* all but self */
        {0xffffffff00000141, true, false},  /* lowest priority: one of them */
        {0x0000000100000241, false, false}, /* SMI: dropped */
    };

    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        unsigned woken = double_of(cpu)->notified[1];

        wr(cpu, X_ICR, rows[i].icr);
        assert_int_equal(rd(cpu, X_ICR), rows[i].icr);
        assert_int_equal(soft_lapic_accept(cpu), rows[i].self ? 0x41 : -1);
        assert_int_equal(soft_lapic_accept(other), rows[i].other ? 0x41 : -1);
        assert_int_equal(pending(cpu), rows[i].self);
        assert_int_equal(double_of(cpu)->notified[1], woken + rows[i].other);
        wr(cpu, X_EOI, 0);
        wr(other, X_EOI, 0);
        pending(other);
    }
    wr(cpu, X_SELF, 0x99);
    assert_int_equal(soft_lapic_accept(cpu), 0x99);
    assert_int_equal(double_of(cpu)->notified[0], 0);
    wr(cpu, X_ICR, 0x0f); /* illegal vector */
    assert_int_equal(rd(cpu, X_ESR), 0);
    wr(cpu, X_ESR, 0);
    assert_int_equal(rd(cpu, X_ESR), 0x20);
    wr(cpu, X_ESR, 0);
    assert_int_equal(rd(cpu, X_ESR), 0);
}

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void start_clock(struct soft_cpu *cpu)
{
    time_start(&cpu->clock, tsc_khz(NULL));
}

/* NMI, INIT and SIPI: what they leave in pending. */
static void test_start_messages(void **state)
{
    struct soft_cpu *cpu = *state, *other = double_other(cpu);
    static const struct {
        uint64_t icr;
        uint32_t self, other;
    } rows[] = {
        {0x0000000100000400, 0, PEND_NMI}, /* the vector is ignored */
        {0x0000000000080402, PEND_NMI, PEND_NMI},
        {0x00000000000c4500, 0, PEND_INIT},
        {0x0000000100004500, 0, PEND_INIT},
        {0x000000010000c500, 0, PEND_INIT}, /* level, assert */
        {0x0000000100008500, 0, 0},         /* level, de-assert */
        {0x0000000000040400, 0, 0},         /* not to oneself */
        {0x00000000000c4699, 0, PEND_SIPI},
        {0x0000000200004600, 0, 0}, /* nobody */
    };

    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        wr(cpu, X_ICR, rows[i].icr);
        assert_int_equal(atomic_exchange(&cpu->pending, 0), rows[i].self);
        assert_int_equal(atomic_exchange(&other->pending, 0), rows[i].other);
    }
    assert_int_equal(other->sipi_vector, 0x99);
    wr(cpu, X_ICR, 0x00000000000c4601); /* two before the vCPU looks: the first counts */
    wr(cpu, X_ICR, 0x00000000000c4602);
    assert_int_equal(other->sipi_vector, 1);
    wr(cpu, X_ICR, 0x00000000000c4500); /* INIT voids them */
    assert_int_equal(atomic_exchange(&other->pending, 0), PEND_INIT);
    wr(other, X_SVR, 0xff); /* a disabled local APIC still takes them */
    wr(cpu, X_ICR, 0x00000000000c4500);
    assert_int_equal(atomic_exchange(&other->pending, 0), PEND_INIT);
    soft_sys_init(other);
    assert_true(other->wait_sipi);
    assert_int_equal(other->cr0, 0x60000010);
    assert_int_equal(rd(other, X_SVR), 0xff);
    soft_sys_start(other, 0x99);
    assert_false(other->wait_sipi);
    assert_int_equal(other->seg[SEG_CS].selector, 0x9900);
    assert_int_equal(other->seg[SEG_CS].base, 0x99000);
    assert_int_equal(other->rip, 0);
}

static void test_timer_one_shot(void **state)
{
    struct soft_cpu *cpu = *state;
    uint64_t start, left, took;

    start_clock(cpu);
    assert_true(soft_lapic_deadline_ns(cpu) == UINT64_MAX);
    wr(cpu, X_LVTT, 0xec);
    wr(cpu, X_TDCR, 3); /* 16 */
    start = now_ns();
    wr(cpu, X_TMICT, 20000000 / 16); /* 20 ms */
    left = soft_lapic_deadline_ns(cpu);
    assert_in_range(left, 1000000, 20000001);
    assert_in_range(rd(cpu, X_TMCCT), 1, 20000000 / 16);
    soft_lapic_poll(cpu);
    assert_int_equal(soft_lapic_accept(cpu), -1);
    while (!soft_lapic_ready(cpu))
        soft_lapic_poll(cpu);
    took = now_ns() - start;
    assert_true(took >= 19900000);
    assert_true(took < 2000000000);
    assert_true(pending(cpu));
    assert_int_equal(soft_lapic_accept(cpu), 0xec);
    assert_int_equal(rd(cpu, X_TMCCT), 0);
    assert_true(soft_lapic_deadline_ns(cpu) == UINT64_MAX);
    wr(cpu, X_EOI, 0);
    soft_lapic_poll(cpu);
    assert_int_equal(soft_lapic_accept(cpu), -1);
}

#define TSC_DEADLINE 0x6e0

static void test_timer_tsc_deadline(void **state)
{
    struct soft_cpu *cpu = *state;
    uint64_t value = 1, at;

    start_clock(cpu);
    wr(cpu, TSC_DEADLINE, soft_rdtsc(cpu) + 1000); /* not in that mode yet: ignored */
    assert_true(soft_lapic_deadline_ns(cpu) == UINT64_MAX);
    wr(cpu, X_LVTT, 0x400ec);
    wr(cpu, X_TMICT, 100); /* ignored in this mode */
    assert_true(soft_lapic_deadline_ns(cpu) == UINT64_MAX);
    at = soft_rdtsc(cpu) + cpu->clock.khz * 5; /* 5 ms */
    wr(cpu, TSC_DEADLINE, at);
    assert_int_equal(soft_rdmsr(cpu, TSC_DEADLINE, &value), 0);
    assert_int_equal(value, at);
    assert_int_equal(rd(cpu, X_TMCCT), 0);
    assert_in_range(soft_lapic_deadline_ns(cpu), 0, 5000001);
    while (!soft_lapic_ready(cpu))
        soft_lapic_poll(cpu);
    assert_true(soft_rdtsc(cpu) >= at);
    assert_int_equal(soft_lapic_accept(cpu), 0xec);
    assert_int_equal(soft_rdmsr(cpu, TSC_DEADLINE, &value), 0);
    assert_int_equal(value, 0);
    wr(cpu, X_EOI, 0);
    wr(cpu, TSC_DEADLINE, UINT64_MAX); /* for ever, without overflow */
    assert_true(soft_lapic_deadline_ns(cpu) > 1ull << 60);
    wr(cpu, TSC_DEADLINE, 1); /* long past: at once */
    soft_lapic_poll(cpu);
    assert_int_equal(soft_lapic_accept(cpu), 0xec);
    wr(cpu, X_EOI, 0);
    wr(cpu, TSC_DEADLINE, soft_rdtsc(cpu) + cpu->clock.khz * 1000);
    wr(cpu, X_LVTT, 0xec); /* a change of mode disarms */
    assert_true(soft_lapic_deadline_ns(cpu) == UINT64_MAX);
}

static void test_timer_masked_and_stopped(void **state)
{
    struct soft_cpu *cpu = *state;

    start_clock(cpu);
    wr(cpu, X_TDCR, 0xb);
    wr(cpu, X_LVTT, 0x100ec);
    wr(cpu, X_TMICT, 1);
    while (soft_lapic_deadline_ns(cpu) != 0)
        ;
    soft_lapic_poll(cpu);
    assert_int_equal(soft_lapic_accept(cpu), -1);
    wr(cpu, X_LVTT, 0xec);
    wr(cpu, X_TMICT, 0xffffffff);
    assert_true(soft_lapic_deadline_ns(cpu) > 4000000000u);
    wr(cpu, X_TMICT, 0);
    assert_true(soft_lapic_deadline_ns(cpu) == UINT64_MAX);
}

static void test_timer_periodic(void **state)
{
    struct soft_cpu *cpu = *state;
    uint64_t start;

    start_clock(cpu);
    wr(cpu, X_TDCR, 0xb); /* 1 */
    wr(cpu, X_LVTT, 0x200ec);
    start = now_ns();
    wr(cpu, X_TMICT, 5000000);
    for (unsigned i = 0; i < 4; i++) {
        while (!soft_lapic_ready(cpu))
            soft_lapic_poll(cpu);
        assert_int_equal(soft_lapic_accept(cpu), 0xec);
        wr(cpu, X_EOI, 0);
        assert_in_range(soft_lapic_deadline_ns(cpu), 0, 5000001);
    }
    assert_true(now_ns() - start >= 4 * 4990000);
    /* Periods that went by unseen give one interrupt. */
    start = now_ns();
    while (now_ns() - start < 30000000)
        ;
    soft_lapic_poll(cpu);
    assert_int_equal(soft_lapic_accept(cpu), 0xec);
    wr(cpu, X_EOI, 0);
    assert_int_equal(soft_lapic_accept(cpu), -1);
    assert_in_range(soft_lapic_deadline_ns(cpu), 0, 5000001);
    wr(cpu, X_LVTT, 0xec); /* change of mode: stopped */
    assert_true(soft_lapic_deadline_ns(cpu) == UINT64_MAX);
}

static void test_timer_divide_while_running(void **state)
{
    struct soft_cpu *cpu = *state;
    static const struct {
        uint32_t tdcr, divisor;
    } rows[] = {{0, 2}, {1, 4}, {2, 8}, {3, 16}, {8, 32}, {9, 64}, {10, 128}, {11, 1}};

    start_clock(cpu);
    wr(cpu, X_LVTT, 0xec);
    wr(cpu, X_TMICT, 1000000000);
    for (unsigned i = 0; i < 8; i++) {
        uint64_t ns;

        wr(cpu, X_TDCR, rows[i].tdcr);
        ns = soft_lapic_deadline_ns(cpu) / rows[i].divisor;
        assert_in_range(ns, 500000000, 1000000001); /* about 1e9 ticks are left */
    }
}

/* ---- I/O APIC ---- */

static struct soft_ioapic *ioapic(struct soft_cpu *cpu)
{
    return soft_ioapic(cpu->engine);
}

static uint32_t io_rd(struct soft_cpu *cpu, unsigned reg)
{
    soft_ioapic_ops.write(ioapic(cpu), 0, 4, reg);
    return (uint32_t)soft_ioapic_ops.read(ioapic(cpu), 0x10, 4);
}

static void io_wr(struct soft_cpu *cpu, unsigned reg, uint32_t value)
{
    soft_ioapic_ops.write(ioapic(cpu), 0, 4, reg);
    soft_ioapic_ops.write(ioapic(cpu), 0x10, 4, value);
}

#define IO_LEVEL 0x8000u
#define IO_MASKED 0x10000u
#define IO_RIRR 0x4000u

static void test_ioapic_registers(void **state)
{
    struct soft_cpu *cpu = *state;

    assert_int_equal(io_rd(cpu, 1), 0x170020);
    for (unsigned pin = 0; pin < 24; pin++)
        assert_int_equal(io_rd(cpu, 0x10 + 2 * pin), IO_MASKED);
    io_wr(cpu, 0, 0xffffffff);
    assert_int_equal(io_rd(cpu, 0), 0x0f000000);
    io_wr(cpu, 0x10, 0xffffffff);
    io_wr(cpu, 0x11, 0xffffffff);
    assert_int_equal(io_rd(cpu, 0x10), 0x1afff); /* no status bits, no reserved ones */
    assert_int_equal(io_rd(cpu, 0x11), 0xff000000);
    io_wr(cpu, 0x40, 0x12345); /* past the last pin */
    assert_int_equal(io_rd(cpu, 0x40), 0);
    assert_int_equal(soft_ioapic_ops.read(ioapic(cpu), 0x20, 4), 0);
    soft_ioapic_set(ioapic(cpu), 24, 1);
    soft_ioapic_set(ioapic(cpu), ~0u, 1);
}

static void test_ioapic_edge(void **state)
{
    struct soft_cpu *cpu = *state, *other = double_other(cpu);

    soft_ioapic_set(ioapic(cpu), 5, 1); /* masked: lost */
    soft_ioapic_set(ioapic(cpu), 5, 0);
    io_wr(cpu, 0x1b, 1u << 24); /* to vCPU 1 */
    io_wr(cpu, 0x1a, 0x35);
    assert_int_equal(soft_lapic_accept(other), -1);
    soft_ioapic_set(ioapic(cpu), 5, 1);
    assert_int_equal(double_of(cpu)->notified[1], 1);
    soft_ioapic_set(ioapic(cpu), 5, 1); /* no edge */
    assert_int_equal(double_of(cpu)->notified[1], 1);
    assert_int_equal(soft_lapic_accept(other), 0x35);
    wr(other, X_EOI, 0);
    assert_int_equal(soft_lapic_accept(other), -1);
    soft_ioapic_set(ioapic(cpu), 5, 0);
    soft_ioapic_set(ioapic(cpu), 5, 1);
    assert_int_equal(soft_lapic_accept(other), 0x35);
    assert_int_equal(soft_lapic_accept(cpu), -1);
    assert_int_equal(rd(other, X_TMR + 1), 0);
}

static void test_ioapic_level(void **state)
{
    struct soft_cpu *cpu = *state;

    io_wr(cpu, 0x10 + 2 * 9, IO_LEVEL | 0x62);
    soft_ioapic_set(ioapic(cpu), 9, 1);
    assert_int_equal(io_rd(cpu, 0x10 + 2 * 9), IO_LEVEL | IO_RIRR | 0x62);
    assert_int_equal(soft_lapic_accept(cpu), 0x62);
    assert_int_equal(rd(cpu, X_TMR + 3), 1u << 2);
    soft_ioapic_set(ioapic(cpu), 9, 0);
    soft_ioapic_set(ioapic(cpu), 9, 1); /* waits for the EOI */
    assert_int_equal(rd(cpu, X_IRR + 3), 0);
    wr(cpu, X_EOI, 0); /* still asserted: again */
    assert_int_equal(soft_lapic_accept(cpu), 0x62);
    soft_ioapic_set(ioapic(cpu), 9, 0);
    wr(cpu, X_EOI, 0);
    assert_int_equal(soft_lapic_accept(cpu), -1);
    assert_int_equal(io_rd(cpu, 0x10 + 2 * 9), IO_LEVEL | 0x62);

    io_wr(cpu, 0x10 + 2 * 9, IO_LEVEL | IO_MASKED | 0x62);
    soft_ioapic_set(ioapic(cpu), 9, 1);
    assert_int_equal(soft_lapic_accept(cpu), -1);
    io_wr(cpu, 0x10 + 2 * 9, IO_LEVEL | 0x62); /* unmasked while asserted */
    assert_int_equal(soft_lapic_accept(cpu), 0x62);
    /* Linux's way to clear a stuck remote IRR: mask and edge, then back. */
    io_wr(cpu, 0x10 + 2 * 9, IO_MASKED | 0x62);
    assert_int_equal(io_rd(cpu, 0x10 + 2 * 9), IO_MASKED | 0x62);
    io_wr(cpu, 0x10 + 2 * 9, IO_LEVEL | 0x62);
    assert_int_equal(io_rd(cpu, 0x10 + 2 * 9) & IO_RIRR, IO_RIRR);
    soft_ioapic_set(ioapic(cpu), 9, 0);
    soft_ioapic_ops.write(ioapic(cpu), 0x40, 4, 0x62); /* the EOI register */
    assert_int_equal(io_rd(cpu, 0x10 + 2 * 9) & IO_RIRR, 0);
}

static void test_ioapic_destinations(void **state)
{
    struct soft_cpu *cpu = *state, *other = double_other(cpu);

    io_wr(cpu, 0x11, 0xff000000); /* broadcast */
    io_wr(cpu, 0x10, 0x70);
    soft_ioapic_set(ioapic(cpu), 0, 1);
    assert_int_equal(soft_lapic_accept(cpu), 0x70);
    assert_int_equal(soft_lapic_accept(other), 0x70);
    soft_ioapic_set(ioapic(cpu), 0, 0);
    io_wr(cpu, 0x11, 0x02000000); /* logical mask */
    io_wr(cpu, 0x10, 0x871);
    soft_ioapic_set(ioapic(cpu), 0, 1);
    assert_int_equal(soft_lapic_accept(other), -1); /* behind 0x70 */
    wr(other, X_EOI, 0);
    assert_int_equal(soft_lapic_accept(other), 0x71);
    wr(cpu, X_EOI, 0);
    assert_int_equal(soft_lapic_accept(cpu), -1);
    soft_ioapic_set(ioapic(cpu), 0, 0);
    io_wr(cpu, 0x10, 0x471); /* NMI: dropped */
    soft_ioapic_set(ioapic(cpu), 0, 1);
    wr(other, X_EOI, 0);
    assert_int_equal(soft_lapic_accept(other), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_priorities, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_vector, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tpr, setup, teardown),
        cmocka_unit_test_setup_teardown(test_software_disabled, setup, teardown),
        cmocka_unit_test_setup_teardown(test_register_access, setup, teardown),
        cmocka_unit_test_setup_teardown(test_messages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_start_messages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timer_one_shot, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timer_tsc_deadline, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timer_masked_and_stopped, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timer_periodic, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timer_divide_while_running, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ioapic_registers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ioapic_edge, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ioapic_level, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ioapic_destinations, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

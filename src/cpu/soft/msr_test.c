/* SPDX-License-Identifier: Apache-2.0 */
/* The MSR table, CPUID, and kvm-clock. */
#include <string.h>
#include <time.h>

#include "cpu/soft/cpuid.h"
#include "cpu/soft/sys_double.h"
#include "cpu/tsc.h"

static int setup(void **state)
{
    *state = double_new();
    return 0;
}

static int teardown(void **state)
{
    double_free(*state);
    return 0;
}

/* Through RDMSR and WRMSR; -1 when they raise #GP(0). */
static int rd(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    cpu->gpr[R_CX] = 0xabcd000000000000 | index;
    if (EXEC(cpu, "\x0f\x32") >= 0) {
        assert_int_equal(cpu->exc_vector, V_GP);
        return -1;
    }
    assert_int_equal(cpu->gpr[R_AX] >> 32 | cpu->gpr[R_DX] >> 32, 0);
    *value = cpu->gpr[R_DX] << 32 | cpu->gpr[R_AX];
    return 0;
}

static int wr(struct soft_cpu *cpu, uint32_t index, uint64_t value)
{
    cpu->gpr[R_CX] = index;
    cpu->gpr[R_AX] = 0xffffffff00000000 | value;
    cpu->gpr[R_DX] = 0x1234567800000000 | value >> 32;
    return EXEC(cpu, "\x0f\x30") >= 0 ? -1 : 0;
}

static void test_registers(void **state)
{
    struct soft_cpu *cpu = *state;
    static const struct {
        uint32_t index;
        uint64_t good, bad; /* bad 0: none */
    } rows[] = {
        {0x174, 0x10, 1ull << 32},
        {0x175, 0xffff800000001000, 0x0000800000001000},
        {0x176, 0xffff800000002000, 0x0000800000001000},
        {0x1a0, 0x851, 0},
        {0x200, 0x80000006, 0x80000002},
        {0x201, 0xff80000800, 0xff80000801},
        {0x20e, 0x1000, 1ull << 40},
        {0x20f, 0x800, 1ull << 40},
        {0x250, 0x0606060606060606, 0x0606060602060606},
        {0x259, 0, 0x0700000000000000},
        {0x26f, 0x0505050505050505, 0x03},
        {0x277, 0x0007040600070406, 0x0207040600070406},
        {0x2ff, 0xc06, 0x1c06},
        {0xc0000081, 0x0023001000000000, 0},
        {0xc0000082, 0xffffffff81800000, 0x8000000000000000},
        {0xc0000083, 0x1000, 0x0001000000000000},
        {0xc0000084, 0x257fd5, 1ull << 32},
        {0xc0000100, 0x7fff00001000, 0x800000000000},
        {0xc0000101, 0xffff888000000000, 0x800000000000},
        {0xc0000102, 0xffff888000000000, 0x7fff800000000000},
        {0xc0000103, 0x1001, 1ull << 32},
    };

    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t value = 0;

        assert_int_equal(wr(cpu, rows[i].index, rows[i].good), 0);
        assert_int_equal(rd(cpu, rows[i].index, &value), 0);
        assert_int_equal(value, rows[i].good);
        if (rows[i].bad == 0)
            continue;
        assert_int_equal(wr(cpu, rows[i].index, rows[i].bad), -1);
        assert_int_equal(rd(cpu, rows[i].index, &value), 0);
        assert_int_equal(value, rows[i].good);
    }
    assert_int_equal(cpu->seg_base[SEG_FS], 0x7fff00001000);
    assert_int_equal(cpu->seg_base[SEG_GS], 0xffff888000000000);
    assert_int_equal(cpu->mtrr_fixed[0], 0x0606060606060606);
    assert_int_equal(cpu->mtrr_fixed[10], 0x0505050505050505);
}

static void test_absent(void **state)
{
    struct soft_cpu *cpu = *state;
    static const uint32_t absent[] = {
        0x0,   0x17,  0x3a,       0x48,       0x49,       0x10a,      0x179,
        0x210, 0x251, 0x25a,      0x267,      0x270,      0x38f,      0x7ff,
        0x900, 0xda0, 0x4b564d02, 0x4b564d03, 0xc0000085, 0xc0000104, 0xc0010114};

    for (unsigned i = 0; i < sizeof absent / sizeof absent[0]; i++) {
        uint64_t value;

        assert_int_equal(rd(cpu, absent[i], &value), -1);
        assert_int_equal(wr(cpu, absent[i], 0), -1);
    }
    assert_int_equal(wr(cpu, 0xfe, 0x508), -1); /* MTRRcap is read-only */
}

static void test_vendor(void **state)
{
    struct soft_cpu *cpu = *state;
    uint64_t value = 1;

    cpu->amd = true;
    assert_int_equal(rd(cpu, 0xc0010010, &value), 0);
    assert_int_equal(value, 0);
    assert_int_equal(wr(cpu, 0xc0010015, 0x1000000), 0);
    assert_int_equal(rd(cpu, 0xc0011029, &value), 0);
    assert_int_equal(value, 2);
    cpu->amd = false;
    assert_int_equal(rd(cpu, 0xc0010010, &value), -1);
    assert_int_equal(rd(cpu, 0xc0011029, &value), -1);
    assert_int_equal(wr(cpu, 0x8b, 0), 0);
    assert_int_equal(rd(cpu, 0x8b, &value), 0);
    assert_int_equal(value >> 32, 1);
}

static void test_efer(void **state)
{
    struct soft_cpu *cpu = *state;
    unsigned flushes = double_of(cpu)->tlb_flushes_global;
    uint64_t value = 0;

    assert_int_equal(wr(cpu, 0xc0000080, EFER_LME), 0); /* LMA cannot be written off */
    assert_int_equal(rd(cpu, 0xc0000080, &value), 0);
    assert_int_equal(value, EFER_LME | EFER_LMA);
    assert_int_equal(double_of(cpu)->tlb_flushes_global, flushes + 1); /* NX changed */
    assert_int_equal(wr(cpu, 0xc0000080, EFER_SCE), -1);               /* LME while paging */
    assert_int_equal(wr(cpu, 0xc0000080, EFER_LME | 1 << 12), -1);     /* SVME */
}

static void test_apic_base(void **state)
{
    struct soft_cpu *cpu = *state;
    uint64_t value = 0;

    assert_int_equal(rd(cpu, 0x1b, &value), 0);
    assert_int_equal(value, 0xfee00d00); /* enabled, x2APIC, boot processor */
    assert_int_equal(wr(cpu, 0x1b, value), 0);
    assert_int_equal(wr(cpu, 0x1b, 0xfee00900), -1); /* back to xAPIC */
    assert_int_equal(wr(cpu, 0x1b, 0xfee01d00), -1); /* elsewhere */
}

static uint64_t tsc(struct soft_cpu *cpu)
{
    uint64_t value = 0;

    assert_int_equal(rd(cpu, 0x10, &value), 0);
    return value;
}

static void test_tsc(void **state)
{
    struct soft_cpu *cpu = *state;
    uint64_t adjust = 0, now;

    assert_true(tsc(cpu) < 1ull << 40);
    assert_int_equal(wr(cpu, 0x3b, 1ull << 50), 0);
    now = tsc(cpu);
    assert_true(now >= 1ull << 50 && now < (1ull << 50) + (1ull << 40));
    assert_int_equal(wr(cpu, 0x10, 0), 0);
    assert_true(tsc(cpu) < 1ull << 40);
    assert_int_equal(rd(cpu, 0x3b, &adjust), 0);
    assert_true((int64_t)adjust < 0 && (int64_t)adjust > -(1ll << 40)); /* 2^50 - what had passed */
}

/* ---- kvm-clock ---- */

struct system_time {
    uint32_t version, pad;
    uint64_t tsc, ns;
    uint32_t mul;
    int8_t shift;
    uint8_t flags, pad2[2];
};

/* What Linux computes from the page (pvclock_read_cycles). */
static uint64_t pvclock_ns(const struct system_time *t, uint64_t now)
{
    uint64_t delta = now - t->tsc;

    delta = t->shift < 0 ? delta >> -t->shift : delta << t->shift;
    return t->ns + (uint64_t)((unsigned __int128)delta * t->mul >> 32);
}

static uint64_t monotonic_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void test_system_time(void **state)
{
    struct soft_cpu *cpu = *state;
    struct system_time t;
    const void *page = mem_ptr(soft_mem(cpu), 0x5000, sizeof t);
    uint64_t khz = tsc_khz(NULL), guest0, host0, guest, host;

    assert_true(khz != 0);
    time_start(&cpu->clock, khz);
    cpu->tsc_offset = 0 - cpu->clock.tsc0;
    assert_int_equal(mem_write(soft_mem(cpu), 0x5000, "\x06", 1), 0); /* an old version */
    assert_int_equal(wr(cpu, 0x4b564d01, 0x5001), 0);
    memcpy(&t, page, sizeof t);
    assert_int_equal(t.version, 8);
    assert_int_equal(t.flags, 1);

    host0 = monotonic_ns();
    guest0 = pvclock_ns(&t, soft_rdtsc(cpu));
    assert_true(guest0 < 10000000000u); /* system time starts at the clock's start */
    do
        host = monotonic_ns() - host0;
    while (host < 100000000);
    guest = pvclock_ns(&t, soft_rdtsc(cpu)) - guest0;
    host = monotonic_ns() - host0;
    /* 0.2 %, and 5 ms in case we lost the CPU between the two readings */
    assert_in_range(guest, host - host / 500 - 5000000, host + host / 500 + 5000000);
    assert_in_range(pvclock_ns(&t, soft_rdtsc(cpu)),
                    time_ns(&cpu->clock, time_host_tsc()) - 5000000,
                    time_ns(&cpu->clock, time_host_tsc()) + 5000000);

    assert_int_equal(wr(cpu, 0x10, 1ull << 60), 0); /* a moved TSC does not move the time */
    memcpy(&t, page, sizeof t);
    assert_int_equal(t.version, 10);
    assert_in_range(pvclock_ns(&t, soft_rdtsc(cpu)) - guest0, host, host + 1000000000);
}

static void test_clock_scale(void **state)
{
    static const uint64_t khz[] = {100000,  999999,  1000000, 1000001, 1996249,
                                   2000000, 2450000, 3000000, 4999999, 8000000};
    struct soft_clock c;

    (void)state;
    for (unsigned i = 0; i < sizeof khz / sizeof khz[0]; i++) {
        uint64_t hour = khz[i] * 1000 * 3600, ns;

        time_start(&c, khz[i]);
        ns = time_ns(&c, c.tsc0 + hour);
        assert_in_range(ns, 3600000000000 - 3600, 3600000000000 + 1); /* 1e-9 */
        assert_true(c.mul >> 31);
    }
}

static void test_wall_clock(void **state)
{
    struct soft_cpu *cpu = *state;
    uint32_t wc[3];
    time_t now = time(NULL);

    time_start(&cpu->clock, tsc_khz(NULL));
    assert_int_equal(wr(cpu, 0x4b564d00, 0x6004), 0);
    assert_int_equal(mem_read(soft_mem(cpu), 0x6004, wc, sizeof wc), 0);
    assert_int_equal(wc[0] & 1, 0);
    assert_true(wc[0] != 0);
    assert_in_range(wc[1], now - 2, now + 2);
    assert_true(wc[2] < 1000000000);
}

/* Addresses that are not all RAM: no write, no fault, and the host survives. */
static void test_clock_bad_address(void **state)
{
    struct soft_cpu *cpu = *state;
    static const uint64_t bad[] = {(16u << 20) - 16 + 1, 0xfee00001,     0xfffffffffffffff1, ~0ull,
                                   0x8000000000000001,   (16u << 20) + 1};
    uint64_t value = 0;

    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(wr(cpu, 0x4b564d01, bad[i]), 0);
        assert_int_equal(rd(cpu, 0x4b564d01, &value), 0);
        assert_int_equal(value, bad[i]);
        assert_int_equal(wr(cpu, 0x4b564d00, bad[i] + 8), 0);
    }
    assert_int_equal(wr(cpu, 0x4b564d01, 0x5000), 0); /* bit 0 clear: off */
    assert_int_equal(mem_read(soft_mem(cpu), 0x5000, &value, 8), 0);
    assert_int_equal(value, 0);
}

/* ---- CPUID ---- */

static void cpuid(struct soft_cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    cpu->gpr[R_AX] = 0xffffffff00000000 | leaf;
    cpu->gpr[R_CX] = subleaf;
    assert_runs(cpu, "\x0f\xa2");
    out[0] = (uint32_t)cpu->gpr[R_AX];
    out[1] = (uint32_t)cpu->gpr[R_BX];
    out[2] = (uint32_t)cpu->gpr[R_CX];
    out[3] = (uint32_t)cpu->gpr[R_DX];
    assert_int_equal((cpu->gpr[R_AX] | cpu->gpr[R_BX] | cpu->gpr[R_CX] | cpu->gpr[R_DX]) >> 32, 0);
}

static void test_cpuid_features(void **state)
{
    struct soft_cpu *cpu = *state;
    uint32_t r[4];

    cpuid(cpu, 1, 0, r);
    assert_int_equal(r[2], 0xc3b82203);
    assert_int_equal(r[2] >> 26 & 3, 0); /* no XSAVE */
    assert_int_equal(r[3] & ~(1u << 28), 0x078bbb7d);
    cpuid(cpu, 7, 0, r);
    assert_int_equal(r[1], 0x00000283);
    assert_int_equal(r[3], 0x10);
    cpuid(cpu, 7, 1, r);
    assert_int_equal(r[0] | r[1] | r[2] | r[3], 0);
    cpuid(cpu, 0x80000001, 0, r);
    assert_int_equal(r[3] & 0x2c100800, 0x2c100800);
    assert_int_equal(r[2] & ~2u, 0x101);
    cpuid(cpu, 0x80000008, 0, r);
    assert_int_equal(r[0], 0x3028);
}

static void test_cpuid_texts(void **state)
{
    struct soft_cpu *cpu = *state;
    uint32_t r[4];
    char text[49] = "";

    for (int amd = 0; amd < 2; amd++) {
        cpu->amd = amd;
        cpuid(cpu, 0, 0, r);
        memcpy(text, &r[1], 4);
        memcpy(text + 4, &r[3], 4);
        memcpy(text + 8, &r[2], 4);
        assert_string_equal(text, amd ? "AuthenticAMD" : "GenuineIntel");
        cpuid(cpu, 1, 0, r);
        assert_int_equal(r[0], amd ? 0x830f10 : 0x206c1);
    }
    cpuid(cpu, 0x40000000, 0, r);
    assert_int_equal(r[0], 0x40000010);
    assert_memory_equal(&r[1], "KVMKVMKVM\0\0\0", 12);
    cpuid(cpu, 0x40000001, 0, r);
    assert_int_equal(r[0], 0x0100000a);
    cpuid(cpu, 0x40000010, 0, r);
    assert_int_equal(r[0], 2000000);
    assert_int_equal(r[1], 1000000);
    for (unsigned i = 0; i < 3; i++) {
        cpuid(cpu, 0x80000002 + i, 0, r);
        memcpy(text + 16 * i, r, 16);
    }
    assert_string_equal(text, "supermachine virtual CPU, model v2");
}

static void test_cpuid_topology(void **state)
{
    struct soft_cpu *cpu = double_other(*state);
    uint32_t r[4];

    cpu->cpl = 0;
    cpuid(cpu, 0xb, 1, r);
    assert_int_equal(r[0], 1);
    assert_int_equal(r[1], 2);
    assert_int_equal(r[2], 0x201);
    assert_int_equal(r[3], 1);
    cpuid(cpu, 1, 0, r);
    assert_int_equal(r[1] >> 24, 1);
    assert_int_equal(r[1] >> 16 & 0xff, 2);
}

/* Every leaf is defined, and those outside the model are zero. */
static void test_cpuid_outside(void **state)
{
    struct soft_cpu *cpu = *state;
    static const uint32_t leaves[] = {3,          5,          9,          0xa,        0xc,
                                      0xd,        0x14,       0x1f,       0x20000000, 0x40000002,
                                      0x4000000f, 0x40000011, 0x40000100, 0x7fffffff, 0x80000007,
                                      0x80000009, 0x8000001d, 0xffffffff};
    uint32_t r[4];

    for (unsigned i = 0; i < sizeof leaves / sizeof leaves[0]; i++) {
        cpuid(cpu, leaves[i], 0, r);
        assert_int_equal(r[0] | r[1] | r[2] | r[3], 0);
    }
}

static void test_v3_leaves(void **state)
{
    struct soft_cpu *cpu = *state;
    uint32_t v2[4], v3[4];

    cpuid(cpu, 1, 0, v2);
    cpu->model = MODEL_V3;
    cpuid(cpu, 1, 0, v3);
    assert_int_equal(v3[2] & ~v2[2], 0x34401000); /* FMA MOVBE XSAVE AVX F16C, no OSXSAVE */
    assert_int_equal(v2[2] & ~v3[2], 0);
    cpuid(cpu, 7, 0, v3);
    assert_int_equal(v3[1] & 0x128, 0x128); /* BMI1 AVX2 BMI2 */
    cpuid(cpu, 0, 0, v3);
    assert_int_equal(v3[0], 0xd);
    cpuid(cpu, 0xd, 0, v3);
    assert_int_equal(v3[0], 7);
    assert_int_equal(v3[1], 576); /* of XCR0 as it is */
    assert_int_equal(v3[2], 832);
    cpu->xcr0 = 7;
    cpu->cr4 |= CR4_OSXSAVE;
    cpuid(cpu, 0xd, 0, v3);
    assert_int_equal(v3[1], 832);
    cpuid(cpu, 0xd, 1, v3);
    assert_int_equal(v3[0], 1); /* XSAVEOPT alone */
    cpuid(cpu, 0xd, 2, v3);
    assert_int_equal(v3[0], 256);
    assert_int_equal(v3[1], 576);
    cpuid(cpu, 1, 0, v3);
    assert_int_equal(v3[2] >> 27 & 1, 1);
    cpu->model = MODEL_V2;
    cpuid(cpu, 0xd, 0, v3);
    assert_int_equal(v3[0] | v3[1] | v3[2] | v3[3], 0);
}

static void test_choose_model(void **state)
{
    struct sm_error err;
    enum model_id id;

    (void)state;
    assert_int_equal(model_choose("v4", &id, &err), SM_EINVAL);
    assert_string_equal(err.text, "unknown CPU model v4: there are v2 and v3");
    assert_int_equal(model_parse("v4", &id, &err), SM_EINVAL);
    assert_int_equal(model_parse("v3", &id, &err), 0);
    assert_int_equal(id, MODEL_V3);
    assert_int_equal(model_parse("v2", &id, &err), 0);
    assert_int_equal(id, MODEL_V2);
    if (model_choose("v2", &id, &err) != 0) {
        assert_int_equal(err.code, SM_EUNSUPPORTED);
        print_message("SKIP: %s\n", err.text);
        skip();
    }
    assert_int_equal(id, MODEL_V2);
    int rc = model_choose("v3", &id, &err);
    assert_true(rc == 0 || rc == SM_EUNSUPPORTED);
    assert_int_equal(model_choose(NULL, &id, &err), 0);
    assert_int_equal(id, rc == 0 ? MODEL_V3 : MODEL_V2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_registers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_absent, setup, teardown),
        cmocka_unit_test_setup_teardown(test_vendor, setup, teardown),
        cmocka_unit_test_setup_teardown(test_efer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_apic_base, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tsc, setup, teardown),
        cmocka_unit_test_setup_teardown(test_system_time, setup, teardown),
        cmocka_unit_test(test_clock_scale),
        cmocka_unit_test_setup_teardown(test_wall_clock, setup, teardown),
        cmocka_unit_test_setup_teardown(test_clock_bad_address, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cpuid_features, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cpuid_texts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cpuid_topology, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cpuid_outside, setup, teardown),
        cmocka_unit_test_setup_teardown(test_v3_leaves, setup, teardown),
        cmocka_unit_test(test_choose_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

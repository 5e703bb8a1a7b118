/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of time: the TSC's rate, and the wall clock. Ordinary host code, never inside a
 * run slice.
 */
#include <cpuid.h>
#include <time.h>

#include "cpu/soft/time.h"

#define KHZ_MIN 100000ull
#define KHZ_MAX 8000000ull
#define CALIBRATE_NS 10000000ull
#define CHECK_NS 1000000ull

static uint64_t now_ns(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t time_realtime_ns(void)
{
    return now_ns(CLOCK_REALTIME);
}

/* A (TSC, ns) pair: the closest of a few tries, so that a preemption between the two does not
 * count. */
static void sample(uint64_t *tsc, uint64_t *ns)
{
    uint64_t best = UINT64_MAX;

    for (int i = 0; i < 5; i++) {
        uint64_t before = time_host_tsc();
        uint64_t t = now_ns(CLOCK_MONOTONIC_RAW);
        uint64_t after = time_host_tsc();

        if (after - before < best) {
            best = after - before;
            *tsc = before + (after - before) / 2;
            *ns = t;
        }
    }
}

static uint64_t measure_khz(uint64_t for_ns)
{
    uint64_t tsc0 = 0, ns0 = 0, tsc1 = 0, ns1 = 0;

    sample(&tsc0, &ns0);
    while (now_ns(CLOCK_MONOTONIC_RAW) - ns0 < for_ns)
        __builtin_ia32_pause();
    sample(&tsc1, &ns1);
    return ns1 > ns0 ? (tsc1 - tsc0) * 1000000u / (ns1 - ns0) : 0;
}

/* What the CPU or the hypervisor below us says, or 0. */
static uint64_t claimed_khz(void)
{
    uint32_t a, b, c, d;

    __cpuid(1, a, b, c, d);
    if (c & 0x80000000u) {
        __cpuid(0x40000000u, a, b, c, d);
        if (a >= 0x40000010u && a < 0x40010000u) {
            __cpuid(0x40000010u, a, b, c, d);
            if (a != 0)
                return a;
        }
    }
    __cpuid(0, a, b, c, d);
    if (a >= 0x15) {
        __cpuid(0x15, a, b, c, d);
        if (a != 0 && b != 0 && c != 0)
            return (uint64_t)c * b / a / 1000;
    }
    return 0;
}

uint64_t soft_calibrate_tsc_khz(void)
{
    uint64_t khz = claimed_khz();

    /* A wrong claim would make every guest timer wrong: look at it for a millisecond. */
    if (khz != 0) {
        uint64_t seen = measure_khz(CHECK_NS);

        if (seen < khz - khz / 100 || seen > khz + khz / 100)
            khz = 0;
    }
    if (khz == 0)
        khz = measure_khz(CALIBRATE_NS);
    return khz < KHZ_MIN || khz > KHZ_MAX ? 0 : khz;
}

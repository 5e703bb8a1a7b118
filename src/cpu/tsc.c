/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/tsc.h"

#include <cpuid.h>
#include <time.h>

#define KHZ_MIN 100000ull
#define KHZ_MAX 8000000ull
#define APART_NS 4000000ull /* a reading is good for some 20 ns: 1e-5 */
#define AGED_NS 60000000000ull

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* The closest of a few tries, so that a preemption between the two does not count. */
void tsc_now(struct tsc_moment *out)
{
    uint64_t best = UINT64_MAX;

    for (int i = 0; i < 5; i++) {
        uint64_t before = __builtin_ia32_rdtsc();
        uint64_t ns = now_ns();
        uint64_t after = __builtin_ia32_rdtsc();

        if (after - before < best) {
            best = after - before;
            out->tsc = before + (after - before) / 2;
            out->ns = ns;
        }
    }
}

static uint64_t measured_khz(const struct tsc_moment *since)
{
    struct tsc_moment first, last;

    tsc_now(&first);
    if (since && since->ns <= first.ns && first.ns - since->ns < AGED_NS)
        first = *since;
    while (now_ns() - first.ns < APART_NS)
        __builtin_ia32_pause();
    tsc_now(&last);
    return (uint64_t)((unsigned __int128)(last.tsc - first.tsc) * 1000000u / (last.ns - first.ns));
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

uint64_t tsc_khz(const struct tsc_moment *since)
{
    uint64_t seen = measured_khz(since), claimed = claimed_khz();

    /* The claim is exact, but a wrong one would make every guest timer wrong. */
    if (claimed > seen - seen / 100 && claimed < seen + seen / 100)
        seen = claimed;
    return seen < KHZ_MIN || seen > KHZ_MAX ? 0 : seen;
}

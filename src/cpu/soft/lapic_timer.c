/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local APIC timer, on a 1 GHz bus clock: one tick is 1 ns times the divisor. Kept as a
 * deadline in host TSC ticks, so that looking at it costs one RDTSC and one compare. The interrupt
 * goes out from soft_lapic_poll().
 *
 * The TSC-deadline mode is offered although a snapshot must convert it when the TSC's rate changes:
 * without it Linux measures the timer against the TSC in a busy loop, and a host that preempts the
 * vCPU there leaves the guest with a wrong rate, or with no timer at all.
 */
#include "cpu/soft/lapic_priv.h"
#include "cpu/soft/sys.h"

#define KHZ_PER_GHZ 1000000u

/* log2 of the divisor: 0 means 2 ... 6 means 128, 7 means 1 (SDM figure 11-10). */
static unsigned divide_shift(const struct soft_lapic *l)
{
    unsigned code = (l->divide & 3) | (l->divide >> 1 & 4);

    return (code + 1) & 7;
}

/* Both products fit: 2^32 ticks * 128 ns = 2^39, times at most 8e6 kHz < 2^23. */
static uint64_t ticks_to_tsc(const struct soft_cpu *cpu, uint64_t ticks)
{
    return (ticks << divide_shift(cpu->lapic)) * cpu->clock.khz / KHZ_PER_GHZ;
}

/* A guest may name any deadline: 2^63 ns is for ever. */
static uint64_t tsc_to_ns(const struct soft_cpu *cpu, uint64_t tsc)
{
    unsigned __int128 ns = (unsigned __int128)tsc * KHZ_PER_GHZ;
    uint64_t hi = (uint64_t)(ns >> 64), lo = (uint64_t)ns, rest;

    if (hi >= cpu->clock.khz / 2)
        return UINT64_MAX / 2;
    __asm__("divq %[khz]" : "+a"(lo), "=d"(rest) : [khz] "r"(cpu->clock.khz), "d"(hi) : "cc");
    return lo;
}

static bool deadline_mode(const struct soft_lapic *l)
{
    return l->lvt[LVT_TIMER] & LVT_TSC_DEADLINE;
}

void lapic_timer_stop(struct soft_cpu *cpu)
{
    cpu->lapic->initial_count = 0;
    cpu->lapic->tsc_deadline = 0;
    cpu->lapic->deadline = UINT64_MAX;
}

uint64_t soft_lapic_tsc_deadline(const struct soft_cpu *cpu)
{
    return cpu->lapic->tsc_deadline;
}

void soft_lapic_set_tsc_deadline(struct soft_cpu *cpu, uint64_t guest_tsc)
{
    struct soft_lapic *l = cpu->lapic;

    if (!deadline_mode(l))
        return;
    l->tsc_deadline = guest_tsc;
    if (guest_tsc == 0) {
        l->deadline = UINT64_MAX;
        return;
    }
    uint64_t now = soft_rdtsc(cpu), ahead = guest_tsc > now ? guest_tsc - now : 0;
    uint64_t host = time_host_tsc();
    l->deadline = ahead >= UINT64_MAX - 1 - host ? UINT64_MAX - 1 : host + ahead;
}

void lapic_timer_start(struct soft_cpu *cpu, uint32_t ticks)
{
    struct soft_lapic *l = cpu->lapic;

    if (deadline_mode(l))
        return;
    l->initial_count = ticks;
    l->deadline = ticks == 0 ? UINT64_MAX : time_host_tsc() + ticks_to_tsc(cpu, ticks);
}

void lapic_timer_resume(struct soft_cpu *cpu, uint32_t initial, uint32_t left,
                        uint64_t tsc_deadline)
{
    struct soft_lapic *l = cpu->lapic;

    lapic_timer_stop(cpu);
    if (deadline_mode(l)) {
        soft_lapic_set_tsc_deadline(cpu, tsc_deadline);
        return;
    }
    l->initial_count = initial;
    if (left == 0 && l->lvt[LVT_TIMER] & LVT_PERIODIC)
        left = initial;
    if (left != 0)
        l->deadline = time_host_tsc() + ticks_to_tsc(cpu, left);
}

uint32_t lapic_timer_count(struct soft_cpu *cpu)
{
    const struct soft_lapic *l = cpu->lapic;
    uint64_t now = time_host_tsc(), left;

    if (l->deadline == UINT64_MAX || deadline_mode(l))
        return 0;
    if (now >= l->deadline) /* expired but not looked at yet; periodic ones have begun anew */
        return l->lvt[LVT_TIMER] & LVT_PERIODIC ? l->initial_count : 0;
    left = tsc_to_ns(cpu, l->deadline - now) >> divide_shift(l);
    return left > l->initial_count ? l->initial_count : (uint32_t)left;
}

void lapic_timer_divide(struct soft_cpu *cpu, uint32_t divide)
{
    struct soft_lapic *l = cpu->lapic;
    uint32_t left = lapic_timer_count(cpu);

    l->divide = divide;
    if (l->deadline != UINT64_MAX && !deadline_mode(l))
        l->deadline = time_host_tsc() + ticks_to_tsc(cpu, left);
}

static void expire(struct soft_cpu *cpu, uint64_t now)
{
    struct soft_lapic *l = cpu->lapic;
    uint32_t lvt = l->lvt[LVT_TIMER];

    if (lvt & LVT_PERIODIC) {
        uint64_t period = ticks_to_tsc(cpu, l->initial_count);
        uint64_t late = now - l->deadline;

        /* Keep the phase; periods that nobody could notice are dropped, not queued. */
        l->deadline = period == 0 ? now + 1 : l->deadline + (late / period + 1) * period;
    } else {
        l->deadline = UINT64_MAX;
        l->tsc_deadline = 0;
    }
    if (!(lvt & LVT_MASKED))
        soft_lapic_post(cpu, lvt & 0xff, false);
}

void soft_lapic_poll(struct soft_cpu *cpu)
{
    uint64_t now = time_host_tsc();

    if (now >= cpu->lapic->deadline)
        expire(cpu, now);
}

uint64_t soft_lapic_deadline_ns(struct soft_cpu *cpu)
{
    uint64_t now = time_host_tsc(), deadline = cpu->lapic->deadline;

    if (deadline == UINT64_MAX)
        return UINT64_MAX;
    /* One more, so that a sleep that long does not end just short of the deadline. */
    return now >= deadline ? 0 : tsc_to_ns(cpu, deadline - now) + 1;
}

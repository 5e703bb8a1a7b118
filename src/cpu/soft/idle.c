/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/soft/idle.h"

static bool ran_much(const struct soft_idle *i, uint64_t now)
{
    return now - i->since - i->slept >= i->khz * IDLE_RAN_MS;
}

bool idle_waits(const struct soft_idle *i, uint64_t now)
{
    return !i->done || ran_much(i, now);
}

bool idle_slept(struct soft_idle *i, uint64_t from, uint64_t to)
{
    i->slept += to - from;
    if (to - i->since < i->khz * IDLE_WINDOW_MS) {
        return false;
    }
    bool busy = ran_much(i, to);
    i->since = to;
    i->slept = 0;
    if (busy) {
        i->quiet = 0;
        i->done = false;
        return false;
    }
    unsigned need = i->need ? i->need : IDLE_FIRST;
    if (i->done || ++i->quiet < need) {
        return false;
    }
    i->need = need < IDLE_LAST ? 2 * need : need;
    i->done = true;
    return true;
}

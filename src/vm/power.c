// SPDX-License-Identifier: Apache-2.0
#include "vm/power.h"

#include "vm/layout.h"

#define SLP_EN 0x20
#define SLP_TYPE(v) ((v) >> 2 & 7)

static uint64_t power_read(void *opaque, uint64_t offset, unsigned size)
{
    return 0; /* WAK_STS is clear: this machine never wakes, it is gone */
}

static void power_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct power *p = opaque;
    if (size != 1)
        return;
    if (offset == LAYOUT_SLEEP_CONTROL - LAYOUT_POWER && (value & SLP_EN) &&
        SLP_TYPE(value) == LAYOUT_S5_TYPE)
        p->event(p->opaque, POWER_OFF);
    else if (offset == LAYOUT_RESET - LAYOUT_POWER && value == LAYOUT_RESET_VALUE)
        p->event(p->opaque, POWER_RESET);
}

int power_attach(struct power *p, struct bus *ports, struct sm_error *err)
{
    static const struct bus_ops ops = {.read = power_read, .write = power_write};
    return bus_add(ports, LAYOUT_POWER, LAYOUT_POWER_LEN, &ops, p, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The power block of the machine: ACPI sleep control and status registers (ACPI 6.5
 * section 4.8.3.7) and the reset register (4.8.3.6), one port each at LAYOUT_POWER.
 */
#ifndef SM_VM_POWER_H
#define SM_VM_POWER_H

#include "base/err.h"
#include "hw/bus.h"

enum power_event { POWER_OFF, POWER_RESET };

struct power {
    /* Called on the vCPU's thread that wrote the register. */
    void (*event)(void *opaque, enum power_event event);
    void *opaque; /* borrowed */
};

/* p must outlive the bus's use. */
int power_attach(struct power *p, struct bus *ports, struct sm_error *err);

#endif

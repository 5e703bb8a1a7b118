/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The I/O APIC: 24 pins at 0xfec00000. Source: Intel 82093AA data sheet, and the EOI register of
 * version 0x20 (ICH data sheets).
 *
 * Pins are the global system interrupts 0-23. A level is "asserted", whatever the polarity bit
 * says. Fixed and lowest-priority messages only. Destinations have 8 bits.
 *
 * Threads: any, under its own lock; also inside a run slice.
 */
#ifndef SM_SOFT_IOAPIC_H
#define SM_SOFT_IOAPIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "hw/bus.h"

#define IOAPIC_BASE 0xfec00000ull
#define IOAPIC_LEN 0x1000ull
#define IOAPIC_PINS 24

struct engine;

struct soft_ioapic {
    struct engine *engine; /* borrowed */
    atomic_flag lock;
    uint32_t select; /* IOREGSEL */
    uint32_t id;
    uint32_t lines; /* asserted pins, by bit */
    uint64_t redirect[IOAPIC_PINS];
};

/* All pins masked. */
void soft_ioapic_init(struct soft_ioapic *io, struct engine *engine);

/* Drive a pin; numbers past the last pin are ignored. Wakes the target vCPU. */
void soft_ioapic_set(struct soft_ioapic *io, unsigned gsi, int level);
/* End of interrupt of a level-triggered vector, from a local APIC. */
void soft_ioapic_eoi(struct soft_ioapic *io, unsigned vector);

/* Could a guest have made these entries? */
bool soft_ioapic_valid(const uint64_t redirect[IOAPIC_PINS]);

/* Registers, for [IOAPIC_BASE, IOAPIC_BASE + IOAPIC_LEN); opaque is the struct soft_ioapic. */
extern const struct bus_ops soft_ioapic_ops;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An address space of device registers: [addr, addr+len) -> one handler. A VM has two: MMIO
 * (guest-physical addresses) and I/O ports. Filled before the first vCPU runs, constant after.
 * Accesses that hit nothing, or straddle a range's end, read all-ones and drop writes.
 * Handlers are called on the vCPU's thread; they do their own locking.
 */
#ifndef SM_HW_BUS_H
#define SM_HW_BUS_H

#include <stdint.h>

#include "base/err.h"

struct bus_ops {
    /* size is 1, 2, 4 or 8; the access lies wholly inside the range. */
    uint64_t (*read)(void *opaque, uint64_t offset, unsigned size);
    void (*write)(void *opaque, uint64_t offset, unsigned size, uint64_t value);
};

#define BUS_MAX_RANGES 96

struct bus_range {
    uint64_t addr, len;
    const struct bus_ops *ops;
    void *opaque; /* borrowed */
};

struct bus {
    struct bus_range ranges[BUS_MAX_RANGES];
    unsigned n_ranges;
};

/* Zero-initialise a struct bus to start. Overlap, overflow and a full table are SM_EINVAL. */
int bus_add(struct bus *b, uint64_t addr, uint64_t len, const struct bus_ops *ops, void *opaque,
            struct sm_error *err);

uint64_t bus_read(const struct bus *b, uint64_t addr, unsigned size);
void bus_write(const struct bus *b, uint64_t addr, unsigned size, uint64_t value);

#endif

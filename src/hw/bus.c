/* SPDX-License-Identifier: Apache-2.0 */
/* An address space of device registers: a sorted table and a binary search. Constant once filled.
 */
#include "hw/bus.h"

#include <stddef.h>
#include <string.h>

int bus_add(struct bus *b, uint64_t addr, uint64_t len, const struct bus_ops *ops, void *opaque,
            struct sm_error *err)
{
    unsigned at;

    if (len == 0 || addr + len - 1 < addr)
        return err_set(err, SM_EINVAL, "device range %#llx+%#llx is empty or wraps",
                       (unsigned long long)addr, (unsigned long long)len);
    if (b->n_ranges == BUS_MAX_RANGES)
        return err_set(err, SM_EINVAL, "too many device ranges (at most %d)", BUS_MAX_RANGES);
    for (at = 0; at < b->n_ranges && b->ranges[at].addr < addr; at++)
        ;
    if ((at > 0 && addr - b->ranges[at - 1].addr < b->ranges[at - 1].len) ||
        (at < b->n_ranges && b->ranges[at].addr - addr < len))
        return err_set(err, SM_EINVAL, "device range %#llx+%#llx overlaps another",
                       (unsigned long long)addr, (unsigned long long)len);
    memmove(&b->ranges[at + 1], &b->ranges[at], (b->n_ranges - at) * sizeof b->ranges[0]);
    b->ranges[at] = (struct bus_range){addr, len, ops, opaque};
    b->n_ranges++;
    return 0;
}

static const struct bus_range *find(const struct bus *b, uint64_t addr, unsigned size)
{
    unsigned lo = 0, hi = b->n_ranges;

    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        const struct bus_range *r = &b->ranges[mid];

        if (addr < r->addr)
            hi = mid;
        else if (addr - r->addr >= r->len)
            lo = mid + 1;
        else
            return size <= r->len - (addr - r->addr) ? r : NULL;
    }
    return NULL;
}

static uint64_t mask(unsigned size)
{
    return size >= 8 ? ~0ull : (1ull << (size * 8)) - 1;
}

uint64_t bus_read(const struct bus *b, uint64_t addr, unsigned size)
{
    const struct bus_range *r = find(b, addr, size);

    return (r != NULL ? r->ops->read(r->opaque, addr - r->addr, size) : ~0ull) & mask(size);
}

void bus_write(const struct bus *b, uint64_t addr, unsigned size, uint64_t value)
{
    const struct bus_range *r = find(b, addr, size);

    if (r != NULL)
        r->ops->write(r->opaque, addr - r->addr, size, value & mask(size));
}

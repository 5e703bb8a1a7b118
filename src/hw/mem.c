/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest-physical memory. RAM lives in one PROT_NONE reservation:
 *
 *   guard | low RAM | guard | high RAM | guard
 *
 * so that a host access which runs off either end of a region faults instead of touching the
 * neighbour. The guards are 2 MiB, which also keeps RAM aligned for transparent huge pages.
 * The layout is constant once the VM runs: every lookup is lock-free.
 */
#include "hw/mem.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define RAM_UNIT (2ull << 20)
#define RAM_MIN (16ull << 20)
#define RAM_MAX (1ull << 44)
#define GUARD RAM_UNIT

static int ram_region(struct mem *m, gpa_t gpa, uint8_t *hva, uint64_t len, struct sm_error *err)
{
    if (mprotect(hva, len, PROT_READ | PROT_WRITE) != 0)
        return err_set(err, SM_ENOMEM, "the host refuses %llu MiB of guest memory",
                       (unsigned long long)(len >> 20));
    m->regions[m->n_regions++] =
        (struct mem_region){.gpa = gpa, .len = len, .hva = hva, .ram = true};
    return 0;
}

int mem_lay(struct mem *m, uint64_t offset, uint64_t len, int fd, uint64_t at, struct sm_error *err)
{
    uint64_t start = 0; /* of the region, in RAM */

    if (offset > m->ram_bytes || len > m->ram_bytes - offset)
        return err_set(err, SM_EINVAL, "a file is mapped beyond guest memory");
    for (unsigned i = 0; len != 0 && i < m->n_regions; i++) {
        const struct mem_region *r = &m->regions[i];

        if (!r->ram)
            continue;
        if (offset - start < r->len) {
            uint64_t part = r->len - (offset - start) < len ? r->len - (offset - start) : len;

            if (mmap(r->hva + (offset - start), part, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd, (off_t)at) == MAP_FAILED)
                return err_sys(err, "cannot map the file of guest memory");
            offset += part;
            at += part;
            len -= part;
        }
        start += r->len;
    }
    return 0;
}

int mem_new_from(uint64_t ram_bytes, int fd, struct mem **out, struct sm_error *err)
{
    int rc = mem_new(ram_bytes, out, err);

    if (rc != 0)
        return rc;
    rc = mem_lay(*out, 0, ram_bytes, fd, 0, err);
    (*out)->from_file = true;
    if (rc != 0) {
        mem_free(*out);
        *out = NULL;
    }
    return rc;
}

int mem_new(uint64_t ram_bytes, struct mem **out, struct sm_error *err)
{
    uint64_t low = ram_bytes < MEM_LOW_LIMIT ? ram_bytes : MEM_LOW_LIMIT;
    uint64_t high = ram_bytes - low;
    struct mem *m;
    uint8_t *base;
    int rc;

    *out = NULL;
    if (ram_bytes < RAM_MIN || ram_bytes > RAM_MAX || ram_bytes % RAM_UNIT != 0)
        return err_set(err, SM_EINVAL,
                       "guest memory of %llu bytes: need a multiple of 2 MiB, at least 16 MiB",
                       (unsigned long long)ram_bytes);
    m = calloc(1, sizeof *m);
    if (m == NULL)
        return err_set(err, SM_ENOMEM, "out of memory");
    m->ram_bytes = ram_bytes;
    m->reserve_len = ram_bytes + 4 * GUARD; /* the fourth guard's worth is room to align */
    m->reserve = mmap(NULL, m->reserve_len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m->reserve == MAP_FAILED) {
        m->reserve = NULL;
        rc = err_sys(err, "cannot reserve %llu MiB of address space for guest memory",
                     (unsigned long long)(m->reserve_len >> 20));
        goto fail;
    }
    base = (uint8_t *)(((uintptr_t)m->reserve + RAM_UNIT - 1) & ~(uintptr_t)(RAM_UNIT - 1));
    rc = ram_region(m, 0, base + GUARD, low, err);
    if (rc == 0 && high != 0)
        rc = ram_region(m, MEM_HIGH_BASE, base + GUARD + low + GUARD, high, err);
    if (rc != 0)
        goto fail;
    *out = m;
    return 0;
fail:
    mem_free(m);
    return rc;
}

void mem_free(struct mem *m)
{
    if (m == NULL)
        return;
    if (m->reserve != NULL)
        munmap(m->reserve, m->reserve_len);
    free(m->laid);
    free(m);
}

int mem_add_window(struct mem *m, gpa_t gpa, uint64_t len, void *hva, bool read_only,
                   struct sm_error *err)
{
    unsigned at;

    if (hva == NULL || len == 0 || gpa % MEM_PAGE_SIZE != 0 || len % MEM_PAGE_SIZE != 0 ||
        (uintptr_t)hva % MEM_PAGE_SIZE != 0 || gpa + len < gpa)
        return err_set(err, SM_EINVAL, "memory window %#llx+%#llx is not whole pages",
                       (unsigned long long)gpa, (unsigned long long)len);
    if (m->n_regions == MEM_MAX_REGIONS)
        return err_set(err, SM_EINVAL, "too many memory windows (at most %d)", MEM_MAX_REGIONS);
    for (at = 0; at < m->n_regions && m->regions[at].gpa < gpa; at++)
        ;
    if ((at > 0 && gpa - m->regions[at - 1].gpa < m->regions[at - 1].len) ||
        (at < m->n_regions && m->regions[at].gpa - gpa < len))
        return err_set(err, SM_EINVAL, "memory window %#llx+%#llx overlaps another",
                       (unsigned long long)gpa, (unsigned long long)len);
    memmove(&m->regions[at + 1], &m->regions[at], (m->n_regions - at) * sizeof m->regions[0]);
    m->regions[at] =
        (struct mem_region){.gpa = gpa, .len = len, .hva = hva, .read_only = read_only};
    m->n_regions++;
    return 0;
}

const struct mem_region *mem_find(const struct mem *m, gpa_t gpa)
{
    unsigned lo = 0, hi = m->n_regions;

    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        const struct mem_region *r = &m->regions[mid];

        if (gpa < r->gpa)
            hi = mid;
        else if (gpa - r->gpa >= r->len)
            lo = mid + 1;
        else
            return r;
    }
    return NULL;
}

/* Subtractions only: a guest picks gpa and len, so no sum of theirs may be formed. */
static uint8_t *lookup(const struct mem *m, gpa_t gpa, uint64_t len, bool write)
{
    const struct mem_region *r = mem_find(m, gpa);

    if (r == NULL || len == 0 || len > r->len - (gpa - r->gpa) || (write && r->read_only))
        return NULL;
    return r->hva + (gpa - r->gpa);
}

const void *mem_ptr(const struct mem *m, gpa_t gpa, uint64_t len)
{
    return lookup(m, gpa, len, false);
}

void *mem_ptr_write(struct mem *m, gpa_t gpa, uint64_t len)
{
    return lookup(m, gpa, len, true);
}

void mem_wrote(struct mem *m, gpa_t gpa, uint64_t len)
{
    if (m->on_write != NULL && len != 0)
        m->on_write(m->on_write_opaque, gpa, len);
}

/* jail(loop): madvise */
int mem_discard(struct mem *m, gpa_t gpa, uint64_t len)
{
    const struct mem_region *r = mem_find(m, gpa);
    uint64_t skip = -gpa % MEM_PAGE_SIZE, whole;

    if (r == NULL || !r->ram || len > r->len - (gpa - r->gpa))
        return -1;
    whole = len > skip ? (len - skip) / MEM_PAGE_SIZE * MEM_PAGE_SIZE : 0;
    if (whole == 0)
        return 0;
    /* Not MADV_FREE: the host would count it as the guest's until it runs short of memory. */
    int rc = madvise(r->hva + (gpa + skip - r->gpa), whole, MADV_DONTNEED);
    mem_wrote(m, gpa + skip, whole);
    return rc;
}

int mem_read(const struct mem *m, gpa_t gpa, void *out, uint64_t len)
{
    const void *p = lookup(m, gpa, len, false);

    if (len == 0)
        return 0;
    if (p == NULL)
        return -1;
    memcpy(out, p, len);
    return 0;
}

int mem_write(struct mem *m, gpa_t gpa, const void *data, uint64_t len)
{
    void *p = lookup(m, gpa, len, true);

    if (len == 0)
        return 0;
    if (p == NULL)
        return -1;
    memcpy(p, data, len);
    mem_wrote(m, gpa, len);
    return 0;
}

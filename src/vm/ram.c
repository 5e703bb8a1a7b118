// SPDX-License-Identifier: Apache-2.0
/*
 * Saving RAM touches only what exists: pages that the host never gave to the guest are known from
 * /proc/self/pagemap, and for RAM that came from a snapshot, from the holes of its file.
 */
#include "vm/ram.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"
#include "base/le.h"

#define PAGE MEM_PAGE_SIZE
#define CHUNK 512u /* pages looked at together */
#define PRESENT                                                                                    \
    (3ull << 62) /* in memory, or swapped out (Documentation/admin-guide/mm/pagemap)               \
                  */

struct saver {
    const struct mem *mem;
    int fd, pagemap;   /* pagemap -1: unknown, look at every page */
    uint64_t data_end; /* of the base file's extent that was found last */
    uint64_t data_start;
};

static bool is_zero(const uint8_t *page)
{
    const uint64_t *p = (const uint64_t *)page;
    for (unsigned i = 0; i < PAGE / 8; i += 8)
        if (p[i] | p[i + 1] | p[i + 2] | p[i + 3] | p[i + 4] | p[i + 5] | p[i + 6] | p[i + 7])
            return false;
    return true;
}

static void hash_page(struct hash *h, uint64_t number, const void *data)
{
    uint8_t n[8];
    le64_put(n, number);
    hash_update(h, n, sizeof n);
    hash_update(h, data, PAGE);
}

/* jail(main): lseek pread64 pwrite64 ftruncate */
/* Does the file that RAM came from have data at this offset? */
static bool base_has_data(struct saver *s, uint64_t offset)
{
    if (s->mem->file < 0)
        return false;
    if (offset >= s->data_end) {
        off_t start = lseek(s->mem->file, (off_t)offset, SEEK_DATA);
        if (start < 0) { /* none up to the end; or no such call on this file system */
            s->data_start = errno == ENXIO ? UINT64_MAX : offset;
            s->data_end = UINT64_MAX;
        } else {
            off_t end = lseek(s->mem->file, start, SEEK_HOLE);
            s->data_start = (uint64_t)start;
            s->data_end = end < 0 ? UINT64_MAX : (uint64_t)end;
        }
    }
    return offset + PAGE > s->data_start;
}

static void read_pagemap(const struct saver *s, const uint8_t *hva, unsigned n, uint64_t *map)
{
    size_t want = n * sizeof *map;
    if (s->pagemap < 0 ||
        pread(s->pagemap, map, want, (off_t)((uintptr_t)hva / PAGE * sizeof *map)) != (ssize_t)want)
        for (unsigned i = 0; i < n; i++)
            map[i] = PRESENT;
}

/* Up to CHUNK pages at hva, which are at this offset of the file. */
static int save_chunk(struct saver *s, uint8_t *hva, unsigned n, uint64_t offset)
{
    uint64_t map[CHUNK];
    unsigned run = 0, zeros = 0; /* pages up to i that are still to be written, or given back */
    read_pagemap(s, hva, n, map);
    for (unsigned i = 0; i <= n; i++) {
        uint8_t *page = hva + i * PAGE;
        bool known = i < n && (map[i] & PRESENT || base_has_data(s, offset + i * PAGE));
        bool data = known && !is_zero(page);
        if (!data && run &&
            io_pwrite_full(s->fd, page - run * PAGE, run * PAGE, offset + (i - run) * PAGE))
            return -1;
        run = data ? run + 1 : 0;
        bool zero = known && !data && s->mem->file < 0;
        if (!zero && zeros)
            madvise(page - zeros * PAGE, zeros * PAGE, MADV_DONTNEED);
        zeros = zero ? zeros + 1 : 0;
    }
    return 0;
}

static int save_all(struct saver *s, struct sm_error *err)
{
    uint64_t offset = 0;
    for (unsigned i = 0; i < s->mem->n_regions; i++) {
        const struct mem_region *r = &s->mem->regions[i];
        if (!r->ram)
            continue;
        for (uint64_t at = 0; at < r->len; at += CHUNK * PAGE) {
            uint64_t left = (r->len - at) / PAGE;
            if (save_chunk(s, r->hva + at, left < CHUNK ? (unsigned)left : CHUNK, offset + at))
                return err_sys(err, "cannot write the guest's memory");
        }
        offset += r->len;
    }
    if (ftruncate(s->fd, (off_t)offset) != 0)
        return err_sys(err, "cannot write the guest's memory");
    return 0;
}

int ram_pagemap(void)
{
    return open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
}

int ram_save(const struct mem *m, int pagemap, int fd, struct sm_error *err)
{
    struct saver s = {.mem = m, .fd = fd, .pagemap = pagemap};
    return save_all(&s, err);
}

static int digest_extent(int fd, uint64_t at, uint64_t end, uint8_t *buffer, struct hash *h,
                         struct sm_error *err)
{
    while (at < end) {
        size_t want = end - at < CHUNK * PAGE ? (size_t)(end - at) : CHUNK * PAGE;
        ssize_t n = pread(fd, buffer, want, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < (ssize_t)PAGE)
            return n < 0 ? err_sys(err, "cannot read the guest's memory")
                         : err_set(err, SM_ECORRUPT, "the memory file is truncated");
        for (ssize_t i = 0; i + (ssize_t)PAGE <= n; i += (ssize_t)PAGE)
            if (!is_zero(buffer + i))
                hash_page(h, (at + (uint64_t)i) / PAGE, buffer + i);
        at += (uint64_t)n / PAGE * PAGE;
    }
    return 0;
}

int ram_digest(int fd, uint64_t size, char digest[DIGEST_STR_SIZE], struct sm_error *err)
{
    struct hash *h = hash_new();
    uint8_t *buffer = aligned_alloc(PAGE, CHUNK * PAGE);
    int rc = h && buffer ? 0 : err_set(err, SM_ENOMEM, "out of memory");
    for (uint64_t at = 0; !rc && at < size;) {
        off_t start = lseek(fd, (off_t)at, SEEK_DATA), end = 0;
        if (start < 0 && errno == ENXIO)
            break;
        if (start < 0 || (end = lseek(fd, start, SEEK_HOLE)) < 0) {
            rc = err_sys(err, "cannot read the guest's memory");
            break;
        }
        uint64_t from = (uint64_t)start / PAGE * PAGE;
        uint64_t to = ((uint64_t)end + PAGE - 1) / PAGE * PAGE;
        rc = digest_extent(fd, from < at ? at : from, to < size ? to : size, buffer, h, err);
        at = to;
    }
    if (h)
        hash_final(h, digest);
    hash_free(h);
    free(buffer);
    return rc;
}

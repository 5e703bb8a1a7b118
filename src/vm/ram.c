// SPDX-License-Identifier: Apache-2.0
/*
 * Saving RAM touches only what exists: which pages the host gave to the guest is known from
 * /proc/self/pagemap, and so is which of them are the guest's own and no longer a file's.
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
#define CHUNK RAM_CHUNK
/* Documentation/admin-guide/mm/pagemap: in memory, or swapped out; and of a file */
#define PRESENT (3ull << 62)
#define OF_FILE (1ull << 61)

struct saver {
    const struct mem *mem;
    int fd, pagemap; /* pagemap -1: unknown, look at every page */
};

bool ram_is_zero(const uint8_t *page)
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

/* jail(main): pread64 pwrite64 ftruncate */
void ram_read_pagemap(int pagemap, const uint8_t *hva, unsigned n, uint64_t *map)
{
    size_t want = n * sizeof *map;
    if (pagemap < 0 ||
        pread(pagemap, map, want, (off_t)((uintptr_t)hva / PAGE * sizeof *map)) != (ssize_t)want)
        for (unsigned i = 0; i < n; i++)
            map[i] = PRESENT;
}

bool ram_is_own(uint64_t entry)
{
    return entry & PRESENT && !(entry & OF_FILE);
}

/* Mapped from a file by ram_share(): there, whether or not the host has it in this process. */
static bool is_laid(const struct mem *m, uint64_t page)
{
    return m->laid && m->laid[page / 64] >> page % 64 & 1;
}

/* Up to CHUNK pages at hva, which are at this offset of the file. */
static int save_chunk(struct saver *s, uint8_t *hva, unsigned n, uint64_t offset)
{
    uint64_t map[CHUNK];
    unsigned run = 0, zeros = 0; /* pages up to i that are still to be written, or given back */
    ram_read_pagemap(s->pagemap, hva, n, map);
    for (unsigned i = 0; i <= n; i++) {
        uint8_t *page = hva + i * PAGE;
        bool laid = i < n && is_laid(s->mem, offset / PAGE + i);
        bool known = laid || (i < n && map[i] & PRESENT);
        bool data = known && !ram_is_zero(page);
        if (!data && run &&
            io_pwrite_full(s->fd, page - run * PAGE, run * PAGE, offset + (i - run) * PAGE))
            return -1;
        run = data ? run + 1 : 0;
        bool zero = known && !data && !laid; /* below it lies what the file has */
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

static int digest_extent(int fd, uint64_t at, uint64_t end, const char *what, uint8_t *buffer,
                         struct hash *h, struct sm_error *err)
{
    while (at < end) {
        size_t want = end - at < CHUNK * PAGE ? (size_t)(end - at) : CHUNK * PAGE;
        ssize_t n = pread(fd, buffer, want, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n >= 0 && at + (uint64_t)n == end && n % (ssize_t)PAGE) {
            size_t rest = PAGE - (size_t)n % PAGE;
            memset(buffer + n, 0, rest);
            n += (ssize_t)rest;
        }
        if (n < (ssize_t)PAGE)
            return n < 0 ? err_sys(err, "cannot read %s", what)
                         : err_set(err, SM_ECORRUPT, "%s is truncated", what);
        for (ssize_t i = 0; i + (ssize_t)PAGE <= n; i += (ssize_t)PAGE)
            if (!ram_is_zero(buffer + i))
                hash_page(h, (at + (uint64_t)i) / PAGE, buffer + i);
        at += (uint64_t)n / PAGE * PAGE;
    }
    return 0;
}

int ram_digest(int fd, uint64_t size, char digest[DIGEST_STR_SIZE], struct sm_error *err)
{
    return pages_digest(fd, size, "the memory file", digest, err);
}

int pages_digest(int fd, uint64_t size, const char *what, char digest[DIGEST_STR_SIZE],
                 struct sm_error *err)
{
    struct hash *h = hash_new();
    uint8_t *buffer = aligned_alloc(PAGE, CHUNK * PAGE);
    int rc = h && buffer ? 0 : err_set(err, SM_ENOMEM, "out of memory");
    for (uint64_t at = 0; !rc && at < size;) {
        off_t start = lseek(fd, (off_t)at, SEEK_DATA), end = 0;
        if (start < 0 && errno == ENXIO)
            break;
        if (start < 0 || (end = lseek(fd, start, SEEK_HOLE)) < 0) {
            rc = err_sys(err, "cannot read %s", what);
            break;
        }
        uint64_t from = (uint64_t)start / PAGE * PAGE;
        uint64_t to = ((uint64_t)end + PAGE - 1) / PAGE * PAGE;
        rc = digest_extent(fd, from < at ? at : from, to < size ? to : size, what, buffer, h, err);
        at = to;
    }
    if (h)
        hash_final(h, digest);
    hash_free(h);
    free(buffer);
    return rc;
}

/* ---- over a base ---- */

static void set_bits(uint64_t *bits, uint64_t first, uint64_t n)
{
    for (uint64_t i = first; i < first + n; i++)
        bits[i / 64] |= 1ull << i % 64;
}

/* The pages that are this process's own: what is still the base's is a page of a file. */
static void find_own(const struct saver *s, uint64_t *bits)
{
    uint64_t map[CHUNK], page = 0;
    for (unsigned r = 0; r < s->mem->n_regions; r++) {
        const struct mem_region *region = &s->mem->regions[r];
        uint64_t end = page + region->len / PAGE;
        if (!region->ram)
            continue;
        for (const uint8_t *hva = region->hva; page < end; hva += CHUNK * PAGE) {
            unsigned n = end - page < CHUNK ? (unsigned)(end - page) : CHUNK;
            ram_read_pagemap(s->pagemap, hva, n, map);
            for (unsigned i = 0; i < n; i++)
                if (ram_is_own(map[i]))
                    set_bits(bits, page + i, 1);
            page += n;
        }
    }
}

/* One run, which may go on behind the hole, to this offset of the file. */
static int write_run(const struct saver *s, const struct delta_run *run, uint64_t at)
{
    uint64_t start = 0, offset = run->first * PAGE, left = run->pages * PAGE;
    for (unsigned r = 0; left && r < s->mem->n_regions; r++) {
        const struct mem_region *region = &s->mem->regions[r];
        if (!region->ram)
            continue;
        if (offset - start < region->len) {
            uint64_t in = offset - start;
            uint64_t part = region->len - in < left ? region->len - in : left;
            if (io_pwrite_full(s->fd, region->hva + in, part, at) != 0)
                return -1;
            offset += part;
            at += part;
            left -= part;
        }
        start += region->len;
    }
    return 0;
}

static int write_runs(const struct saver *s, const struct delta *d, struct sm_error *err)
{
    uint64_t at = DELTA_HEADER_SIZE;
    int rc = delta_write(d, s->fd, err);
    for (unsigned i = 0; !rc && i < d->n; i++) {
        if (write_run(s, &d->runs[i], at) != 0)
            rc = err_sys(err, "cannot write the guest's memory");
        at += d->runs[i].pages * PAGE;
    }
    return rc;
}

int ram_save_delta(const struct mem *m, int pagemap, const struct delta *over, int fd,
                   struct sm_error *err)
{
    struct saver s = {.mem = m, .fd = fd, .pagemap = pagemap};
    uint64_t n_pages = m->ram_bytes / PAGE;
    uint64_t *bits = calloc((n_pages + 63) / 64, sizeof *bits);
    struct delta *d = malloc(sizeof *d);
    int rc = bits && d ? 0 : err_set(err, SM_ENOMEM, "out of memory");
    if (!rc) {
        find_own(&s, bits);
        for (unsigned i = 0; over && i < over->n; i++)
            set_bits(bits, over->runs[i].first, over->runs[i].pages);
        delta_cover(d, bits, n_pages);
        rc = write_runs(&s, d, err);
    }
    free(d);
    free(bits);
    return rc;
}

int ram_lay(struct mem *m, const struct delta *d, int fd, struct sm_error *err)
{
    uint64_t at = DELTA_HEADER_SIZE;
    int rc = 0;
    for (unsigned i = 0; !rc && i < d->n; i++) {
        rc = mem_lay(m, d->runs[i].first * PAGE, d->runs[i].pages * PAGE, fd, at, err);
        at += d->runs[i].pages * PAGE;
    }
    return rc;
}

static int copy_bytes(int from, uint64_t at, uint64_t len, int to, uint64_t to_at, uint8_t *buffer,
                      struct sm_error *err)
{
    while (len) {
        size_t want = len < CHUNK * PAGE ? (size_t)len : CHUNK * PAGE;
        ssize_t n = pread(from, buffer, want, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? err_sys(err, "cannot read the guest's memory")
                         : err_set(err, SM_ECORRUPT, "the memory file is truncated");
        if (io_pwrite_full(to, buffer, (size_t)n, to_at) != 0)
            return err_sys(err, "cannot write the guest's memory");
        at += (uint64_t)n;
        to_at += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return 0;
}

static int copy_data(int from, uint64_t size, int to, uint8_t *buffer, struct sm_error *err)
{
    int rc = 0;
    for (uint64_t at = 0; !rc && at < size;) {
        off_t start = lseek(from, (off_t)at, SEEK_DATA), end = 0;
        if (start < 0 && errno == ENXIO)
            break;
        if (start < 0 || (end = lseek(from, start, SEEK_HOLE)) < 0)
            return err_sys(err, "cannot read the guest's memory");
        uint64_t to_here = (uint64_t)end < size ? (uint64_t)end : size;
        rc = copy_bytes(from, (uint64_t)start, to_here - (uint64_t)start, to, (uint64_t)start,
                        buffer, err);
        at = to_here;
    }
    return rc;
}

int ram_merge(int base, int fd, uint64_t size, int out, struct sm_error *err)
{
    uint64_t at = DELTA_HEADER_SIZE;
    uint8_t *buffer = malloc(CHUNK * PAGE);
    struct delta *d = malloc(sizeof *d);
    int rc = buffer && d ? 0 : err_set(err, SM_ENOMEM, "out of memory");
    rc = rc ? rc : delta_read(d, fd, size, err);
    rc = rc ? rc : copy_data(base, size, out, buffer, err);
    for (unsigned i = 0; !rc && i < d->n; i++) {
        uint64_t len = d->runs[i].pages * PAGE;
        rc = copy_bytes(fd, at, len, out, d->runs[i].first * PAGE, buffer, err);
        at += len;
    }
    if (!rc && ftruncate(out, (off_t)size) != 0)
        rc = err_sys(err, "cannot write the guest's memory");
    free(d);
    free(buffer);
    return rc;
}

// SPDX-License-Identifier: Apache-2.0
#include "vm/delta.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/le.h"
#include "hw/mem.h"

#define PAGE MEM_PAGE_SIZE
#define FIXED 16u    /* bytes of the header before the runs */
#define RUN_SIZE 16u /* of one in the header */

_Static_assert(FIXED + DELTA_RUNS_MAX * RUN_SIZE == DELTA_HEADER_SIZE, "the header is whole pages");

static const char magic[8] = "SMDELTA";

/* ---- making ---- */

/* The first page from `at` on whose bit is set, or n_pages. */
static uint64_t next_set(const uint64_t *bits, uint64_t at, uint64_t n_pages)
{
    while (at < n_pages) {
        uint64_t word = bits[at / 64] >> at % 64;
        if (word) {
            at += (unsigned)__builtin_ctzll(word);
            break;
        }
        at = (at / 64 + 1) * 64;
    }
    return at < n_pages ? at : n_pages;
}

/* Runs with more than `gap` pages between them. False when there are too many. */
static bool cover(struct delta *d, const uint64_t *bits, uint64_t n_pages, uint64_t gap)
{
    d->n = 0;
    for (uint64_t at = next_set(bits, 0, n_pages); at < n_pages;) {
        uint64_t end = at + 1, next;
        while ((next = next_set(bits, end, n_pages)) < n_pages && next - end <= gap)
            end = next + 1;
        if (d->n == DELTA_RUNS_MAX)
            return false;
        d->runs[d->n++] = (struct delta_run){.first = at, .pages = end - at};
        at = next;
    }
    return true;
}

void delta_cover(struct delta *d, const uint64_t *bits, uint64_t n_pages)
{
    uint64_t gap = 0;
    while (!cover(d, bits, n_pages, gap))
        gap = 2 * gap + 1;
}

int delta_write(const struct delta *d, int fd, struct sm_error *err)
{
    uint8_t header[DELTA_HEADER_SIZE] = {0};
    memcpy(header, magic, sizeof magic);
    le32_put(header + 8, d->n);
    for (unsigned i = 0; i < d->n; i++) {
        le64_put(header + FIXED + i * RUN_SIZE, d->runs[i].first);
        le64_put(header + FIXED + i * RUN_SIZE + 8, d->runs[i].pages);
    }
    return io_pwrite_full(fd, header, sizeof header, 0) == 0
               ? 0
               : err_sys(err, "cannot write the guest's memory");
}

/* ---- reading ---- */

static int bad(struct sm_error *err, const char *why)
{
    return err_set(err, SM_ECORRUPT, "the memory file %s", why);
}

/* *total: pages of all of them. */
static int take_runs(struct delta *d, const uint8_t *header, uint64_t n_pages, uint64_t *total,
                     struct sm_error *err)
{
    uint64_t end = 0;
    *total = 0;
    for (unsigned i = 0; i < d->n; i++) {
        uint64_t first = le64_get(header + FIXED + i * RUN_SIZE);
        uint64_t pages = le64_get(header + FIXED + i * RUN_SIZE + 8);
        if (first >= n_pages || pages == 0 || pages > n_pages - first)
            return bad(err, "has pages beyond the machine's memory");
        if (i > 0 && first <= end)
            return bad(err, "has pages that are not in order");
        end = first + pages;
        *total += pages;
        d->runs[i] = (struct delta_run){.first = first, .pages = pages};
    }
    return 0;
}

int delta_read(struct delta *d, int fd, uint64_t memory_bytes, struct sm_error *err)
{
    uint8_t header[DELTA_HEADER_SIZE];
    uint64_t total;
    struct stat st;
    *d = (struct delta){0};
    ssize_t n = pread(fd, header, sizeof header, 0);
    if (n < 0 || fstat(fd, &st) != 0)
        return err_sys(err, "cannot read the memory file");
    if (n != (ssize_t)sizeof header)
        return bad(err, "is truncated");
    if (memcmp(header, magic, sizeof magic) != 0 || le32_get(header + 12) != 0)
        return bad(err, "has a bad magic number");
    d->n = le32_get(header + 8);
    if (d->n > DELTA_RUNS_MAX) {
        d->n = 0;
        return bad(err, "claims too many runs of pages");
    }
    int rc = take_runs(d, header, memory_bytes / PAGE, &total, err);
    if (!rc && (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != DELTA_HEADER_SIZE + total * PAGE))
        rc = bad(err, "is truncated, or another machine's");
    if (rc)
        d->n = 0;
    return rc;
}

// SPDX-License-Identifier: Apache-2.0
/*
 * What a VM that booted has in its memory is for the greater part what any other has that booted
 * the same way: the kernel as it patched itself, its tables, zeros.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vm/ram.h"

#define PAGE MEM_PAGE_SIZE
#define RUN_MIN 4u     /* pages that are worth a mapping of their own */
#define RUNS_MAX 1024u /* mappings */

enum kind { OWN, ZERO, SAME };

struct sharer {
    struct mem *mem;
    int pagemap, fd;
    unsigned runs;
    uint8_t *buffer; /* RAM_CHUNK pages of the file */
};

/* jail(main): pread64 mmap madvise */
/* What the file has for these pages. A file that is too short is no harm: then it is not the same.
 */
static int read_file(const struct sharer *s, uint64_t page, unsigned n, unsigned *got)
{
    ssize_t len;
    do
        len = pread(s->fd, s->buffer, n * PAGE, (off_t)(page * PAGE));
    while (len < 0 && errno == EINTR);
    *got = len > 0 ? (unsigned)((size_t)len / PAGE) : 0;
    return len < 0 ? -1 : 0;
}

static int look(const struct sharer *s, const uint8_t *hva, unsigned n, uint64_t page,
                uint8_t kinds[RAM_CHUNK])
{
    uint64_t map[RAM_CHUNK];
    unsigned got = 0;
    bool any = false;
    ram_read_pagemap(s->pagemap, hva, n, map);
    for (unsigned i = 0; i < n; i++)
        any |= ram_is_own(map[i]);
    if (any && s->fd >= 0 && read_file(s, page, n, &got) != 0)
        return -1;
    for (unsigned i = 0; i < n; i++) {
        const uint8_t *p = hva + i * PAGE;
        kinds[i] = !ram_is_own(map[i])                                     ? OWN
                   : ram_is_zero(p)                                        ? ZERO
                   : i < got && memcmp(p, s->buffer + i * PAGE, PAGE) == 0 ? SAME
                                                                           : OWN;
    }
    return 0;
}

static int share_run(struct sharer *s, uint8_t *hva, unsigned n, uint64_t page, uint8_t kind,
                     struct sm_error *err)
{
    if (kind == ZERO)
        madvise(hva, n * PAGE, MADV_DONTNEED);
    if (kind != SAME || n < RUN_MIN || s->runs == RUNS_MAX)
        return 0;
    s->runs++;
    for (unsigned i = 0; i < n; i++)
        s->mem->laid[(page + i) / 64] |= 1ull << (page + i) % 64;
    return mem_lay(s->mem, page * PAGE, n * PAGE, s->fd, page * PAGE, err);
}

static int share_chunk(struct sharer *s, uint8_t *hva, unsigned n, uint64_t page,
                       struct sm_error *err)
{
    uint8_t kinds[RAM_CHUNK];
    int rc = 0;
    if (look(s, hva, n, page, kinds) != 0)
        return 0; /* nothing of it is shared then */
    for (unsigned i = 0, end; !rc && i < n; i = end) {
        for (end = i + 1; end < n && kinds[end] == kinds[i]; end++)
            ;
        rc = share_run(s, hva + i * PAGE, end - i, page + i, kinds[i], err);
    }
    return rc;
}

int ram_share(struct mem *m, int pagemap, int fd, struct sm_error *err)
{
    struct sharer s = {.mem = m, .pagemap = pagemap, .fd = fd};
    uint64_t page = 0;
    int rc = 0;
    if (m->from_file || m->laid || pagemap < 0)
        return 0;
    s.buffer = malloc(RAM_CHUNK * PAGE);
    m->laid = calloc((m->ram_bytes / PAGE + 63) / 64, sizeof *m->laid);
    if (!s.buffer || !m->laid)
        rc = err_set(err, SM_ENOMEM, "out of memory");
    for (unsigned r = 0; !rc && r < m->n_regions; r++) {
        const struct mem_region *region = &m->regions[r];
        if (!region->ram)
            continue;
        for (uint64_t at = 0; !rc && at < region->len; at += RAM_CHUNK * PAGE) {
            uint64_t left = (region->len - at) / PAGE;
            unsigned n = left < RAM_CHUNK ? (unsigned)left : RAM_CHUNK;
            rc = share_chunk(&s, region->hva + at, n, page, err);
            page += n;
        }
    }
    free(s.buffer);
    return rc;
}

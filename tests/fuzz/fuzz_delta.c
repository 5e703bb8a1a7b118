// SPDX-License-Identifier: Apache-2.0
/*
 * A memory file over a base, of any bytes: what delta_read() takes is laid over memory, saved again
 * with all of it, and merged, as a VM that was started from it would have it.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vm/ram.h"

#define MEMORY (16ull << 20)
#define PAGE MEM_PAGE_SIZE

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void need(bool ok)
{
    if (!ok)
        abort();
}

static int file_of(const void *data, size_t len)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    need(fd >= 0 && (!len || pwrite(fd, data, len, 0) == (ssize_t)len));
    return fd;
}

/* Every run of d, in one of e's. */
static void need_all_in(const struct delta *d, const struct delta *e)
{
    for (unsigned i = 0; i < d->n; i++) {
        unsigned k = 0;
        while (k < e->n && e->runs[k].first + e->runs[k].pages <= d->runs[i].first)
            k++;
        need(k < e->n && e->runs[k].first <= d->runs[i].first &&
             e->runs[k].first + e->runs[k].pages >= d->runs[i].first + d->runs[i].pages);
    }
}

static void check(const struct delta *d, int fd)
{
    static struct delta again;
    struct mem *m = NULL;
    int base = file_of("", 0), saved = file_of("", 0), merged = file_of("", 0);
    int map = ram_pagemap();
    need(ftruncate(base, (off_t)MEMORY) == 0 && mem_new_from(MEMORY, base, &m, NULL) == 0);
    need(ram_lay(m, d, fd, NULL) == 0);
    need(ram_save_delta(m, map, d, saved, NULL) == 0);
    need(delta_read(&again, saved, MEMORY, NULL) == 0);
    need_all_in(d, &again);
    need(ram_merge(base, fd, MEMORY, merged, NULL) == 0);
    need(lseek(merged, 0, SEEK_END) == (off_t)MEMORY);
    mem_free(m);
    close(base);
    close(saved);
    close(merged);
    if (map >= 0)
        close(map);
}

/* The bytes; and, as whole pages are many for a fuzzer, the same with the length that its header
 * asks for, if that is possible at all. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct delta d;
    int fd = file_of(data, size);
    for (int round = 0; round < 2; round++) {
        if (delta_read(&d, fd, MEMORY, NULL) == 0)
            check(&d, fd);
        else
            need(d.n == 0);
        uint64_t pages = 0;
        for (size_t at = 24; at + 8 <= size && at < DELTA_HEADER_SIZE; at += 16) {
            uint64_t n;
            memcpy(&n, data + at, sizeof n);
            pages += n;
        }
        if (pages > MEMORY / PAGE)
            break;
        need(ftruncate(fd, (off_t)(DELTA_HEADER_SIZE + pages * PAGE)) == 0);
    }
    close(fd);
    return 0;
}

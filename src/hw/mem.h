/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest-physical memory: RAM and host-backed windows (virtio-pmem). The only way from a
 * guest-physical address to a host pointer. The layout is fixed before the first vCPU runs and
 * never changes after, so lookups take no lock.
 *
 * RAM is one plain mmap with unmapped guard zones on both sides: [0, low) below 3 GiB, the rest
 * from 4 GiB up. MMIO lives in the hole.
 */
#ifndef SM_HW_MEM_H
#define SM_HW_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef uint64_t gpa_t; /* a guest-physical address: never a pointer, never trusted */

#define MEM_PAGE_SIZE 4096ull
#define MEM_LOW_LIMIT 0xc0000000ull  /* RAM below this is contiguous from 0 */
#define MEM_HIGH_BASE 0x100000000ull /* the rest of RAM starts here */
#define MEM_MAX_REGIONS 80           /* 2 of RAM + one per image layer */

struct mem_region {
    gpa_t gpa;
    uint64_t len;
    uint8_t *hva;   /* borrowed unless RAM */
    bool read_only; /* guest stores are ignored */
    bool ram;       /* counted as RAM in the memory map */
};

struct mem {
    struct mem_region regions[MEM_MAX_REGIONS]; /* sorted by gpa, not overlapping */
    unsigned n_regions;
    uint64_t ram_bytes;
    bool from_file; /* RAM began as a private mapping */
    uint64_t *laid; /* owned: a bit per page of RAM that mem_lay mapped while the VM ran, or NULL */
    void *reserve;  /* owned: the mapping that RAM and its guards live in */
    size_t reserve_len;
    /* Called after the host wrote guest RAM ("DMA"), so that the software CPU drops stale code. */
    void (*on_write)(void *opaque, gpa_t gpa, uint64_t len);
    void *on_write_opaque; /* borrowed */
};

/* Allocate ram_bytes (a multiple of 2 MiB, at least 16 MiB) of zeroed, lazily populated RAM. */
int mem_new(uint64_t ram_bytes, struct mem **out, struct sm_error *err);
/*
 * The same with contents: a private, copy-on-write mapping of a file of exactly ram_bytes, RAM from
 * 0 up without the hole. The file is never written, and must not be cut short while mapped.
 */
int mem_new_from(uint64_t ram_bytes, int fd, struct mem **out, struct sm_error *err);
/* Map len bytes of another file over it in the same way, from this offset of RAM on. All in whole
 * pages. While a vCPU could run only the same bytes; after an error RAM may be lost then. */
int mem_lay(struct mem *m, uint64_t offset, uint64_t len, int fd, uint64_t at,
            struct sm_error *err);
void mem_free(struct mem *m);

/* Show len bytes (page multiples) of host memory at gpa. hva is borrowed and must outlive m. */
int mem_add_window(struct mem *m, gpa_t gpa, uint64_t len, void *hva, bool read_only,
                   struct sm_error *err);

/* The region that holds gpa, or NULL. */
const struct mem_region *mem_find(const struct mem *m, gpa_t gpa);

/*
 * Host address of [gpa, gpa+len), or NULL if any byte of it is not memory, the sum wraps, or it
 * crosses a region. For reading. len 0 gives NULL.
 */
const void *mem_ptr(const struct mem *m, gpa_t gpa, uint64_t len);
/* The same for writing: NULL for read-only windows too. Call mem_wrote() after the bytes are in. */
void *mem_ptr_write(struct mem *m, gpa_t gpa, uint64_t len);
void mem_wrote(struct mem *m, gpa_t gpa, uint64_t len);

/*
 * The guest needs nothing of [gpa, gpa+len) any more: all whole pages in it go back to the host,
 * and read as zeros from then on, or as the file that RAM was mapped from. 0, or -1 if the range is
 * not all RAM, in one piece (nothing done). Counts as a write of those pages.
 */
int mem_discard(struct mem *m, gpa_t gpa, uint64_t len);

/* Copy helpers: 0, or -1 if the range is not all memory (nothing copied). */
int mem_read(const struct mem *m, gpa_t gpa, void *out, uint64_t len);
int mem_write(struct mem *m, gpa_t gpa, const void *data, uint64_t len);

#endif

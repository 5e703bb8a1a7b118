/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk in a regular file; or one in two, of which the other is its base: that is never written,
 * and holds all blocks that have not been written since. All calls block, and retry what was
 * interrupted or done in part. Offsets and lengths are the caller's to check against bytes, and are
 * whole sectors; the file may all the same be shorter by now, which is an error like any other. One
 * thread at a time.
 */
#ifndef SM_HOST_DISK_H
#define SM_HOST_DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"

#define DISK_SECTOR 512u
#define DISK_BLOCK 4096u /* of which each is in the one file or in the other */

struct disk {
    int fd;         /* borrowed */
    uint64_t bytes; /* when it was opened; a multiple of DISK_SECTOR, not 0 */
    bool read_only; /* nothing below changes the file */
    int base_fd;    /* borrowed; of no meaning without own */
    uint64_t *own;  /* owned: a bit for each block that is in fd; NULL: there is no base */
};

/* Look at a file. name is for messages. SM_EINVAL: it is no regular file, empty, or not a whole
 * number of sectors; or fd does not allow what is wanted. */
int disk_init(struct disk *d, int fd, bool read_only, const char *name, struct sm_error *err);
/* The same over a base, which is as large; fd has only a hole and is open for writing. What is
 * written is not there for longer than fd is: a flush of it does nothing. Also SM_ENOMEM. */
int disk_init_over(struct disk *d, int fd, int base_fd, const char *name, struct sm_error *err);
void disk_fini(struct disk *d); /* closes nothing */

/* 0, or an errno (EIO: the file ended early; EROFS: read only). The iovecs are used up. */
int disk_read(const struct disk *d, uint64_t offset, struct iovec *iov, unsigned n);
int disk_write(const struct disk *d, uint64_t offset, struct iovec *iov, unsigned n);
int disk_flush(const struct disk *d); /* what was written is on stable storage */
/* Give the room back; the range reads as zeros afterwards. Where the file system cannot, nothing
 * happens. */
int disk_discard(const struct disk *d, uint64_t offset, uint64_t len);
/* The range reads as zeros. may_discard: it need not stay allocated. */
int disk_zero(const struct disk *d, uint64_t offset, uint64_t len, bool may_discard);

/* Write all that the disk has into the empty file `to`: holes stay holes, and where the file system
 * can share blocks, nothing is copied. Not synced. 0, or an errno; `to` is then to be thrown away.
 */
int disk_copy(const struct disk *d, int to);

/* ---- Between disk.c and disk_copy.c ---- */

/* How many of len bytes from offset on are in the same file as the first. *own: it is fd. */
uint64_t disk_run(const struct disk *d, uint64_t offset, uint64_t len, bool *own);

#endif

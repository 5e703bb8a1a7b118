/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk in a regular file. All calls block, and retry what was interrupted or done in part.
 * Offsets and lengths are the caller's to check against bytes; the file may all the same be shorter
 * by now, which is an error like any other. One thread at a time.
 */
#ifndef SM_HOST_DISK_H
#define SM_HOST_DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"

#define DISK_SECTOR 512u

struct disk {
    int fd;         /* borrowed */
    uint64_t bytes; /* when it was opened; a multiple of DISK_SECTOR, not 0 */
    bool read_only; /* nothing below changes the file */
};

/* Look at a file. name is for messages. SM_EINVAL: it is no regular file, empty, or not a whole
 * number of sectors; or fd does not allow what is wanted. */
int disk_init(struct disk *d, int fd, bool read_only, const char *name, struct sm_error *err);

/* 0, or an errno (EIO: the file ended early; EROFS: read only). The iovecs are used up. */
int disk_read(const struct disk *d, uint64_t offset, struct iovec *iov, unsigned n);
int disk_write(const struct disk *d, uint64_t offset, struct iovec *iov, unsigned n);
int disk_flush(const struct disk *d); /* what was written is on stable storage */
/* Give the room back; the range reads as zeros afterwards. Where the file system cannot, nothing
 * happens. */
int disk_discard(const struct disk *d, uint64_t offset, uint64_t len);
/* The range reads as zeros. may_discard: it need not stay allocated. */
int disk_zero(const struct disk *d, uint64_t offset, uint64_t len, bool may_discard);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk into another file. Only extents of data are visited. copy_file_range() shares them where
 * the file system can (which FICLONE would do too, but the jail would then have to allow ioctl);
 * elsewhere it copies inside the kernel, and between file systems we copy.
 */
#include "host/disk.h"

#include <errno.h>
#include <unistd.h>

#include "base/io.h"

#define PIECE (64u << 10)

/* jail(main): pread64 pwrite64 */
static int copy_by_hand(int from, uint64_t at, uint64_t end, int to)
{
    uint8_t bytes[PIECE];

    while (at < end) {
        ssize_t got = pread(from, bytes, end - at < PIECE ? end - at : PIECE, (off_t)at);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? errno : EIO;
        if (io_pwrite_full(to, bytes, (size_t)got, at) != 0)
            return errno;
        at += (uint64_t)got;
    }
    return 0;
}

/* jail(main): copy_file_range */
static int copy_extent(int from, uint64_t at, uint64_t end, int to)
{
    while (at < end) {
        off_t in = (off_t)at, out = (off_t)at;
        ssize_t done = copy_file_range(from, &in, to, &out, end - at, 0);

        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0 && errno != EXDEV && errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL)
            return errno;
        if (done <= 0)
            return copy_by_hand(from, at, end, to);
        at += (uint64_t)done;
    }
    return 0;
}

static int copy_range(int from, uint64_t at, uint64_t end, int to)
{
    int why = 0;

    while (at < end && why == 0) {
        off_t data = lseek(from, (off_t)at, SEEK_DATA), hole;

        if (data < 0)
            return errno == ENXIO ? 0 : errno;
        if ((uint64_t)data >= end)
            break;
        hole = lseek(from, data, SEEK_HOLE);
        if (hole < 0)
            return errno;
        at = (uint64_t)hole < end ? (uint64_t)hole : end;
        why = copy_extent(from, (uint64_t)data, at, to);
    }
    return why;
}

/* jail(main): lseek ftruncate */
int disk_copy(const struct disk *d, int to)
{
    uint64_t at = 0;
    int why = 0;

    /* Where a file was cut short there is no hole, but nothing. */
    if (lseek(d->fd, 0, SEEK_END) < (off_t)d->bytes ||
        (d->own != NULL && lseek(d->base_fd, 0, SEEK_END) < (off_t)d->bytes))
        return EIO;
    if (ftruncate(to, (off_t)d->bytes) != 0)
        return errno;
    while (at < d->bytes && why == 0) {
        bool own;
        uint64_t run = disk_run(d, at, d->bytes - at, &own);

        why = copy_range(own ? d->fd : d->base_fd, at, at + run, to);
        at += run;
    }
    return why;
}

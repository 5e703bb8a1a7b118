/* SPDX-License-Identifier: Apache-2.0 */
/* A disk in a regular file: positioned vector I/O, fdatasync, holes. */
#include "host/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

static int check_access(int fd, bool read_only, const char *name, struct sm_error *err)
{
    int mode = fcntl(fd, F_GETFL);

    if (mode < 0)
        return err_sys(err, "%s cannot be used", name);
    mode &= O_ACCMODE;
    if (mode == O_WRONLY || (mode == O_RDONLY && !read_only))
        return err_set(err, SM_EINVAL, "%s is not open for %s", name,
                       mode == O_WRONLY ? "reading" : "writing");
    return 0;
}

int disk_init(struct disk *d, int fd, bool read_only, const char *name, struct sm_error *err)
{
    struct stat st;
    int rc = check_access(fd, read_only, name, err);

    if (rc != 0)
        return rc;
    if (fstat(fd, &st) != 0)
        return err_sys(err, "%s cannot be used", name);
    if (!S_ISREG(st.st_mode))
        return err_set(err, SM_EINVAL, "%s is not a regular file", name);
    if (st.st_size == 0 || st.st_size % DISK_SECTOR != 0)
        return err_set(err, SM_EINVAL, "%s is no disk: its size, %lld bytes, is %s", name,
                       (long long)st.st_size,
                       st.st_size == 0 ? "nothing" : "not a multiple of 512");
    *d = (struct disk){.fd = fd, .bytes = (uint64_t)st.st_size, .read_only = read_only};
    return 0;
}

/* Drop the first `done` bytes of *iov; moves past iovecs that are used up. */
static void advance(struct iovec **iov, unsigned *n, size_t done)
{
    while (*n != 0 && done >= (*iov)->iov_len) {
        done -= (*iov)->iov_len;
        (*iov)++;
        (*n)--;
    }
    if (*n != 0) {
        (*iov)->iov_base = (char *)(*iov)->iov_base + done;
        (*iov)->iov_len -= done;
    }
}

/* jail(loop): preadv */
int disk_read(const struct disk *d, uint64_t offset, struct iovec *iov, unsigned n)
{
    for (advance(&iov, &n, 0); n != 0;) {
        ssize_t got = preadv(d->fd, iov, (int)n, (off_t)offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? errno : EIO;
        offset += (uint64_t)got;
        advance(&iov, &n, (size_t)got);
    }
    return 0;
}

/* jail(loop): pwritev */
int disk_write(const struct disk *d, uint64_t offset, struct iovec *iov, unsigned n)
{
    if (d->read_only)
        return EROFS;
    for (advance(&iov, &n, 0); n != 0;) {
        ssize_t put = pwritev(d->fd, iov, (int)n, (off_t)offset);

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return put < 0 ? errno : EIO;
        offset += (uint64_t)put;
        advance(&iov, &n, (size_t)put);
    }
    return 0;
}

/* jail(loop): fdatasync */
int disk_flush(const struct disk *d)
{
    if (d->read_only)
        return 0;
    while (fdatasync(d->fd) != 0)
        if (errno != EINTR)
            return errno;
    return 0;
}

/* jail(loop): fallocate */
static int allocate(const struct disk *d, int mode, uint64_t offset, uint64_t len)
{
    if (d->read_only)
        return EROFS;
    while (fallocate(d->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len) != 0)
        if (errno != EINTR)
            return errno;
    return 0;
}

int disk_discard(const struct disk *d, uint64_t offset, uint64_t len)
{
    int why = len == 0 ? 0 : allocate(d, FALLOC_FL_PUNCH_HOLE, offset, len);

    return why == EOPNOTSUPP ? 0 : why;
}

int disk_zero(const struct disk *d, uint64_t offset, uint64_t len, bool may_discard)
{
    static const char zeros[64 << 10];
    int why = len == 0 ? 0 : EOPNOTSUPP;

    if (len != 0 && may_discard)
        why = allocate(d, FALLOC_FL_PUNCH_HOLE, offset, len);
    if (why == EOPNOTSUPP)
        why = allocate(d, FALLOC_FL_ZERO_RANGE, offset, len);
    if (why != EOPNOTSUPP)
        return why;
    for (why = 0; len != 0 && why == 0;) {
        uint64_t now = len < sizeof zeros ? len : sizeof zeros;
        struct iovec iov = {(void *)zeros, now};

        why = disk_write(d, offset, &iov, 1);
        offset += now;
        len -= now;
    }
    return why;
}

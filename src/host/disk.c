/* SPDX-License-Identifier: Apache-2.0 */
/* A disk in a regular file: positioned vector I/O, fdatasync, holes. */
#include "host/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
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

int disk_init_over(struct disk *d, int fd, int base_fd, const char *name, struct sm_error *err)
{
    struct disk base;
    int rc = disk_init(&base, base_fd, true, name, err);

    rc = rc != 0 ? rc : disk_init(d, fd, false, name, err);
    if (rc != 0)
        return rc;
    if (base.bytes != d->bytes)
        return err_set(err, SM_EINVAL, "%s is of another size than what it lies over", name);
    d->base_fd = base_fd;
    d->own = calloc((d->bytes / DISK_BLOCK + 64) / 64, sizeof *d->own);
    return d->own != NULL ? 0 : err_set(err, SM_ENOMEM, "out of memory");
}

void disk_fini(struct disk *d)
{
    free(d->own);
    d->own = NULL;
}

static bool is_own(const struct disk *d, uint64_t block)
{
    return d->own[block / 64] >> block % 64 & 1;
}

uint64_t disk_run(const struct disk *d, uint64_t offset, uint64_t len, bool *own)
{
    uint64_t block = offset / DISK_BLOCK, end = (offset + len + DISK_BLOCK - 1) / DISK_BLOCK;

    *own = d->own == NULL || is_own(d, block);
    if (d->own == NULL)
        return len;
    for (block++; block < end && is_own(d, block) == *own;)
        block +=
            block % 64 == 0 && end - block >= 64 && d->own[block / 64] == (*own ? UINT64_MAX : 0)
                ? 64
                : 1;
    return block * DISK_BLOCK - offset < len ? block * DISK_BLOCK - offset : len;
}

static uint64_t total(const struct iovec *iov, unsigned n)
{
    uint64_t len = 0;

    for (unsigned i = 0; i < n; i++)
        len += iov[i].iov_len;
    return len;
}

/* Read or write len bytes, which *iov has at least, and move on there. */
/* jail(loop): preadv pwritev */
static int transfer(int fd, bool writing, uint64_t offset, uint64_t len, struct iovec **iov,
                    unsigned *n)
{
    while (len != 0) {
        uint64_t have = 0, over;
        unsigned use = 0;
        ssize_t done;

        advance(iov, n, 0);
        while (have < len)
            have += (*iov)[use++].iov_len;
        over = have - len;
        (*iov)[use - 1].iov_len -= over;
        done = writing ? pwritev(fd, *iov, (int)use, (off_t)offset)
                       : preadv(fd, *iov, (int)use, (off_t)offset);
        (*iov)[use - 1].iov_len += over;
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return done < 0 ? errno : EIO;
        advance(iov, n, (size_t)done);
        offset += (uint64_t)done;
        len -= (uint64_t)done;
    }
    return 0;
}

/* ---- blocks of a base ---- */

static void mark_own(const struct disk *d, uint64_t offset, uint64_t len)
{
    uint64_t end = (offset + len + DISK_BLOCK - 1) / DISK_BLOCK;

    for (uint64_t i = offset / DISK_BLOCK; d->own != NULL && len != 0 && i < end; i++)
        d->own[i / 64] |= 1ull << i % 64;
}

static int copy_block(const struct disk *d, uint64_t block)
{
    uint64_t at = block * DISK_BLOCK;
    uint64_t len = d->bytes - at < DISK_BLOCK ? d->bytes - at : DISK_BLOCK;
    uint8_t bytes[DISK_BLOCK];
    struct iovec from = {bytes, len}, to = {bytes, len}, *iov = &from;
    unsigned n = 1;
    int why;

    if (is_own(d, block))
        return 0;
    why = transfer(d->base_fd, false, at, len, &iov, &n);
    iov = &to;
    n = 1;
    why = why != 0 ? why : transfer(d->fd, true, at, len, &iov, &n);
    if (why == 0)
        mark_own(d, at, len);
    return why;
}

/* What is about to change only a part of its first and last block needs the rest of them. */
static int own_edges(const struct disk *d, uint64_t offset, uint64_t len)
{
    uint64_t end = offset + len;
    int why = 0;

    if (d->own == NULL || len == 0)
        return 0;
    if (offset % DISK_BLOCK != 0)
        why = copy_block(d, offset / DISK_BLOCK);
    if (why == 0 && end % DISK_BLOCK != 0 && end != d->bytes)
        why = copy_block(d, end / DISK_BLOCK);
    return why;
}

/* ---- requests ---- */

int disk_read(const struct disk *d, uint64_t offset, struct iovec *iov, unsigned n)
{
    uint64_t len = total(iov, n);
    int why = 0;

    while (len != 0 && why == 0) {
        bool own;
        uint64_t run = disk_run(d, offset, len, &own);

        why = transfer(own ? d->fd : d->base_fd, false, offset, run, &iov, &n);
        offset += run;
        len -= run;
    }
    return why;
}

int disk_write(const struct disk *d, uint64_t offset, struct iovec *iov, unsigned n)
{
    uint64_t len = total(iov, n);
    int why = d->read_only ? EROFS : own_edges(d, offset, len);

    why = why != 0 ? why : transfer(d->fd, true, offset, len, &iov, &n);
    if (why == 0)
        mark_own(d, offset, len);
    return why;
}

/* jail(loop): fdatasync */
int disk_flush(const struct disk *d)
{
    if (d->read_only || d->own != NULL)
        return 0;
    while (fdatasync(d->fd) != 0)
        if (errno != EINTR)
            return errno;
    return 0;
}

/* jail(loop): fallocate */
static int allocate(const struct disk *d, int mode, uint64_t offset, uint64_t len)
{
    int why = d->read_only ? EROFS : own_edges(d, offset, len);

    if (why != 0)
        return why;
    while (fallocate(d->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len) != 0)
        if (errno != EINTR)
            return errno;
    mark_own(d, offset, len); /* each mode leaves zeros */
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

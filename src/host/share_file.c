/* SPDX-License-Identifier: Apache-2.0 */
/* Regular files: opened, read and written. Data goes between file and guest memory directly. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host/share_impl.h"

#define IOV_MOST 256          /* entries handled at once; a queue has no more */
#define COPY_MOST (16u << 20) /* bytes of one copy, so that others get their turn */
#define OPEN_FLAGS                                                                                 \
    (O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC) /* the rest is the guest's own matter                 \
                                              */
#define FALLOCATE_FLAGS (FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)

/* jail(share): openat openat2 close */
int share_reopen(struct share *s, struct share_node *n, int flags, int *fd)
{
    char number[16];
    int path, why = share_node_fd(s, n, &path);

    if (why != 0)
        return why;
    if (n->type != S_IFREG) /* opening another may do something */
        return n->type == S_IFDIR ? EISDIR : n->type == S_IFLNK ? ELOOP : ENXIO;
    snprintf(number, sizeof number, "%d", path);
    do
        *fd = openat(s->self, number, flags | O_CLOEXEC | O_NOCTTY);
    while (*fd < 0 && (errno == EINTR || share_node_cool(s, errno)));
    return *fd < 0 ? errno : 0;
}

static int take_flags(const struct share *s, uint32_t given, int *out)
{
    *out = (int)given & OPEN_FLAGS;
    if ((*out & O_ACCMODE) == O_ACCMODE)
        return EINVAL;
    if (s->read_only && ((*out & O_ACCMODE) != O_RDONLY || *out & O_TRUNC))
        return EROFS;
    return 0;
}

/* The answer to an open; fd is taken over. Closing what was only read cannot fail. */
static int answer_open(struct share_call *c, struct share_node *n, int flags, int fd)
{
    struct fuse_open_out out = {.open_flags = (flags & O_ACCMODE) == O_RDONLY ? FOPEN_NOFLUSH : 0};
    int why = share_handle_new(c->share, n, fd, &out.fh);

    if (why == 0)
        share_put(c, &out, sizeof out);
    return why;
}

int share_open(struct share_call *c)
{
    struct fuse_open_in in;
    struct share_node *n;
    int flags, fd, why = share_node_get(c->share, c->head.nodeid, &n);

    memcpy(&in, c->arg, sizeof in);
    why = why ? why : take_flags(c->share, in.flags, &flags);
    why = why ? why : share_reopen(c->share, n, flags, &fd);
    return why ? why : answer_open(c, n, flags, fd);
}

/* Make a file that is not there; its node, and it opened. */
static int make(struct share_call *c, struct share_node *folder, const char *name, int flags,
                uint32_t mode, struct share_node **out, struct statx *stx, int *fd)
{
    struct open_how how = {.flags = (uint64_t)(flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC),
                           .mode = mode & SHARE_MODE,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    char number[16];
    int at, path, why = share_node_fd(c->share, folder, &at);

    if (why != 0)
        return why;
    do
        *fd = (int)syscall(SYS_openat2, at, name, &how, sizeof how);
    while (*fd < 0 && (errno == EINTR || share_node_cool(c->share, errno)));
    if (*fd < 0)
        return errno;
    snprintf(number, sizeof number, "%d", *fd);
    path = openat(c->share->self, number, O_PATH | O_CLOEXEC);
    why = path < 0 ? errno : share_node_take(c->share, folder, name, path, out, stx);
    if (why != 0)
        close(*fd);
    return why;
}

int share_create(struct share_call *c)
{
    struct fuse_create_in in;
    struct fuse_entry_out entry;
    struct share_node *folder, *n;
    struct statx stx;
    const char *name;
    uint32_t at = sizeof in;
    int flags, fd, why = share_name(c, &at, &name);

    memcpy(&in, c->arg, sizeof in);
    why = why ? why : share_node_get(c->share, c->head.nodeid, &folder);
    if (why == 0 && folder->type != S_IFDIR)
        why = ENOTDIR;
    why = why ? why : take_flags(c->share, in.flags, &flags);
    if (why != 0)
        return why;
    why = make(c, folder, name, flags, in.mode, &n, &stx, &fd);
    if (why == EEXIST && !(in.flags & O_EXCL)) {
        why = share_node_lookup(c->share, folder, name, &n, &stx);
        if (why != 0)
            return why;
        why = share_reopen(c->share, n, flags, &fd);
        if (why != 0)
            share_node_forget(c->share, n->id, 1);
    }
    if (why != 0)
        return why;
    share_fill_entry(c->share, n, &stx, &entry);
    share_put(c, &entry, sizeof entry);
    why = answer_open(c, n, flags, fd);
    if (why != 0)
        share_node_forget(c->share, n->id, 1);
    return why;
}

/* ---- data ---- */

/* How long the data is that begins at offset. */
static uint64_t bytes_of(const struct iovec *iov, unsigned n)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++)
        sum += iov[i].iov_len;
    return sum;
}

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

/* jail(share): preadv */
int share_read(struct share_call *c)
{
    struct iovec iovs[IOV_MOST], *iov = iovs;
    struct fuse_read_in in;
    unsigned n;
    ssize_t got = 0;
    int fd, why;

    memcpy(&in, c->arg, sizeof in);
    why = share_handle_get(c->share, in.fh, false, &fd);
    if (why != 0)
        return why;
    if (c->n_out > IOV_MOST || in.offset > INT64_MAX - UINT32_MAX)
        return EINVAL;
    n = share_slice(c->out, c->n_out, sizeof(struct fuse_out_header),
                    in.size < c->room ? in.size : c->room, iov);
    c->direct = true;
    for (advance(&iov, &n, 0); n != 0; advance(&iov, &n, (size_t)got)) {
        got = preadv(fd, iov, (int)n, (off_t)(in.offset + c->reply_len));
        if (got < 0 && errno == EINTR)
            got = 0;
        else if (got < 0 && c->reply_len == 0)
            return errno;
        else if (got <= 0)
            break;
        c->reply_len += (uint32_t)got;
    }
    return 0;
}

/*
 * Appending is asked for with each write, not when the file is opened: pages that the guest's
 * kernel writes back through the same handle have their place.
 */
/* jail(share): pwritev2 */
int share_write(struct share_call *c)
{
    struct iovec iovs[IOV_MOST], *iov = iovs;
    struct fuse_write_in in;
    struct fuse_write_out out = {0};
    const uint32_t skip = sizeof c->head + sizeof in;
    unsigned n;
    ssize_t put = 0;
    int fd, why, how;

    memcpy(&in, c->arg, sizeof in);
    why = share_handle_get(c->share, in.fh, false, &fd);
    if (why != 0)
        return why;
    if (c->n_in > IOV_MOST || in.offset > INT64_MAX - UINT32_MAX ||
        bytes_of(c->in, c->n_in) - skip != in.size)
        return EINVAL;
    how = in.flags & O_APPEND && !(in.write_flags & FUSE_WRITE_CACHE) ? RWF_APPEND : 0;
    n = share_slice(c->in, c->n_in, skip, in.size, iov);
    for (advance(&iov, &n, 0); n != 0; advance(&iov, &n, (size_t)put)) {
        put = pwritev2(fd, iov, (int)n, (off_t)(in.offset + out.size), how);
        if (put < 0 && errno == EINTR)
            put = 0;
        else if (put < 0 && out.size == 0)
            return errno;
        else if (put <= 0)
            break;
        out.size += (uint32_t)put;
    }
    share_put(c, &out, sizeof out);
    return 0;
}

/* As closing a duplicate does: file systems over a network say then what went wrong. */
/* jail(share): dup */
int share_flush(struct share_call *c)
{
    struct fuse_flush_in in;
    int fd, why;

    memcpy(&in, c->arg, sizeof in);
    why = share_handle_get(c->share, in.fh, false, &fd);
    if (why != 0)
        return why;
    fd = dup(fd);
    return fd >= 0 && close(fd) != 0 ? errno : 0;
}

int share_release(struct share_call *c)
{
    struct fuse_release_in in;

    memcpy(&in, c->arg, sizeof in);
    share_handle_close(c->share, in.fh);
    return 0;
}

/* jail(share): fsync fdatasync */
int share_fsync(struct share_call *c)
{
    struct fuse_fsync_in in;
    int fd, why;

    memcpy(&in, c->arg, sizeof in);
    why = share_handle_get(c->share, in.fh, false, &fd);
    if (why == 0 && (in.fsync_flags & FUSE_FSYNC_FDATASYNC ? fdatasync(fd) : fsync(fd)) != 0)
        why = errno;
    return why;
}

/* jail(share): fallocate */
int share_fallocate(struct share_call *c)
{
    struct fuse_fallocate_in in;
    int fd, why;

    memcpy(&in, c->arg, sizeof in);
    why = share_handle_get(c->share, in.fh, false, &fd);
    if (why != 0)
        return why;
    if (in.mode & ~(uint32_t)FALLOCATE_FLAGS)
        return EOPNOTSUPP;
    if (in.offset > INT64_MAX || in.length > INT64_MAX)
        return EFBIG;
    return fallocate(fd, (int)in.mode, (off_t)in.offset, (off_t)in.length) == 0 ? 0 : errno;
}

/* jail(share): lseek */
int share_lseek(struct share_call *c)
{
    struct fuse_lseek_in in;
    struct fuse_lseek_out out;
    off_t to;
    int fd, why;

    memcpy(&in, c->arg, sizeof in);
    why = share_handle_get(c->share, in.fh, false, &fd);
    if (why != 0)
        return why;
    if (in.whence != SEEK_DATA && in.whence != SEEK_HOLE)
        return EINVAL;
    to = lseek(fd, (off_t)in.offset, (int)in.whence);
    if (to < 0)
        return errno;
    out.offset = (uint64_t)to;
    share_put(c, &out, sizeof out);
    return 0;
}

/* jail(share): copy_file_range */
int share_copy(struct share_call *c)
{
    struct fuse_copy_file_range_in in;
    struct fuse_write_out out = {0};
    off_t from, to;
    ssize_t done;
    int in_fd, out_fd, why;

    memcpy(&in, c->arg, sizeof in);
    why = share_handle_get(c->share, in.fh_in, false, &in_fd);
    why = why ? why : share_handle_get(c->share, in.fh_out, false, &out_fd);
    if (why == 0 && (in.flags != 0 || in.off_in > INT64_MAX || in.off_out > INT64_MAX))
        why = EINVAL;
    if (why != 0)
        return why;
    from = (off_t)in.off_in;
    to = (off_t)in.off_out;
    done = copy_file_range(in_fd, &from, out_fd, &to, in.len < COPY_MOST ? in.len : COPY_MOST, 0);
    if (done < 0)
        return errno;
    out.size = (uint32_t)done;
    share_put(c, &out, sizeof out);
    return 0;
}

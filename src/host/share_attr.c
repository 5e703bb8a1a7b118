/* SPDX-License-Identifier: Apache-2.0 */
/* Attributes of files, links' targets, and what is known of the whole file system. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "host/share_impl.h"

#define KNOWN                                                                                      \
    (FATTR_MODE | FATTR_UID | FATTR_GID | FATTR_SIZE | FATTR_ATIME | FATTR_MTIME | FATTR_FH |      \
     FATTR_ATIME_NOW | FATTR_MTIME_NOW | FATTR_LOCKOWNER | FATTR_CTIME | FATTR_KILL_SUIDGID)

/* jail(share): statx */
int share_stat(int fd, struct statx *stx)
{
    return statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, stx) == 0 ? 0 : errno;
}

/* Inode numbers of other file systems that are mounted inside would be taken for the root's. */
uint64_t share_ino(const struct share *s, uint64_t dev, uint64_t ino)
{
    return dev == s->top.dev ? ino : ino ^ (dev * 0x9e3779b97f4a7c15ull << 16);
}

static uint32_t shown_uid(const struct share *s, const struct statx *stx)
{
    return stx->stx_uid == s->uid ? s->shown_uid : SHARE_NOBODY;
}

static uint32_t shown_gid(const struct share *s, const struct statx *stx)
{
    return stx->stx_gid == s->gid ? s->shown_gid : SHARE_NOBODY;
}

void share_attr(const struct share *s, const struct statx *stx, struct fuse_attr *out)
{
    uint64_t dev = (uint64_t)stx->stx_dev_major << 32 | stx->stx_dev_minor;

    *out = (struct fuse_attr){
        .ino = share_ino(s, dev, stx->stx_ino),
        .size = stx->stx_size,
        .blocks = stx->stx_blocks,
        .atime = (uint64_t)stx->stx_atime.tv_sec,
        .mtime = (uint64_t)stx->stx_mtime.tv_sec,
        .ctime = (uint64_t)stx->stx_ctime.tv_sec,
        .atimensec = stx->stx_atime.tv_nsec,
        .mtimensec = stx->stx_mtime.tv_nsec,
        .ctimensec = stx->stx_ctime.tv_nsec,
        .mode = stx->stx_mode,
        .nlink = stx->stx_nlink,
        .uid = shown_uid(s, stx),
        .gid = shown_gid(s, stx),
        .rdev = stx->stx_rdev_major << 8 | (stx->stx_rdev_minor & 0xff) |
                (stx->stx_rdev_minor & ~0xffu) << 12,
        .blksize = stx->stx_blksize,
    };
}

static int answer_attr(struct share_call *c, int fd)
{
    struct fuse_attr_out out = {.attr_valid = SHARE_VALID_S};
    struct statx stx;
    int why = share_stat(fd, &stx);

    if (why != 0)
        return why;
    share_attr(c->share, &stx, &out.attr);
    share_put(c, &out, sizeof out);
    return 0;
}

int share_getattr(struct share_call *c)
{
    struct share_node *n;
    int fd, why = share_node_get(c->share, c->head.nodeid, &n);

    why = why ? why : share_node_fd(c->share, n, &fd);
    return why ? why : answer_attr(c, fd);
}

/* ---- changing them ---- */

/* Owners are what they are: setting them to what they are is all that can be done. */
static int check_owner(struct share_call *c, const struct fuse_setattr_in *in, int fd)
{
    struct statx stx;
    int why = in->valid & (FATTR_UID | FATTR_GID) ? share_stat(fd, &stx) : 0;

    if (why != 0)
        return why;
    if ((in->valid & FATTR_UID && in->uid != shown_uid(c->share, &stx)) ||
        (in->valid & FATTR_GID && in->gid != shown_gid(c->share, &stx)))
        return EPERM;
    return 0;
}

/* jail(share): fchmodat */
static int set_mode(struct share_call *c, const struct share_node *n, uint32_t mode, int fd)
{
    char number[16];

    if (n->type == S_IFLNK)
        return EOPNOTSUPP;
    mode &= n->type == S_IFDIR ? SHARE_MODE | S_ISGID : SHARE_MODE;
    snprintf(number, sizeof number, "%d", fd);
    return fchmodat(c->share->self, number, mode, 0) == 0 ? 0 : errno;
}

/* jail(share): ftruncate */
static int set_size(struct share_call *c, struct share_node *n, const struct fuse_setattr_in *in)
{
    int fd, own = -1, why;

    if (in->size > INT64_MAX)
        return EFBIG;
    if (in->valid & FATTR_FH)
        why = share_handle_get(c->share, in->fh, false, &fd);
    else
        why = share_reopen(c->share, n, O_WRONLY, &own);
    if (why != 0)
        return why;
    if (ftruncate(own >= 0 ? own : fd, (off_t)in->size) != 0)
        why = errno;
    if (own >= 0)
        close(own);
    return why;
}

static struct timespec time_of(uint32_t valid, uint32_t set, uint32_t now, uint64_t s, uint32_t ns)
{
    struct timespec t = {.tv_nsec = UTIME_OMIT};

    if (valid & now)
        t.tv_nsec = UTIME_NOW;
    else if (valid & set)
        t = (struct timespec){(time_t)s, (long)ns};
    return t;
}

/* jail(share): utimensat */
static int set_times(const struct fuse_setattr_in *in, int fd)
{
    const struct timespec t[2] = {
        time_of(in->valid, FATTR_ATIME, FATTR_ATIME_NOW, in->atime, in->atimensec),
        time_of(in->valid, FATTR_MTIME, FATTR_MTIME_NOW, in->mtime, in->mtimensec)};

    if ((in->valid & FATTR_ATIME && in->atimensec > 999999999) ||
        (in->valid & FATTR_MTIME && in->mtimensec > 999999999))
        return EINVAL;
    return utimensat(fd, "", t, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) == 0 ? 0 : errno;
}

int share_setattr(struct share_call *c)
{
    struct fuse_setattr_in in;
    struct share_node *n;
    int fd, why = share_node_get(c->share, c->head.nodeid, &n);

    memcpy(&in, c->arg, sizeof in);
    why = why ? why : share_node_fd(c->share, n, &fd);
    if (why == 0 && in.valid & ~(uint32_t)KNOWN)
        why = EINVAL;
    why = why ? why : check_owner(c, &in, fd);
    if (why == 0 && in.valid & FATTR_MODE)
        why = set_mode(c, n, in.mode, fd);
    if (why == 0 && in.valid & FATTR_SIZE)
        why = set_size(c, n, &in);
    if (why == 0 && in.valid & (FATTR_ATIME | FATTR_MTIME | FATTR_ATIME_NOW | FATTR_MTIME_NOW))
        why = set_times(&in, fd);
    return why ? why : answer_attr(c, fd);
}

/* ---- the rest ---- */

/* jail(share): readlinkat */
int share_readlink(struct share_call *c)
{
    char target[PATH_MAX];
    struct share_node *n;
    ssize_t len;
    int fd, why = share_node_get(c->share, c->head.nodeid, &n);

    if (why == 0 && n->type != S_IFLNK)
        why = EINVAL;
    why = why ? why : share_node_fd(c->share, n, &fd);
    if (why != 0)
        return why;
    len = readlinkat(fd, "", target, sizeof target);
    if (len < 0)
        return errno;
    if (len > c->room)
        return ENAMETOOLONG;
    share_put(c, target, (uint32_t)len);
    return 0;
}

/* jail(share): fstatfs */
int share_statfs(struct share_call *c)
{
    struct fuse_statfs_out out = {0};
    struct share_node *n;
    struct statvfs st;
    int fd, why = share_node_get(c->share, c->head.nodeid, &n);

    why = why ? why : share_node_fd(c->share, n, &fd);
    if (why == 0 && fstatvfs(fd, &st) != 0)
        why = errno;
    if (why != 0)
        return why;
    out.st = (struct fuse_kstatfs){
        .blocks = st.f_blocks,
        .bfree = st.f_bfree,
        .bavail = st.f_bavail,
        .files = st.f_files,
        .ffree = st.f_ffree,
        .bsize = (uint32_t)st.f_bsize,
        .namelen = SHARE_NAME_MAX,
        .frsize = (uint32_t)st.f_frsize,
    };
    share_put(c, &out, sizeof out);
    return 0;
}

/* The guest's sync: all of the file system, as that has no narrower call. */
/* jail(share): syncfs */
int share_syncfs(struct share_call *c)
{
    int fd, why = 0;

    if (c->share->read_only)
        return 0;
    fd = openat(c->share->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    if (syncfs(fd) != 0)
        why = errno;
    close(fd);
    return why;
}

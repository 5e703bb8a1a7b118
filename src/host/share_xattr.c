/* SPDX-License-Identifier: Apache-2.0 */
/* Extended attributes: user.* only. Others mean something to the host's kernel. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "host/share_impl.h"

#define PREFIX "user."

/* The calls take no O_PATH descriptor. Only regular files and folders have user.* at all. */
static int open_node(struct share_call *c, int *out)
{
    struct share_node *n;
    int fd, why = share_node_get(c->share, c->head.nodeid, &n);

    if (why != 0)
        return why;
    if (n->type == S_IFREG)
        return share_reopen(c->share, n, O_RDONLY, out);
    if (n->type != S_IFDIR)
        return EOPNOTSUPP;
    why = share_node_fd(c->share, n, &fd);
    if (why != 0)
        return why;
    *out = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *out < 0 ? errno : 0;
}

static int take_name(struct share_call *c, uint32_t *at, const char **name)
{
    int why = share_text(c, at, SHARE_NAME_MAX, name);

    if (why == 0 && strncmp(*name, PREFIX, strlen(PREFIX)) != 0)
        why = EOPNOTSUPP;
    return why;
}

/* jail(share): fsetxattr fgetxattr flistxattr fremovexattr */
int share_setxattr(struct share_call *c)
{
    struct fuse_setxattr_in in = {0};
    const char *name;
    uint32_t at = FUSE_COMPAT_SETXATTR_IN_SIZE;
    int fd, why = take_name(c, &at, &name);

    memcpy(&in, c->arg, FUSE_COMPAT_SETXATTR_IN_SIZE);
    if (why == 0 && (in.size != c->arg_len - at || in.flags & ~(XATTR_CREATE | XATTR_REPLACE)))
        why = EINVAL;
    why = why ? why : open_node(c, &fd);
    if (why != 0)
        return why;
    if (fsetxattr(fd, name, c->arg + at, in.size, (int)in.flags) != 0)
        why = errno;
    close(fd);
    return why;
}

int share_removexattr(struct share_call *c)
{
    const char *name;
    uint32_t at = 0;
    int fd, why = take_name(c, &at, &name);

    why = why ? why : open_node(c, &fd);
    if (why != 0)
        return why;
    if (fremovexattr(fd, name) != 0)
        why = errno;
    close(fd);
    return why;
}

/* What was found, len bytes in the answer's buffer already, as far as the guest wants it. */
static int answer(struct share_call *c, ssize_t len)
{
    struct fuse_getxattr_in in;
    struct fuse_getxattr_out out = {0};

    memcpy(&in, c->arg, sizeof in);
    if (in.size != 0) {
        c->reply_len = (uint32_t)len;
        return len > in.size || len > c->room ? ERANGE : 0;
    }
    out.size = (uint32_t)len;
    if (c->room < sizeof out)
        return EINVAL;
    share_put(c, &out, sizeof out);
    return 0;
}

int share_getxattr(struct share_call *c)
{
    const char *name;
    uint32_t at = sizeof(struct fuse_getxattr_in);
    ssize_t len;
    int fd, why = take_name(c, &at, &name);

    why = why ? why : open_node(c, &fd);
    if (why != 0)
        return why;
    len = fgetxattr(fd, name, c->share->reply, SHARE_REPLY_MAX);
    why = len < 0 ? errno : 0;
    close(fd);
    return why ? why : answer(c, len);
}

int share_listxattr(struct share_call *c)
{
    char *list = (char *)c->share->reply;
    ssize_t len, kept = 0;
    int fd, why = open_node(c, &fd);

    if (why == EOPNOTSUPP)
        return answer(c, 0);
    if (why != 0)
        return why;
    len = flistxattr(fd, list, SHARE_REPLY_MAX);
    why = len < 0 ? errno : 0;
    close(fd);
    for (ssize_t at = 0; at < len;) {
        size_t size = strnlen(list + at, (size_t)(len - at)) + 1;

        if (strncmp(list + at, PREFIX, strlen(PREFIX)) == 0) {
            memmove(list + kept, list + at, size);
            kept += (ssize_t)size;
        }
        at += (ssize_t)size;
    }
    return why ? why : answer(c, kept);
}

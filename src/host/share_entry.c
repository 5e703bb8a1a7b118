/* SPDX-License-Identifier: Apache-2.0 */
/* Names: looked up, made, removed, moved. All act on one name in an open folder. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "host/share_impl.h"

#define RENAME_FLAGS (RENAME_NOREPLACE | RENAME_EXCHANGE)
#define NUMBER 16 /* of a descriptor, as text */

void share_fill_entry(const struct share *s, const struct share_node *n, const struct statx *stx,
                      struct fuse_entry_out *out)
{
    *out = (struct fuse_entry_out){
        .nodeid = n->id, .entry_valid = SHARE_VALID_S, .attr_valid = SHARE_VALID_S};
    share_attr(s, stx, &out->attr);
}

/* The request's node, a folder, and its descriptor. */
static int folder_of(struct share_call *c, uint64_t id, struct share_node **out, int *fd)
{
    int why = share_node_get(c->share, id, out);

    if (why == 0 && (*out)->type != S_IFDIR)
        why = ENOTDIR;
    return why ? why : share_node_fd(c->share, *out, fd);
}

/* Answer with whatever has that name now. */
static int answer_entry(struct share_call *c, struct share_node *folder, const char *name)
{
    struct fuse_entry_out out;
    struct share_node *n;
    struct statx stx;
    int why = share_node_lookup(c->share, folder, name, &n, &stx);

    if (why != 0)
        return why;
    share_fill_entry(c->share, n, &stx, &out);
    share_put(c, &out, sizeof out);
    return 0;
}

int share_lookup(struct share_call *c)
{
    struct share_node *folder;
    const char *name;
    uint32_t at = 0;
    int fd, why = share_name(c, &at, &name);

    why = why ? why : folder_of(c, c->head.nodeid, &folder, &fd);
    return why ? why : answer_entry(c, folder, name);
}

int share_forget(struct share_call *c)
{
    struct fuse_forget_in in;

    memcpy(&in, c->arg, sizeof in);
    share_node_forget(c->share, c->head.nodeid, in.nlookup);
    return SHARE_NO_ANSWER;
}

int share_batch_forget(struct share_call *c)
{
    struct fuse_batch_forget_in in;
    uint32_t room;

    memcpy(&in, c->arg, sizeof in);
    room = (c->arg_len - (uint32_t)sizeof in) / (uint32_t)sizeof(struct fuse_forget_one);
    for (uint32_t i = 0; i < in.count && i < room; i++) {
        struct fuse_forget_one one;

        memcpy(&one, c->arg + sizeof in + i * sizeof one, sizeof one);
        share_node_forget(c->share, one.nodeid, one.nlookup);
    }
    return SHARE_NO_ANSWER;
}

/* jail(share): mknodat mkdirat symlinkat linkat unlinkat renameat renameat2 */
int share_mknod(struct share_call *c)
{
    struct fuse_mknod_in in;
    struct share_node *folder;
    const char *name;
    uint32_t at = sizeof in;
    int fd, why = share_name(c, &at, &name);

    memcpy(&in, c->arg, sizeof in);
    why = why ? why : folder_of(c, c->head.nodeid, &folder, &fd);
    if (why != 0)
        return why;
    switch (in.mode & S_IFMT) {
    case 0:
    case S_IFREG:
    case S_IFIFO:
    case S_IFSOCK:
        break;
    default:
        return EPERM; /* a device of the host's */
    }
    if (mknodat(fd, name, in.mode & (S_IFMT | SHARE_MODE), 0) != 0)
        return errno;
    return answer_entry(c, folder, name);
}

int share_mkdir(struct share_call *c)
{
    struct fuse_mkdir_in in;
    struct share_node *folder;
    const char *name;
    uint32_t at = sizeof in;
    int fd, why = share_name(c, &at, &name);

    memcpy(&in, c->arg, sizeof in);
    why = why ? why : folder_of(c, c->head.nodeid, &folder, &fd);
    if (why != 0)
        return why;
    if (mkdirat(fd, name, in.mode & SHARE_MODE) != 0)
        return errno;
    return answer_entry(c, folder, name);
}

int share_symlink(struct share_call *c)
{
    struct share_node *folder;
    const char *name, *target;
    uint32_t at = 0;
    int fd, why = share_name(c, &at, &name);

    why = why ? why : share_text(c, &at, PATH_MAX - 1, &target);
    why = why ? why : folder_of(c, c->head.nodeid, &folder, &fd);
    if (why != 0)
        return why;
    if (symlinkat(target, fd, name) != 0)
        return errno;
    return answer_entry(c, folder, name);
}

int share_link(struct share_call *c)
{
    struct share_node *folder, *old;
    struct fuse_link_in in;
    char number[NUMBER];
    const char *name;
    uint32_t at = sizeof in;
    int to, fd, why = share_name(c, &at, &name);

    memcpy(&in, c->arg, sizeof in);
    why = why ? why : folder_of(c, c->head.nodeid, &folder, &to);
    why = why ? why : share_node_get(c->share, in.oldnodeid, &old);
    why = why ? why : share_node_fd(c->share, old, &fd);
    if (why != 0)
        return why;
    if (old->type == S_IFDIR)
        return EPERM;
    /* It leads to the open file itself, also when that is a link. */
    snprintf(number, sizeof number, "%d", fd);
    if (linkat(c->share->self, number, to, name, AT_SYMLINK_FOLLOW) != 0)
        return errno;
    return answer_entry(c, folder, name);
}

static int remove_name(struct share_call *c, int flags)
{
    struct share_node *folder;
    const char *name;
    uint32_t at = 0;
    int fd, why = share_name(c, &at, &name);

    why = why ? why : folder_of(c, c->head.nodeid, &folder, &fd);
    if (why == 0 && unlinkat(fd, name, flags) != 0)
        why = errno;
    return why;
}

int share_unlink(struct share_call *c)
{
    return remove_name(c, 0);
}

int share_rmdir(struct share_call *c)
{
    return remove_name(c, AT_REMOVEDIR);
}

static int rename_to(struct share_call *c, uint64_t new_id, uint32_t flags, uint32_t at)
{
    struct share_node *from, *to;
    const char *old_name, *new_name;
    int from_fd, to_fd, why = share_name(c, &at, &old_name);

    why = why ? why : share_name(c, &at, &new_name);
    why = why ? why : folder_of(c, c->head.nodeid, &from, &from_fd);
    why = why ? why : folder_of(c, new_id, &to, &to_fd);
    if (why != 0)
        return why;
    if (renameat2(from_fd, old_name, to_fd, new_name, flags) != 0)
        return errno;
    share_node_moved(c->share, to, new_name);
    if (flags & RENAME_EXCHANGE)
        share_node_moved(c->share, from, old_name);
    return 0;
}

int share_rename(struct share_call *c)
{
    struct fuse_rename_in in;

    memcpy(&in, c->arg, sizeof in);
    return rename_to(c, in.newdir, 0, sizeof in);
}

int share_rename2(struct share_call *c)
{
    struct fuse_rename2_in in;

    memcpy(&in, c->arg, sizeof in);
    if (in.flags & ~(uint32_t)RENAME_FLAGS)
        return EINVAL;
    return rename_to(c, in.newdir, in.flags, sizeof in);
}

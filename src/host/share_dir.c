/* SPDX-License-Identifier: Apache-2.0 */
/* Folders: opened and read. The host's own cookies are the guest's offsets. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "host/share_impl.h"

#define ENTRY_LIKELY 192u /* bytes of a READDIRPLUS entry, about; its name is short on the host */
#define READ_MIN 1024u    /* the longest name has room */
#define NODES_PLUS (SHARE_NODES_MAX / 4 * 3) /* with more, entries are not made nodes unasked */

int share_opendir(struct share_call *c)
{
    struct fuse_open_out out = {0};
    struct share_node *n;
    int path, fd, why = share_node_get(c->share, c->head.nodeid, &n);

    if (why == 0 && n->type != S_IFDIR)
        why = ENOTDIR;
    why = why ? why : share_node_fd(c->share, n, &path);
    if (why != 0)
        return why;
    do
        fd = openat(path, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (fd < 0 && share_node_cool(c->share, errno));
    if (fd < 0)
        return errno;
    why = share_handle_new(c->share, n, fd, &out.fh);
    if (why == 0)
        share_put(c, &out, sizeof out);
    return why;
}

static bool is_dots(const char *name)
{
    return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
}

/* What READDIRPLUS says of an entry: all zero when it is not made a node. */
static void look(struct share_call *c, struct share_node *folder, const char *name,
                 struct fuse_entry_out *out)
{
    struct share_node *n;
    struct statx stx;

    memset(out, 0, sizeof *out);
    if (!is_dots(name) && c->share->n_nodes < NODES_PLUS &&
        share_node_lookup(c->share, folder, name, &n, &stx) == 0)
        share_fill_entry(c->share, n, &stx, out);
}

/* Append an entry to the answer; false: it does not fit. */
static bool put_entry(struct share_call *c, struct share_node *folder, const struct dirent64 *e,
                      bool plus, uint32_t room)
{
    static const uint8_t zeros[sizeof(uint64_t)];
    uint32_t len = (uint32_t)strlen(e->d_name);
    uint32_t entry = plus ? (uint32_t)sizeof(struct fuse_entry_out) : 0;
    uint32_t size = (uint32_t)FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + len);
    struct fuse_dirent out = {.ino = share_ino(c->share, folder->dev, e->d_ino),
                              .off = (uint64_t)e->d_off,
                              .namelen = len,
                              .type = e->d_type};
    struct fuse_entry_out said;

    if (entry + size > room - c->reply_len)
        return false;
    if (plus) {
        look(c, folder, e->d_name, &said);
        share_put(c, &said, sizeof said);
    }
    share_put(c, &out, FUSE_NAME_OFFSET);
    share_put(c, e->d_name, len);
    share_put(c, zeros, size - (uint32_t)FUSE_NAME_OFFSET - len);
    return true;
}

/* jail(share): lseek getdents64 */
static int read_entries(struct share_call *c, bool plus)
{
    uint32_t room = c->room < SHARE_REPLY_MAX ? c->room : SHARE_REPLY_MAX, want;
    _Alignas(struct dirent64) char raw[16384];
    struct share_node *folder;
    struct fuse_read_in in;
    ssize_t got;
    int fd, why;

    memcpy(&in, c->arg, sizeof in);
    why = share_node_get(c->share, c->head.nodeid, &folder);
    why = why ? why : share_handle_get(c->share, in.fh, true, &fd);
    if (why == 0 && lseek(fd, (off_t)in.offset, SEEK_SET) < 0)
        why = errno;
    if (why != 0)
        return why;
    room = in.size < room ? in.size : room;
    /* What is read and does not fit is read again next time. */
    want = plus ? room / ENTRY_LIKELY * (uint32_t)sizeof(struct dirent64) / 8 : room;
    want = want < READ_MIN ? READ_MIN : want < sizeof raw ? want : (uint32_t)sizeof raw;
    for (;;) {
        got = getdents64(fd, raw, want);
        if (got <= 0)
            return got < 0 && c->reply_len == 0 ? errno : 0;
        for (ssize_t at = 0; at < got;) {
            const struct dirent64 *e = (const struct dirent64 *)(raw + at);

            if (!put_entry(c, folder, e, plus, room))
                return c->reply_len ? 0 : EINVAL;
            at += e->d_reclen;
        }
    }
}

int share_readdir(struct share_call *c)
{
    return read_entries(c, false);
}

int share_readdirplus(struct share_call *c)
{
    return read_entries(c, true);
}

int share_fsyncdir(struct share_call *c)
{
    struct fuse_fsync_in in;
    int fd, why;

    memcpy(&in, c->arg, sizeof in);
    why = share_handle_get(c->share, in.fh, true, &fd);
    if (why == 0 && fsync(fd) != 0)
        why = errno;
    return why;
}

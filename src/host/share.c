/* SPDX-License-Identifier: Apache-2.0 */
/* The session: what a request is checked for before its operation sees it, and how it is answered.
 */
#include "host/share.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/share_impl.h"

#define MINOR_MIN 27u /* 7.27: what Linux 4.19 speaks */
#define MINOR_OURS 36u
#define PAGE 4096u

/* An operation: how much must at least follow the header, and what room its answer needs. */
struct op {
    int (*run)(struct share_call *c);
    uint16_t arg, answer;
    bool writes; /* refused on a read-only share */
    bool bulk;   /* data follows arg that is left where it is */
};

static int init(struct share_call *c)
{
    const uint32_t wanted = FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES |
                            FUSE_AUTO_INVAL_DATA | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO |
                            FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | FUSE_HANDLE_KILLPRIV |
                            FUSE_MAX_PAGES;
    struct fuse_init_in in = {0};
    struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION, .minor = MINOR_OURS};

    memcpy(&in, c->arg, c->arg_len < sizeof in ? c->arg_len : sizeof in);
    if (in.major < FUSE_KERNEL_VERSION || (in.major == FUSE_KERNEL_VERSION && in.minor < MINOR_MIN))
        return EPROTO;
    if (in.major == FUSE_KERNEL_VERSION) { /* else it asks again, in our version */
        share_reset(c->share);
        c->share->live = true;
        out.max_readahead = in.max_readahead;
        out.flags = in.flags & wanted;
        out.max_background = 16;
        out.congestion_threshold = 12;
        out.max_write = SHARE_WRITE_MAX;
        out.time_gran = 1;
        out.max_pages = SHARE_WRITE_MAX / PAGE;
    }
    share_put(c, &out, sizeof out);
    return 0;
}

static int destroy(struct share_call *c)
{
    share_reset(c->share);
    return 0;
}

static const struct op ops[] = {
    [FUSE_LOOKUP] = {share_lookup, 2, sizeof(struct fuse_entry_out)},
    [FUSE_FORGET] = {share_forget, sizeof(struct fuse_forget_in)},
    [FUSE_GETATTR] = {share_getattr, sizeof(struct fuse_getattr_in), sizeof(struct fuse_attr_out)},
    [FUSE_SETATTR] = {share_setattr, sizeof(struct fuse_setattr_in), sizeof(struct fuse_attr_out),
                      true},
    [FUSE_READLINK] = {share_readlink},
    [FUSE_SYMLINK] = {share_symlink, 4, sizeof(struct fuse_entry_out), true},
    [FUSE_MKNOD] = {share_mknod, sizeof(struct fuse_mknod_in) + 2, sizeof(struct fuse_entry_out),
                    true},
    [FUSE_MKDIR] = {share_mkdir, sizeof(struct fuse_mkdir_in) + 2, sizeof(struct fuse_entry_out),
                    true},
    [FUSE_UNLINK] = {share_unlink, 2, 0, true},
    [FUSE_RMDIR] = {share_rmdir, 2, 0, true},
    [FUSE_RENAME] = {share_rename, sizeof(struct fuse_rename_in) + 4, 0, true},
    [FUSE_LINK] = {share_link, sizeof(struct fuse_link_in) + 2, sizeof(struct fuse_entry_out),
                   true},
    [FUSE_OPEN] = {share_open, sizeof(struct fuse_open_in), sizeof(struct fuse_open_out)},
    [FUSE_READ] = {share_read, sizeof(struct fuse_read_in)},
    [FUSE_WRITE] = {share_write, sizeof(struct fuse_write_in), sizeof(struct fuse_write_out), true,
                    true},
    [FUSE_STATFS] = {share_statfs, 0, sizeof(struct fuse_statfs_out)},
    [FUSE_RELEASE] = {share_release, sizeof(struct fuse_release_in)},
    [FUSE_FSYNC] = {share_fsync, sizeof(struct fuse_fsync_in)},
    [FUSE_SETXATTR] = {share_setxattr, FUSE_COMPAT_SETXATTR_IN_SIZE + 2, 0, true},
    [FUSE_GETXATTR] = {share_getxattr, sizeof(struct fuse_getxattr_in) + 2},
    [FUSE_LISTXATTR] = {share_listxattr, sizeof(struct fuse_getxattr_in)},
    [FUSE_REMOVEXATTR] = {share_removexattr, 2, 0, true},
    [FUSE_FLUSH] = {share_flush, sizeof(struct fuse_flush_in)},
    [FUSE_INIT] = {init, 16, sizeof(struct fuse_init_out)},
    [FUSE_OPENDIR] = {share_opendir, sizeof(struct fuse_open_in), sizeof(struct fuse_open_out)},
    [FUSE_READDIR] = {share_readdir, sizeof(struct fuse_read_in)},
    [FUSE_RELEASEDIR] = {share_release, sizeof(struct fuse_release_in)},
    [FUSE_FSYNCDIR] = {share_fsyncdir, sizeof(struct fuse_fsync_in)},
    [FUSE_CREATE] = {share_create, sizeof(struct fuse_create_in) + 2,
                     sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out), true},
    [FUSE_DESTROY] = {destroy},
    [FUSE_BATCH_FORGET] = {share_batch_forget, sizeof(struct fuse_batch_forget_in)},
    [FUSE_FALLOCATE] = {share_fallocate, sizeof(struct fuse_fallocate_in), 0, true},
    [FUSE_READDIRPLUS] = {share_readdirplus, sizeof(struct fuse_read_in)},
    [FUSE_RENAME2] = {share_rename2, sizeof(struct fuse_rename2_in) + 4, 0, true},
    [FUSE_LSEEK] = {share_lseek, sizeof(struct fuse_lseek_in), sizeof(struct fuse_lseek_out)},
    [FUSE_COPY_FILE_RANGE] = {share_copy, sizeof(struct fuse_copy_file_range_in),
                              sizeof(struct fuse_write_out), true},
    [FUSE_SYNCFS] = {share_syncfs, sizeof(struct fuse_syncfs_in)},
};

/* ---- the guest's memory ---- */

unsigned share_slice(const struct iovec *iov, unsigned n, uint64_t offset, uint64_t len,
                     struct iovec *out)
{
    unsigned made = 0;

    for (unsigned i = 0; i < n && len != 0; i++) {
        uint64_t here = iov[i].iov_len, use;

        if (offset >= here) {
            offset -= here;
            continue;
        }
        use = here - offset < len ? here - offset : len;
        out[made++] = (struct iovec){(uint8_t *)iov[i].iov_base + offset, use};
        offset = 0;
        len -= use;
    }
    return made;
}

static uint64_t total(const struct iovec *iov, unsigned n)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++)
        sum += iov[i].iov_len;
    return sum;
}

/* Copy len bytes out of iov from offset on, or (in) into it. The caller has checked that they are
 * there. */
static void copy(const struct iovec *iov, uint64_t offset, void *data, uint64_t len, bool in)
{
    uint8_t *at = data;

    for (; len != 0; iov++) {
        uint64_t use = iov->iov_len;

        if (offset >= use) {
            offset -= use;
            continue;
        }
        use = use - offset < len ? use - offset : len;
        if (in)
            memcpy((uint8_t *)iov->iov_base + offset, at, use);
        else
            memcpy(at, (uint8_t *)iov->iov_base + offset, use);
        offset = 0;
        at += use;
        len -= use;
    }
}

/* ---- requests ---- */

int share_text(struct share_call *c, uint32_t *at, size_t max, const char **out)
{
    const uint8_t *from = c->arg + *at;
    const uint8_t *end = memchr(from, 0, c->arg_len - *at);

    if (end == NULL || end == from)
        return EINVAL;
    if ((size_t)(end - from) > max)
        return ENAMETOOLONG;
    *out = (const char *)from;
    *at += (uint32_t)(end - from) + 1;
    return 0;
}

int share_name(struct share_call *c, uint32_t *at, const char **out)
{
    int why = share_text(c, at, SHARE_NAME_MAX, out);

    if (why == 0 && (strchr(*out, '/') || strcmp(*out, ".") == 0 || strcmp(*out, "..") == 0))
        why = EINVAL;
    return why;
}

void share_put(struct share_call *c, const void *data, uint32_t len)
{
    memcpy(c->share->reply + c->reply_len, data, len);
    c->reply_len += len;
}

static int dispatch(struct share_call *c, uint64_t in_bytes)
{
    const struct op *op =
        c->head.opcode < sizeof ops / sizeof ops[0] ? &ops[c->head.opcode] : &ops[0];
    uint64_t rest = in_bytes - sizeof c->head;

    if (op->run == NULL)
        return ENOSYS;
    if (c->head.len != in_bytes || rest < op->arg || c->room < op->answer)
        return EINVAL;
    if (!c->share->live && c->head.opcode != FUSE_INIT)
        return ENOTCONN;
    if (c->share->read_only && op->writes)
        return EROFS;
    if (op->bulk)
        rest = op->arg;
    if (rest > SHARE_ARG_MAX)
        return E2BIG;
    copy(c->in, sizeof c->head, c->share->arg, rest, false);
    c->arg = c->share->arg;
    c->arg_len = (uint32_t)rest;
    return op->run(c);
}

uint32_t share_answer(struct share *s, const struct iovec *in, unsigned n_in,
                      const struct iovec *out, unsigned n_out)
{
    struct share_call c = {.share = s, .in = in, .n_in = n_in, .out = out, .n_out = n_out};
    struct fuse_out_header head = {.len = sizeof head};
    uint64_t in_bytes = total(in, n_in), room = total(out, n_out);
    int why;

    if (in_bytes < sizeof c.head)
        return 0;
    copy(in, 0, &c.head, sizeof c.head, false);
    room = room < UINT32_MAX ? room : UINT32_MAX;
    c.room = room < sizeof head ? 0 : (uint32_t)(room - sizeof head);
    why = dispatch(&c, in_bytes);
    if (why == SHARE_NO_ANSWER || room < sizeof head)
        return 0;
    head.unique = c.head.unique;
    head.error = -why;
    if (why == 0) {
        head.len += c.reply_len;
        if (!c.direct)
            copy(out, sizeof head, s->reply, c.reply_len, true);
    }
    copy(out, 0, &head, sizeof head, true);
    return head.len;
}

/* ---- life ---- */

int share_new(const struct share_config *config, struct share **out, struct sm_error *err)
{
    struct share *s = calloc(1, sizeof *s);

    *out = NULL;
    if (s == NULL)
        return err_set(err, SM_ENOMEM, "out of memory");
    s->root = config->root;
    s->self = config->self;
    s->read_only = config->read_only;
    s->uid = geteuid();
    s->gid = getegid();
    s->shown_uid = config->uid;
    s->shown_gid = config->gid;
    share_nodes_init(s);
    *out = s;
    return 0;
}

void share_free(struct share *s)
{
    if (s == NULL)
        return;
    share_reset(s);
    free(s->slots);
    free(s);
}

void share_reset(struct share *s)
{
    share_handles_reset(s);
    share_nodes_reset(s);
    s->live = false;
}

bool share_in_use(const struct share *s)
{
    return s->live;
}

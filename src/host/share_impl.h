/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a share, for share*.c only. Functions that return int: 0 or an errno. */
#ifndef SM_HOST_SHARE_IMPL_H
#define SM_HOST_SHARE_IMPL_H

#include <linux/fuse.h>
#include <sys/stat.h>

#include "host/share.h"

#define SHARE_ARG_MAX (FUSE_COMPAT_SETXATTR_IN_SIZE + 256 + 65536) /* setxattr is the longest */
#define SHARE_REPLY_MAX 65536u
#define SHARE_NAME_MAX 255u
#define SHARE_MODE 01777u    /* what the guest may set: no file runs as somebody else */
#define SHARE_HASH 16384u    /* buckets; a power of two */
#define SHARE_NO_ANSWER (-1) /* in place of an errno */
#define SHARE_DEPTH_MAX 256  /* folders that are opened again to find one file */
#define SHARE_HOT_MIN 300u   /* so that none of those is closed on the way */

/* A file that the guest knows. Freed with its last reference. */
struct share_node {
    uint64_t id;
    int fd;                    /* owned: O_PATH; -1: cold */
    uint32_t refs;             /* children, handles, and one while lookups is not 0 */
    uint32_t handles;          /* of them; then the descriptor stays */
    uint64_t lookups;          /* that the guest has not taken back */
    struct share_node *parent; /* counted; with name, where it was last seen. NULL: nowhere */
    char *name;                /* owned */
    struct share_node *next;   /* in its bucket */
    struct share_node *newer, *older; /* while hot, without handles and not the root */
    mode_t type;                      /* S_IFMT bits */
    uint64_t dev, ino;
    struct statx_timestamp born; /* inode numbers are used again */
};

struct share_slot {
    struct share_node *node; /* or NULL: free, and */
    uint32_t next_free;      /* 0: none */
};

struct share_handle {
    struct share_node *node; /* counted; NULL: free */
    int fd;                  /* owned */
    uint32_t serial;
};

struct share {
    int root, self; /* borrowed */
    bool read_only;
    bool live; /* INIT was seen */
    uid_t uid; /* the host's, */
    gid_t gid;
    uint32_t shown_uid, shown_gid; /* and as whom the guest sees them */
    struct share_node top;         /* the root; never freed */
    struct share_node *buckets[SHARE_HASH];
    struct share_slot *slots; /* owned; by the lower half of an id; slot 0 stays empty */
    uint32_t n_slots, n_nodes, first_free;
    uint32_t serial; /* upper half of the next id */
    struct share_node *newest, *oldest;
    uint32_t n_hot; /* in that list */
    struct share_handle handles[SHARE_HANDLES_MAX];
    uint8_t arg[SHARE_ARG_MAX];
    uint8_t reply[SHARE_REPLY_MAX];
};

/* A request on its way. */
struct share_call {
    struct share *share;
    struct fuse_in_header head;
    const uint8_t *arg; /* what follows the header, of WRITE without the data: our copy */
    uint32_t arg_len;
    const struct iovec *in, *out; /* the guest's memory */
    unsigned n_in, n_out;
    uint32_t room;      /* for what follows the answer's header */
    uint32_t reply_len; /* filled so far of share->reply, or (READ) of out after the header */
    bool direct;        /* it is in out */
};

/* ---- share.c ---- */
/* The next NUL-terminated text from *at on, at most max bytes long, or an errno. */
int share_text(struct share_call *c, uint32_t *at, size_t max, const char **out);
/* The same, of a file in a folder. */
int share_name(struct share_call *c, uint32_t *at, const char **out);
void share_put(struct share_call *c, const void *data, uint32_t len); /* append to the answer */
/* As virtq_chain_slice(): describe at most len bytes from offset on; out has room for n. */
unsigned share_slice(const struct iovec *iov, unsigned n, uint64_t offset, uint64_t len,
                     struct iovec *out);

/* ---- share_node.c ---- */
void share_nodes_init(struct share *s);
void share_nodes_reset(struct share *s);
int share_node_get(struct share *s, uint64_t id, struct share_node **out);
/* Its descriptor, opened again if need be; good until the next but one call of these. */
int share_node_fd(struct share *s, struct share_node *n, int *fd);
/* The node of a file whose O_PATH descriptor is given away, seen as name in parent; one lookup
 * more.
 */
int share_node_take(struct share *s, struct share_node *parent, const char *name, int fd,
                    struct share_node **out, struct statx *stx);
/* The same of whatever has that name now. */
int share_node_lookup(struct share *s, struct share_node *parent, const char *name,
                      struct share_node **out, struct statx *stx);
void share_node_forget(struct share *s, uint64_t id, uint64_t lookups);
/* The file that has this name now has come there by renaming. */
void share_node_moved(struct share *s, struct share_node *parent, const char *name);
void share_node_hold(struct share *s, struct share_node *n); /* for a handle: hot */
void share_node_release(struct share *s, struct share_node *n);
/* After an open that failed with errno e: whether there are descriptors now that there were not. */
bool share_node_cool(struct share *s, int e);

/* ---- share_handle.c ---- */
/* fd is taken over, in any case. */
int share_handle_new(struct share *s, struct share_node *n, int fd, uint64_t *fh);
int share_handle_get(struct share *s, uint64_t fh, bool folder, int *fd);
void share_handle_close(struct share *s, uint64_t fh);
void share_handles_reset(struct share *s);

/* ---- the operations ---- */
int share_stat(int fd, struct statx *stx);
void share_attr(const struct share *s, const struct statx *stx, struct fuse_attr *out);
uint64_t share_ino(const struct share *s, uint64_t dev, uint64_t ino);
void share_fill_entry(const struct share *s, const struct share_node *n, const struct statx *stx,
                      struct fuse_entry_out *out);
/* Open a regular file's node again. */
int share_reopen(struct share *s, struct share_node *n, int flags, int *fd);

int share_lookup(struct share_call *c);
int share_forget(struct share_call *c);
int share_batch_forget(struct share_call *c);
int share_mknod(struct share_call *c);
int share_mkdir(struct share_call *c);
int share_symlink(struct share_call *c);
int share_link(struct share_call *c);
int share_unlink(struct share_call *c);
int share_rmdir(struct share_call *c);
int share_rename(struct share_call *c);
int share_rename2(struct share_call *c);

int share_getattr(struct share_call *c);
int share_setattr(struct share_call *c);
int share_readlink(struct share_call *c);
int share_statfs(struct share_call *c);
int share_syncfs(struct share_call *c);

int share_setxattr(struct share_call *c);
int share_getxattr(struct share_call *c);
int share_listxattr(struct share_call *c);
int share_removexattr(struct share_call *c);

int share_open(struct share_call *c);
int share_create(struct share_call *c);
int share_read(struct share_call *c);
int share_write(struct share_call *c);
int share_flush(struct share_call *c);
int share_release(struct share_call *c);
int share_fsync(struct share_call *c);
int share_fallocate(struct share_call *c);
int share_lseek(struct share_call *c);
int share_copy(struct share_call *c);

int share_opendir(struct share_call *c);
int share_readdir(struct share_call *c);
int share_readdirplus(struct share_call *c);
int share_fsyncdir(struct share_call *c);

#endif

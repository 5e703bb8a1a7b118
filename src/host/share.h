/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A folder of the host's for a guest: a server of the FUSE protocol (linux/fuse.h, version 7.27 and
 * later) on buffers. One session at a time.
 *
 * Each file that the guest knows is a node with an O_PATH descriptor, found by one name in the
 * folder of another node, with openat2 and never through a symbolic link; names with '/', "." and
 * ".." are refused. So whatever links the guest makes, and whoever changes the tree meanwhile,
 * nothing outside of the folder is ever reached. At most SHARE_HOT_MAX descriptors are kept: a node
 * that was not used for long is found again by its name, and is gone (ESTALE) when another file has
 * that name.
 *
 * Files are the host user's who runs this: made as that user's, and opened with that user's rights.
 * The guest sees those ids as two that are given, all others as SHARE_NOBODY, and cannot change
 * them. It makes no device nodes, no set-user-id or set-group-id files, and no extended attributes
 * but user.*, so that nothing it leaves behind has rights on the host.
 *
 * Everything in a request is hostile, and the memory it is in may change at any time: what is
 * looked at was copied first. Errors are the guest's, as errno; there are none for the caller.
 *
 * Threads: one at a time. New files have the mode that the guest asks for only on a thread whose
 * umask is 0.
 */
#ifndef SM_HOST_SHARE_H
#define SM_HOST_SHARE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/err.h"

#define SHARE_NODES_MAX (1u << 18) /* files that the guest may know at a time; more is ENFILE */
#define SHARE_HOT_MAX 1024u        /* of them, with a descriptor besides those that are open */
#define SHARE_HANDLES_MAX 2048u    /* open files and folders; more is ENFILE */
#define SHARE_FILES_MAX (SHARE_HOT_MAX + 2 * SHARE_HANDLES_MAX + 16) /* descriptors in use */
#define SHARE_WRITE_MAX (512u << 10) /* bytes of one READ or WRITE that the guest is told */
#define SHARE_VALID_S 1              /* how long the guest may believe names and attributes */
#define SHARE_NOBODY 65534u

struct share;

struct share_config {
    int root;          /* borrowed: an O_PATH descriptor of the folder */
    int self;          /* borrowed: of /proc/self/fd */
    bool read_only;    /* whatever would change something is EROFS */
    uint32_t uid, gid; /* the guest's, who owns the files of the user who runs this */
};

/* Reads the user's ids: call it before they are hidden by a user namespace. SM_ENOMEM. */
int share_new(const struct share_config *config, struct share **out, struct sm_error *err);
void share_free(struct share *s); /* NULL is fine */

/*
 * Handle the request in `in` and put the answer into `out`, whose first bytes are written. Returns
 * their number; 0: there is no answer to this request, or no room for one.
 */
uint32_t share_answer(struct share *s, const struct iovec *in, unsigned n_in,
                      const struct iovec *out, unsigned n_out);

/* End the session: all nodes and open files are gone. */
void share_reset(struct share *s);

/* Whether a session has begun. */
bool share_in_use(const struct share *s);

#endif

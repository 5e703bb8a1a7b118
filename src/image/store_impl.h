/* SPDX-License-Identifier: Apache-2.0 */
/* What store*.c share. */
#ifndef SM_IMAGE_STORE_IMPL_H
#define SM_IMAGE_STORE_IMPL_H

#include "image/store.h"

struct store {
    char *path;                 /* owned, as all here; constant after store_open */
    char *folders[STORE_KINDS]; /* of items */
    char *images;
    char *locks;
    char *tmp;
    char *snapshots;
    char *digests;
    char *volumes;
    unsigned patience_ms;
};

/* err_sys for a failed change of the store: says "not writable" where that is the reason. */
int store_fail(const char *path, const char *what, struct sm_error *err);

/* Remove what killed makers left in tmp/: files whose lock nobody holds. */
void store_sweep(struct store *store);

/*
 * store_lock.c. Take the lock of that name, waiting as store_item_begin() says (what: "making ..."
 * for the message); or only try, which gives -1 when another has it. The holder says who it is.
 * Closing *fd lets the lock go.
 */
int store_lock_take(struct store *s, const char *name, const char *what, int *fd,
                    struct sm_error *err);
int store_lock_try(struct store *s, const char *name, int *fd, struct sm_error *err);
void store_lock_sign(int fd);

/* fsync of a folder. 0, or -1 with errno. */
int store_sync_folder(const char *path);

#endif

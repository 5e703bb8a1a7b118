/* SPDX-License-Identifier: Apache-2.0 */
/* What store.c and store_layer.c share. */
#ifndef SM_IMAGE_STORE_IMPL_H
#define SM_IMAGE_STORE_IMPL_H

#include "image/store.h"

struct store {
    char *path;                 /* owned, as all here; constant after store_open */
    char *folders[STORE_KINDS]; /* of items */
    char *images;
    char *locks;
    char *tmp;
    unsigned patience_ms;
};

/* err_sys for a failed change of the store: says "not writable" where that is the reason. */
int store_fail(const char *path, const char *what, struct sm_error *err);

/* Remove what killed makers left in tmp/: files whose lock nobody holds. */
void store_sweep(struct store *store);

/* fsync of a folder. 0, or -1 with errno. */
int store_sync_folder(const char *path);

#endif

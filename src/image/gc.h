/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collecting what no name reaches. Safe beside everything else: what a pull has made or found, and
 * what a VM uses, is held (store.h) and stays; names do not change while it collects (catalog.h).
 */
#ifndef SM_IMAGE_GC_H
#define SM_IMAGE_GC_H

#include "image/catalog.h"

struct gc_report {
    uint64_t blobs, layers, snapshots; /* removed */
    uint64_t bytes;                    /* that they took on disk */
    uint64_t held;                     /* items that nothing reaches, and that somebody uses */
};

/* Remove all that can be. A second process that collects waits. SM_EIO when the store cannot be
 * written. */
int gc_collect(struct store *store, struct gc_report *out, struct sm_error *err);

/* Take a name away, and remove what only it reached. SM_ENOTFOUND. */
int gc_remove_image(struct store *store, const char *name, struct gc_report *out,
                    struct sm_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of images in the store: images/<sha256 of the name>.json, one small document each. A record
 * is changed only under one lock, locks/images, which gc holds while it collects: what a record
 * reaches is either held by its maker or reachable, at every moment.
 */
#ifndef SM_IMAGE_CATALOG_H
#define SM_IMAGE_CATALOG_H

#include <stdint.h>

#include "image/name.h"
#include "image/store.h"

struct catalog_record {
    char name[NAME_TEXT_MAX]; /* as name_format writes it */
    char manifest[DIGEST_STR_SIZE];
    uint64_t manifest_bytes;
    char media_type[128]; /* of the manifest */
    char config[DIGEST_STR_SIZE];
    int64_t added_s; /* Unix time */
};

/* Take the lock; *lock_fd is to be closed. Waits. SM_EIO when the store cannot be written. */
int catalog_lock(struct store *store, int *lock_fd, struct sm_error *err);

/* Add or replace. The caller holds all that the record reaches. */
int catalog_put(struct store *store, const struct catalog_record *record, struct sm_error *err);

/* SM_ENOTFOUND when no image has that name, SM_ECORRUPT for a broken record. */
int catalog_get(struct store *store, const char *name, struct catalog_record *out,
                struct sm_error *err);

/* Take the name away. SM_ENOTFOUND. */
int catalog_remove(struct store *store, const char *name, struct sm_error *err);

/*
 * Call each for every record, in no order, until it returns non-zero, which is then returned. A
 * broken record is given to broken (may be NULL: skipped) with its path and what is wrong.
 */
int catalog_each(struct store *store,
                 int (*each)(void *opaque, const struct catalog_record *record),
                 int (*broken)(void *opaque, const char *path, const struct sm_error *why),
                 void *opaque, struct sm_error *err);

#endif

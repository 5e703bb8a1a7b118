/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named volumes: volumes/NAME.img, a sparse file with an ext4 file system each. One appears whole
 * or not at all. Nothing but store_remove_volume() removes one.
 */
#ifndef SM_IMAGE_STORE_VOLUME_H
#define SM_IMAGE_STORE_VOLUME_H

#include "image/store.h"

#define STORE_VOLUME_BYTES (10ull << 30) /* what the guest sees; on disk is what was written */

/* [A-Za-z0-9][A-Za-z0-9_.-]*, 2 to 64 characters, as for Docker. */
bool store_volume_name_valid(const char *name);

/*
 * The path of a volume (the caller frees), which is made if it is not there; *made: it was.
 * SM_EINVAL: not a name. Errors as of store_item_begin() and mkfs_ext4().
 */
int store_volume_path(struct store *store, const char *name, char **path, bool *made,
                      struct sm_error *err);

struct store_volume {
    const char *name, *path; /* borrowed, for the call */
    uint64_t size_bytes, disk_bytes;
};
/* Call each for every volume, in no order, until it returns non-zero, which is then returned. */
int store_each_volume(struct store *store,
                      int (*each)(void *opaque, const struct store_volume *volume), void *opaque,
                      struct sm_error *err);

/* SM_ENOTFOUND; SM_EINVAL: it is in use, or not a name. */
int store_remove_volume(struct store *store, const char *name, struct sm_error *err);

#endif

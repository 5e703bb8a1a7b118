/* SPDX-License-Identifier: Apache-2.0 */
/* Images in a file or folder into the store, under their names. */
#ifndef SM_IMAGE_LOAD_H
#define SM_IMAGE_LOAD_H

#include "image/catalog.h"

struct load_options {
    const struct name *name; /* borrowed: what the only image is to be called; NULL: as it says */
    /* Called for each name that the store has now. May be NULL. */
    void (*loaded)(void *opaque, const struct catalog_record *record);
    void *opaque;
};

/*
 * path: an OCI layout, as a folder or an archive, or what `docker save` writes; archives may be
 * compressed, and come from a pipe. index.json counts where there is one, else manifest.json; such
 * an image gets a manifest of ours. Of images for several platforms ours is taken. Every byte is
 * checked against the digest that leads to it, layers also against the config, before the image
 * gets its name. Images are loaded one by one: after an error the earlier ones stay. A kill leaves
 * at worst blobs without a name, as a pull does.
 *
 * SM_EINVAL: no image archive, an image has no (full) name, or name given and several images;
 * SM_ENOTFOUND: no such file, or something is missing in it; and all of image_open.
 */
int load_images(struct store *store, const char *path, const struct load_options *options,
                struct sm_error *err);

#endif

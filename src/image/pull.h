/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image from its registry into the store: manifest, config, layers as they are and as VMs use
 * them, and at the very end its name. Download, digest, decompression and writing overlap, within a
 * layer and between layers.
 */
#ifndef SM_IMAGE_PULL_H
#define SM_IMAGE_PULL_H

#include "image/catalog.h"
#include "image/image.h"

/* Pull, whether the store has the name or not; fill image, which is zeroed. Errors and options as
 * of image_open; image_free in any case. */
int pull_image(struct store *store, const struct name *name, const struct image_options *options,
               struct image *image, struct sm_error *err);

/* Fill image (zeroed) from what the store has under name. Layers that it has only as blobs are
 * converted again. SM_ENOTFOUND when it has no such name, or not all of it. */
int pull_recall(struct store *store, const struct name *name, struct image *image,
                struct sm_error *err);
/* The same for a record that need not be in the store's list. */
int pull_recall_record(struct store *store, const struct catalog_record *record,
                       struct image *image, struct sm_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* What load*.c share: the image that is being loaded. */
#ifndef SM_IMAGE_LOAD_PARTS_H
#define SM_IMAGE_LOAD_PARTS_H

#include "image/load.h"
#include "image/plan.h"

struct loading {
    struct store *store;      /* borrowed */
    struct source *src;       /* borrowed */
    struct buf text;          /* its manifest */
    bool docker_type;         /* which calls itself Docker's, not OCI's */
    struct string_list names; /* as the archive has them */
    size_t n_held;
    struct store_held *held; /* owned: its blobs */
};

/* Make sure that the store has the blob, and hold it: from the source's entry of that name, checked
 * against size and digest. */
int loading_blob(struct loading *l, const char *entry, const struct descriptor *d,
                 struct sm_error *err);

/* Size, digest and codec of an entry that nothing describes. */
int loading_measure(struct loading *l, const char *entry, struct descriptor *d,
                    enum layer_codec *codec, struct sm_error *err);

/* load_docker.c, for an image of manifest.json: its names; its blobs, and a manifest for them. */
int load_docker_names(struct loading *l, const json_t *image, struct sm_error *err);
int load_docker_image(struct loading *l, const json_t *image, struct sm_error *err);

#endif

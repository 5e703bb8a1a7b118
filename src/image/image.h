/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image ready to be used by a VM: one EROFS file per layer in the store, and the config that
 * says what to run. Opening one reads the reference's documents, checks every digest, and converts
 * the layers that the store does not have yet.
 */
#ifndef SM_IMAGE_IMAGE_H
#define SM_IMAGE_IMAGE_H

#include <stdint.h>

#include "image/config.h"
#include "image/store.h"

struct image_options {
    const char *builtin_dir; /* borrowed: folder of the built-in images' OCI layouts ("busybox" in
                                it); NULL: there are none */
};

struct image_layer {
    char *path; /* owned: an EROFS image in the store */
    uint64_t size_bytes;
    char diff_id[DIGEST_STR_SIZE];
};

struct image {
    size_t n_layers;                     /* at least 1 */
    struct image_layer *layers;          /* owned; lowest first */
    char config_digest[DIGEST_STR_SIZE]; /* the image's identity */
    struct image_config config;
};

/*
 * Resolve ref (ref.h) and make all its layers present in store. options may be NULL. May take as
 * long as converting the layers does; several processes may open the same image at once, and each
 * layer is then converted by one of them. The files in layers[] stay valid for as long as the store
 * does.
 *
 * SM_EINVAL, SM_ENOTFOUND (no such image, tag or file), SM_ECORRUPT (digest or format; the digest
 * is named), SM_EUNSUPPORTED (media type, platform, layer count), SM_EIO, SM_ENOSPC (nothing
 * half-made stays), SM_ENOMEM, SM_ETIMEDOUT (another process holds a layer and makes no progress).
 */
int image_open(struct store *store, const char *ref, const struct image_options *options,
               struct image **out, struct sm_error *err);
void image_free(struct image *image);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Named images of the store into an OCI layout, which `docker load` may read, too. */
#ifndef SM_IMAGE_SAVE_H
#define SM_IMAGE_SAVE_H

#include <stdbool.h>

#include "image/name.h"
#include "image/sink.h"
#include "image/store.h"

struct save_options {
    bool docker; /* also manifest.json, as `docker save` writes since Docker 25 */
    /* Called per block on the caller's thread; non-zero: stop. May be NULL. */
    int (*progress)(void *opaque, uint64_t done_bytes, uint64_t total_bytes);
    void *opaque;
};

/*
 * Write the images into sink and commit it. Every byte is hashed on its way: what is damaged in the
 * store does not leave it. Layers are as their registry had them. Manifests, too, but for Docker's
 * own: an OCI layout holds OCI's media types, so they are put in, unless the name is a digest.
 *
 * SM_ENOTFOUND: no image of that name, or a blob of it is missing; SM_ECORRUPT; SM_EINTR; SM_EIO,
 * SM_ENOSPC, SM_ENOMEM.
 */
int save_images(struct store *store, const struct name *names, size_t n, struct sink *sink,
                const struct save_options *options, struct sm_error *err);

#endif

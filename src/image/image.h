/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image ready to be used by a VM: one EROFS file per layer in the store, and the config that
 * says what to run. Opening one reads the reference's documents, checks every digest, and converts
 * the layers that the store does not have yet.
 */
#ifndef SM_IMAGE_IMAGE_H
#define SM_IMAGE_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "image/config.h"
#include "image/name.h"
#include "image/store.h"

struct image_options {
    const char *builtin_dir; /* borrowed: folder of the built-in images' OCI layouts ("busybox" in
                                it); NULL: there are none */
    /* For names that the store does not have, or with fresh: how to pull them. */
    bool fresh;                  /* ask the registry although the store has the name */
    const char *pinned;          /* with fresh: the digest to ask for, whatever the name says now */
    const char *const *insecure; /* borrowed, NULL-terminated, as registry_options.insecure */
    unsigned idle_ms, attempts;  /* 0: the defaults of http.h and registry.h */
    /* Called now and then while a pull runs, on the thread that called image_open; non-zero: stop
     * it. May be NULL. */
    int (*progress)(void *opaque, const struct sm_layer_progress *layers, size_t n);
    void *opaque;
};

struct image_layer {
    struct store_held held; /* an EROFS image in the store; in use as long as the struct image is */
    char diff_id[DIGEST_STR_SIZE];
};

struct image {
    size_t n_layers;                       /* at least 1 */
    struct image_layer *layers;            /* owned; lowest first */
    char config_digest[DIGEST_STR_SIZE];   /* the image's identity */
    char name[NAME_TEXT_MAX];              /* in the store; "" for what has none there */
    char manifest_digest[DIGEST_STR_SIZE]; /* with a name */
    struct image_config config;
};

/*
 * Resolve ref (ref.h) and make all its layers present in store. options may be NULL. A name is
 * looked for in the store first, then at its registry. May take as long as download and conversion
 * do; several processes may open the same image at once, and each layer is then made by one of
 * them. No gc removes the layers of an open image.
 *
 * SM_EINVAL, SM_ENOTFOUND (no such image, tag or file), SM_ECORRUPT (digest or format; the digest
 * is named), SM_EUNSUPPORTED (media type, platform, layer count), SM_EIO, SM_ENOSPC (nothing
 * half-made stays), SM_ENOMEM, SM_ETIMEDOUT (another process holds a layer and makes no progress;
 * or the registry does not), SM_EINTR (progress said so).
 */
int image_open(struct store *store, const char *ref, const struct image_options *options,
               struct image **out, struct sm_error *err);
void image_free(struct image *image);

#endif

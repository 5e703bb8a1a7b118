/* SPDX-License-Identifier: Apache-2.0 */
/* The documents of a saved image that the store does not have as such. */
#ifndef SM_IMAGE_SAVE_DOC_H
#define SM_IMAGE_SAVE_DOC_H

#include "base/buf.h"
#include "image/catalog.h"
#include "image/manifest.h"

struct saved_image {
    struct name name;
    struct catalog_record record;
    struct manifest manifest;
    char digest[DIGEST_STR_SIZE]; /* of the manifest as it is written */
    uint64_t size_bytes;
    const char *media_type; /* static, or in record */
};

/* A Docker schema 2 manifest with OCI's media types, in place of text (SM_EUNSUPPORTED: it has one
 * that OCI has no counterpart of). */
int save_doc_to_oci(struct buf *text, struct sm_error *err);

/* index.json; each *out is freed with free(). NULL when out of memory. */
char *save_doc_index(const struct saved_image *images, size_t n);
/* manifest.json of `docker save`. */
char *save_doc_docker(const struct saved_image *images, size_t n);

#endif

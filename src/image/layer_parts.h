/* SPDX-License-Identifier: Apache-2.0 */
/* What the layer_*.c files share. Nothing outside them includes this. */
#ifndef SM_IMAGE_LAYER_PARTS_H
#define SM_IMAGE_LAYER_PARTS_H

#include "image/erofs.h"
#include "image/layer.h"
#include "image/tarball.h"
#include "image/tree.h"

/* The uncompressed archive: decoded, counted and hashed as it passes. */
struct layer_stream;

int layer_stream_new(const struct layer_input *in, enum layer_codec codec, uint64_t max_bytes,
                     uint64_t max_ratio, struct layer_stream **out, struct sm_error *err);
void layer_stream_free(struct layer_stream *s);
/* For struct tarball_source; opaque is the stream. Gives the end only if the blob ended well there.
 */
int layer_stream_next(void *opaque, const uint8_t **data, size_t *len, struct sm_error *err);
/* Digest of everything given out. Once, after the end. */
void layer_stream_digest(struct layer_stream *s, char diff_id[DIGEST_STR_SIZE]);

/* Put one archive member into the tree, and its data into the image. */
struct layer_build {
    struct tarball *tar; /* borrowed */
    struct tree *tree;   /* borrowed */
    struct erofs *image; /* borrowed */
    uint64_t max_file_bytes;
};
int layer_entry(struct layer_build *b, const struct tarball_entry *e, struct sm_error *err);

#endif

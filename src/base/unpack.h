/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decompression of a stream, pulled by its reader: gzip, bzip2, lzma, xz, zstd, and LZ4 as kernels
 * use it. Checksums of the format are verified. Several members (streams, frames) in a row are one
 * stream, as the formats say; anything else after a member, and an end inside of one, is an error.
 *
 * Memory: what the format's own window asks for, at most UNPACK_WINDOW_MAX. One thread at a time.
 */
#ifndef SM_BASE_UNPACK_H
#define SM_BASE_UNPACK_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define UNPACK_WINDOW_LOG_MAX 27 /* 128 MiB: what the zstd tool accepts unasked */
#define UNPACK_HEAD 6            /* bytes that tell the formats apart */

enum unpack_format {
    UNPACK_NONE, /* not compressed, or not known */
    UNPACK_GZIP,
    UNPACK_BZIP2,
    UNPACK_LZMA,
    UNPACK_XZ,
    UNPACK_ZSTD,
    UNPACK_LZ4,
};

/* Which format begins with these bytes. */
enum unpack_format unpack_detect(const uint8_t *head, size_t len);

/* Where the compressed bytes come from: as struct tarball_source. *len 0 is the end. */
struct unpack_source {
    int (*next)(void *opaque, const uint8_t **data, size_t *len, struct sm_error *err);
    void *opaque; /* borrowed */
};

struct unpack;

/* format is not UNPACK_NONE. */
int unpack_new(enum unpack_format format, struct unpack_source source, struct unpack **out,
               struct sm_error *err);
void unpack_free(struct unpack *u); /* NULL is fine */

/* Up to len bytes into data; fewer only at the end. SM_ECORRUPT names the format and the place.
 * After an error only unpack_free is allowed. */
int unpack_read(struct unpack *u, void *data, size_t len, size_t *got, struct sm_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The blob's bytes, decompressed, counted and hashed as they pass.
 */
#include "image/layer_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/unpack.h"

#define IN_BYTES (256u << 10)
#define OUT_BYTES (1u << 20)
#define RATIO_FLOOR (UINT64_C(1) << 30)

struct layer_stream {
    struct layer_input in;
    enum layer_codec codec;
    struct hash *hash;     /* owned */
    struct unpack *unpack; /* owned; NULL for plain tar */
    uint8_t *in_buf;       /* owned */
    uint8_t *out_buf;      /* owned; unused for plain tar */
    uint64_t blob_bytes, tar_bytes;
    uint64_t max_bytes, max_ratio;
};

static const enum unpack_format formats[] = {
    [LAYER_TAR] = UNPACK_NONE, [LAYER_TAR_GZIP] = UNPACK_GZIP, [LAYER_TAR_ZSTD] = UNPACK_ZSTD};

/* The media type and the blob's first bytes must agree: one clear message instead of a confused
 * decoder. */
static int check_magic(const struct layer_stream *s, size_t len, struct sm_error *err)
{
    static const char *const names[] = {"plain tar", "gzip", "zstd"};
    enum unpack_format found = unpack_detect(s->in_buf, len);
    for (unsigned i = LAYER_TAR_GZIP; i <= LAYER_TAR_ZSTD; i++) {
        if (found == formats[i] && i != s->codec) {
            return err_set(err, SM_ECORRUPT, "layer is %s although its media type says %s",
                           names[i], names[s->codec]);
        }
    }
    return 0;
}

static int next_input(void *opaque, const uint8_t **data, size_t *len, struct sm_error *err)
{
    struct layer_stream *s = opaque;
    ssize_t n;
    do {
        n = s->in.read(s->in.opaque, s->in_buf, IN_BYTES);
    } while (n < 0 && errno == EINTR);
    *data = s->in_buf;
    *len = n > 0 ? (size_t)n : 0;
    if (n < 0) {
        return err_sys(err, "cannot read the layer blob");
    }
    s->blob_bytes += (uint64_t)n;
    return s->blob_bytes == (uint64_t)n ? check_magic(s, *len, err) : 0;
}

void layer_stream_free(struct layer_stream *s)
{
    if (!s) {
        return;
    }
    unpack_free(s->unpack);
    hash_free(s->hash);
    free(s->in_buf);
    free(s->out_buf);
    free(s);
}

int layer_stream_new(const struct layer_input *in, enum layer_codec codec, uint64_t max_bytes,
                     uint64_t max_ratio, struct layer_stream **out, struct sm_error *err)
{
    struct layer_stream *s = calloc(1, sizeof *s);
    *out = NULL;
    if (s) {
        s->in = *in;
        s->codec = codec;
        s->max_bytes = max_bytes;
        s->max_ratio = max_ratio;
        s->hash = hash_new();
        s->in_buf = malloc(IN_BYTES);
        s->out_buf = malloc(OUT_BYTES);
    }
    if (!s || !s->hash || !s->in_buf || !s->out_buf ||
        (codec != LAYER_TAR &&
         unpack_new(formats[codec], (struct unpack_source){next_input, s}, &s->unpack, NULL))) {
        layer_stream_free(s);
        return err_set(err, SM_ENOMEM, "out of memory for reading a layer");
    }
    *out = s;
    return 0;
}

static int count(struct layer_stream *s, size_t len, struct sm_error *err)
{
    s->tar_bytes += len;
    if (s->tar_bytes > s->max_bytes) {
        return err_set(err, SM_EUNSUPPORTED,
                       "layer is larger than the limit of %llu MiB uncompressed",
                       (unsigned long long)(s->max_bytes >> 20));
    }
    if (s->tar_bytes > RATIO_FLOOR && s->tar_bytes / s->max_ratio > s->blob_bytes) {
        return err_set(err, SM_EUNSUPPORTED,
                       "layer grows more than the limit of %llu times when uncompressed",
                       (unsigned long long)s->max_ratio);
    }
    return 0;
}

int layer_stream_next(void *opaque, const uint8_t **data, size_t *len, struct sm_error *err)
{
    struct layer_stream *s = opaque;
    int rc;
    if (!s->unpack) {
        rc = next_input(s, data, len, err);
    } else {
        rc = unpack_read(s->unpack, s->out_buf, OUT_BYTES, len, err);
        *data = s->out_buf;
        if (rc == SM_ECORRUPT) {
            err_wrap(err, rc, "layer");
        }
    }
    if (!rc) {
        rc = count(s, *len, err);
    }
    if (rc) {
        *len = 0;
        return rc;
    }
    hash_update(s->hash, *data, *len);
    return 0;
}

void layer_stream_digest(struct layer_stream *s, char diff_id[DIGEST_STR_SIZE])
{
    hash_final(s->hash, diff_id);
}

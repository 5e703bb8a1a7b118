/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decompression: zlib and libzstd directly, because both verify their checksums and tell where a
 * stream ends. Several gzip members or zstd frames in a row are one stream, as both formats say;
 * anything else after the end, and an end in the middle, are errors.
 */
#include "image/layer_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#define IN_BYTES (256u << 10)
#define OUT_BYTES (1u << 20)
#define RATIO_FLOOR (UINT64_C(1) << 30)
#define WINDOW_LOG_MAX 27 /* 128 MiB: what the zstd tool accepts unasked */

struct layer_stream {
    struct layer_input in;
    enum layer_codec codec;
    struct hash *hash; /* owned */
    uint8_t *in_buf;   /* owned */
    uint8_t *out_buf;  /* owned; unused for plain tar */
    size_t in_at, in_len;
    bool in_end;
    bool inside; /* of a member or frame */
    bool started;
    z_stream zlib;
    bool zlib_ready;
    ZSTD_DStream *zstd; /* owned */
    uint64_t blob_bytes, tar_bytes;
    uint64_t max_bytes, max_ratio;
};

void layer_stream_free(struct layer_stream *s)
{
    if (!s) {
        return;
    }
    if (s->zlib_ready) {
        inflateEnd(&s->zlib);
    }
    ZSTD_freeDStream(s->zstd);
    hash_free(s->hash);
    free(s->in_buf);
    free(s->out_buf);
    free(s);
}

static bool start_codec(struct layer_stream *s)
{
    switch (s->codec) {
    case LAYER_TAR_GZIP:
        s->zlib_ready = inflateInit2(&s->zlib, 15 + 16) == Z_OK;
        return s->zlib_ready;
    case LAYER_TAR_ZSTD:
        s->zstd = ZSTD_createDStream();
        return s->zstd &&
               !ZSTD_isError(ZSTD_DCtx_setParameter(s->zstd, ZSTD_d_windowLogMax, WINDOW_LOG_MAX));
    default:
        return true;
    }
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
    if (!s || !s->hash || !s->in_buf || !s->out_buf || !start_codec(s)) {
        layer_stream_free(s);
        return err_set(err, SM_ENOMEM, "out of memory for reading a layer");
    }
    *out = s;
    return 0;
}

/* The media type and the blob's first bytes must agree: one clear message instead of a confused
 * decoder. */
static int check_magic(const struct layer_stream *s, struct sm_error *err)
{
    static const char *const names[] = {"plain tar", "gzip", "zstd"};
    static const uint8_t gzip[] = {0x1f, 0x8b}, zstd[] = {0x28, 0xb5, 0x2f, 0xfd};
    bool is_gzip = s->in_len >= sizeof gzip && memcmp(s->in_buf, gzip, sizeof gzip) == 0;
    bool is_zstd = s->in_len >= sizeof zstd && memcmp(s->in_buf, zstd, sizeof zstd) == 0;
    enum layer_codec found = is_gzip ? LAYER_TAR_GZIP : is_zstd ? LAYER_TAR_ZSTD : LAYER_TAR;
    if (found != LAYER_TAR && found != s->codec) {
        return err_set(err, SM_ECORRUPT, "layer is %s although its media type says %s",
                       names[found], names[s->codec]);
    }
    return 0;
}

/* More blob bytes into in_buf, which is used up. */
static int fill(struct layer_stream *s, struct sm_error *err)
{
    ssize_t n;
    s->in_at = s->in_len = 0;
    if (s->in_end) {
        return 0;
    }
    do {
        n = s->in.read(s->in.opaque, s->in_buf, IN_BYTES);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return err_sys(err, "cannot read the layer blob");
    }
    s->in_len = (size_t)n;
    s->in_end = n == 0;
    s->blob_bytes += (uint64_t)n;
    return s->blob_bytes == (uint64_t)n ? check_magic(s, err) : 0;
}

static int zlib_error(const struct layer_stream *s, int rc, struct sm_error *err)
{
    if (rc == Z_MEM_ERROR) {
        return err_set(err, SM_ENOMEM, "out of memory for reading a layer");
    }
    return err_set(err, SM_ECORRUPT, "layer's gzip stream is corrupt at byte %llu: %s",
                   (unsigned long long)(s->blob_bytes - s->in_len + s->in_at),
                   s->zlib.msg ? s->zlib.msg : "incomplete");
}

static int inflate_some(struct layer_stream *s, size_t *len, struct sm_error *err)
{
    s->zlib.next_in = s->in_buf + s->in_at;
    s->zlib.avail_in = (unsigned)(s->in_len - s->in_at);
    s->zlib.next_out = s->out_buf + *len;
    s->zlib.avail_out = (unsigned)(OUT_BYTES - *len);
    int rc = inflate(&s->zlib, Z_NO_FLUSH);
    s->in_at = s->in_len - s->zlib.avail_in;
    *len = OUT_BYTES - s->zlib.avail_out;
    s->inside = rc != Z_STREAM_END;
    if (rc == Z_STREAM_END) {
        rc = inflateReset(&s->zlib);
    }
    return rc == Z_OK || rc == Z_BUF_ERROR ? 0 : zlib_error(s, rc, err);
}

static int unzstd_some(struct layer_stream *s, size_t *len, struct sm_error *err)
{
    ZSTD_inBuffer in = {s->in_buf, s->in_len, s->in_at};
    ZSTD_outBuffer out = {s->out_buf, OUT_BYTES, *len};
    size_t rc = ZSTD_decompressStream(s->zstd, &out, &in);
    s->in_at = in.pos;
    *len = out.pos;
    if (ZSTD_isError(rc)) {
        return err_set(err, SM_ECORRUPT, "layer's zstd stream is corrupt near byte %llu: %s",
                       (unsigned long long)(s->blob_bytes - s->in_len + s->in_at),
                       ZSTD_getErrorName(rc));
    }
    s->inside = rc != 0;
    return 0;
}

/* Fill out_buf as far as it goes. */
static int decode(struct layer_stream *s, size_t *len, struct sm_error *err)
{
    bool full = false;
    *len = 0;
    while (!full) {
        int rc = s->in_at == s->in_len ? fill(s, err) : 0;
        if (rc) {
            return rc;
        }
        if (s->in_end) {
            /* The decoder may hold output that did not fit the last time. */
            size_t before = *len;
            if (s->inside) {
                rc = s->codec == LAYER_TAR_GZIP ? inflate_some(s, len, err)
                                                : unzstd_some(s, len, err);
            }
            if (rc || *len > before) {
                full = *len == OUT_BYTES;
                if (rc) {
                    return rc;
                }
                continue;
            }
            if (s->inside || !s->started) {
                return err_set(err, SM_ECORRUPT,
                               "layer's %s stream ends too early, at byte %llu: it is truncated",
                               s->codec == LAYER_TAR_GZIP ? "gzip" : "zstd",
                               (unsigned long long)s->blob_bytes);
            }
            return 0;
        }
        s->started = true;
        rc = s->codec == LAYER_TAR_GZIP ? inflate_some(s, len, err) : unzstd_some(s, len, err);
        if (rc) {
            return rc;
        }
        full = *len == OUT_BYTES;
    }
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
    if (s->codec == LAYER_TAR) {
        rc = fill(s, err);
        *data = s->in_buf;
        *len = s->in_len;
    } else {
        rc = decode(s, len, err);
        *data = s->out_buf;
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

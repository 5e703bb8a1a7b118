/* SPDX-License-Identifier: Apache-2.0 */
/* One step function per format, over the formats' own libraries; the loop around them is shared. */
#include "base/unpack.h"

#include <bzlib.h>
#include <lzma.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/lz4.h"

#define STEP_MAX (1u << 30) /* lengths of zlib and bzip2 are 32 bits */

enum step { STEP_MORE, STEP_END /* of a member */, STEP_BROKEN, STEP_NO_MEMORY };

/* What a step works on; it advances both sides. */
struct piece {
    const uint8_t *in;
    size_t in_len;
    uint8_t *out;
    size_t out_len;
    const char *why; /* of STEP_BROKEN; may stay NULL */
};

struct unpack {
    const struct format *format;
    struct unpack_source source;
    const uint8_t *in; /* borrowed from the source: not yet used */
    size_t in_len;
    uint64_t taken; /* bytes that the source has given */
    bool in_end, started;
    bool inside; /* of a member */
    bool ready;  /* d was started: stop() is due */
    union {
        z_stream zlib;
        bz_stream bzip2;
        lzma_stream lzma;
        ZSTD_DStream *zstd; /* owned */
        struct lz4 *lz4;    /* owned */
    } d;
};

/* start: before each member; false when out of memory. */
struct format {
    const char *name;
    uint8_t magic[UNPACK_HEAD];
    uint8_t magic_len;
    bool (*start)(struct unpack *u);
    enum step (*step)(struct unpack *u, struct piece *p);
    void (*stop)(struct unpack *u);
};

static bool zlib_start(struct unpack *u)
{
    return (u->ready ? inflateReset(&u->d.zlib) : inflateInit2(&u->d.zlib, 15 + 16)) == Z_OK;
}

static enum step zlib_step(struct unpack *u, struct piece *p)
{
    z_stream *z = &u->d.zlib;
    z->next_in = (Bytef *)(uintptr_t)p->in;
    z->avail_in = (unsigned)p->in_len;
    z->next_out = p->out;
    z->avail_out = (unsigned)p->out_len;
    int rc = inflate(z, Z_NO_FLUSH);
    p->in = z->next_in;
    p->in_len = z->avail_in;
    p->out = z->next_out;
    p->out_len = z->avail_out;
    p->why = z->msg;
    if (rc == Z_MEM_ERROR)
        return STEP_NO_MEMORY;
    return rc == Z_STREAM_END                ? STEP_END
           : rc == Z_OK || rc == Z_BUF_ERROR ? STEP_MORE
                                             : STEP_BROKEN;
}

static void zlib_stop(struct unpack *u)
{
    inflateEnd(&u->d.zlib);
}

static bool bzip2_start(struct unpack *u)
{
    if (u->ready)
        BZ2_bzDecompressEnd(&u->d.bzip2);
    u->d.bzip2 = (bz_stream){0};
    return BZ2_bzDecompressInit(&u->d.bzip2, 0, 0) == BZ_OK;
}

static enum step bzip2_step(struct unpack *u, struct piece *p)
{
    bz_stream *b = &u->d.bzip2;
    b->next_in = (char *)(uintptr_t)p->in;
    b->avail_in = (unsigned)p->in_len;
    b->next_out = (char *)p->out;
    b->avail_out = (unsigned)p->out_len;
    int rc = BZ2_bzDecompress(b);
    p->in = (const uint8_t *)b->next_in;
    p->in_len = b->avail_in;
    p->out = (uint8_t *)b->next_out;
    p->out_len = b->avail_out;
    if (rc == BZ_MEM_ERROR)
        return STEP_NO_MEMORY;
    return rc == BZ_STREAM_END ? STEP_END : rc == BZ_OK ? STEP_MORE : STEP_BROKEN;
}

static void bzip2_stop(struct unpack *u)
{
    BZ2_bzDecompressEnd(&u->d.bzip2);
}

static bool lzma_begin(struct unpack *u, bool alone)
{
    uint64_t room = (UINT64_C(1) << UNPACK_WINDOW_LOG_MAX) + (1 << 20);
    if (!u->ready)
        u->d.lzma = (lzma_stream)LZMA_STREAM_INIT;
    return (alone ? lzma_alone_decoder(&u->d.lzma, room)
                  : lzma_stream_decoder(&u->d.lzma, room, LZMA_TELL_UNSUPPORTED_CHECK)) == LZMA_OK;
}

static bool lzma_start(struct unpack *u)
{
    return lzma_begin(u, true);
}

static bool xz_start(struct unpack *u)
{
    return lzma_begin(u, false);
}

static enum step lzma_step(struct unpack *u, struct piece *p)
{
    lzma_stream *l = &u->d.lzma;
    l->next_in = p->in;
    l->avail_in = p->in_len;
    l->next_out = p->out;
    l->avail_out = p->out_len;
    lzma_ret rc = lzma_code(l, LZMA_RUN);
    p->in = l->next_in;
    p->in_len = l->avail_in;
    p->out = l->next_out;
    p->out_len = l->avail_out;
    p->why = rc == LZMA_MEMLIMIT_ERROR      ? "it needs more memory than is allowed"
             : rc == LZMA_OPTIONS_ERROR     ? "unsupported filters"
             : rc == LZMA_UNSUPPORTED_CHECK ? "unsupported checksum"
                                            : NULL;
    if (rc == LZMA_MEM_ERROR)
        return STEP_NO_MEMORY;
    return rc == LZMA_STREAM_END                   ? STEP_END
           : rc == LZMA_OK || rc == LZMA_BUF_ERROR ? STEP_MORE
                                                   : STEP_BROKEN;
}

static void lzma_stop(struct unpack *u)
{
    lzma_end(&u->d.lzma);
}

static bool zstd_start(struct unpack *u)
{
    if (u->ready)
        return true;
    u->d.zstd = ZSTD_createDStream();
    return u->d.zstd && !ZSTD_isError(ZSTD_DCtx_setParameter(u->d.zstd, ZSTD_d_windowLogMax,
                                                             UNPACK_WINDOW_LOG_MAX));
}

static enum step zstd_step(struct unpack *u, struct piece *p)
{
    ZSTD_inBuffer in = {p->in, p->in_len, 0};
    ZSTD_outBuffer out = {p->out, p->out_len, 0};
    size_t rc = ZSTD_decompressStream(u->d.zstd, &out, &in);
    p->in += in.pos;
    p->in_len -= in.pos;
    p->out += out.pos;
    p->out_len -= out.pos;
    if (ZSTD_isError(rc)) {
        p->why = ZSTD_getErrorName(rc);
        return STEP_BROKEN;
    }
    return rc == 0 ? STEP_END : STEP_MORE;
}

static void zstd_stop(struct unpack *u)
{
    ZSTD_freeDStream(u->d.zstd);
}

static bool lz4_start(struct unpack *u)
{
    if (!u->ready)
        u->d.lz4 = lz4_new();
    return u->d.lz4;
}

static enum step lz4_unpack(struct unpack *u, struct piece *p)
{
    p->why = lz4_step(u->d.lz4, &p->in, &p->in_len, &p->out, &p->out_len);
    if (p->why)
        return STEP_BROKEN;
    return lz4_at_boundary(u->d.lz4) ? STEP_END : STEP_MORE;
}

static void lz4_stop(struct unpack *u)
{
    lz4_free(u->d.lz4);
}

static const struct format formats[] = {
    [UNPACK_GZIP] = {"gzip", {0x1f, 0x8b}, 2, zlib_start, zlib_step, zlib_stop},
    [UNPACK_BZIP2] = {"bzip2", {'B', 'Z', 'h'}, 3, bzip2_start, bzip2_step, bzip2_stop},
    [UNPACK_LZMA] = {"lzma", {0x5d, 0x00, 0x00}, 3, lzma_start, lzma_step, lzma_stop},
    [UNPACK_XZ] = {"xz", {0xfd, '7', 'z', 'X', 'Z', 0}, 6, xz_start, lzma_step, lzma_stop},
    [UNPACK_ZSTD] = {"zstd", {0x28, 0xb5, 0x2f, 0xfd}, 4, zstd_start, zstd_step, zstd_stop},
    [UNPACK_LZ4] = {"lz4", {0x02, 0x21, 0x4c, 0x18}, 4, lz4_start, lz4_unpack, lz4_stop},
};
#define FORMATS (sizeof formats / sizeof formats[0])

enum unpack_format unpack_detect(const uint8_t *head, size_t len)
{
    for (unsigned i = UNPACK_NONE + 1; i < FORMATS; i++) {
        const struct format *f = &formats[i];
        if (len >= f->magic_len && memcmp(head, f->magic, f->magic_len) == 0)
            return (enum unpack_format)i;
    }
    return UNPACK_NONE;
}

int unpack_new(enum unpack_format format, struct unpack_source source, struct unpack **out,
               struct sm_error *err)
{
    struct unpack *u = calloc(1, sizeof *u);
    *out = NULL;
    if (!u)
        return err_set(err, SM_ENOMEM, "out of memory");
    u->format = &formats[format];
    u->source = source;
    *out = u;
    return 0;
}

void unpack_free(struct unpack *u)
{
    if (!u)
        return;
    if (u->ready)
        u->format->stop(u);
    free(u);
}

static int no_memory(const struct unpack *u, struct sm_error *err)
{
    return err_set(err, SM_ENOMEM, "out of memory for its %s stream", u->format->name);
}

static int step(struct unpack *u, struct piece *p, struct sm_error *err)
{
    p->in = u->in;
    p->in_len = u->in_len < STEP_MAX ? u->in_len : STEP_MAX;
    size_t before = p->in_len;
    enum step result = u->format->step(u, p);
    u->in = p->in;
    u->in_len -= before - p->in_len;
    u->inside = result == STEP_MORE;
    if (result == STEP_NO_MEMORY)
        return no_memory(u, err);
    if (result == STEP_BROKEN)
        return err_set(err, SM_ECORRUPT, "%s stream is corrupt near byte %llu: %s", u->format->name,
                       (unsigned long long)(u->taken - u->in_len),
                       p->why ? p->why : "not valid data");
    return 0;
}

/* Have input, or know that there is none. A member begins only with its first byte. */
static int prepare(struct unpack *u, struct sm_error *err)
{
    if (u->in_len == 0 && !u->in_end) {
        int rc = u->source.next(u->source.opaque, &u->in, &u->in_len, err);
        if (rc)
            return rc;
        u->taken += u->in_len;
        u->in_end = u->in_len == 0;
    }
    if (!u->inside && u->in_len > 0) {
        bool fine = u->format->start(u);
        u->ready = u->started = true; /* also half a start is for stop() to undo */
        if (!fine)
            return no_memory(u, err);
    }
    return 0;
}

int unpack_read(struct unpack *u, void *data, size_t len, size_t *got, struct sm_error *err)
{
    uint8_t *to = data;
    *got = 0;
    while (*got < len) {
        int rc = prepare(u, err);
        if (rc)
            return rc;
        if (u->in_end && !u->inside && u->started)
            return 0;
        struct piece p = {.out = to + *got,
                          .out_len = len - *got < STEP_MAX ? len - *got : STEP_MAX};
        size_t room = p.out_len;
        /* At the end of the input the decoder may still hold output that did not fit before. */
        rc = u->started ? step(u, &p, err) : 0;
        if (rc)
            return rc;
        *got += room - p.out_len;
        if (u->in_end && p.out_len == room && (u->inside || !u->started))
            return err_set(err, SM_ECORRUPT,
                           "%s stream ends too early, at byte %llu: it is truncated",
                           u->format->name, (unsigned long long)u->taken);
    }
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Every format in drops of every size, cut anywhere and damaged anywhere; LZ4 beside liblz4. */
#include <bzlib.h>
#include <lz4hc.h>
#include <lzma.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/le.h"
#include "base/lz4.h"
#include "base/unpack.h"

#define TEXT_LEN 300000u
#define LZ4_BLOCK (8u << 20)

/* Runs, repeats near and far, and noise: something for every kind of match. */
static void make_text(struct buf *out, size_t len, unsigned seed)
{
    srand(seed);
    while (out->len < len) {
        uint8_t bytes[200];
        size_t n = 1 + (size_t)rand() % sizeof bytes, back = (size_t)rand() % 70000;
        int kind = rand() % 4;
        for (size_t i = 0; i < n; i++)
            bytes[i] = kind == 0                         ? 7
                       : kind < 3 && back + n < out->len ? out->data[out->len - n - back + i]
                                                         : (uint8_t)rand();
        assert_int_equal(buf_append(out, bytes, n), 0);
    }
    out->len = len;
}

static void pack_gzip(const struct buf *in, struct buf *out)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(buf_reserve(out, deflateBound(&z, in->len)), 0);
    z.next_in = in->data;
    z.avail_in = (unsigned)in->len;
    z.next_out = out->data + out->len;
    z.avail_out = (unsigned)(out->cap - out->len);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    out->len += z.total_out;
    deflateEnd(&z);
}

static void pack_bzip2(const struct buf *in, struct buf *out)
{
    unsigned len = (unsigned)in->len + (unsigned)in->len / 100 + 600;
    assert_int_equal(buf_reserve(out, len), 0);
    assert_int_equal(BZ2_bzBuffToBuffCompress((char *)out->data + out->len, &len, (char *)in->data,
                                              (unsigned)in->len, 9, 0, 0),
                     BZ_OK);
    out->len += len;
}

static void pack_lzma(const struct buf *in, struct buf *out)
{
    lzma_options_lzma options;
    lzma_stream l = LZMA_STREAM_INIT;
    lzma_lzma_preset(&options, 6);
    assert_int_equal(lzma_alone_encoder(&l, &options), LZMA_OK);
    assert_int_equal(buf_reserve(out, in->len * 2 + 1000), 0);
    l.next_in = in->data;
    l.avail_in = in->len;
    l.next_out = out->data + out->len;
    l.avail_out = out->cap - out->len;
    assert_int_equal(lzma_code(&l, LZMA_FINISH), LZMA_STREAM_END);
    out->len += l.total_out;
    lzma_end(&l);
}

static void pack_xz(const struct buf *in, struct buf *out)
{
    assert_int_equal(buf_reserve(out, lzma_stream_buffer_bound(in->len)), 0);
    assert_int_equal(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC64, NULL, in->data, in->len,
                                             out->data, &out->len, out->cap),
                     LZMA_OK);
}

static void pack_zstd(const struct buf *in, struct buf *out)
{
    ZSTD_CCtx *z = ZSTD_createCCtx();
    assert_int_equal(buf_reserve(out, ZSTD_compressBound(in->len)), 0);
    ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, 1);
    size_t n = ZSTD_compress2(z, out->data + out->len, out->cap - out->len, in->data, in->len);
    assert_false(ZSTD_isError(n));
    out->len += n;
    ZSTD_freeCCtx(z);
}

static void pack_lz4(const struct buf *in, struct buf *out)
{
    uint8_t word[4];
    le32_put(word, 0x184c2102);
    assert_int_equal(buf_append(out, word, 4), 0);
    for (size_t at = 0, n; at < in->len; at += n) {
        n = in->len - at < LZ4_BLOCK ? in->len - at : LZ4_BLOCK;
        int room = LZ4_compressBound((int)n);
        assert_int_equal(buf_reserve(out, (size_t)room + 4), 0);
        int size = LZ4_compress_HC((char *)in->data + at, (char *)out->data + out->len + 4, (int)n,
                                   room, 9);
        assert_true(size > 0);
        le32_put(out->data + out->len, (uint32_t)size);
        out->len += 4 + (size_t)size;
    }
}

static const struct {
    enum unpack_format format;
    const char *name; /* in messages */
    void (*pack)(const struct buf *in, struct buf *out);
    bool checked; /* has a checksum of its own */
} kinds[] = {
    {UNPACK_GZIP, "gzip", pack_gzip, true},  {UNPACK_BZIP2, "bzip2", pack_bzip2, true},
    {UNPACK_LZMA, "lzma", pack_lzma, false}, {UNPACK_XZ, "xz", pack_xz, true},
    {UNPACK_ZSTD, "zstd", pack_zstd, true},  {UNPACK_LZ4, "lz4", pack_lz4, false},
};
#define KINDS (sizeof kinds / sizeof kinds[0])

struct drops {
    const uint8_t *data;
    size_t left, step;
};

static int next_drop(void *opaque, const uint8_t **data, size_t *len, struct sm_error *err)
{
    struct drops *d = opaque;
    *data = d->data;
    *len = d->left < d->step ? d->left : d->step;
    d->data += *len;
    d->left -= *len;
    return 0;
}

/* In drops of in_step, read by out_step. What came out is in out, also before an error. */
static int unpack_all(enum unpack_format f, const struct buf *packed, size_t len, size_t in_step,
                      size_t out_step, struct buf *out, struct sm_error *err)
{
    struct drops d = {packed->data, len, in_step};
    struct unpack *u;
    size_t got = 1;
    assert_int_equal(unpack_new(f, (struct unpack_source){next_drop, &d}, &u, err), 0);
    int rc = 0;
    while (!rc && got > 0) {
        assert_int_equal(buf_reserve(out, out_step), 0);
        rc = unpack_read(u, out->data + out->len, out_step, &got, err);
        assert_true(got <= out_step);
        out->len += got;
    }
    assert_int_equal(d.left == 0 || rc, true);
    unpack_free(u);
    return rc;
}

static void check_good(size_t kind, const struct buf *packed, const struct buf *text)
{
    static const size_t steps[][2] = {
        {1 << 20, 1 << 20}, {1, 1 << 20}, {1 << 20, 1}, {7, 13}, {4096, 65536}};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        struct buf out = {0};
        struct sm_error err = {0};
        if (unpack_all(kinds[kind].format, packed, packed->len, steps[i][0], steps[i][1], &out,
                       &err))
            fail_msg("%s: %s", kinds[kind].name, err.text);
        assert_int_equal(out.len, text->len);
        assert_memory_equal(out.data, text->data, text->len);
        buf_fini(&out);
    }
}

static void test_drops_and_members(void **state)
{
    struct buf text = {0}, twice = {0};
    make_text(&text, TEXT_LEN, 1);
    assert_int_equal(buf_append(&twice, text.data, text.len), 0);
    assert_int_equal(buf_append(&twice, text.data, text.len), 0);
    for (size_t i = 0; i < KINDS; i++) {
        struct buf packed = {0};
        kinds[i].pack(&text, &packed);
        assert_int_equal(unpack_detect(packed.data, packed.len), kinds[i].format);
        check_good(i, &packed, &text);
        if (kinds[i].format != UNPACK_LZMA) { /* that one says nowhere that it ends */
            kinds[i].pack(&text, &packed);
            check_good(i, &packed, &twice);
        }
        buf_fini(&packed);
    }
    buf_fini(&text);
    buf_fini(&twice);
}

static void test_cut_and_damaged(void **state)
{
    struct buf text = {0};
    make_text(&text, 2000, 2);
    for (size_t i = 0; i < KINDS; i++) {
        struct buf packed = {0}, out = {0};
        struct sm_error err = {0};
        kinds[i].pack(&text, &packed);
        for (size_t len = 0; len < packed.len; len += 7) {
            out.len = 0;
            bool boundary = kinds[i].format == UNPACK_LZ4 && len == 4; /* no block is no error */
            assert_int_equal(unpack_all(kinds[i].format, &packed, len, 100, 100, &out, &err),
                             boundary ? 0 : SM_ECORRUPT);
            assert_true(boundary || strstr(err.text, kinds[i].name));
        }
        for (size_t at = 0; at < packed.len; at += 3) {
            packed.data[at] ^= (uint8_t)(1 << at % 8);
            out.len = 0;
            int rc = unpack_all(kinds[i].format, &packed, packed.len, 4096, 4096, &out, &err);
            if (!rc && kinds[i].checked &&
                (out.len != text.len || memcmp(out.data, text.data, out.len) != 0))
                fail_msg("%s: byte %zu wrong and unseen", kinds[i].name, at);
            packed.data[at] ^= (uint8_t)(1 << at % 8);
        }
        assert_int_equal(buf_append(&packed, "garbage", 8), 0);
        out.len = 0;
        assert_int_equal(unpack_all(kinds[i].format, &packed, packed.len, 4096, 4096, &out, &err),
                         SM_ECORRUPT);
        buf_fini(&packed);
        buf_fini(&out);
    }
    buf_fini(&text);
}

/* Several blocks of the full size. */
static void test_lz4_blocks(void **state)
{
    struct buf text = {0}, packed = {0}, out = {0};
    struct sm_error err = {0};
    make_text(&text, 2 * LZ4_BLOCK + 12345, 3);
    pack_lz4(&text, &packed);
    assert_int_equal(unpack_all(UNPACK_LZ4, &packed, packed.len, 65536, 1 << 20, &out, &err), 0);
    assert_int_equal(out.len, text.len);
    assert_memory_equal(out.data, text.data, text.len);
    buf_fini(&text);
    buf_fini(&packed);
    buf_fini(&out);
}

/* A damaged block that liblz4 accepts means the same to both. (It refuses some that are only
 * unusual: matches in the last bytes.) */
static void test_lz4_beside_the_library(void **state)
{
    unsigned agreed = 0;
    struct buf text = {0}, packed = {0}, out = {0};
    static char theirs[20000];
    make_text(&text, 3000, 4);
    pack_lz4(&text, &packed);
    srand(5);
    for (unsigned i = 0; i < 5000; i++) {
        struct sm_error err = {0};
        size_t at = 8 + (size_t)rand() % (packed.len - 8);
        uint8_t old = packed.data[at];
        packed.data[at] = (uint8_t)rand();
        int n = LZ4_decompress_safe((char *)packed.data + 8, theirs, (int)packed.len - 8,
                                    sizeof theirs);
        out.len = 0;
        int rc = unpack_all(UNPACK_LZ4, &packed, packed.len, 1 + (size_t)rand() % 5000,
                            1 + (size_t)rand() % 5000, &out, &err);
        if (n >= 0) {
            agreed++;
            assert_int_equal(rc, 0);
            assert_int_equal(out.len, n);
            assert_memory_equal(out.data, theirs, (size_t)n);
        }
        packed.data[at] = old;
    }
    print_message("liblz4 accepted %u of 5000\n", agreed);
    assert_true(agreed > 1000);
    buf_fini(&text);
    buf_fini(&packed);
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_drops_and_members),
        cmocka_unit_test(test_cut_and_damaged),
        cmocka_unit_test(test_lz4_blocks),
        cmocka_unit_test(test_lz4_beside_the_library),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

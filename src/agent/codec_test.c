/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "agent/codec.h"
#include "agent/ring.h"

static int parse_header(uint32_t length, unsigned type, unsigned stream, unsigned flags,
                        enum codec_peer from)
{
    uint8_t h[PROTO_HEADER_SIZE];
    struct codec_frame f;

    codec_header_build(h, (enum proto_type)type, stream, flags, length);
    return codec_header_parse(h, from, &f);
}

static void test_header_rules(void **state)
{
    assert_int_equal(parse_header(8, PROTO_HELLO, 0, 0, CODEC_HOST), 0);
    assert_int_equal(parse_header(8, PROTO_HELLO, 0, 0, CODEC_GUEST), 0);
    assert_int_equal(parse_header(7, PROTO_HELLO, 0, 0, CODEC_HOST), -1);
    assert_int_equal(parse_header(9, PROTO_HELLO, 0, 0, CODEC_HOST), -1);
    assert_int_equal(parse_header(8, PROTO_HELLO, 1, 0, CODEC_HOST), -1);
    /* lengths */
    assert_int_equal(parse_header(PROTO_PAYLOAD_MAX, PROTO_DATA, 0, 0, CODEC_HOST), 0);
    assert_int_equal(parse_header(PROTO_PAYLOAD_MAX + 1, PROTO_DATA, 0, 0, CODEC_HOST), -1);
    assert_int_equal(parse_header(UINT32_MAX, PROTO_DATA, 1, 0, CODEC_GUEST), -1);
    assert_int_equal(parse_header(0x80000000u, PROTO_EXEC, 0, 0, CODEC_HOST), -1);
    assert_int_equal(parse_header(0, PROTO_DATA, 0, 0, CODEC_HOST), -1);
    assert_int_equal(parse_header(1, PROTO_EOF, 0, 0, CODEC_HOST), -1);
    /* types and who may send them */
    assert_int_equal(parse_header(0, 0, 0, 0, CODEC_HOST), -1);
    assert_int_equal(parse_header(0, PROTO_TYPES, 0, 0, CODEC_HOST), -1);
    assert_int_equal(parse_header(0, 255, 0, 0, CODEC_GUEST), -1);
    assert_int_equal(parse_header(100, PROTO_EXEC, 0, 0, CODEC_GUEST), -1);
    assert_int_equal(parse_header(PROTO_EXIT_SIZE, PROTO_EXIT, 0, 0, CODEC_HOST), -1);
    assert_int_equal(parse_header(0, PROTO_OK, 0, 0, CODEC_HOST), -1);
    /* streams */
    assert_int_equal(parse_header(1, PROTO_DATA, 1, 0, CODEC_HOST), -1);
    assert_int_equal(parse_header(1, PROTO_DATA, 0, 0, CODEC_GUEST), -1);
    assert_int_equal(parse_header(1, PROTO_DATA, 2, 0, CODEC_GUEST), 0);
    assert_int_equal(parse_header(1, PROTO_DATA, 3, 0, CODEC_GUEST), -1);
    assert_int_equal(parse_header(1, PROTO_DATA, 255, 0, CODEC_GUEST), -1);
    assert_int_equal(parse_header(4, PROTO_CREDIT, 0, 0, CODEC_HOST), -1);
    /* flags */
    assert_int_equal(parse_header(9, PROTO_EXEC, 0, PROTO_MORE, CODEC_HOST), 0);
    assert_int_equal(parse_header(9, PROTO_EXEC, 0, 2, CODEC_HOST), -1);
    assert_int_equal(parse_header(9, PROTO_DATA, 0, PROTO_MORE, CODEC_HOST), -1);
}

/* Frames of all sizes through the reader, received in pieces of all sizes. */
static void test_reader(void **state)
{
    static const size_t sizes[] = {1, 2, 7, 8, 9, 100, 4096, 65535, 65536, 3, 65536, 65536, 1};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    struct codec_reader *r = malloc(sizeof *r);
    uint8_t *wire = malloc(COUNT * (PROTO_HEADER_SIZE + PROTO_PAYLOAD_MAX));
    size_t total = 0;

    for (size_t i = 0; i < COUNT; i++) {
        codec_header_build(wire + total, PROTO_DATA, PROTO_STDOUT, 0, (uint32_t)sizes[i]);
        memset(wire + total + PROTO_HEADER_SIZE, (int)i + 1, sizes[i]);
        total += PROTO_HEADER_SIZE + sizes[i];
    }
    for (size_t piece = 1; piece <= total; piece = piece * 3 + 1) {
        size_t at = 0, seen = 0;
        codec_reader_init(r, CODEC_GUEST);
        while (at < total) {
            size_t room, n = total - at < piece ? total - at : piece;
            struct codec_frame f;
            uint8_t *p = codec_reader_space(r, &room);

            assert_true(room > 0);
            n = n < room ? n : room;
            memcpy(p, wire + at, n);
            codec_reader_added(r, n);
            at += n;
            while (codec_reader_next(r, &f) == 1) {
                assert_int_equal(f.type, PROTO_DATA);
                assert_int_equal(f.length, sizes[seen]);
                assert_int_equal(f.payload[0], seen + 1);
                assert_int_equal(f.payload[f.length - 1], seen + 1);
                seen++;
            }
        }
        assert_int_equal(seen, COUNT);
    }
    free(wire);
    free(r);
}

/* A bad header is refused at once, not when its payload has come. */
static void test_reader_refuses_early(void **state)
{
    struct codec_reader *r = malloc(sizeof *r);
    struct codec_frame f;
    size_t room;

    codec_reader_init(r, CODEC_GUEST);
    codec_header_build(codec_reader_space(r, &room), PROTO_DATA, PROTO_STDOUT, 0, UINT32_MAX);
    codec_reader_added(r, PROTO_HEADER_SIZE - 1);
    assert_int_equal(codec_reader_next(r, &f), 0);
    codec_reader_added(r, 1);
    assert_int_equal(codec_reader_next(r, &f), -1);
    free(r);
}

static struct codec_frame frame_of(const uint8_t *bytes, enum codec_peer from)
{
    struct codec_frame f;

    assert_int_equal(codec_header_parse(bytes, from, &f), 0);
    f.payload = bytes + PROTO_HEADER_SIZE;
    return f;
}

static void test_small_frames(void **state)
{
    struct codec_exit x = {143, 15, true, 1, 2, UINT64_C(1) << 40, UINT64_MAX}, y;
    uint8_t b[CODEC_ERROR];
    char text[PROTO_TEXT_MAX + 1], longer[PROTO_TEXT_MAX + 100];
    struct codec_frame f;
    enum proto_error class;
    uint32_t v, w;
    uint16_t rows, cols;

    assert_int_equal(codec_exit_build(b, &x), CODEC_SMALL);
    f = frame_of(b, CODEC_GUEST);
    assert_int_equal(codec_exit_parse(&f, &y), 0);
    assert_int_equal(y.code, 143);
    assert_int_equal(y.signal, 15);
    assert_true(y.core);
    assert_true(y.wall_ns == 1 && y.user_ns == 2);
    assert_true(y.system_ns == x.system_ns && y.peak_rss_bytes == x.peak_rss_bytes);
    x.code = 256;
    x.signal = 0;
    codec_exit_build(b, &x);
    assert_int_equal(codec_exit_parse(&f, &y), -1);
    x.code = 15; /* not 128 + 15 */
    x.signal = 15;
    codec_exit_build(b, &x);
    assert_int_equal(codec_exit_parse(&f, &y), -1);

    codec_hello_build(b);
    f = frame_of(b, CODEC_HOST);
    assert_int_equal(codec_hello_parse(&f, &v), 0);
    assert_int_equal(v, PROTO_VERSION);
    b[8] ^= 1;
    assert_int_equal(codec_hello_parse(&f, &v), -1);

    codec_u32_build(b, PROTO_CREDIT, 1, PROTO_WINDOW);
    f = frame_of(b, CODEC_HOST);
    assert_int_equal(codec_credit_parse(&f, &v), 0);
    codec_u32_build(b, PROTO_CREDIT, 1, PROTO_WINDOW + 1);
    assert_int_equal(codec_credit_parse(&f, &v), -1);
    codec_u32_build(b, PROTO_CREDIT, 1, 0);
    assert_int_equal(codec_credit_parse(&f, &v), -1);

    codec_signal_build(b, 64, PROTO_SIGNAL_ALL);
    f = frame_of(b, CODEC_HOST);
    assert_int_equal(codec_signal_parse(&f, &v, &w), 0);
    codec_signal_build(b, 65, 0);
    assert_int_equal(codec_signal_parse(&f, &v, &w), -1);
    codec_signal_build(b, 0, 0);
    assert_int_equal(codec_signal_parse(&f, &v, &w), -1);
    codec_resize_build(b, 0x1234, 0xffff);
    f = frame_of(b, CODEC_HOST);
    assert_int_equal(codec_resize_parse(&f, &rows, &cols), 0);
    assert_int_equal(rows, 0x1234);
    assert_int_equal(cols, 0xffff);

    memset(longer, 'x', sizeof longer);
    longer[3] = '\033';
    longer[sizeof longer - 1] = 0;
    assert_int_equal(codec_error_build(b, PROTO_ERR_CWD, 2, longer), CODEC_ERROR);
    f = frame_of(b, CODEC_GUEST);
    assert_int_equal(codec_error_parse(&f, &class, &v, text), 0);
    assert_int_equal(class, PROTO_ERR_CWD);
    assert_int_equal(strlen(text), PROTO_TEXT_MAX);
    assert_int_equal(text[3], '?');
    codec_error_build(b, PROTO_ERR_END, 2, "");
    f = frame_of(b, CODEC_GUEST);
    assert_int_equal(codec_error_parse(&f, &class, &v, text), -1);
}

static void test_exec(void **state)
{
    char *argv[] = {(char *)"a", (char *)"", (char *)"b c", NULL};
    char *env[] = {(char *)"X=1", NULL};
    struct codec_exec x = {.flags = PROTO_EXEC_TTY, .rows = 1, .cols = 2, .argv = argv, .env = env};
    struct codec_exec y;
    uint8_t *blob;
    size_t len;

    x.user = "u:g";
    assert_int_equal(codec_exec_build(&x, &blob, &len), 0);
    assert_int_equal(codec_exec_parse((char *)blob, len, &y), 0);
    assert_int_equal(y.flags, PROTO_EXEC_TTY);
    assert_int_equal(y.rows, 1);
    assert_int_equal(y.cols, 2);
    assert_string_equal(y.argv[0], "a");
    assert_string_equal(y.argv[1], "");
    assert_string_equal(y.argv[2], "b c");
    assert_null(y.argv[3]);
    assert_string_equal(y.env[0], "X=1");
    assert_null(y.env[1]);
    assert_string_equal(y.cwd, "");
    assert_string_equal(y.user, "u:g");
    codec_exec_fini(&y);
    /* Every truncation is noticed, and so is a byte too many. */
    for (size_t cut = 0; cut < len; cut++) {
        char *copy = malloc(cut ? cut : 1); /* exact, for the sanitizer */
        memcpy(copy, blob, cut);
        assert_int_equal(codec_exec_parse(copy, cut, &y), -1);
        free(copy);
    }
    blob = realloc(blob, len + 1);
    blob[len] = 0;
    assert_int_equal(codec_exec_parse((char *)blob, len + 1, &y), -1);
    /* Counts that are lies. */
    memset(blob + 8, 0xff, 4);
    assert_int_equal(codec_exec_parse((char *)blob, len, &y), -1);
    memset(blob + 8, 0, 4);
    assert_int_equal(codec_exec_parse((char *)blob, len, &y), -1);
    blob[8] = 3;
    blob[12] = 0xff;
    assert_int_equal(codec_exec_parse((char *)blob, len, &y), -1);
    blob[12] = 1;
    assert_int_equal(codec_exec_parse((char *)blob, len, &y), 0);
    codec_exec_fini(&y);
    blob[0] = 0x80; /* an unknown flag */
    assert_int_equal(codec_exec_parse((char *)blob, len, &y), -1);
    free(blob);
    argv[0] = NULL;
    assert_int_equal(codec_exec_build(&x, &blob, &len), -1);
}

/* Every truncation is noticed, and so is a byte too many. */
static void refuse_cuts(const uint8_t *blob, size_t len)
{
    struct codec_exec y;
    char *copy;

    for (size_t cut = 0; cut <= len + 1; cut++) {
        if (cut == len)
            continue;
        copy = calloc(1, cut ? cut : 1); /* exact, for the sanitizer */
        memcpy(copy, blob, cut < len ? cut : len);
        assert_int_equal(codec_exec_parse(copy, cut, &y), -1);
        assert_null(y.files);
        free(copy);
    }
}

static void test_exec_chain_and_files(void **state)
{
    char *argv[] = {(char *)"a", NULL}, *second[] = {(char *)"b", (char *)"", NULL};
    char *third[] = {(char *)"c", NULL}, **chain[] = {second, third, NULL}, *none[] = {NULL};
    struct codec_file files[] = {{"/x", 0644, 3, (const uint8_t *)"a\0b"}, {"y", 07777, 0, NULL}};
    struct codec_exec x = {
        .argv = argv, .chain = chain, .n_chain = 2, .files = files, .n_files = 2};
    struct codec_exec y;
    uint8_t *blob;
    size_t len;

    assert_int_equal(codec_exec_build(&x, &blob, &len), 0);
    refuse_cuts(blob, len);
    assert_int_equal(codec_exec_parse((char *)blob, len, &y), 0);
    assert_int_equal(y.n_chain, 2);
    assert_string_equal(y.chain[0][1], "");
    assert_null(y.chain[0][2]);
    assert_string_equal(y.chain[1][0], "c");
    assert_int_equal(y.n_files, 2);
    assert_string_equal(y.files[0].path, "/x");
    assert_int_equal(y.files[0].mode, 0644);
    assert_int_equal(y.files[0].length, 3);
    assert_memory_equal(y.files[0].data, "a\0b", 3);
    assert_string_equal(y.files[1].path, "y");
    codec_exec_fini(&y);
    /* Each byte wrong once: refused, or at least nothing out of bounds. */
    for (size_t i = 0; i < len; i++) {
        blob[i] ^= 0x81;
        if (codec_exec_parse((char *)blob, len, &y) == 0)
            codec_exec_fini(&y);
        blob[i] ^= 0x81;
    }
    free(blob);
    files[1].mode = 010000;
    assert_int_equal(codec_exec_build(&x, &blob, &len), -1);
    files[1].mode = 0;
    files[1].path = "";
    assert_int_equal(codec_exec_build(&x, &blob, &len), -1);
    files[1].path = "y";
    files[1].length = PROTO_EXEC_MAX;
    assert_int_equal(codec_exec_build(&x, &blob, &len), -1);
    files[1].length = 0;
    chain[1] = none;
    assert_int_equal(codec_exec_build(&x, &blob, &len), -1);
}

static void test_exec_of_files(void **state)
{
    static const uint32_t bad[] = {
        PROTO_EXEC_WRITE,                                      /* from nowhere */
        PROTO_EXEC_READ | PROTO_EXEC_STDIN,                    /* what for? */
        PROTO_EXEC_READ | PROTO_EXEC_WRITE | PROTO_EXEC_STDIN, /* both */
        PROTO_EXEC_READ | PROTO_EXEC_TTY,
    };
    char *argv[] = {(char *)"a", NULL};
    struct codec_file files[] = {{"/x", 0644, 0, NULL}, {"y", 0, 0, NULL}};
    struct codec_exec x = {.files = files, .n_files = 1}, y;
    uint8_t *blob;
    size_t len;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        x.flags = bad[i];
        assert_int_equal(codec_exec_build(&x, &blob, &len), -1);
    }
    x.flags = PROTO_EXEC_READ;
    x.argv = argv;
    assert_int_equal(codec_exec_build(&x, &blob, &len), -1);
    x.argv = NULL;
    x.n_files = 2;
    assert_int_equal(codec_exec_build(&x, &blob, &len), -1);
    x.n_files = 1;
    assert_int_equal(codec_exec_build(&x, &blob, &len), 0);
    refuse_cuts(blob, len);
    assert_int_equal(codec_exec_parse((char *)blob, len, &y), 0);
    assert_null(y.argv[0]);
    codec_exec_fini(&y);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        blob[0] = (uint8_t)bad[i];
        assert_int_equal(codec_exec_parse((char *)blob, len, &y), -1);
    }
    blob[0] = 0; /* a command without a name */
    assert_int_equal(codec_exec_parse((char *)blob, len, &y), -1);
    free(blob);
}

static void test_mode(void **state)
{
    static const char *const bad[] = {"",        "\n",    "644",     "8\n",   "-1\n",
                                      "77777\n", "6 4\n", "644\n\n", "0x1\n", "644\n1"};
    uint32_t mode = 1;

    assert_int_equal(codec_mode_parse("644\n", 4, &mode), 0);
    assert_int_equal(mode, 0644);
    assert_int_equal(codec_mode_parse("7777\n", 5, &mode), 0);
    assert_int_equal(mode, 07777);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(codec_mode_parse(bad[i], strlen(bad[i]), &mode), -1);
    assert_int_equal(codec_mode_parse("6\0004\n", 4, &mode), -1);
}

static void test_exec_limits(void **state)
{
    enum { COUNT = PROTO_EXEC_STRINGS };
    char **argv = calloc(COUNT + 2, sizeof *argv);
    struct codec_exec x = {.argv = argv}, y;
    uint8_t *blob;
    size_t len;
    char *big = malloc(PROTO_EXEC_MAX + 1);

    for (int i = 0; i < COUNT; i++)
        argv[i] = (char *)"";
    assert_int_equal(codec_exec_build(&x, &blob, &len), 0);
    assert_int_equal(codec_exec_parse((char *)blob, len, &y), 0);
    assert_non_null(y.argv[COUNT - 1]);
    codec_exec_fini(&y);
    free(blob);
    argv[COUNT] = (char *)"";
    assert_int_equal(codec_exec_build(&x, &blob, &len), -1);
    memset(big, 'x', PROTO_EXEC_MAX);
    big[PROTO_EXEC_MAX] = 0;
    argv[0] = big;
    argv[1] = NULL;
    assert_int_equal(codec_exec_build(&x, &blob, &len), -1);
    big[PROTO_EXEC_MAX - PROTO_EXEC_FIXED - 3] = 0;
    assert_int_equal(codec_exec_build(&x, &blob, &len), 0);
    assert_int_equal(len, PROTO_EXEC_MAX);
    free(blob);
    free(big);
    free(argv);
}

static void test_items(void **state)
{
    uint8_t out[64];
    size_t end = 0, at = 0;
    struct codec_item item;

    assert_int_equal(codec_item_put(out, sizeof out, &end, PROTO_ITEM_HOSTNAME, "abc", 3), 0);
    assert_int_equal(codec_item_put(out, sizeof out, &end, PROTO_ITEM_CLOCK, "12345678", 8), 0);
    assert_int_equal(codec_item_put(out, sizeof out, &end, PROTO_ITEM_CLOCK, "1234567", 7), -1);
    assert_int_equal(codec_item_put(out, sizeof out, &end, PROTO_ITEM_HOSTNAME, "", 0), -1);
    assert_int_equal(codec_item_put(out, sizeof out, &end, PROTO_ITEM_HOSTS, out, 60), -1);
    assert_int_equal(codec_item_next(out, end, &at, &item), 1);
    assert_int_equal(item.key, PROTO_ITEM_HOSTNAME);
    assert_memory_equal(item.data, "abc", 3);
    assert_int_equal(codec_item_next(out, end, &at, &item), 1);
    assert_int_equal(item.key, PROTO_ITEM_CLOCK);
    assert_int_equal(codec_item_next(out, end, &at, &item), 0);
    for (size_t cut = 1; cut < 11; cut++) {
        at = 0;
        assert_int_equal(codec_item_next(out, cut, &at, &item), -1);
    }
    out[0] = PROTO_ITEM_END;
    at = 0;
    assert_int_equal(codec_item_next(out, end, &at, &item), -1);
    out[0] = PROTO_ITEM_HOSTS;
    out[7] = 0xff; /* a length near 2^32 */
    at = 0;
    assert_int_equal(codec_item_next(out, end, &at, &item), -1);
}

static void test_volumes(void **state)
{
    uint8_t out[2048], copy[2048];
    char path[PROTO_VOLUME_PATH_MAX + 2];
    struct codec_item item = {.data = out};
    const char *got;
    unsigned flags;
    size_t end = 0, at = 0;

    assert_int_equal(codec_volume_put(out, sizeof out, &end, "/data", 0), 0);
    assert_int_equal(
        codec_volume_put(out, sizeof out, &end, "/x", PROTO_VOLUME_READ_ONLY | PROTO_VOLUME_FOLDER),
        0);
    assert_int_equal(codec_volume_put(out, sizeof out, &end, "x", 1), -1);
    assert_int_equal(codec_volume_put(out, end + 3, &end, "/x", 1), -1);
    assert_int_equal(end, 11);
    item.length = (uint32_t)end;
    assert_int_equal(codec_volume_next(&item, &at, &got, &flags), 1);
    assert_string_equal(got, "/data");
    assert_int_equal(flags, 0);
    assert_int_equal(codec_volume_next(&item, &at, &got, &flags), 1);
    assert_string_equal(got, "/x");
    assert_int_equal(flags, PROTO_VOLUME_READ_ONLY | PROTO_VOLUME_FOLDER);
    assert_int_equal(codec_volume_next(&item, &at, &got, &flags), 0);

    for (size_t cut = 1; cut < 7; cut++) { /* in a buffer of its own, for the sanitizer */
        memcpy(copy, out, cut);
        item = (struct codec_item){.data = copy, .length = (uint32_t)cut};
        at = 0;
        assert_int_equal(codec_volume_next(&item, &at, &got, &flags), -1);
    }
    item = (struct codec_item){.data = out, .length = 7};
    at = 0;
    out[0] = 4; /* no such flag */
    assert_int_equal(codec_volume_next(&item, &at, &got, &flags), -1);
    out[0] = 0;
    out[1] = 'd'; /* not absolute */
    assert_int_equal(codec_volume_next(&item, &at, &got, &flags), -1);

    memset(path, 'a', sizeof path);
    path[0] = '/';
    path[PROTO_VOLUME_PATH_MAX + 1] = 0;
    end = 0;
    assert_int_equal(codec_volume_put(out, sizeof out, &end, path, 0), -1);
    path[PROTO_VOLUME_PATH_MAX] = 0;
    assert_int_equal(codec_volume_put(out, sizeof out, &end, path, 0), 0);
}

static void test_ring(void **state)
{
    static uint8_t block[PROTO_WINDOW];
    struct ring r = {0};
    uint8_t next_in = 0, next_out = 0;
    size_t len;

    assert_null(ring_head(&r, &len));
    assert_int_equal(len, 0);
    for (int round = 0; round < 200; round++) {
        size_t n = (size_t)(round * 7919) % (PROTO_WINDOW - r.len + 1), left;
        const uint8_t *p;
        for (size_t i = 0; i < n; i++)
            block[i] = next_in++;
        assert_int_equal(ring_put(&r, block, n), 0);
        assert_int_equal(ring_put(&r, block, PROTO_WINDOW - r.len + 1), -1);
        left = r.len / 2;
        while (left && (p = ring_head(&r, &len))) {
            len = len < left ? len : left;
            for (size_t i = 0; i < len; i++)
                assert_int_equal(p[i], next_out++);
            ring_drop(&r, len);
            left -= len;
        }
    }
    ring_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header_rules),
        cmocka_unit_test(test_reader),
        cmocka_unit_test(test_reader_refuses_early),
        cmocka_unit_test(test_small_frames),
        cmocka_unit_test(test_exec),
        cmocka_unit_test(test_exec_limits),
        cmocka_unit_test(test_exec_chain_and_files),
        cmocka_unit_test(test_exec_of_files),
        cmocka_unit_test(test_mode),
        cmocka_unit_test(test_items),
        cmocka_unit_test(test_volumes),
        cmocka_unit_test(test_ring),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

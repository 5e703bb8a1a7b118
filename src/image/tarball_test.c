/* SPDX-License-Identifier: Apache-2.0 */
/* Fields, and how the reader behaves over awkward windows; archives as such are tests/erofs/'s. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "image/tarball_parts.h"

static void test_number(void **state)
{
    static const struct {
        const char *field;
        size_t len;
        int rc;
        int64_t value;
    } cases[] = {
        {"0000644\0", 8, 0, 0644},
        {"   644 \0", 8, 0, 0644},
        {"77777777777\0", 12, 0, 077777777777},
        {"777777777777", 12, 0, 0777777777777},
        {"\0\0\0\0\0\0\0\0", 8, 0, 0},
        {"        ", 8, 0, 0},
        {"000064x\0", 8, -1, 0},
        {"0000648\0", 8, -1, 0},
        {"-000644\0", 8, -1, 0},
        {"644\0 644", 8, -1, 0},
        {"\x80\0\0\0\0\0\1\0", 8, 0, 256},
        {"\xff\xff\xff\xff\xff\xff\xff\xff", 8, 0, -1},
        {"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", 12, 0, INT64_MAX},
        {"\x80\0\0\0\x80\0\0\0\0\0\0\0", 12, -1, 0},
        {"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0", 12, 0, INT64_MIN},
        {"\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff", 12, -1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t v = 0;
        int rc = tarball_number((const uint8_t *)cases[i].field, cases[i].len, &v);
        if (rc != cases[i].rc || (rc == 0 && v != cases[i].value)) {
            fail_msg("case %zu: rc %d value %lld", i, rc, (long long)v);
        }
    }
}

static void test_decimal(void **state)
{
    uint64_t v;
    assert_int_equal(tarball_decimal("18446744073709551615", &v), 0);
    assert_true(v == UINT64_MAX);
    static const char *const bad[] = {"",   "18446744073709551616", "-1", "+1", " 1", "1 ", "0x1",
                                      "1.0"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(tarball_decimal(bad[i], &v), -1);
    }
}

static void test_time(void **state)
{
    int64_t s;
    uint32_t n;
    assert_int_equal(tarball_time("12.000000001", &s, &n), 0);
    assert_true(s == 12 && n == 1);
    assert_int_equal(tarball_time("-1.5", &s, &n), 0);
    assert_true(s == -2 && n == 500000000);
    assert_int_equal(tarball_time("-3", &s, &n), 0);
    assert_true(s == -3 && n == 0);
    assert_int_equal(tarball_time("-0.0000000009", &s, &n), 0);
    assert_true(s == 0 && n == 0);
    assert_int_equal(tarball_time("9223372036854775807.9999999999", &s, &n), 0);
    assert_true(s == INT64_MAX && n == 999999999);
    assert_int_equal(tarball_time("-9223372036854775807.5", &s, &n), 0);
    assert_true(s == INT64_MIN && n == 500000000);
    static const char *const bad[] = {"", "-", ".5", "9223372036854775808", "1.5x", "1e3", "+1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(tarball_time(bad[i], &s, &n), -1);
    }
}

/* An archive put together in memory. */
struct maker {
    struct buf b;
};

static void put_member(struct maker *m, const char *name, char kind, const void *data, size_t len)
{
    uint8_t h[TAR_BLOCK] = {0};
    unsigned sum = 8 * ' ';
    snprintf((char *)h, 100, "%s", name);
    snprintf((char *)h + 100, 8, "%07o", 0644);
    snprintf((char *)h + 124, 12, "%011zo", len);
    h[156] = (uint8_t)kind;
    memcpy(h + 257,
           "ustar\0"
           "00",
           8);
    for (int i = 0; i < TAR_BLOCK; i++) {
        sum += h[i];
    }
    snprintf((char *)h + 148, 8, "%06o", sum);
    h[155] = ' ';
    assert_int_equal(buf_append(&m->b, h, sizeof h), 0);
    assert_int_equal(buf_append(&m->b, data, len), 0);
    assert_int_equal(buf_fill(&m->b, 0, -len % TAR_BLOCK), 0);
}

struct window {
    const uint8_t *data;
    size_t len, at, step;
    size_t fail_at; /* bytes after which the source fails; 0 = never */
};

static int window_next(void *opaque, const uint8_t **data, size_t *len, struct sm_error *err)
{
    struct window *w = opaque;
    if (w->fail_at && w->at >= w->fail_at) {
        *len = 0;
        return err_set(err, SM_EIO, "source failed");
    }
    *data = w->data + w->at;
    *len = w->len - w->at < w->step ? w->len - w->at : w->step;
    w->at += *len;
    return 0;
}

static void make_sample(struct maker *m)
{
    static const char pax[] = "26 path=a-name-from-pax-x\n"
                              "32 SCHILY.xattr.user.key=\0value\n"
                              "12 uid=4000\n";
    static char body[1500];
    memset(body, 'b', sizeof body);
    put_member(m, "PaxHeader", 'x', pax, sizeof pax - 1);
    put_member(m, "ignored", '0', body, sizeof body);
    put_member(m, "dir/", '5', "", 0);
    put_member(m, "skipped", '0', body, 513);
    put_member(m, "last", '0', "z", 1);
    assert_int_equal(buf_fill(&m->b, 0, 1024), 0);
}

static void test_windows(void **state)
{
    struct maker m = {0};
    make_sample(&m);
    static const size_t steps[] = {1, 2, 511, 512, 513, 100000};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct window w = {m.b.data, m.b.len, 0, steps[i], 0};
        struct tarball *t = tarball_new((struct tarball_source){.next = window_next, .opaque = &w});
        const struct tarball_entry *e;
        const uint8_t *data;
        size_t len, total = 0;
        struct sm_error err;
        assert_int_equal(tarball_next(t, &e, &err), 0);
        assert_string_equal(e->name, "a-name-from-pax-x");
        assert_int_equal(e->uid, 4000);
        assert_int_equal(e->xattr_count, 1);
        assert_string_equal(e->xattrs[0].name, "user.key");
        assert_int_equal(e->xattrs[0].len, 6);
        assert_memory_equal(e->xattrs[0].value, "\0value", 6);
        do {
            assert_int_equal(tarball_read(t, &data, &len, &err), 0);
            for (size_t k = 0; k < len; k++) {
                assert_int_equal(data[k], 'b');
            }
            total += len;
        } while (len);
        assert_int_equal(total, 1500);
        assert_int_equal(tarball_next(t, &e, &err), 0);
        assert_int_equal(e->type, TARBALL_DIR);
        assert_int_equal(e->xattr_count, 0); /* not inherited */
        assert_int_equal(tarball_next(t, &e, &err), 0);
        assert_int_equal(tarball_next(t, &e, &err), 0); /* without reading the data */
        assert_string_equal(e->name, "last");
        assert_int_equal(tarball_next(t, &e, &err), 0);
        assert_null(e);
        assert_int_equal(tarball_next(t, &e, &err), 0); /* stays at the end */
        assert_null(e);
        assert_int_equal(w.at, m.b.len);
        tarball_free(t);
    }
    buf_fini(&m.b);
}

/* Cut or fail after any byte: an error, never a crash or a short success. */
static void test_cut(void **state)
{
    struct maker m = {0};
    make_sample(&m);
    size_t end = m.b.len - 1024;
    for (size_t cut = 0; cut <= end; cut++) {
        for (int failing = 0; failing < 2; failing++) {
            struct window w = {m.b.data, failing ? m.b.len : cut, 0, 64, failing ? cut + 1 : 0};
            struct tarball *t =
                tarball_new((struct tarball_source){.next = window_next, .opaque = &w});
            const struct tarball_entry *e;
            struct sm_error err;
            int rc;
            while ((rc = tarball_next(t, &e, &err)) == 0 && e) {
            }
            assert_int_equal(rc, failing ? SM_EIO : SM_ECORRUPT);
            tarball_free(t);
        }
    }
    buf_fini(&m.b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_number),  cmocka_unit_test(test_decimal), cmocka_unit_test(test_time),
        cmocka_unit_test(test_windows), cmocka_unit_test(test_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* One walk both ways; files that are cut, changed, or not ours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/hash.h"
#include "hw/state.h"

struct thing {
    uint8_t a;
    uint16_t b;
    uint32_t c;
    uint64_t d;
    bool e;
    uint8_t f[5];
    uint64_t size; /* configuration */
};

static void walk(struct state *s, void *object)
{
    struct thing *t = object;
    state_u8(s, &t->a);
    state_u16(s, &t->b);
    state_u32(s, &t->c);
    state_check(s, t->c < 1000, "c is out of range");
    state_u64(s, &t->d);
    state_bool(s, &t->e);
    state_bytes(s, t->f, sizeof t->f);
    state_same(s, t->size, "another size");
}

static const struct thing sample = {1, 0x203, 456, 0x8899aabbccddeeff, true, {1, 2, 3, 4, 5}, 77};
static const uint8_t digest[STATE_DIGEST_SIZE] = {9, 8, 7};

static void make(struct buf *file)
{
    static const uint8_t other[STATE_DIGEST_SIZE] = {9, 9};
    struct thing t = sample, u = sample;
    assert_int_equal(state_begin(file, other, NULL), 0);
    assert_int_equal(state_save(file, "thing", 3, walk, &t, NULL), 0);
    u.a = 42;
    assert_int_equal(state_save(file, "other", 1, walk, &u, NULL), 0);
    state_bind(file, digest);
}

static int load(const uint8_t *data, size_t len, struct thing *t, struct thing *u,
                struct sm_error *err)
{
    static struct state_file file;
    int rc = state_open(&file, data, len, digest, err);
    rc = rc ? rc : state_load(&file, "other", 1, walk, u, err);
    rc = rc ? rc : state_load(&file, "thing", 3, walk, t, err);
    return rc ? rc : state_finish(&file, err);
}

static void test_round_trip(void **state)
{
    struct buf file = {0};
    struct thing t = {.size = 77}, u = {.size = 77};
    make(&file);
    assert_int_equal(load(file.data, file.len, &t, &u, NULL), 0);
    assert_memory_equal(t.f, sample.f, 5);
    assert_true(t.a == 1 && t.b == 0x203 && t.c == 456 && t.d == sample.d && t.e);
    assert_int_equal(u.a, 42);
    buf_fini(&file);
}

/* A copy of exactly len bytes, so that a sanitizer sees a read past them. */
static uint8_t *exact(const struct buf *file, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, file->data, len);
    return copy;
}

static void test_every_cut(void **state)
{
    struct buf file = {0};
    struct thing t = {.size = 77}, u = {.size = 77};
    make(&file);
    for (size_t len = 0; len < file.len; len++) {
        uint8_t *copy = exact(&file, len);
        struct sm_error err = {0};
        assert_int_equal(load(copy, len, &t, &u, &err), SM_ECORRUPT);
        assert_non_null(strstr(err.text, "truncated"));
        free(copy);
    }
    assert_int_equal(buf_append(&file, "", 1), 0);
    assert_int_equal(load(file.data, file.len, &t, &u, NULL), SM_ECORRUPT);
    buf_fini(&file);
}

static void test_every_bit(void **state)
{
    struct buf file = {0};
    struct thing t = {.size = 77}, u = {.size = 77};
    make(&file);
    for (size_t bit = 0; bit < file.len * 8; bit++) {
        file.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_true(load(file.data, file.len, &t, &u, NULL) < 0);
        file.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_int_equal(load(file.data, file.len, &t, &u, NULL), 0);
    buf_fini(&file);
}

/* Right checksums, wrong contents: each is named for what it is. */
static void test_wrong_values(void **state)
{
    static struct state_file f;
    struct buf file = {0};
    struct thing t = sample, u = {.size = 77};
    struct sm_error err = {0};
    t.c = 1000;
    assert_int_equal(state_begin(&file, digest, NULL), 0);
    assert_int_equal(state_save(&file, "thing", 3, walk, &t, NULL), 0);
    assert_int_equal(state_open(&f, file.data, file.len, digest, NULL), 0);
    assert_int_equal(state_load(&f, "thing", 3, walk, &u, &err), SM_ECORRUPT);
    assert_non_null(strstr(err.text, "c is out of range"));
    assert_int_equal(state_open(&f, file.data, file.len, digest, NULL), 0);
    assert_int_equal(state_load(&f, "thing", 4, walk, &u, &err), SM_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "version"));
    assert_int_equal(state_load(&f, "net", 1, walk, &u, &err), SM_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "no device net"));
    assert_int_equal(state_finish(&f, &err), SM_EUNSUPPORTED);
    file.len = 0;
    t.c = 1;
    assert_int_equal(state_begin(&file, digest, NULL), 0);
    assert_int_equal(state_save(&file, "thing", 3, walk, &t, NULL), 0);
    assert_int_equal(state_open(&f, file.data, file.len, digest, NULL), 0);
    u.size = 78;
    assert_int_equal(state_load(&f, "thing", 3, walk, &u, &err), SM_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "another size"));
    buf_fini(&file);
}

static void walk_long(struct state *s, void *object)
{
    uint64_t more = 0;
    walk(s, object);
    state_u64(s, &more);
}

/* A section with more or fewer bytes than the walk takes. */
static void test_lengths(void **state)
{
    static struct state_file f;
    struct buf file = {0};
    struct thing t = sample;
    assert_int_equal(state_begin(&file, digest, NULL), 0);
    assert_int_equal(state_save(&file, "short", 1, walk, &t, NULL), 0);
    assert_int_equal(state_save(&file, "long", 1, walk_long, &t, NULL), 0);
    assert_int_equal(state_open(&f, file.data, file.len, digest, NULL), 0);
    assert_int_equal(state_load(&f, "short", 1, walk_long, &t, NULL), SM_ECORRUPT);
    assert_int_equal(state_load(&f, "long", 1, walk, &t, NULL), SM_ECORRUPT);
    buf_fini(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_every_bit),  cmocka_unit_test(test_wrong_values),
        cmocka_unit_test(test_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

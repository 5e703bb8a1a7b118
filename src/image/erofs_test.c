/* SPDX-License-Identifier: Apache-2.0 */
/* The writer's parts; whole images are checked by tests/erofs/ against other readers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/le.h"
#include "image/erofs_parts.h"

static void test_xattr(void **state)
{
    struct buf list = {0};
    struct sm_error err;
    static uint8_t big[65536];
    assert_int_equal(erofs_xattr_add(&list, "user.k", "val", 3, &err), 0);
    static const uint8_t want[] = {1, 1, 3, 0, 'k', 'v', 'a', 'l'};
    assert_int_equal(list.len, sizeof want);
    assert_memory_equal(list.data, want, sizeof want);
    assert_int_equal(erofs_xattr_add(&list, "user.k", "val", 3, &err), 0);
    assert_int_equal(list.len, sizeof want); /* the same again */
    assert_int_equal(erofs_xattr_add(&list, "user.k", "other", 5, &err), SM_ECORRUPT);
    assert_int_equal(erofs_xattr_add(&list, "trusted.k", "", 0, &err), 0);
    assert_int_equal(list.len, sizeof want + 8); /* padded to 4 */
    assert_int_equal(erofs_xattr_add(&list, "system.posix_acl_access", "a", 1, &err), 0);
    assert_int_equal(list.data[sizeof want + 8], 0); /* no name left */
    assert_int_equal(erofs_xattr_add(&list, "system.posix_acl_access2", "a", 1, &err), 1);
    assert_int_equal(erofs_xattr_add(&list, "nonsense", "a", 1, &err), 1);
    assert_int_equal(erofs_xattr_add(&list, "user.", "a", 1, &err), 1);
    assert_int_equal(erofs_xattr_add(&list, "user.big", big, 65536, &err), SM_EUNSUPPORTED);
    assert_int_equal(erofs_xattr_add(&list, "user.1", big, 65535, &err), 0);
    assert_int_equal(erofs_xattr_add(&list, "user.2", big, 65535, &err), 0);
    assert_int_equal(erofs_xattr_add(&list, "user.3", big, 65535, &err), 0);
    assert_int_equal(erofs_xattr_add(&list, "user.4", big, 65535, &err), SM_EUNSUPPORTED);
    buf_fini(&list);
}

static void add_child(struct tree *t, const char *name)
{
    struct tree_inode *inode;
    assert_int_equal(tree_inode_new(t, S_IFREG | 0644, &inode, NULL), 0);
    assert_int_equal(tree_put(t, t->root, name, inode, NULL), 0);
}

/* Blocks of 4096: exactly full ones, and names that just do not fit. */
static void test_dir_blocks(void **state)
{
    for (unsigned len = 1; len <= 255; len += 2) {
        struct tree *t = tree_new(4 << 20);
        uint8_t block[EROFS_BLOCK];
        char name[256];
        unsigned total = 0, used, count = 0;
        for (unsigned i = 0; i < 600 && (len > 2 || i < 10); i++) {
            snprintf(name, sizeof name, "%0*u", (int)len, i);
            name[len] = 0;
            add_child(t, name);
            count++;
        }
        assert_int_equal(tree_sort(t, NULL), 0);
        struct erofs_dir_iter it;
        uint64_t size = 0;
        erofs_dir_begin(&it, t->root);
        while (erofs_dir_block(&it, block, &used)) {
            assert_in_range(used, 13, EROFS_BLOCK);
            assert_true(size % EROFS_BLOCK == 0); /* only the last may be short */
            unsigned n = le16_get(block + DIRENT_NAME) / DIRENT_SIZE;
            total += n;
            size += used;
            if (total < count + 2) {
                assert_true(used + DIRENT_SIZE + len > EROFS_BLOCK); /* no more would have fitted */
                size += EROFS_BLOCK - used;
            }
        }
        assert_int_equal(total, count + 2);
        assert_true(size == erofs_dir_size(t->root));
        tree_free(t);
    }
}

struct sparse_case {
    uint64_t size;
    struct tarball_extent e[4];
    size_t count;
};

/* The chunk map leads every data byte to where it was written, and every other chunk to a hole. */
static void check_sparse(const struct sparse_case *c)
{
    struct erofs *w;
    struct tree *t = tree_new(1 << 20);
    struct tree_inode *inode;
    int fd = memfd_create("image", 0);
    struct sm_error err;
    assert_int_equal(erofs_new(fd, 1ull << 34, &w, &err), 0);
    assert_int_equal(tree_inode_new(t, S_IFREG, &inode, &err), 0);
    inode->size = c->size;
    assert_int_equal(erofs_file_begin(w, t, inode, c->e, c->count, true, &err), 0);
    for (size_t i = 0; i < c->count; i++) {
        for (uint64_t k = 0; k < c->e[i].len; k++) {
            uint8_t byte = (uint8_t)(1 + i + k % 200);
            assert_int_equal(erofs_file_data(w, &byte, 1, &err), 0);
        }
    }
    assert_int_equal(erofs_file_end(w, &err), 0);
    assert_int_equal(erofs_out_flush(&w->out, &err), 0);
    assert_true(erofs_out_pos(&w->out) % EROFS_BLOCK == 0);
    assert_true(erofs_chunk_count(inode) <= 65536);
    uint64_t chunk = UINT64_C(1) << inode->chunk_bits, last = 0;
    for (uint32_t i = 0; i < inode->run_count; i++) {
        assert_true(inode->runs[i].first >= last && inode->runs[i].count > 0);
        last = inode->runs[i].first + inode->runs[i].count;
    }
    assert_true(last <= erofs_chunk_count(inode));
    for (size_t i = 0; i < c->count; i++) {
        for (uint64_t k = 0; k < c->e[i].len; k++) {
            uint64_t at = c->e[i].offset + k;
            const struct tree_run *r = inode->runs;
            while (at / chunk >= r->first + r->count) {
                r++;
            }
            assert_true(r < inode->runs + inode->run_count && at / chunk >= r->first);
            uint8_t byte = 0;
            off_t place = (off_t)r->block * EROFS_BLOCK + (off_t)(at - r->first * chunk);
            assert_int_equal(pread(fd, &byte, 1, place), 1);
            assert_int_equal(byte, (uint8_t)(1 + i + k % 200));
        }
    }
    erofs_free(w);
    tree_inode_free(inode);
    tree_free(t);
    close(fd);
}

static void test_sparse(void **state)
{
    static const struct sparse_case cases[] = {
        {0, {{0}}, 0},
        {1, {{0, 1}}, 1},
        {4096, {{4095, 1}}, 1},
        {1ull << 40, {{0}}, 0},
        {(1ull << 40) - 1, {{(1ull << 40) - 3, 2}}, 1},
        {10 << 20, {{0, 1}, {4096, 1}, {8191, 2}, {9 << 20, 5000}}, 4},
        {100000, {{0, 100}, {100, 100}, {99000, 1000}}, 3},
        {1ull << 33, {{1ull << 32, 70000}, {(1ull << 32) + 200000, 1}}, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_sparse(&cases[i]);
    }
}

static void test_limits(void **state)
{
    struct erofs *w;
    struct sm_error err;
    int fd = memfd_create("image", 0);
    uint8_t data[5000] = {1};
    assert_int_equal(erofs_new(fd, 100, &w, &err), SM_EUNSUPPORTED);
    assert_null(w);
    assert_int_equal(erofs_new(-1, 1 << 20, &w, &err), SM_EIO);
    assert_int_equal(erofs_new(fd, 8192, &w, &err), 0);
    assert_int_equal(erofs_out_write(&w->out, data, sizeof data, &err), SM_EUNSUPPORTED);
    assert_int_equal(erofs_out_write(&w->out, data, 4096, &err), 0);
    assert_int_equal(erofs_out_zero(&w->out, UINT64_MAX, &err), SM_EUNSUPPORTED);
    erofs_free(w);
    erofs_free(NULL);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_xattr),
        cmocka_unit_test(test_dir_blocks),
        cmocka_unit_test(test_sparse),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

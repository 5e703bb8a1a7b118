/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "image/tree.h"

static int put(struct tree *t, const char *path, uint32_t mode, const char *target,
               struct sm_error *err)
{
    char name[TREE_NAME_MAX + 1];
    struct tree_node *dir;
    struct tree_inode *inode;
    int rc = tree_locate(t, path, &dir, name, err);
    if (rc) {
        return rc;
    }
    rc = tree_inode_new(t, mode, &inode, err);
    if (rc) {
        return rc;
    }
    if (target) {
        inode->target = strdup(target);
        inode->size = strlen(target);
    }
    rc = tree_put(t, dir, name, inode, err);
    if (rc) {
        tree_inode_free(inode);
    }
    return rc;
}

static struct tree_node *find(struct tree *t, const char *path)
{
    struct tree_node *n;
    assert_int_equal(tree_find(t, path, &n, NULL), 0);
    return n;
}

/* All paths in order, one per line. */
static void check_order(struct tree *t, const char *want)
{
    char got[1024] = "";
    assert_int_equal(tree_sort(t, NULL), 0);
    for (struct tree_node *n = tree_next(t, t->root); n; n = tree_next(t, n)) {
        snprintf(got + strlen(got), sizeof got - strlen(got), "%*s%s\n", n->depth - 1, "", n->name);
    }
    assert_string_equal(got, want);
}

static void test_paths(void **state)
{
    struct tree *t = tree_new(1 << 20);
    struct sm_error err;
    assert_int_equal(put(t, "/b//c/./x", S_IFREG, NULL, &err), 0);
    assert_int_equal(put(t, "b/../a/", S_IFDIR | 0700, NULL, &err), 0);
    assert_int_equal(put(t, "-", S_IFREG, NULL, &err), 0);
    assert_int_equal(put(t, "aa", S_IFREG, NULL, &err), 0);
    assert_int_equal(put(t, "../x", S_IFREG, NULL, &err), SM_ECORRUPT);
    assert_int_equal(put(t, "a/../../x", S_IFREG, NULL, &err), SM_ECORRUPT);
    assert_int_equal(put(t, ".", S_IFREG, NULL, &err), SM_ECORRUPT);
    assert_int_equal(put(t, "b/c/x/y", S_IFREG, NULL, &err), SM_ECORRUPT);
    assert_null(find(t, "b/none/x"));
    assert_null(find(t, "b/c/x/y"));
    assert_ptr_equal(find(t, "/"), t->root);
    assert_int_equal(find(t, "b")->inode->mode, S_IFDIR | 0755);
    assert_int_equal(t->root->inode->subdirs, 2);
    check_order(t, "-\na\naa\nb\n c\n  x\n");
    tree_free(t);
}

static void test_symlinks(void **state)
{
    struct tree *t = tree_new(1 << 20);
    struct sm_error err;
    assert_int_equal(put(t, "up", S_IFLNK, "../../../real", &err), 0);
    assert_int_equal(put(t, "d/abs", S_IFLNK, "/real/./sub/", &err), 0);
    assert_int_equal(put(t, "d/two", S_IFLNK, "abs/../other", &err), 0);
    assert_int_equal(put(t, "loop", S_IFLNK, "loop", &err), 0);
    assert_int_equal(put(t, "up/a", S_IFREG, NULL, &err), 0);
    assert_int_equal(put(t, "d/abs/b", S_IFREG, NULL, &err), 0);
    assert_int_equal(put(t, "d/two/c", S_IFREG, NULL, &err), 0);
    assert_int_equal(put(t, "loop/x", S_IFREG, NULL, &err), SM_ECORRUPT);
    assert_non_null(find(t, "real/a"));
    assert_non_null(find(t, "real/sub/b"));
    assert_non_null(find(t, "real/other/c"));
    assert_true(S_ISLNK(find(t, "d/two")->inode->mode)); /* last part: not followed */
    tree_free(t);
}

static void test_replace(void **state)
{
    struct tree *t = tree_new(1 << 20);
    char name[TREE_NAME_MAX + 1];
    struct tree_node *dir;
    assert_int_equal(put(t, "d/e/f", S_IFREG, NULL, NULL), 0);
    assert_int_equal(put(t, "d", S_IFDIR | 0711, NULL, NULL), 0);
    assert_non_null(find(t, "d/e/f"));
    assert_int_equal(find(t, "d")->inode->mode, S_IFDIR | 0711);
    /* A link from outside keeps the file alive when its directory goes. */
    struct tree_inode *f = find(t, "d/e/f")->inode;
    assert_int_equal(tree_locate(t, "h", &dir, name, NULL), 0);
    assert_int_equal(tree_put(t, dir, name, f, NULL), 0);
    assert_int_equal(f->links, 2);
    assert_int_equal(put(t, "d", S_IFREG, NULL, NULL), 0);
    assert_int_equal(f->links, 1);
    assert_null(find(t, "d/e/f"));
    assert_int_equal(t->root->inode->subdirs, 0);
    assert_int_equal(put(t, "d", S_IFDIR, NULL, NULL), 0);
    assert_true(find(t, "d")->inode->opaque);
    assert_int_equal(t->root->inode->subdirs, 1);
    /* A link that deletes its own target. */
    assert_int_equal(put(t, "g/f", S_IFREG, NULL, NULL), 0);
    assert_int_equal(tree_put(t, t->root, "g", find(t, "g/f")->inode, NULL), SM_ECORRUPT);
    tree_free(t);
}

static void test_whiteout(void **state)
{
    struct tree *t = tree_new(1 << 20);
    assert_int_equal(tree_whiteout(t, t->root, "gone", NULL), 0);
    assert_true(tree_is_whiteout(find(t, "gone")->inode));
    assert_int_equal(put(t, "gone/x", S_IFREG, NULL, NULL), 0); /* implied directory over it */
    assert_true(find(t, "gone")->inode->opaque);
    assert_int_equal(put(t, "d", S_IFDIR, NULL, NULL), 0);
    assert_false(find(t, "d")->inode->opaque);
    assert_int_equal(tree_whiteout(t, t->root, "d", NULL), 0);
    assert_true(find(t, "d")->inode->opaque);
    assert_int_equal(put(t, "f", S_IFREG, NULL, NULL), 0);
    assert_int_equal(tree_whiteout(t, t->root, "f", NULL), 0);
    assert_true(S_ISREG(find(t, "f")->inode->mode));
    tree_free(t);
}

static void test_limits(void **state)
{
    struct tree *t = tree_new(100000);
    struct sm_error err;
    char name[300];
    int rc = 0, n = 0;
    for (; rc == 0 && n < 10000; n++) {
        snprintf(name, sizeof name, "d%d/file-%d", n % 10, n);
        rc = put(t, name, S_IFREG, NULL, &err);
    }
    assert_int_equal(rc, SM_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "memory"));
    assert_in_range(n, 200, 800);
    tree_free(t);
    memset(name, 'x', 256);
    name[256] = 0;
    t = tree_new(100000);
    assert_int_equal(put(t, name, S_IFREG, NULL, &err), SM_EUNSUPPORTED);
    tree_free(t);
    assert_null(tree_new(10));
    tree_free(NULL);
}

/* Against a plain sorted list: many names, growing table. */
static void test_many(void **state)
{
    struct tree *t = tree_new(64 << 20);
    char name[32], last[32] = "";
    size_t count = 0;
    for (unsigned i = 0; i < 50000; i++) {
        snprintf(name, sizeof name, "%x/%x", i % 7, i * 2654435761u);
        assert_int_equal(put(t, name, S_IFREG, NULL, NULL), 0);
    }
    for (unsigned i = 0; i < 50000; i++) {
        snprintf(name, sizeof name, "%x/%x", i % 7, i * 2654435761u);
        assert_non_null(find(t, name));
    }
    assert_int_equal(tree_sort(t, NULL), 0);
    for (struct tree_node *n = tree_next(t, t->root); n; n = tree_next(t, n)) {
        if (n->depth == 2) {
            assert_true(strcmp(last, n->name) < 0);
            snprintf(last, sizeof last, "%s", n->name);
            count++;
        } else {
            last[0] = 0;
        }
    }
    assert_int_equal(count, 50000);
    tree_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),   cmocka_unit_test(test_symlinks),
        cmocka_unit_test(test_replace), cmocka_unit_test(test_whiteout),
        cmocka_unit_test(test_limits),  cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

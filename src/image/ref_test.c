/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "image/ref.h"

static const struct {
    const char *text;
    int rc;
    enum ref_kind kind;
    const char *path, *name;
} table[] = {
    {"busybox", SM_OK, REF_BUILTIN, NULL, "busybox"},
    {"busybox:latest", SM_OK, REF_BUILTIN, NULL, "busybox"},
    {"oci:dir", SM_OK, REF_OCI_LAYOUT, "dir", NULL},
    {"oci:/a b/ü", SM_OK, REF_OCI_LAYOUT, "/a b/ü", NULL},
    {"oci:dir:tag", SM_OK, REF_OCI_LAYOUT, "dir", "tag"},
    {"oci:dir:reg.io:5000/a/b:v1", SM_OK, REF_OCI_LAYOUT, "dir", "reg.io:5000/a/b:v1"},
    {"docker-archive:f.tar", SM_OK, REF_DOCKER_ARCHIVE, "f.tar", NULL},
    {"docker-archive:f.tar:foo:bar", SM_OK, REF_DOCKER_ARCHIVE, "f.tar", "foo:bar"},
    {"", SM_EINVAL, 0, NULL, NULL},
    {"oci:", SM_EINVAL, 0, NULL, NULL},
    {"oci::tag", SM_EINVAL, 0, NULL, NULL},
    {"oci:dir:", SM_EINVAL, 0, NULL, NULL},
    {"docker-archive:", SM_EINVAL, 0, NULL, NULL},
    {"snapshot:dir", SM_EUNSUPPORTED, 0, NULL, NULL},
    {"busybox:1.36", SM_OK, REF_NAME, NULL, "busybox:1.36"},
    {"busyboxx", SM_OK, REF_NAME, NULL, "busyboxx"},
    {"localhost:5000/a/b", SM_OK, REF_NAME, NULL, "localhost:5000/a/b"},
    {"OCI:dir", SM_EINVAL, 0, NULL, NULL},
    {"docker://alpine", SM_EINVAL, 0, NULL, NULL},
    {"./dir", SM_EINVAL, 0, NULL, NULL},
};

static void assert_text(const char *got, const char *want)
{
    assert_int_equal(got == NULL, want == NULL);
    if (want) {
        assert_string_equal(got, want);
    }
}

static void parse_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct ref ref;
        struct sm_error err = {0};
        int rc = ref_parse(table[i].text, &ref, &err);
        assert_int_equal(rc, table[i].rc);
        if (rc == SM_OK) {
            assert_int_equal(ref.kind, table[i].kind);
            assert_text(ref.path, table[i].path);
            assert_text(ref.name, table[i].name);
        } else {
            assert_int_equal(err.code, rc);
            assert_true(err.text[0] != '\0');
            assert_null(ref.path);
            assert_null(ref.name);
        }
        ref_fini(&ref);
    }
}

static void parse_long(void **state)
{
    (void)state;
    size_t n = 1 << 20;
    char *text = malloc(n + 1);
    struct ref ref;
    struct sm_error err;
    assert_non_null(text);
    memset(text, 'a', n);
    text[n] = '\0';
    assert_int_equal(ref_parse(text, &ref, &err), SM_EINVAL);
    memcpy(text, "oci:", 4);
    assert_int_equal(ref_parse(text, &ref, &err), SM_EINVAL);
    text[100] = ':';
    assert_int_equal(ref_parse(text, &ref, &err), SM_EINVAL);
    free(text);
}

static void names(void **state)
{
    (void)state;
    assert_true(ref_name_equal("foo", "docker.io/library/foo:latest"));
    assert_true(ref_name_equal("foo:1", "docker.io/library/foo:1"));
    assert_true(ref_name_equal("a/foo:1", "docker.io/a/foo:1"));
    assert_true(ref_name_equal("index.docker.io/library/foo", "foo"));
    assert_true(ref_name_equal("reg:5000/foo", "reg:5000/foo:latest"));
    assert_false(ref_name_equal("reg:5000/foo", "reg"));
    assert_false(ref_name_equal("foo", "foo:1"));
    assert_false(ref_name_equal("foo", "foobar:latest"));
    assert_false(ref_name_equal("foo", "bar/foo"));
    assert_false(ref_name_equal("", "foo"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse_table),
        cmocka_unit_test(parse_long),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "image/config.h"
#include "image/platform.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define ID "\"sha256:" HEX "\""
#define ROOTFS "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[" ID "]}"
#define HEAD "{\"os\":\"linux\",\"architecture\":\"amd64\"," ROOTFS

static int parse(const char *text, struct image_config *c, struct sm_error *err)
{
    return config_parse(text, strlen(text), "the config", c, err);
}

static void everything(void **state)
{
    (void)state;
    struct image_config c;
    struct sm_error err;
    assert_int_equal(parse(HEAD ",\"config\":{\"Entrypoint\":[\"/e\",\"-x\"],\"Cmd\":[\"c\"],"
                                "\"Env\":[\"A=1\",\"B=\",\"A=2=3\",\"AA=4\"],"
                                "\"WorkingDir\":\"/w/../x\",\"User\":\"u:g\",\"Volumes\":{\"/../"
                                "etc\":{}},\"Labels\":{\"sm.x\":\"1\"}}}",
                           &c, &err),
                     SM_OK);
    assert_string_equal(c.os, "linux");
    assert_string_equal(c.architecture, "amd64");
    assert_int_equal(c.entrypoint.n, 2);
    assert_string_equal(c.entrypoint.items[1], "-x");
    assert_null(c.entrypoint.items[2]);
    assert_int_equal(c.cmd.n, 1);
    assert_int_equal(c.env.n, 3);
    assert_string_equal(c.env.items[0], "A=2=3");
    assert_string_equal(c.env.items[1], "B=");
    assert_string_equal(c.env.items[2], "AA=4");
    assert_string_equal(c.working_dir, "/w/../x");
    assert_string_equal(c.user, "u:g");
    assert_int_equal(c.n_diff_ids, 1);
    assert_string_equal(c.diff_ids[0], "sha256:" HEX);
    assert_int_equal(platform_check(&c, &err), SM_OK);
    config_fini(&c);
    config_fini(&c);
}

static void little(void **state)
{
    (void)state;
    static const char *const texts[] = {
        HEAD "}",
        HEAD ",\"config\":null}",
        HEAD ",\"config\":{}}",
        HEAD ",\"config\":{\"Cmd\":null,\"Entrypoint\":[],\"Env\":null,\"User\":\"\","
             "\"WorkingDir\":\"\"}}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct image_config c;
        struct sm_error err;
        assert_int_equal(parse(texts[i], &c, &err), SM_OK);
        assert_int_equal(c.entrypoint.n + c.cmd.n + c.env.n, 0);
        assert_null(c.cmd.items);
        assert_null(c.user);
        assert_null(c.working_dir);
        config_fini(&c);
    }
}

static void refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int rc;
    } table[] = {
        {"", SM_ECORRUPT},
        {"[]", SM_ECORRUPT},
        {"{}", SM_ECORRUPT},
        {HEAD "} x", SM_ECORRUPT},
        {"\xef\xbb\xbf" HEAD "}", SM_ECORRUPT},
        {"{\"os\":\"linux\"," ROOTFS "}", SM_ECORRUPT},
        {"{\"os\":1,\"architecture\":\"amd64\"," ROOTFS "}", SM_ECORRUPT},
        {"{\"os\":\"linux\",\"architecture\":\"amd64\"}", SM_ECORRUPT},
        {"{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{\"type\":\"x\"}}",
         SM_EUNSUPPORTED},
        {"{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{\"type\":\"layers\","
         "\"diff_ids\":[\"sha256:../../x\"]}}",
         SM_ECORRUPT},
        {"{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{\"type\":\"layers\","
         "\"diff_ids\":[7]}}",
         SM_ECORRUPT},
        {HEAD ",\"os\":\"linux\"}", SM_ECORRUPT}, /* twice */
        {HEAD ",\"config\":[]}", SM_ECORRUPT},
        {HEAD ",\"config\":{\"Cmd\":\"sh\"}}", SM_ECORRUPT},
        {HEAD ",\"config\":{\"Cmd\":[1]}}", SM_ECORRUPT},
        {HEAD ",\"config\":{\"Cmd\":[\"a\\u0000b\"]}}", SM_ECORRUPT},
        {HEAD ",\"config\":{\"Cmd\":[\"\\ud800\"]}}", SM_ECORRUPT},
        {HEAD ",\"config\":{\"Cmd\":[\"\xff\"]}}", SM_ECORRUPT},
        {HEAD ",\"config\":{\"Env\":[\"A\"]}}", SM_ECORRUPT},
        {HEAD ",\"config\":{\"Env\":[\"=A\"]}}", SM_ECORRUPT},
        {HEAD ",\"config\":{\"Env\":[\"\"]}}", SM_ECORRUPT},
        {HEAD ",\"config\":{\"WorkingDir\":\"x\"}}", SM_ECORRUPT},
        {HEAD ",\"x\":1e400}", SM_ECORRUPT},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct image_config c;
        struct sm_error err = {0};
        int rc = parse(table[i].text, &c, &err);
        if (rc != table[i].rc) {
            fail_msg("%s: %d (%s)", table[i].text, rc, err.text);
        }
        assert_int_equal(err.code, rc);
        assert_null(c.os);
        assert_null(c.diff_ids);
    }
}

static void limits(void **state)
{
    (void)state;
    struct {
        const char *head, *item, *tail;
        size_t n;
        int rc;
    } table[] = {
        {HEAD ",\"config\":{\"Cmd\":[\"x\"", ",\"a\"", "]}}", CONFIG_MAX_STRINGS - 1, SM_OK},
        {HEAD ",\"config\":{\"Cmd\":[\"x\"", ",\"a\"", "]}}", CONFIG_MAX_STRINGS, SM_ECORRUPT},
        {HEAD ",\"config\":{\"Env\":[\"x=\"", ",\"a=1\"", "]}}", 100000, SM_ECORRUPT},
        {HEAD ",\"config\":{\"Cmd\":[\"", "a", "\"]}}", CONFIG_MAX_STRING, SM_OK},
        {HEAD ",\"config\":{\"Cmd\":[\"", "a", "\"]}}", CONFIG_MAX_STRING + 1, SM_ECORRUPT},
        {HEAD ",\"config\":{\"User\":\"", "1", "\"}}", 257, SM_ECORRUPT},
        {HEAD ",\"config\":{\"WorkingDir\":\"/", "x", "\"}}", 4095, SM_ECORRUPT},
        {HEAD ",\"x\":", "[", "", 10000, SM_ECORRUPT},
        {HEAD ",\"x\":[0", ",0", "]}", 300000, SM_ECORRUPT},
        {HEAD ",\"x\":\"", "[", "\"}", 10000, SM_OK},
        {HEAD ",\"x\":\"\\\"", "[", "\"}", 10000, SM_OK},
        {HEAD ",\"x\":\"", "a", "\"}", 4 << 20, SM_ECORRUPT},
        {"{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{\"type\":\"layers\","
         "\"diff_ids\":[" ID,
         "," ID, "]}}", 64, SM_EUNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct buf b = {0};
        struct image_config c;
        struct sm_error err = {0};
        assert_int_equal(buf_append(&b, table[i].head, strlen(table[i].head)), 0);
        for (size_t k = 0; k < table[i].n; k++) {
            assert_int_equal(buf_append(&b, table[i].item, strlen(table[i].item)), 0);
        }
        assert_int_equal(buf_append(&b, table[i].tail, strlen(table[i].tail)), 0);
        int rc = config_parse(b.data, b.len, "the config", &c, &err);
        if (rc != table[i].rc) {
            fail_msg("row %zu: %d (%s)", i, rc, err.text);
        }
        if (!rc) {
            config_fini(&c);
        }
        buf_fini(&b);
    }
}

static void wrong_platform(void **state)
{
    (void)state;
    struct image_config c;
    struct sm_error err;
    assert_int_equal(parse("{\"os\":\"linux\",\"architecture\":\"riscv64\"," ROOTFS "}", &c, &err),
                     SM_OK);
    assert_int_equal(platform_check(&c, &err), SM_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "linux/riscv64"));
    config_fini(&c);
    assert_int_equal(parse("{\"os\":\"linux\",\"architecture\":\"386\"," ROOTFS "}", &c, &err),
                     SM_OK);
    assert_int_equal(platform_check(&c, &err), SM_OK);
    config_fini(&c);
}

static void env_set(void **state)
{
    (void)state;
    struct string_list l = {0};
    for (int i = 0; i < 100; i++) {
        char pair[32];
        snprintf(pair, sizeof pair, "V%d=%d", i, i);
        assert_int_equal(string_list_set_env(&l, pair), 0);
    }
    assert_int_equal(l.n, 100);
    assert_null(l.items[100]);
    assert_int_equal(string_list_set_env(&l, "V7=x"), 0);
    assert_int_equal(l.n, 100);
    assert_string_equal(l.items[7], "V7=x");
    assert_string_equal(l.items[70], "V70=70");
    string_list_fini(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything), cmocka_unit_test(little),         cmocka_unit_test(refused),
        cmocka_unit_test(limits),     cmocka_unit_test(wrong_platform), cmocka_unit_test(env_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

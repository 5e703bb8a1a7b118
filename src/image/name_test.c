/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "image/name.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define DIGEST "sha256:" HEX

static const struct {
    const char *text, *full;
} good[] = {
    {"debian", "docker.io/library/debian:latest"},
    {"debian:12", "docker.io/library/debian:12"},
    {"library/debian", "docker.io/library/debian:latest"},
    {"a/b", "docker.io/a/b:latest"},
    {"docker.io/debian", "docker.io/library/debian:latest"},
    {"index.docker.io/debian", "docker.io/library/debian:latest"},
    {"index.docker.io/a/b:1", "docker.io/a/b:1"},
    {"docker.io/library/a/b", "docker.io/library/a/b:latest"},
    {"library/" HEX, "docker.io/library/" HEX ":latest"},
    {"docker.io/a.b/c", "docker.io/a.b/c:latest"},
    {"docker.io/localhost/c", "docker.io/localhost/c:latest"},
    {"localhost/x", "localhost/x:latest"},
    {"localhost:5000/x", "localhost:5000/x:latest"},
    {"localhost:5000", "docker.io/library/localhost:5000"},
    {"127.0.0.1:5000/x/y:z", "127.0.0.1:5000/x/y:z"},
    {"[::1]:5000/x", "[::1]:5000/x:latest"},
    {"[2001:db8::1]/x", "[2001:db8::1]/x:latest"},
    {"Reg.Example.COM/x", "Reg.Example.COM/x:latest"},
    {"HOST/x", "HOST/x:latest"},
    {"reg-1.example/x", "reg-1.example/x:latest"},
    {"quay.io/org/app:v1.2_3-4", "quay.io/org/app:v1.2_3-4"},
    {"a.b/c:_x", "a.b/c:_x"},
    {"u_t/x__y.z-w---v", "docker.io/u_t/x__y.z-w---v:latest"},
    {"debian@" DIGEST, "docker.io/library/debian@" DIGEST},
    {"debian:12@" DIGEST, "docker.io/library/debian@" DIGEST},
    {"a.b:1/c@" DIGEST, "a.b:1/c@" DIGEST},
    {HEX "/x", "docker.io/" HEX "/x:latest"},
    {HEX "0", "docker.io/library/" HEX "0:latest"},
    {"docker.io", "docker.io/library/docker.io:latest"},
    {"0", "docker.io/library/0:latest"},
};

static const char *const bad[] = {
    "",
    "/",
    "a/",
    "/a",
    "a//b",
    "A",
    "a/B",
    "docker.io/",
    "a..b",
    "a._b",
    "a___b",
    "-a",
    "a-",
    ".a",
    "a.",
    "a b",
    " a",
    "a\n",
    "a\xc3\xa4",
    "a:",
    "a:-x",
    "a:.x",
    "a:x y",
    "a:x:y",
    "a:b/c:d/e:f",
    "a@",
    "a@sha256:",
    "a@sha256:0123",
    "a@sha256:" HEX "0",
    "a@SHA256:" HEX,
    "a@" DIGEST "@" DIGEST,
    "a@" HEX,
    "@" DIGEST,
    HEX,
    HEX ":tag",
    "host:/x",
    "host:0/x",
    "host:65536/x",
    "host:123456/x",
    "host:80a/x",
    "-host.com/x",
    "host-.com/x",
    "host..com/x",
    "[::1/x",
    "[]/x",
    "[::g]:1/x",
    "::1/x",
    "us.er@host.com/x",
    "https://host.com/x",
    "host.com/x?y",
    "host.com/x#y",
    "host.com/../x",
    "host.com/%2e",
    "host.com/x\r\nHost: y",
};

static void good_names(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct name n;
        struct sm_error err = {0};
        char text[NAME_TEXT_MAX];
        if (name_parse(good[i].text, &n, &err)) {
            fail_msg("%s: %s", good[i].text, err.text);
        }
        name_format(&n, text);
        assert_string_equal(text, good[i].full);
        assert_int_equal(name_parse(text, &n, &err), SM_OK); /* it is its own normal form */
        char again[NAME_TEXT_MAX];
        name_format(&n, again);
        assert_string_equal(text, again);
    }
}

static void bad_names(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct name n;
        struct sm_error err = {0};
        int rc = name_parse(bad[i], &n, &err);
        if (rc == SM_OK) {
            fail_msg("%s was taken for a name", bad[i]);
        }
        assert_true(err.text[0] != '\0');
        assert_true(n.host[0] == '\0');
    }
}

static void limits(void **state)
{
    (void)state;
    struct name n;
    char text[1024] = "reg.io/";
    memset(text + 7, 'a', 255 - 7);
    assert_int_equal(name_parse(text, &n, NULL), SM_OK); /* 255 in all */
    text[255] = 'a';
    assert_int_equal(name_parse(text, &n, NULL), SM_EINVAL);
    strcpy(text, "a:");
    memset(text + 2, 'b', 128);
    text[130] = '\0';
    assert_int_equal(name_parse(text, &n, NULL), SM_OK);
    strcpy(text + 130, "b");
    assert_int_equal(name_parse(text, &n, NULL), SM_EINVAL);
    assert_int_equal(name_parse("a@sha512:" HEX HEX, &n, NULL), SM_EUNSUPPORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_names),
        cmocka_unit_test(bad_names),
        cmocka_unit_test(limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

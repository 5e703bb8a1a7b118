/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "image/challenge.h"

static const struct {
    const char *text;
    int rc;
    enum challenge_scheme scheme;
    const char *realm, *service;
} table[] = {
    {"Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\"", SM_OK,
     CHALLENGE_BEARER, "https://auth.docker.io/token", "registry.docker.io"},
    {"bearer REALM = \"a\" , Service=b", SM_OK, CHALLENGE_BEARER, "a", "b"},
    {"Bearer realm=https://x/y?z=1,scope=\"repository:a:pull,push\"", SM_OK, CHALLENGE_BEARER,
     "https://x/y?z=1", ""},
    {"Bearer error=\"a\\\"b\", realm=\"c\\d\"", SM_OK, CHALLENGE_BEARER, "cd", ""},
    {"Basic realm=\"x\"", SM_OK, CHALLENGE_BASIC, "x", ""},
    {"Basic", SM_OK, CHALLENGE_BASIC, "", ""},
    {"Basic realm=\"x\", Bearer realm=\"y\",service=\"z\"", SM_OK, CHALLENGE_BEARER, "y", "z"},
    {"Bearer realm=\"y\", Basic realm=\"x\"", SM_OK, CHALLENGE_BEARER, "y", ""},
    {"Negotiate abc==, Basic realm=\"x\"", SM_OK, CHALLENGE_BASIC, "x", ""},
    {"Negotiate", SM_OK, CHALLENGE_NONE, "", ""},
    {"Digest realm=\"x\", qop=\"auth,auth-int\", Basic realm=\"b\"", SM_OK, CHALLENGE_BASIC, "b",
     ""},
    {"Bearer", SM_OK, CHALLENGE_NONE, "", ""},
    {"", SM_OK, CHALLENGE_NONE, "", ""},
    {", ,", SM_OK, CHALLENGE_NONE, "", ""},
    {"Bearer realm=\"x", SM_ECORRUPT, CHALLENGE_NONE, "", ""},
    {"Bearer realm=\"x\"y", SM_ECORRUPT, CHALLENGE_NONE, "", ""},
    {"Bearer realm=\"a\nb\"", SM_ECORRUPT, CHALLENGE_NONE, "", ""},
    {"\"", SM_ECORRUPT, CHALLENGE_NONE, "", ""},
    {"=", SM_ECORRUPT, CHALLENGE_NONE, "", ""},
    {"B@sic realm=x", SM_ECORRUPT, CHALLENGE_NONE, "", ""},
};

static void read_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct challenge c = {0};
        struct sm_error err = {0};
        int rc = challenge_read(table[i].text, &c, &err);
        if (rc != table[i].rc || c.scheme != table[i].scheme || strcmp(c.realm, table[i].realm) ||
            strcmp(c.service, table[i].service)) {
            fail_msg("%s: %d, scheme %d, realm \"%s\", service \"%s\"", table[i].text, rc, c.scheme,
                     c.realm, c.service);
        }
    }
}

static void several_headers(void **state)
{
    (void)state;
    struct challenge c = {0};
    assert_int_equal(challenge_read("Basic realm=\"x\"", &c, NULL), SM_OK);
    assert_int_equal(challenge_read("Bearer realm=\"y\"", &c, NULL), SM_OK);
    assert_int_equal(challenge_read("Basic realm=\"z\"", &c, NULL), SM_OK);
    assert_int_equal(c.scheme, CHALLENGE_BEARER);
    assert_string_equal(c.realm, "y");
}

static void too_long(void **state)
{
    (void)state;
    struct challenge c = {0};
    char *text = malloc(5000);
    memset(text, 'a', 4999);
    text[4999] = '\0';
    assert_int_equal(challenge_read(text, &c, NULL), SM_ECORRUPT);
    memcpy(text, "Bearer realm=", 13);
    assert_int_equal(challenge_read(text, &c, NULL), SM_ECORRUPT);
    memcpy(text, "Bearer service=", 15);
    text[15 + 1500] = '\0';
    assert_int_equal(challenge_read(text, &c, NULL), SM_ECORRUPT);
    assert_int_equal(c.scheme, CHALLENGE_NONE);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read_table),
        cmocka_unit_test(several_headers),
        cmocka_unit_test(too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

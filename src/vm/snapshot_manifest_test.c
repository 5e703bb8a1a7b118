// SPDX-License-Identifier: Apache-2.0
/* The manifest of a snapshot with disks: there and back, and each value that cannot be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vm/snapshot.h"

#define DIGEST "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static struct snapshot machine(unsigned n_disks)
{
    struct snapshot s = {.memory_bytes = 96u << 20,
                         .vcpus = 2,
                         .cpu_model = "v2",
                         .cpu_vendor = "amd",
                         .ram_digest = DIGEST,
                         .n_disks = n_disks,
                         .document = json_object()};
    for (unsigned i = 0; i < n_disks; i++)
        s.disks[i] = (struct snapshot_disk){
            .bytes = (i + 1) * 512ull << i, .read_only = i % 2, .digest = DIGEST};
    return s;
}

static char *text_of(const struct snapshot *s)
{
    char *text;
    assert_int_equal(snapshot_manifest_build(s, &text, NULL), 0);
    return text;
}

static int parse(const char *text, struct snapshot *out, struct sm_error *err)
{
    *out = (struct snapshot){0};
    int rc = snapshot_manifest_parse(text, strlen(text), out, err);
    free(out->layer_ids);
    json_decref(out->document);
    return rc;
}

static void test_there_and_back(void **state)
{
    (void)state;
    for (unsigned n = 0; n <= VM_MAX_VOLUMES; n++) {
        struct snapshot s = machine(n), back;
        struct sm_error err = {0};
        if (n % 3 == 2)
            strcpy(s.base_digest, DIGEST);
        char *text = text_of(&s);
        if (parse(text, &back, &err) != 0)
            fail_msg("%s", err.text);
        assert_int_equal(back.n_disks, n);
        assert_string_equal(back.base_digest, s.base_digest);
        assert_int_equal(strstr(text, "\"format\": 3") != NULL, n > 0); /* others refuse it */
        for (unsigned i = 0; i < n; i++) {
            assert_true(back.disks[i].bytes == s.disks[i].bytes);
            assert_int_equal(back.disks[i].read_only, s.disks[i].read_only);
            assert_string_equal(back.disks[i].digest, DIGEST);
        }
        free(text);
        json_decref(s.document);
    }
}

/* "disks" of one disk, with a member (or all of it) as json says; NULL: without it. */
static void expect_bad(const char *member, const char *json, const char *word)
{
    struct snapshot s = machine(1), back;
    struct sm_error err = {0};
    char *text = text_of(&s);
    json_t *doc = json_loads(text, 0, NULL);
    json_t *in = json_array_get(json_object_get(doc, "disks"), 0);
    assert_non_null(in);
    if (!json_object_get(in, member))
        in = doc;
    if (json)
        json_object_set_new(in, member, json_loads(json, JSON_DECODE_ANY, NULL));
    else
        json_object_del(in, member);
    free(text);
    text = json_dumps(doc, 0);
    int rc = parse(text, &back, &err);
    if (rc != SM_ECORRUPT || !strstr(err.text, word))
        fail_msg("%s %s: %d \"%s\"", member, json ? json : "gone", rc, err.text);
    free(text);
    json_decref(doc);
    json_decref(s.document);
}

static void test_hostile(void **state)
{
    static const char *const bytes[] = {"0",    "-512", "513",     "1e3",
                                        "null", "[]",   "\"512\"", "9223372036854775807"};
    char many[64 + VM_MAX_VOLUMES * 128] = "[";
    (void)state;
    for (unsigned i = 0; i < sizeof bytes / sizeof bytes[0]; i++)
        expect_bad("bytes", bytes[i], "bytes");
    expect_bad("bytes", NULL, "bytes");
    expect_bad("read_only", "0", "read_only");
    expect_bad("read_only", NULL, "read_only");
    expect_bad("digest", "\"sha256:12\"", "digest");
    expect_bad("digest", "7", "digest");
    expect_bad("digest", NULL, "digest");
    expect_bad("disks", NULL, "disks");
    expect_bad("disks", "[]", "disks");
    expect_bad("disks", "{}", "disks");
    expect_bad("disks", "[7]", "disks");
    expect_bad("disks", "[null]", "disks");
    expect_bad("volumes", "1", "volumes"); /* in use or not, but not both */
    expect_bad("base_digest", "\"x\"", "base_digest");
    for (unsigned i = 0; i <= VM_MAX_VOLUMES; i++)
        sprintf(many + strlen(many), "%s{\"bytes\":512,\"read_only\":true,\"digest\":\"%s\"}",
                i ? "," : "", DIGEST);
    strcat(many, "]");
    expect_bad("disks", many, "disks");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

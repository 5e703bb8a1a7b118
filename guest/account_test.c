/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "account.h"

static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
                             "# a comment\n"
                             "broken\n"
                             "noid:x:abc:1::/:\n"
                             "wrap:x:4294967296:0::/wrap:/bin/sh\n"
                             "minus:x:-1:0::/:/bin/sh\n"
                             "app:x:1000:1001:App:/home/app:/bin/sh\n"
                             "short:x:7:8\n"
                             "2000:x:3000:3001::/numeric:/bin/sh\n"
                             "last:x:1234:1235::/last:/bin/sh";
static const char group[] = "root:x:0:\n"
                            "app:x:1001:\n"
                            "disk:x:6:app,other\n"
                            "audio:x:29:other,app\n"
                            "apple:x:30:apple\n"
                            "huge:x:4294967295:app\n"
                            "staff:x:50\n";

struct files {
    char dir[32], passwd[64], group[64];
};

static void write_file(const char *path, const char *text, size_t len)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, len, f), len);
    fclose(f);
}

static int setup(void **state)
{
    struct files *f = calloc(1, sizeof *f);

    strcpy(f->dir, "/tmp/sm-account-XXXXXX");
    if (!mkdtemp(f->dir))
        return -1;
    snprintf(f->passwd, sizeof f->passwd, "%s/passwd", f->dir);
    snprintf(f->group, sizeof f->group, "%s/group", f->dir);
    write_file(f->passwd, passwd, strlen(passwd));
    write_file(f->group, group, strlen(group));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct files *f = *state;

    unlink(f->passwd);
    unlink(f->group);
    rmdir(f->dir);
    free(f);
    return 0;
}

static void expect(struct files *f, const char *spec, uint32_t uid, uint32_t gid, const char *home)
{
    struct account a;
    char why[300] = "";

    if (account_lookup(f->passwd, f->group, spec, &a, why, sizeof why) != 0)
        fail_msg("\"%s\": %s", spec, why);
    assert_int_equal(a.uid, uid);
    assert_int_equal(a.gid, gid);
    assert_string_equal(a.home, home);
}

static void refuse(struct files *f, const char *spec, const char *text)
{
    struct account a;
    char why[300] = "";

    if (account_lookup(f->passwd, f->group, spec, &a, why, sizeof why) == 0)
        fail_msg("\"%s\" became %u:%u", spec, a.uid, a.gid);
    if (!strstr(why, text))
        fail_msg("\"%s\" is not in \"%s\"", text, why);
}

static void test_names_and_ids(void **state)
{
    expect(*state, "", 0, 0, "/root");
    expect(*state, "root", 0, 0, "/root");
    expect(*state, "app", 1000, 1001, "/home/app");
    expect(*state, "1000", 1000, 1001, "/home/app");
    expect(*state, "app:disk", 1000, 6, "/home/app");
    expect(*state, "app:77", 1000, 77, "/home/app");
    expect(*state, "1000:6", 1000, 6, "/home/app");
    expect(*state, "54321", 54321, 0, "/");
    expect(*state, "54321:54322", 54321, 54322, "/");
    expect(*state, "2147483647", 2147483647, 0, "/");
    expect(*state, "short", 7, 8, "/");
    expect(*state, "last", 1234, 1235, "/last");    /* no newline at the end */
    expect(*state, "2000", 3000, 3001, "/numeric"); /* a name comes before a number */
    expect(*state, ":6", 0, 6, "/root");
    expect(*state, "app:", 1000, 1001, "/home/app");
    expect(*state, "root:staff", 0, 50, "/root");
}

static void test_refused(void **state)
{
    refuse(*state, "nobody-here", "no such user");
    refuse(*state, "app:nogroup", "no such group");
    refuse(*state, "wrap", "no such user"); /* its line is not believed: 2^32 is not root */
    refuse(*state, "minus", "no such user");
    refuse(*state, "4294967295", "not an id");
    refuse(*state, "4294967296", "not an id");
    refuse(*state, "2147483648", "not an id");
    refuse(*state, "18446744073709551616", "not an id");
    refuse(*state, "99999999999999999999999999", "not an id");
    refuse(*state, "-1", "not an id");
    refuse(*state, "0:4294967296", "not an id");
    refuse(*state, "0:-1", "not an id");
    refuse(*state, "0:huge", "no such group");
    refuse(*state, " 0", "no such user");
    refuse(*state, "0x0", "no such user");
    refuse(*state, "a:b:c", "no such user");
}

static void test_supplementary(void **state)
{
    struct files *f = *state;
    struct account a;
    char why[300];

    assert_int_equal(account_lookup(f->passwd, f->group, "app", &a, why, sizeof why), 0);
    assert_int_equal(a.group_count, 2);
    assert_int_equal(a.groups[0], 6);
    assert_int_equal(a.groups[1], 29);
    assert_int_equal(account_lookup(f->passwd, f->group, "1000", &a, why, sizeof why), 0);
    assert_int_equal(a.group_count, 2);
    assert_int_equal(account_lookup(f->passwd, f->group, "app:disk", &a, why, sizeof why), 0);
    assert_int_equal(a.group_count, 0);
}

static void test_missing_and_odd_files(void **state)
{
    struct files *f = *state;
    size_t len = 200000;
    char *big = malloc(len);

    unlink(f->passwd);
    unlink(f->group);
    expect(f, "", 0, 0, "/");
    expect(f, "5:6", 5, 6, "/");
    refuse(f, "root", "no such user");
    assert_int_equal(mkfifo(f->passwd, 0644), 0); /* must not block */
    expect(f, "5", 5, 0, "/");
    unlink(f->passwd);
    assert_int_equal(symlink("/dev/zero", f->passwd), 0); /* nor read for ever */
    expect(f, "5", 5, 0, "/");
    unlink(f->passwd);
    memset(big, 'x',
           len); /* a line beyond the buffer is passed over, what follows is not part of it */
    memcpy(big + len - 40, "x\nu:x:9:9::/u:\n", 15);
    big[len - 1] = '\n';
    write_file(f->passwd, big, len);
    expect(f, "u", 9, 9, "/u");
    refuse(f, "xxx", "no such user");
    free(big);
}

static void test_too_many_groups(void **state)
{
    struct files *f = *state;
    FILE *g = fopen(f->group, "w");

    assert_non_null(g);
    for (unsigned i = 0; i <= ACCOUNT_GROUPS_MAX; i++)
        fprintf(g, "g%u:x:%u:app\n", i, i + 10);
    fclose(g);
    refuse(f, "app", "more than 1024 groups");
    expect(f, "app:g5", 1000, 15, "/home/app");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_names_and_ids, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_supplementary, setup, teardown),
        cmocka_unit_test_setup_teardown(test_missing_and_odd_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_many_groups, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

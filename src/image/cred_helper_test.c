/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "image/auth.h"
#include "image/cred_helper.h"

struct box {
    char dir[64];
    char program[128];
};

static int setup(void **state)
{
    struct box *b = calloc(1, sizeof *b);
    strcpy(b->dir, "/tmp/sm-helper-test.XXXXXX");
    if (!mkdtemp(b->dir)) {
        return -1;
    }
    snprintf(b->program, sizeof b->program, "%s/docker-credential-t", b->dir);
    char *path = io_format("%s:%s", b->dir, getenv("PATH"));
    setenv("PATH", path, 1);
    free(path);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct box *b = *state;
    unlink(b->program);
    rmdir(b->dir);
    free(b);
    return 0;
}

static int get(struct box *b, const char *script, struct buf *out, struct sm_error *err)
{
    FILE *f = fopen(b->program, "w");
    assert_non_null(f);
    fprintf(f, "#!/bin/sh\n%s\n", script);
    fclose(f);
    assert_int_equal(chmod(b->program, 0755), 0);
    out->len = 0;
    return cred_helper_get("t", "reg.io", 400, NULL, out, err);
}

static void answers(void **state)
{
    struct buf out = {0};
    struct sm_error err;
    assert_int_equal(get(*state, "echo $1; cat", &out, &err), SM_OK);
    assert_int_equal(out.len, 10);
    assert_memory_equal(out.data, "get\nreg.io", 10);
    assert_int_equal(
        get(*state, "echo credentials not found in native keychain; exit 1", &out, &err),
        SM_ENOTFOUND);
    assert_int_equal(get(*state, "exit 7", &out, &err), SM_EIO);
    assert_non_null(strstr(err.text, "exit code 7"));
    assert_int_equal(get(*state, "kill -KILL $$", &out, &err), SM_EIO);
    buf_fini(&out);
}

static void bounded(void **state)
{
    struct timespec a, z;
    struct buf out = {0};
    struct sm_error err;
    clock_gettime(CLOCK_MONOTONIC, &a);
    assert_int_equal(get(*state, "sleep 60", &out, &err), SM_ETIMEDOUT);
    assert_int_equal(get(*state, "sleep 60 & exit 0", &out, &err), SM_ETIMEDOUT); /* keeps stdout */
    assert_int_equal(get(*state, "yes", &out, &err), SM_ECORRUPT);
    clock_gettime(CLOCK_MONOTONIC, &z);
    assert_true(z.tv_sec - a.tv_sec < 20);
    atomic_bool cancel = true;
    assert_int_equal(cred_helper_get("t", "reg.io", 400, &cancel, &out, &err), SM_EINTR);
    buf_fini(&out);
}

static void names(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "../x", "a/b", "a b", "a;b", "$x"};
    struct buf out = {0};
    struct sm_error err;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(cred_helper_get(bad[i], "reg.io", 400, NULL, &out, &err), SM_EINVAL);
    }
    assert_int_equal(cred_helper_get("not-there", "reg.io", 400, NULL, &out, &err), SM_EIO);
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(answers, setup, teardown),
        cmocka_unit_test_setup_teardown(bounded, setup, teardown),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

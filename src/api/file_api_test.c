// SPDX-License-Identifier: Apache-2.0
/* Files in and out of a real VM, and commands that bring their files. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "api_fixture.h"

#define SIZE (2u << 20)
#define PATIENCE_MS 300000

struct files {
    struct fixture f;
    sm_vm *vm;
    uint8_t *data; /* SIZE bytes that repeat nowhere */
};

static int set_up(void **state)
{
    static struct files t;
    uint32_t x = 1;
    t.data = malloc(SIZE);
    if (!t.data || fixture_open(&t.f))
        return -1;
    for (size_t i = 0; i < SIZE; i++, x = x * 1664525 + 1013904223)
        t.data[i] = (uint8_t)(x >> 24);
    t.vm = start(&t.f, NULL);
    *state = &t;
    return 0;
}

static int tear_down(void **state)
{
    struct files *t = *state;
    sm_vm_free(t->vm);
    free(t->data);
    return fixture_close(&t->f);
}

static struct sm_file_spec file(const char *path)
{
    struct sm_file_spec spec = SM_FILE_SPEC_INIT;
    spec.path = path;
    return spec;
}

static void run(sm_vm *vm, struct sm_exec_spec *spec, struct sm_output *out)
{
    struct sm_error err = {0};
    if (sm_exec_output(vm, spec, 0, PATIENCE_MS, out, &err))
        fail_msg("%s", err.text);
}

static void expect_shell(sm_vm *vm, const char *command, const char *text)
{
    struct sm_output out;
    output(vm, command, &out);
    assert_string_equal(out.out, text);
    sm_output_fini(&out);
}

static void write_file(sm_vm *vm, const struct sm_file_spec *spec)
{
    struct sm_error err = {0};
    if (sm_vm_write_file(vm, spec, PATIENCE_MS, &err))
        fail_msg("%s", err.text);
}

static void read_file(sm_vm *vm, const struct sm_file_spec *spec, struct sm_file *out)
{
    struct sm_error err = {0};
    if (sm_vm_read_file(vm, spec, PATIENCE_MS, out, &err))
        fail_msg("%s", err.text);
}

static void test_through_memory(void **state)
{
    struct files *f = *state;
    struct sm_file_spec spec = file("/deep/folder/big");
    struct sm_file out;
    spec.data = f->data;
    spec.len = SIZE;
    spec.mode = 0751;
    write_file(f->vm, &spec);
    expect_shell(f->vm, "stat -c '%a %s %u' /deep/folder/big; ls /deep/folder",
                 "751 2097152 0\nbig\n");
    read_file(f->vm, &spec, &out);
    assert_int_equal(out.len, SIZE);
    assert_int_equal(out.mode, 0751);
    assert_memory_equal(out.data, f->data, SIZE);
    assert_int_equal(out.data[SIZE], 0);
    sm_free(out.data);
    spec.len = 0; /* empty, and the default mode */
    spec.mode = 0;
    spec.user = "1000:7";
    spec.path = "/tmp/empty";
    write_file(f->vm, &spec);
    expect_shell(f->vm, "stat -c '%a %s %u %g' /tmp/empty", "644 0 1000 7\n");
    read_file(f->vm, &spec, &out);
    assert_string_equal(out.data, "");
    assert_int_equal(out.len, 0);
    sm_free(out.data);
}

static void test_through_descriptors(void **state)
{
    struct files *f = *state;
    struct sm_file_spec spec = file("/tmp/streamed");
    struct sm_file out;
    uint8_t *back = malloc(SIZE + 1);
    spec.fd = memfd_create("in", MFD_CLOEXEC);
    assert_int_equal(write(spec.fd, f->data, SIZE), SIZE);
    lseek(spec.fd, 0, SEEK_SET);
    write_file(f->vm, &spec);
    close(spec.fd);
    spec.fd = memfd_create("out", MFD_CLOEXEC);
    read_file(f->vm, &spec, &out);
    assert_null(out.data);
    assert_int_equal(out.mode, 0644);
    assert_int_equal(pread(spec.fd, back, SIZE + 1, 0), SIZE);
    assert_memory_equal(back, f->data, SIZE);
    close(spec.fd);
    free(back);
}

static void test_refusals(void **state)
{
    struct files *f = *state;
    struct sm_file_spec spec = file("/nosuch");
    struct sm_error err = {0};
    struct sm_file out;
    assert_int_equal(sm_vm_read_file(f->vm, &spec, -1, &out, &err), SM_ENOTFOUND);
    assert_string_equal(err.text, "cannot read \"/nosuch\": No such file or directory");
    assert_null(out.data);
    spec.path = "/tmp";
    assert_int_equal(sm_vm_read_file(f->vm, &spec, -1, &out, &err), SM_EINVAL);
    assert_int_equal(sm_vm_write_file(f->vm, &spec, -1, &err), SM_EINVAL);
    assert_non_null(strstr(err.text, "Is a directory"));
    spec.path = "/proc/version/x";
    assert_int_equal(sm_vm_write_file(f->vm, &spec, -1, &err), SM_EINVAL);
    spec.path = "/dev/full";
    spec.data = "x";
    spec.len = 1;
    assert_int_equal(sm_vm_write_file(f->vm, &spec, -1, &err), SM_ENOSPC);
    assert_non_null(strstr(err.text, "/dev/full"));
    spec.path = "/root-only";
    spec.user = "1000";
    assert_int_equal(sm_vm_write_file(f->vm, &spec, -1, &err), SM_EINVAL);
    assert_non_null(strstr(err.text, "Permission denied"));
    spec.user = "nobody-knows";
    assert_int_equal(sm_vm_write_file(f->vm, &spec, -1, &err), SM_EINVAL);
    spec = file("/dev/zero"); /* without end */
    spec.max_bytes = 100000;
    assert_int_equal(sm_vm_read_file(f->vm, &spec, -1, &out, &err), SM_ENOMEM);
    assert_non_null(strstr(err.text, "more than 100000 bytes"));
    assert_null(out.data);
    spec.max_bytes = SIZE_MAX / 2;
    assert_int_equal(sm_vm_read_file(f->vm, &spec, 0, &out, &err), SM_ETIMEDOUT);
    assert_non_null(strstr(err.text, "/dev/zero"));
    spec = file(NULL);
    assert_int_equal(sm_vm_write_file(f->vm, &spec, -1, &err), SM_EINVAL);
    spec = file("/x");
    spec.mode = 010000;
    assert_int_equal(sm_vm_write_file(f->vm, &spec, -1, &err), SM_EINVAL);
    spec.mode = 0;
    spec.len = 1; /* of nothing */
    assert_int_equal(sm_vm_write_file(f->vm, &spec, -1, &err), SM_EINVAL);
    assert_int_equal(sm_vm_write_file(f->vm, NULL, -1, &err), SM_EINVAL);
    expect_shell(f->vm, "ls /x /root-only 2>/dev/null; echo alive", "alive\n");
}

/* More than the guest's memory: an error, and nothing is left of it. */
static void test_full(void **state)
{
    struct files *f = *state;
    struct sm_file_spec spec = file("/small/file");
    struct sm_error err = {0};
    expect_shell(f->vm, "mkdir /small && mount -t tmpfs -o size=1m tmpfs /small && echo ok",
                 "ok\n");
    spec.data = f->data;
    spec.len = SIZE;
    assert_int_equal(sm_vm_write_file(f->vm, &spec, PATIENCE_MS, &err), SM_ENOSPC);
    assert_non_null(strstr(err.text, "/small/file"));
    expect_shell(f->vm, "ls -A /small | wc -l; umount /small; rmdir /small", "0\n");
}

/* A program, its input, and what is run with them: one call. */
static void test_staged(void **state)
{
    struct files *f = *state;
    static const char script[] = "#!/bin/sh\ntr a-z A-Z <data >result\n";
    const struct sm_staged_file files[] = {
        {.path = "run.sh", .data = script, .len = strlen(script), .mode = 0755},
        {.path = "data", .data = "hello", .len = 5},
    };
    const char *const first[] = {"./run.sh", NULL}, *const second[] = {"cat", "result", NULL};
    const char *const third[] = {"sh", "-c", "id -u; exit 9", NULL};
    const char *const never[] = {"echo", "never", NULL};
    const char *const *const then[] = {second, third, never, NULL};
    struct sm_exec_spec spec = SM_EXEC_SPEC_INIT;
    struct sm_output out;
    spec.argv = first;
    spec.then = then;
    spec.files = files;
    spec.n_files = 2;
    spec.cwd = "/work";
    run(f->vm, &spec, &out);
    assert_string_equal(out.out, "HELLO0\n");
    assert_int_equal(out.outcome.code, 9);
    assert_true(out.outcome.wall_ns > 0);
    assert_true(out.outcome.peak_rss_bytes > 65536);
    sm_output_fini(&out);
}

static void test_bad_stage(void **state)
{
    struct files *f = *state;
    struct sm_staged_file one = {.path = "/tmp", .data = "x", .len = 1};
    const char *const argv[] = {"true", NULL};
    struct sm_exec_spec spec = SM_EXEC_SPEC_INIT;
    struct sm_error err = {0};
    struct sm_output out;
    spec.argv = argv;
    spec.files = &one;
    spec.n_files = 1;
    assert_int_equal(sm_exec_output(f->vm, &spec, 0, -1, &out, &err), SM_EINVAL);
    assert_non_null(strstr(err.text, "\"/tmp\": Is a directory"));
    one = (struct sm_staged_file){.path = "/tmp/x", .data = f->data, .len = 5u << 20};
    assert_int_equal(sm_exec_output(f->vm, &spec, 0, -1, &out, &err), SM_EINVAL);
    assert_non_null(strstr(err.text, "sm_vm_write_file"));
    one = (struct sm_staged_file){.data = "x", .len = 1};
    assert_int_equal(sm_exec_output(f->vm, &spec, 0, -1, &out, &err), SM_EINVAL);
    one = (struct sm_staged_file){.path = "/tmp/x", .len = 1};
    assert_int_equal(sm_exec_output(f->vm, &spec, 0, -1, &out, &err), SM_EINVAL);
    spec.n_files = 257;
    assert_int_equal(sm_exec_output(f->vm, &spec, 0, -1, &out, &err), SM_EINVAL);
}

struct job {
    pthread_t thread;
    struct files *f;
    char path[32];
    int bad;
};

static void *there_and_back(void *opaque)
{
    struct job *j = opaque;
    struct sm_file_spec spec = file(j->path);
    struct sm_file out;
    spec.data = j->f->data;
    spec.len = SIZE / 4;
    write_file(j->f->vm, &spec);
    read_file(j->f->vm, &spec, &out);
    j->bad = out.len != spec.len || memcmp(out.data, spec.data, spec.len) != 0;
    sm_free(out.data);
    return NULL;
}

static void test_several_at_once(void **state)
{
    struct job jobs[4];
    for (int i = 0; i < 4; i++) {
        jobs[i].f = *state;
        snprintf(jobs[i].path, sizeof jobs[i].path, "/tmp/at-once-%d", i / 2); /* two each */
        assert_int_equal(pthread_create(&jobs[i].thread, NULL, there_and_back, &jobs[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(jobs[i].thread, NULL);
        assert_int_equal(jobs[i].bad, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_through_memory),  cmocka_unit_test(test_through_descriptors),
        cmocka_unit_test(test_refusals),        cmocka_unit_test(test_full),
        cmocka_unit_test(test_staged),          cmocka_unit_test(test_bad_stage),
        cmocka_unit_test(test_several_at_once),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

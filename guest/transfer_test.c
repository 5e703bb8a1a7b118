/* SPDX-License-Identifier: Apache-2.0 */
/* Files in and out, and commands in a row: client.c against the agent's server on the host. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent_fixture.h"

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})

/* A folder for the test's files; paths in it. */
struct place {
    char folder[32], path[128];
};

static void place_init(struct place *p)
{
    strcpy(p->folder, "/tmp/sm-transfer-XXXXXX");
    assert_non_null(mkdtemp(p->folder));
}

static void place_fini(struct place *p)
{
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", p->folder);
    assert_int_equal(system(command), 0);
}

static const char *in(struct place *p, const char *name)
{
    snprintf(p->path, sizeof p->path, "%s/%s", p->folder, name);
    return p->path;
}

static unsigned entries(const struct place *p)
{
    DIR *dir = opendir(p->folder);
    unsigned n = 0;
    for (struct dirent *d; (d = readdir(dir));)
        n += d->d_name[0] != '.';
    closedir(dir);
    return n;
}

static void put_here(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void expect_here(const char *path, const char *text, unsigned mode)
{
    char data[64] = "";
    struct stat st;
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    data[fread(data, 1, sizeof data - 1, f)] = 0;
    fclose(f);
    assert_string_equal(data, text);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, mode);
}

static int memory(const void *data, size_t len)
{
    int fd = memfd_create("x", MFD_CLOEXEC);
    assert_int_equal(write(fd, data, len), len);
    lseek(fd, 0, SEEK_SET);
    return fd;
}

static void write_to(struct fixture *f, const char *path, unsigned mode, const void *data,
                     size_t len, struct outcome *o)
{
    struct codec_file file = {.path = path, .mode = mode};
    struct client_spec spec = CLIENT_SPEC_INIT;
    spec.what = CLIENT_WRITE;
    spec.files = &file;
    spec.n_files = 1;
    spec.stdin_fd = memory(data, len);
    fixture_run(f, spec, o);
    close(spec.stdin_fd);
}

static void read_from(struct fixture *f, const char *path, struct outcome *o)
{
    struct codec_file file = {.path = path};
    struct client_spec spec = CLIENT_SPEC_INIT;
    spec.what = CLIENT_READ;
    spec.files = &file;
    spec.n_files = 1;
    fixture_run(f, spec, o);
}

static void expect_code(struct outcome *o, int code)
{
    if (o->status)
        fail_msg("%s", o->err.text);
    assert_int_equal(o->result.code, code);
    outcome_fini(o);
}

static void expect_refusal(struct outcome *o, int status, const char *text)
{
    assert_int_equal(o->status, status);
    assert_true(o->result.refused);
    if (!strstr(o->err.text, text))
        fail_msg("\"%s\" does not say \"%s\"", o->err.text, text);
    assert_null(strstr(o->err.text, "command"));
    outcome_fini(o);
}

static void test_write(void **state)
{
    struct place p;
    struct outcome o;
    char link[128];
    place_init(&p);
    write_to(*state, in(&p, "new"), 0640, "abc", 3, &o);
    expect_code(&o, 0);
    expect_here(in(&p, "new"), "abc", 0640);
    write_to(*state, in(&p, "new"), 04755, "", 0, &o); /* in its place */
    expect_code(&o, 0);
    expect_here(in(&p, "new"), "", 04755);
    strcpy(link, in(&p, "link"));
    assert_int_equal(symlink("new", link), 0);
    write_to(*state, link, 0600, "through", 7, &o);
    expect_code(&o, 0);
    expect_here(in(&p, "new"), "through", 0600);
    write_to(*state, in(&p, "a/b/c"), 0644, "deep", 4, &o);
    expect_code(&o, 0);
    expect_here(in(&p, "a/b/c"), "deep", 0644);
    assert_int_equal(entries(&p), 3); /* new, link, a */
    place_fini(&p);
    fixture_expect_idle(*state);
}

static void test_write_refusals(void **state)
{
    struct place p;
    struct outcome o;
    char path[5000];
    place_init(&p);
    write_to(*state, p.folder, 0644, "x", 1, &o);
    expect_refusal(&o, SM_EINVAL, "Is a directory");
    write_to(*state, in(&p, "none/"), 0644, "x", 1, &o);
    expect_refusal(&o, SM_EINVAL, "Is a directory");
    put_here(in(&p, "file"), "kept");
    write_to(*state, in(&p, "file/x"), 0644, "x", 1, &o);
    expect_refusal(&o, SM_EINVAL, "Not a directory");
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = 0;
    write_to(*state, path, 0644, "x", 1, &o);
    expect_refusal(&o, SM_EINVAL, "File name too long");
    assert_int_equal(mkfifo(in(&p, "fifo"), 0600), 0);
    write_to(*state, in(&p, "fifo"), 0644, "x", 1, &o); /* nobody reads it */
    expect_refusal(&o, SM_EINVAL, "fifo");
    write_to(*state, "/dev/null", 0644, "abc", 3, &o);
    expect_code(&o, 0);
    write_to(*state, "/dev/full", 0644, "abc", 3, &o);
    expect_code(&o, ENOSPC);
    expect_here(in(&p, "file"), "kept", 0644);
    assert_int_equal(entries(&p), 2);
    place_fini(&p);
    fixture_expect_idle(*state);
}

/* The host goes away in the middle: the old contents are there, and nothing else. */
static void test_write_is_whole_or_not(void **state)
{
    struct codec_file file = {.mode = 0644};
    struct client_spec spec = CLIENT_SPEC_INIT;
    struct client_result result;
    struct sm_error err;
    struct client *c;
    struct place p;
    int pipes[2];
    place_init(&p);
    put_here(in(&p, "it"), "old");
    for (int i = 0; i < 10; i++) {
        int fd = fixture_connect(*state);
        assert_int_equal(pipe(pipes), 0);
        assert_int_equal(write(pipes[1], "half", 4), 4);
        file.path = in(&p, "it");
        spec.what = CLIENT_WRITE;
        spec.files = &file;
        spec.n_files = 1;
        spec.stdin_fd = pipes[0];
        assert_int_equal(client_new(&c, fd, &spec, &err), 0);
        assert_int_equal(client_run(c, i * 5, &result, &err), SM_ETIMEDOUT);
        client_free(c);
        close(fd);
        close(pipes[0]);
        close(pipes[1]);
    }
    fixture_expect_idle(*state);
    expect_here(in(&p, "it"), "old", 0644);
    assert_int_equal(entries(&p), 1);
    place_fini(&p);
}

static void test_read(void **state)
{
    struct place p;
    struct outcome o;
    place_init(&p);
    put_here(in(&p, "it"), "contents");
    chmod(in(&p, "it"), 02751);
    read_from(*state, in(&p, "it"), &o);
    assert_string_equal((char *)o.out[0].data, "contents");
    assert_string_equal((char *)o.out[1].data, "2751\n");
    expect_code(&o, 0);
    read_from(*state, in(&p, "none"), &o);
    expect_refusal(&o, SM_ENOTFOUND, "cannot read \"/tmp");
    read_from(*state, p.folder, &o);
    expect_refusal(&o, SM_EINVAL, "Is a directory");
    place_fini(&p);
    fixture_expect_idle(*state);
}

/* Both ways, more than any buffer holds. */
static void test_big(void **state)
{
    enum { SIZE = 3 << 20 };
    uint32_t *data = malloc(SIZE), x = 1;
    struct place p;
    struct outcome o;
    for (int i = 0; i < SIZE / 4; i++)
        data[i] = x = x * 1664525 + 1013904223;
    place_init(&p);
    write_to(*state, in(&p, "big"), 0644, data, SIZE, &o);
    expect_code(&o, 0);
    read_from(*state, in(&p, "big"), &o);
    assert_int_equal(o.out[0].len, SIZE);
    assert_memory_equal(o.out[0].data, data, SIZE);
    expect_code(&o, 0);
    place_fini(&p);
    free(data);
}

static void run_chain(struct fixture *f, const char *const *argv, const char *const *const *chain,
                      const struct codec_file *files, size_t n_files, struct outcome *o)
{
    struct client_spec spec = CLIENT_SPEC_INIT;
    spec.argv = argv;
    spec.chain = chain;
    spec.files = files;
    spec.n_files = n_files;
    spec.cwd = "/tmp";
    fixture_run(f, spec, o);
}

static void test_stage(void **state)
{
    struct place p;
    struct outcome o;
    char script[128], deep[128];
    place_init(&p);
    strcpy(script, in(&p, "run.sh"));
    strcpy(deep, in(&p, "a/data"));
    static const char text[] = "#!/bin/sh\ncat \"$1\"\n";
    const struct codec_file files[] = {
        {script, 0755, sizeof text - 1, (const uint8_t *)text},
        {deep, 0600, 3, (const uint8_t *)"x\0y"},
    };
    run_chain(*state, ARGV(script, deep), NULL, files, 2, &o);
    assert_int_equal(o.out[0].len, 3);
    assert_memory_equal(o.out[0].data, "x\0y", 3);
    expect_code(&o, 0);
    const struct codec_file bad[] = {files[1], {p.folder, 0644, 1, (const uint8_t *)"x"}};
    run_chain(*state, ARGV("true"), NULL, bad, 2, &o);
    assert_int_equal(o.status, SM_EINVAL);
    assert_true(o.result.refused);
    assert_non_null(strstr(o.err.text, "cannot start the command: cannot write"));
    outcome_fini(&o);
    place_fini(&p);
}

static void test_chain(void **state)
{
    const char *const *const two[] = {ARGV("sh", "-c", "echo two; exit 3"), ARGV("echo", "three"),
                                      NULL};
    const char *const *const missing[] = {ARGV("/nosuch"), ARGV("echo", "three"), NULL};
    const char *const *const last[] = {ARGV("sh", "-c", "echo two; exit 7"), NULL};
    struct outcome o;
    run_chain(*state, ARGV("echo", "one"), two, NULL, 0, &o);
    assert_string_equal((char *)o.out[0].data, "one\ntwo\n");
    expect_code(&o, 3);
    run_chain(*state, ARGV("echo", "one"), last, NULL, 0, &o);
    assert_string_equal((char *)o.out[0].data, "one\ntwo\n");
    expect_code(&o, 7);
    run_chain(*state, ARGV("false"), last, NULL, 0, &o);
    assert_int_equal(o.out[0].len, 0);
    expect_code(&o, 1);
    run_chain(*state, ARGV("echo", "one"), missing, NULL, 0, &o);
    assert_string_equal((char *)o.out[0].data, "one\n");
    assert_non_null(strstr((char *)o.out[1].data, "/nosuch"));
    expect_code(&o, 127);
    run_chain(*state, ARGV("/nosuch"), last, NULL, 0, &o); /* the first: not started at all */
    assert_int_equal(o.status, SM_ENOTFOUND);
    assert_true(o.result.refused);
    outcome_fini(&o);
    run_chain(*state, ARGV("sh", "-c", "kill -KILL $$"), last, NULL, 0, &o);
    assert_int_equal(o.result.signal, SIGKILL);
    expect_code(&o, 128 + SIGKILL);
    fixture_expect_idle(*state);
}

/* A signal is for the command that runs: what it makes of it is what counts. */
static void test_signal_in_a_chain(void **state)
{
    static const char trap[] = "trap 'echo trapped; exit 0' TERM; while :; do sleep 0.05; done";
    const char *const *const then[] = {ARGV("echo", "next"), NULL};
    for (int trapped = 0; trapped < 2; trapped++) {
        struct client_spec spec = CLIENT_SPEC_INIT;
        struct client_result result;
        struct sm_error err;
        struct client *c;
        char text[32] = "";
        int fd = fixture_connect(*state), pipes[2];
        assert_int_equal(pipe2(pipes, O_NONBLOCK), 0);
        spec.argv = trapped ? ARGV("sh", "-c", trap) : ARGV("sleep", "1000");
        spec.chain = then;
        spec.stdout_fd = pipes[1];
        assert_int_equal(client_new(&c, fd, &spec, &err), 0);
        assert_int_equal(client_run(c, 1000, &result, &err), SM_ETIMEDOUT);
        client_signal(c, SIGTERM, false);
        assert_int_equal(client_run(c, 60000, &result, &err), 0);
        assert_int_equal(result.signal, trapped ? 0 : SIGTERM);
        assert_int_equal(read(pipes[0], text, sizeof text - 1) > 0, trapped);
        assert_string_equal(text, trapped ? "trapped\nnext\n" : "");
        client_free(c);
        close(fd);
        close(pipes[0]);
        close(pipes[1]);
    }
    fixture_expect_idle(*state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write),
        cmocka_unit_test(test_write_refusals),
        cmocka_unit_test(test_write_is_whole_or_not),
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_big),
        cmocka_unit_test(test_stage),
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_signal_in_a_chain),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Exec sessions end to end on the host: client.c against the agent's server in another process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/request.h"
#include "agent_fixture.h"

#define ARGV(...) ((const char *[]){__VA_ARGS__, NULL})

static struct client_spec spec_of(const char *const *argv)
{
    struct client_spec spec = CLIENT_SPEC_INIT;

    spec.argv = argv;
    return spec;
}

static void test_streams_and_code(void **state)
{
    struct outcome o;

    fixture_shell(*state, "echo out; echo err >&2; exit 7", &o);
    assert_int_equal(o.status, 0);
    assert_int_equal(o.result.code, 7);
    assert_int_equal(o.result.signal, 0);
    assert_string_equal((char *)o.out[0].data, "out\n");
    assert_string_equal((char *)o.out[1].data, "err\n");
    assert_true(o.result.wall_ns > 0);
    assert_true(o.result.peak_rss_bytes > 100000);
    outcome_fini(&o);
}

static void test_exit_codes(void **state)
{
    struct outcome o;
    char script[32];

    for (int code = 0; code < 256; code++) {
        snprintf(script, sizeof script, "exit %d", code);
        fixture_shell(*state, script, &o);
        assert_int_equal(o.status, 0);
        assert_int_equal(o.result.code, code);
        assert_int_equal(o.result.signal, 0);
        outcome_fini(&o);
    }
}

static void test_killed_by_signal(void **state)
{
    static const int signals[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGILL,  SIGABRT, SIGFPE,
                                  SIGKILL, SIGSEGV, SIGPIPE, SIGALRM, SIGTERM, SIGUSR1};
    struct outcome o;
    char script[32];

    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        snprintf(script, sizeof script, "kill -%d $$; sleep 5", signals[i]);
        fixture_shell(*state, script, &o);
        assert_int_equal(o.status, 0);
        assert_int_equal(o.result.signal, signals[i]);
        assert_int_equal(o.result.code, 128 + signals[i]);
        outcome_fini(&o);
    }
}

/* Dispositions and mask of the agent must not be inherited. */
static void test_signals_are_default(void **state)
{
    struct outcome o;

    fixture_shell(*state, "grep -E '^Sig(Blk|Ign)' /proc/self/status | tr -d '\\t'", &o);
    assert_string_equal((char *)o.out[0].data,
                        "SigBlk:0000000000000000\nSigIgn:0000000000000000\n");
    outcome_fini(&o);
}

static void expect_refusal(struct fixture *f, struct client_spec spec, int status, int code,
                           const char *text)
{
    struct outcome o;

    fixture_run(f, spec, &o);
    assert_int_equal(o.status, status);
    assert_true(o.result.refused);
    assert_int_equal(o.result.code, code);
    if (!strstr(o.err.text, text))
        fail_msg("\"%s\" is not in \"%s\"", text, o.err.text);
    outcome_fini(&o);
}

static void write_script(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    chmod(path, 0755);
}

static void test_not_found_and_not_executable(void **state)
{
    struct fixture *f = *state;
    char plain[64], bad[64], broken[64], missing[64];
    struct client_spec spec;

    snprintf(plain, sizeof plain, "%s/plain", f->dir);
    snprintf(bad, sizeof bad, "%s/bad", f->dir);
    snprintf(broken, sizeof broken, "%s/broken", f->dir);
    snprintf(missing, sizeof missing, "%s/missing/x", f->dir);
    write_script(plain, "#!/bin/sh\n");
    chmod(plain, 0644);
    write_script(bad, "echo no interpreter line\n");
    write_script(broken, "#!/nonexistent/interpreter\n");
    expect_refusal(f, spec_of(ARGV("nosuch")), SM_ENOTFOUND, 127, "not found in $PATH");
    expect_refusal(f, spec_of(ARGV("")), SM_ENOTFOUND, 127, "not found in $PATH");
    expect_refusal(f, spec_of(ARGV(missing)), SM_ENOTFOUND, 127, "No such file");
    expect_refusal(f, spec_of(ARGV(broken)), SM_ENOTFOUND, 127, "interpreter is missing");
    expect_refusal(f, spec_of(ARGV("/etc")), SM_EINVAL, 126, "Permission denied");
    expect_refusal(f, spec_of(ARGV(plain)), SM_EINVAL, 126, "Permission denied");
    expect_refusal(f, spec_of(ARGV(bad)), SM_EINVAL, 126, "not a program for this machine");
    spec = spec_of(ARGV("plain"));
    char path[80];
    snprintf(path, sizeof path, "PATH=/nonexistent:%s", f->dir);
    spec.env = ARGV(path);
    expect_refusal(f, spec, SM_EINVAL, 126, "Permission denied");
    unlink(plain);
    unlink(bad);
    unlink(broken);
}

static void test_bad_users(void **state)
{
    static const char *const users[] = {
        "no-such-user", "4294967295",   "4294967296", "-1",  "2147483648", "18446744073709551616",
        "0:no-group",   "0:4294967296", "0:-1",       "1.5", "+0"};
    struct client_spec spec = spec_of(ARGV("id"));

    for (size_t i = 0; i < sizeof users / sizeof *users; i++) {
        spec.user = users[i];
        expect_refusal(*state, spec, SM_EINVAL, 125, "\": ");
    }
}

static void test_user(void **state)
{
    struct client_spec spec = spec_of(ARGV("/bin/sh", "-c", "id -u; id -g; id -G; echo $HOME"));
    struct outcome o;

    if (geteuid() != 0) {
        print_message("SKIP: changing the user needs root\n");
        skip();
    }
    spec.user = "54321:1234";
    fixture_run(*state, spec, &o);
    assert_string_equal((char *)o.out[0].data, "54321\n1234\n1234\n/\n");
    outcome_fini(&o);
    spec.user = "54321";
    fixture_run(*state, spec, &o);
    assert_string_equal((char *)o.out[0].data, "54321\n0\n0\n/\n");
    outcome_fini(&o);
    /* stdout can be reopened by name, though the agent made the pipe (moby#6880). */
    spec.argv = ARGV("/bin/sh", "-c", "echo again > /dev/stdout");
    fixture_run(*state, spec, &o);
    assert_string_equal((char *)o.out[0].data, "again\n");
    outcome_fini(&o);
}

static void test_cwd(void **state)
{
    struct fixture *f = *state;
    struct client_spec spec = spec_of(ARGV("pwd"));
    struct outcome o;
    char deep[64];

    snprintf(deep, sizeof deep, "%s/a/b", f->dir);
    spec.cwd = "/tmp";
    fixture_run(f, spec, &o);
    assert_string_equal((char *)o.out[0].data, "/tmp\n");
    outcome_fini(&o);
    spec.cwd = NULL;
    fixture_run(f, spec, &o);
    assert_string_equal((char *)o.out[0].data, "/\n");
    outcome_fini(&o);
    spec.cwd = deep;
    expect_refusal(f, spec, SM_EINVAL, 125, "No such file");
    spec.make_cwd = true;
    fixture_run(f, spec, &o);
    assert_int_equal(strncmp((char *)o.out[0].data, deep, strlen(deep)), 0);
    outcome_fini(&o);
    rmdir(deep);
    *strrchr(deep, '/') = 0;
    rmdir(deep);
    spec.cwd = "/etc/passwd";
    expect_refusal(f, spec, SM_EINVAL, 125, "Not a directory");
    spec.cwd = "relative";
    expect_refusal(f, spec, SM_EINVAL, 125, "not an absolute path");
}

static void test_environment(void **state)
{
    struct client_spec spec = spec_of(ARGV("env"));
    struct outcome o;

    fixture_run(*state, spec, &o);
    assert_non_null(strstr((char *)o.out[0].data, "PATH=/usr/local/sbin:/usr/local/bin:"));
    assert_non_null(strstr((char *)o.out[0].data, "HOME=/"));
    assert_non_null(strstr((char *)o.out[0].data, "HOSTNAME="));
    assert_null(strstr((char *)o.out[0].data, "TERM="));
    outcome_fini(&o);
    spec.env = ARGV("PATH=/bin:/usr/bin", "HOME=/x", "HOSTNAME=h", "A=b c\n=d", "EMPTY=");
    fixture_run(*state, spec, &o);
    assert_string_equal((char *)o.out[0].data,
                        "PATH=/bin:/usr/bin\nHOME=/x\nHOSTNAME=h\nA=b c\n=d\nEMPTY=\n");
    outcome_fini(&o);
}

static void test_big_arguments(void **state)
{
    enum { COUNT = 100000 };
    const char **argv = calloc(COUNT + 5, sizeof *argv);
    static char big[100001];
    struct client_spec spec = spec_of(argv);
    struct outcome o;

    argv[0] = "/bin/sh";
    argv[1] = "-c";
    argv[2] = "echo $# ${#1}";
    argv[3] = "sh";
    for (int i = 4; i < COUNT + 4; i++)
        argv[i] = "x";
    memset(big, 'y', sizeof big - 1);
    argv[4] = big;
    fixture_run(*state, spec, &o);
    assert_int_equal(o.status, 0);
    assert_string_equal((char *)o.out[0].data, "100000 100000\n");
    outcome_fini(&o);
    for (int i = 4; i < 40; i++)
        argv[i] = big; /* 3.6 MB: within the protocol, beyond the kernel */
    expect_refusal(*state, spec, SM_EGUEST, 125, "Argument list too long");
    for (int i = 4; i < 60; i++)
        argv[i] = big;
    fixture_run(*state, spec, &o);
    assert_int_equal(o.status, SM_EINVAL);
    assert_false(o.result.refused);
    outcome_fini(&o);
    free(argv);
}

struct term_later {
    struct client *client;
    int fd; /* says "up" when the command is ready for the signal */
};

static void *term_later(void *opaque)
{
    struct term_later *t = opaque;
    char up[3];

    for (size_t n = 0; n < sizeof up;) {
        ssize_t got = read(t->fd, up + n, sizeof up - n);
        if (got <= 0)
            return NULL;
        n += (size_t)got;
    }
    client_signal(t->client, SIGTERM, false);
    return NULL;
}

static void test_signal_from_another_thread(void **state)
{
    struct client_spec spec = spec_of(ARGV(
        "/bin/sh", "-c", "trap 'echo got; exit 9' TERM; echo up; while :; do sleep 0.01; done"));
    int fd = fixture_connect(*state), pipe_fds[2];
    struct client_result result;
    struct sm_error err;
    struct term_later later;
    struct client *c;
    pthread_t thread;
    char line[8] = "";

    assert_int_equal(pipe(pipe_fds), 0);
    spec.stdout_fd = pipe_fds[1];
    assert_int_equal(client_new(&c, fd, &spec, &err), 0);
    later = (struct term_later){c, pipe_fds[0]};
    pthread_create(&thread, NULL, term_later, &later);
    assert_int_equal(client_run(c, 20000, &result, &err), 0);
    pthread_join(thread, NULL);
    assert_int_equal(result.code, 9);
    assert_int_equal(read(pipe_fds[0], line, 4), 4);
    assert_string_equal(line, "got\n");
    client_free(c);
    close(fd);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

/* Go on with a session until its command has written something, however busy the machine is: this
 * process holds the pipe's other end too, so a read would wait for ever. */
static void run_until_output(struct client *c, int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    struct client_result result;
    struct sm_error err;

    for (int i = 0; i < 400 && poll(&p, 1, 0) == 0; i++)
        assert_int_equal(client_run(c, 50, &result, &err), SM_ETIMEDOUT);
    assert_int_equal(poll(&p, 1, 0), 1);
}

/* A deadline interrupts nothing: the session can be ended by a signal and gone on with. All of it
 * dies. */
static void test_timeout_then_kill_all(void **state)
{
    struct client_spec spec = spec_of(
        ARGV("/bin/bash", "-c", "set -m; sleep 1000 & echo $!; trap '' TERM; wait; sleep 1000"));
    int fd = fixture_connect(*state), pipe_fds[2];
    struct client_result result;
    struct sm_error err;
    struct client *c;
    char line[32] = "";

    assert_int_equal(pipe(pipe_fds), 0);
    spec.stdout_fd = pipe_fds[1];
    assert_int_equal(client_new(&c, fd, &spec, &err), 0);
    run_until_output(c, pipe_fds[0]);
    assert_int_equal(client_run(c, 100, &result, &err), SM_ETIMEDOUT);
    client_interrupt(c);
    assert_int_equal(client_run(c, 20000, &result, &err), SM_EINTR);
    client_signal(c, SIGKILL, true);
    assert_int_equal(client_run(c, 20000, &result, &err), 0);
    assert_int_equal(result.code, 137);
    assert_true(read(pipe_fds[0], line, sizeof line - 1) > 0);
    assert_true(atoi(line) > 1); /* a child in a process group of its own */
    assert_true(fixture_wait_gone(atoi(line), 20000));
    client_free(c);
    close(fd);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static void test_abandoned_session_is_killed(void **state)
{
    struct fixture *f = *state;
    struct client_spec spec =
        spec_of(ARGV("/bin/bash", "-c", "set -m; sleep 1000 & echo $$ $!; wait"));

    for (int i = 0; i < 20; i++) {
        int fd = fixture_connect(f), pipe_fds[2], pids[2];
        struct sm_error err;
        struct client *c;
        char line[64] = "";

        assert_int_equal(pipe(pipe_fds), 0);
        spec.stdout_fd = pipe_fds[1];
        assert_int_equal(client_new(&c, fd, &spec, &err), 0);
        run_until_output(c, pipe_fds[0]);
        assert_true(read(pipe_fds[0], line, sizeof line - 1) > 0);
        assert_int_equal(sscanf(line, "%d %d", &pids[0], &pids[1]), 2);
        client_free(c);
        close(fd);
        assert_true(fixture_wait_gone(pids[0], 20000));
        assert_true(fixture_wait_gone(pids[1], 20000));
        close(pipe_fds[0]);
        close(pipe_fds[1]);
    }
    fixture_expect_idle(f);
}

/* The end of the command is the end of the session, whoever else holds its output. */
static void test_detached_child(void **state)
{
    struct outcome o;

    fixture_shell(*state, "sleep 1000 & echo $!; exit 3", &o);
    assert_int_equal(o.status, 0);
    assert_int_equal(o.result.code, 3);
    assert_true(atoi((char *)o.out[0].data) > 1);
    assert_true(o.result.wall_ns < UINT64_C(5000000000));
    kill(atoi((char *)o.out[0].data), SIGKILL);
    outcome_fini(&o);
}

static void *run_many(void *fixture)
{
    for (int i = 0; i < 25; i++) {
        struct outcome o;
        char script[64], want[32];

        snprintf(script, sizeof script, "echo %d-%lx", i, (unsigned long)pthread_self());
        snprintf(want, sizeof want, "%d-%lx\n", i, (unsigned long)pthread_self());
        fixture_shell(fixture, script, &o);
        if (o.status || o.result.code || strcmp((char *)o.out[0].data, want) != 0)
            return fixture;
        outcome_fini(&o);
    }
    return NULL;
}

static void test_concurrent_sessions(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[20];
    void *result;

    for (int i = 0; i < 20; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_many, f), 0);
    for (int i = 0; i < 20; i++) {
        pthread_join(threads[i], &result);
        assert_null(result);
    }
    fixture_expect_idle(f);
}

static void test_control(void **state)
{
    struct request_setup setup = {
        .hostname = "h", .clock_ns = 1, .entropy = "abc", .entropy_len = 3};
    static char too_long[70];
    struct sm_error err;
    int fd = fixture_connect(*state);

    assert_int_equal(request_ping(fd, 5000, &err), 0);
    close(fd);
    fd = fixture_connect(*state);
    assert_int_equal(request_setup(fd, &setup, 5000, &err), 0);
    close(fd);
    fd = fixture_connect(*state);
    memset(too_long, 'x', sizeof too_long - 1);
    setup.hostname = too_long;
    assert_int_equal(request_setup(fd, &setup, 5000, &err), SM_EINVAL);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streams_and_code),
        cmocka_unit_test(test_exit_codes),
        cmocka_unit_test(test_killed_by_signal),
        cmocka_unit_test(test_signals_are_default),
        cmocka_unit_test(test_not_found_and_not_executable),
        cmocka_unit_test(test_bad_users),
        cmocka_unit_test(test_user),
        cmocka_unit_test(test_cwd),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_big_arguments),
        cmocka_unit_test(test_signal_from_another_thread),
        cmocka_unit_test(test_timeout_then_kill_all),
        cmocka_unit_test(test_abandoned_session_is_killed),
        cmocka_unit_test(test_detached_child),
        cmocka_unit_test(test_concurrent_sessions),
        cmocka_unit_test(test_control),
    };

    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}

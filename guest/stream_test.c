/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes through a session: exactness, back-pressure, ends of streams, terminals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent_fixture.h"
#include "base/hash.h"
#include "base/io.h"

#define ARGV(...) ((const char *[]){__VA_ARGS__, NULL})
#define MIB (1u << 20)

/* A session that runs on a thread of its own. */
struct job {
    int fd;
    struct client *client;
    struct client_result result;
    struct sm_error err;
    int status;
    pthread_t thread;
};

static void *job_main(void *arg)
{
    struct job *j = arg;

    j->status = client_run(j->client, 100000, &j->result, &j->err);
    return NULL;
}

static void job_start(struct job *j, const struct fixture *f, const struct client_spec *spec)
{
    memset(j, 0, sizeof *j);
    j->fd = fixture_connect(f);
    assert_int_equal(client_new(&j->client, j->fd, spec, &j->err), 0);
    assert_int_equal(pthread_create(&j->thread, NULL, job_main, j), 0);
}

static void job_join(struct job *j)
{
    pthread_join(j->thread, NULL);
    client_free(j->client);
    close(j->fd);
}

static void fill(uint8_t *p, size_t len, uint64_t *seed)
{
    for (size_t i = 0; i < len; i++) {
        *seed = *seed * 6364136223846793005u + 1442695040888963407u;
        p[i] = (uint8_t)(*seed >> 56);
    }
}

struct writer {
    int fd;
    size_t total;
    struct hash *hash;
};

static void *writer_main(void *arg)
{
    struct writer *w = arg;
    static uint8_t block[70001];
    uint64_t seed = 42;

    for (size_t left = w->total; left;) {
        size_t n = left < sizeof block ? left : sizeof block;
        fill(block, n, &seed);
        hash_update(w->hash, block, n);
        if (io_write_full(w->fd, block, n) < 0)
            break;
        left -= n;
    }
    close(w->fd);
    return NULL;
}

static void test_100_mb_of_stdin(void **state)
{
    struct client_spec spec = CLIENT_SPEC_INIT;
    struct writer w = {.total = 100 * MIB, .hash = hash_new()};
    char want[DIGEST_STR_SIZE];
    pthread_t thread;
    struct outcome o;
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    w.fd = fds[1];
    pthread_create(&thread, NULL, writer_main, &w);
    spec.argv = ARGV("sha256sum");
    spec.stdin_fd = fds[0];
    fixture_run(*state, spec, &o);
    pthread_join(thread, NULL);
    hash_final(w.hash, want);
    assert_int_equal(o.status, 0);
    assert_int_equal(o.result.code, 0);
    assert_int_equal(strncmp((char *)o.out[0].data, want + strlen("sha256:"), HASH_HEX_LEN), 0);
    outcome_fini(&o);
    close(fds[0]);
    hash_free(w.hash);
}

/* The reader stops: neither side's memory grows. It goes on: nothing is lost. Both streams at once.
 */
static void test_slow_reader(void **state)
{
    struct fixture *f = *state;
    struct client_spec spec = CLIENT_SPEC_INIT;
    uint8_t *block = malloc(MIB);
    size_t before, agent_before, got = 0;
    int out[2], errs[2];
    struct job j;

    assert_int_equal(pipe(out), 0);
    assert_int_equal(pipe(errs), 0);
    spec.argv =
        ARGV("/bin/sh", "-c",
             "head -c 20971520 /dev/zero | tr '\\0' e >&2 & head -c 104857600 /dev/zero | tr "
             "'\\0' o; wait");
    spec.stdout_fd = out[1];
    spec.stderr_fd = errs[1];
    before = fixture_status_kb(getpid(), "VmRSS");
    agent_before = fixture_status_kb(f->pid, "VmRSS");
    job_start(&j, f, &spec);
    usleep(500000);
    assert_true(fixture_status_kb(getpid(), "VmRSS") < before + 8192);
    assert_true(fixture_status_kb(f->pid, "VmRSS") < agent_before + 2048);
    while (got < 120 * MIB) {
        struct pollfd p[2] = {{out[0], POLLIN, 0}, {errs[0], POLLIN, 0}};
        assert_true(poll(p, 2, 20000) > 0);
        for (int i = 0; i < 2; i++) {
            ssize_t n = p[i].revents & POLLIN ? read(p[i].fd, block, MIB) : 0;
            assert_true(n >= 0);
            for (ssize_t k = 0; k < n; k++)
                if (block[k] != (i ? 'e' : 'o'))
                    fail_msg("a byte of the other stream");
            got += (size_t)n;
        }
    }
    job_join(&j);
    assert_int_equal(j.status, 0);
    assert_int_equal(j.result.code, 0);
    assert_true(fixture_status_kb(f->pid, "VmHWM") < agent_before + 4096);
    close(out[0]), close(out[1]), close(errs[0]), close(errs[1]);
    free(block);
}

/* The other way round: who does not read its stdin stops our reading of ours. */
static void test_slow_command(void **state)
{
    struct fixture *f = *state;
    struct client_spec spec = CLIENT_SPEC_INIT;
    struct writer w = {.total = 30 * MIB, .hash = hash_new()};
    char want[DIGEST_STR_SIZE], got[HASH_HEX_LEN];
    size_t agent_before = fixture_status_kb(f->pid, "VmRSS");
    pthread_t thread;
    int in[2], out[2];
    struct job j;

    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    w.fd = in[1];
    pthread_create(&thread, NULL, writer_main, &w);
    spec.argv = ARGV("/bin/sh", "-c", "sleep 0.5; exec sha256sum");
    spec.stdin_fd = in[0];
    spec.stdout_fd = out[1];
    job_start(&j, f, &spec);
    usleep(300000);
    assert_true(fixture_status_kb(f->pid, "VmRSS") < agent_before + 2048);
    job_join(&j);
    pthread_join(thread, NULL);
    hash_final(w.hash, want);
    assert_int_equal(j.status, 0);
    assert_int_equal(io_read_full(out[0], got, sizeof got), sizeof got);
    assert_memory_equal(got, want + strlen("sha256:"), sizeof got);
    close(in[0]), close(out[0]), close(out[1]);
    hash_free(w.hash);
}

static void test_many_tiny_writes(void **state)
{
    struct client_spec spec = CLIENT_SPEC_INIT;
    struct outcome o;
    int zero = open("/dev/zero", O_RDONLY);

    spec.argv = ARGV("dd", "bs=1", "count=200000", "status=none");
    spec.stdin_fd = zero;
    fixture_run(*state, spec, &o);
    assert_int_equal(o.result.code, 0);
    assert_int_equal(o.out[0].len, 200000);
    for (size_t i = 0; i < o.out[0].len; i++)
        assert_int_equal(o.out[0].data[i], 0);
    outcome_fini(&o);
    close(zero);
}

static void test_empty_stdin_and_no_stdin(void **state)
{
    struct client_spec spec = CLIENT_SPEC_INIT;
    struct outcome o;
    int null = open("/dev/null", O_RDONLY);

    spec.argv = ARGV("/bin/sh", "-c", "cat; readlink /proc/self/fd/0");
    fixture_run(*state, spec, &o);
    assert_string_equal((char *)o.out[0].data, "/dev/null\n");
    outcome_fini(&o);
    spec.stdin_fd = null;
    fixture_run(*state, spec, &o);
    assert_int_equal(strncmp((char *)o.out[0].data, "pipe:", 5), 0);
    outcome_fini(&o);
    close(null);
}

/* Endless input to one that does not read, that closes it, that ends: the session ends with it. */
static void test_input_nobody_reads(void **state)
{
    static const char *const scripts[] = {"exit 5", "exec 0<&-; sleep 0.2; exit 5",
                                          "head -c 300000 >/dev/null; exit 5"};
    struct client_spec spec = CLIENT_SPEC_INIT;
    struct outcome o;
    int zero = open("/dev/zero", O_RDONLY);

    for (size_t i = 0; i < 3; i++) {
        spec.argv = ARGV("/bin/sh", "-c", scripts[i]);
        spec.stdin_fd = zero;
        fixture_run(*state, spec, &o);
        assert_int_equal(o.status, 0);
        assert_int_equal(o.result.code, 5);
        outcome_fini(&o);
    }
    close(zero);
}

static void test_output_reader_goes_away(void **state)
{
    struct client_spec spec = CLIENT_SPEC_INIT;
    struct sigaction ignored;
    struct job j;
    int out[2];
    char byte;

    assert_int_equal(pipe(out), 0);
    spec.argv = ARGV("yes");
    spec.stdout_fd = out[1];
    job_start(&j, *state, &spec);
    assert_int_equal(read(out[0], &byte, 1), 1);
    close(out[0]);
    job_join(&j);
    assert_int_equal(j.status, 0);
    assert_int_equal(j.result.code, 128 + SIGPIPE);
    assert_int_equal(sigaction(SIGPIPE, NULL, &ignored), 0);
    assert_true(ignored.sa_handler == SIG_DFL); /* and we live: none was raised */
    close(out[1]);
}

static void test_output_descriptor_fails(void **state)
{
    struct client_spec spec = CLIENT_SPEC_INIT;
    struct job j;
    int full = open("/dev/full", O_WRONLY);

    spec.argv = ARGV("echo", "x");
    spec.stdout_fd = full;
    job_start(&j, *state, &spec);
    job_join(&j);
    assert_int_equal(j.status, SM_ENOSPC);
    close(full);
}

static void test_output_into_a_file(void **state)
{
    struct client_spec spec = CLIENT_SPEC_INIT;
    struct job j;
    int file = memfd_create("out", MFD_CLOEXEC);

    spec.argv = ARGV("head", "-c", "10000000", "/dev/zero");
    spec.stdout_fd = file;
    job_start(&j, *state, &spec);
    job_join(&j);
    assert_int_equal(j.status, 0);
    assert_int_equal(lseek(file, 0, SEEK_CUR), 10000000);
    close(file);
}

static struct client_spec tty_spec(const char *const *argv)
{
    struct client_spec spec = CLIENT_SPEC_INIT;

    spec.argv = argv;
    spec.tty = true;
    spec.rows = 40;
    spec.cols = 100;
    return spec;
}

static void test_terminal(void **state)
{
    struct client_spec spec =
        tty_spec(ARGV("/bin/sh", "-c", "tty; stty size; echo err >&2; echo $TERM; exit 4"));
    struct outcome o;

    fixture_run(*state, spec, &o);
    assert_int_equal(o.status, 0);
    assert_int_equal(o.result.code, 4);
    assert_int_equal(strncmp((char *)o.out[0].data, "/dev/pts/", 9), 0);
    assert_non_null(strstr((char *)o.out[0].data, "\r\n40 100\r\nerr\r\nxterm\r\n"));
    assert_int_equal(o.out[1].len, 0);
    outcome_fini(&o);
}

/* Keys go in, Ctrl-C interrupts, the end of input is the terminal's end-of-file character. */
static void test_terminal_input(void **state)
{
    struct client_spec spec =
        tty_spec(ARGV("/bin/sh", "-c", "stty -echo; read a; echo got $a; cat; exit 6"));
    struct outcome o;
    int in[2];

    assert_int_equal(pipe(in), 0);
    assert_int_equal(io_write_full(in[1], "one\ntwo\n", 8), 0);
    close(in[1]);
    spec.stdin_fd = in[0];
    fixture_run(*state, spec, &o);
    assert_int_equal(o.result.code, 6);
    assert_non_null(strstr((char *)o.out[0].data, "got one\r\ntwo\r\n"));
    outcome_fini(&o);
    close(in[0]);

    assert_int_equal(pipe(in), 0);
    assert_int_equal(io_write_full(in[1], "\003", 1), 0);
    spec.argv = ARGV("sleep", "1000");
    spec.stdin_fd = in[0];
    fixture_run(*state, spec, &o);
    assert_int_equal(o.result.signal, SIGINT);
    outcome_fini(&o);
    close(in[0]), close(in[1]);
}

static void test_terminal_resize(void **state)
{
    /* No trap: bash 5.2 parses $(...) wrongly when one runs in the middle of it. */
    struct client_spec spec = tty_spec(
        ARGV("/bin/sh", "-c",
             "echo up; until [ \"$(stty size)\" = '33 77' ]; do sleep 0.02; done; exit 8"));
    char text[4096] = "";
    size_t len = 0;
    int out[2];
    struct job j;

    assert_int_equal(pipe(out), 0);
    spec.stdout_fd = out[1];
    job_start(&j, *state, &spec);
    while (!strstr(text, "up")) {
        ssize_t n = read(out[0], text + len, sizeof text - len - 1);
        assert_true(n > 0);
        len += (size_t)n;
    }
    for (int i = 0; i < 100000; i++) /* coalesced: no queue that could grow */
        client_resize(j.client, (uint16_t)(i % 50 + 1), (uint16_t)(i % 90 + 1));
    client_resize(j.client, 0, 0);
    client_resize(j.client, 33, 77);
    job_join(&j);
    assert_int_equal(j.status, 0);
    if (j.result.code != 8) {
        ssize_t n = read(out[0], text, sizeof text - 1);
        text[n > 0 ? n : 0] = 0;
        fail_msg("code %d: %s", j.result.code, text);
    }
    close(out[0]), close(out[1]);
}

/* A background job holds the terminal open; the command's end is the session's, and hangs the job
 * up. */
static void test_terminal_detached_child(void **state)
{
    struct client_spec spec = tty_spec(
        ARGV("/bin/sh", "-c", "sleep 1000 & echo $!; head -c 100000 /dev/zero | tr '\\0' x"));
    struct outcome o;

    fixture_run(*state, spec, &o);
    assert_int_equal(o.status, 0);
    assert_int_equal(o.result.code, 0);
    assert_true(o.out[0].len > 100000);
    assert_true(fixture_wait_gone(atoi((char *)o.out[0].data), 2000));
    outcome_fini(&o);
    fixture_expect_idle(*state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_100_mb_of_stdin),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_slow_command),
        cmocka_unit_test(test_many_tiny_writes),
        cmocka_unit_test(test_empty_stdin_and_no_stdin),
        cmocka_unit_test(test_input_nobody_reads),
        cmocka_unit_test(test_output_reader_goes_away),
        cmocka_unit_test(test_output_descriptor_fails),
        cmocka_unit_test(test_output_into_a_file),
        cmocka_unit_test(test_terminal),
        cmocka_unit_test(test_terminal_input),
        cmocka_unit_test(test_terminal_resize),
        cmocka_unit_test(test_terminal_detached_child),
    };

    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The host's side against guests that are not what they should be. The honest guest:
 * guest/session_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/client.h"
#include "agent/codec.h"
#include "agent/request.h"
#include "base/buf.h"
#include "base/io.h"

/* --- building what a guest says --- */

static void say(struct buf *b, const uint8_t *frame, size_t len)
{
    assert_int_equal(buf_append(b, frame, len), 0);
}

static void say_hello(struct buf *b)
{
    uint8_t f[CODEC_SMALL];

    say(b, f, codec_hello_build(f));
}

static void say_u32(struct buf *b, enum proto_type type, unsigned stream, uint32_t v)
{
    uint8_t f[CODEC_SMALL];

    say(b, f, codec_u32_build(f, type, stream, v));
}

static void say_empty(struct buf *b, enum proto_type type, unsigned stream)
{
    uint8_t f[CODEC_SMALL];

    say(b, f, codec_empty_build(f, type, stream));
}

static void say_data(struct buf *b, unsigned stream, size_t len)
{
    uint8_t f[PROTO_HEADER_SIZE];

    codec_header_build(f, PROTO_DATA, stream, 0, (uint32_t)len);
    say(b, f, sizeof f);
    assert_int_equal(buf_fill(b, 'd', len), 0);
}

static void say_exit(struct buf *b, uint32_t code)
{
    struct codec_exit x = {.code = code};
    uint8_t f[CODEC_SMALL];

    say(b, f, codec_exit_build(f, &x));
}

static void say_started(struct buf *b)
{
    say_hello(b);
    say_u32(b, PROTO_STARTED, 0, 77);
}

static void say_end(struct buf *b, uint32_t code)
{
    say_empty(b, PROTO_EOF, 1);
    say_empty(b, PROTO_EOF, 2);
    say_exit(b, code);
}

/* --- a guest that says it, whatever it hears --- */

struct guest {
    int fd;
    struct buf *script;
    bool hang; /* keep the connection open afterwards */
    pthread_t speak, hear;
};

static void *speak_main(void *arg)
{
    struct guest *g = arg;

    /* The client may hang up in the middle; that is the point of most tests. */
    for (size_t at = 0; at < g->script->len;) {
        ssize_t n = send(g->fd, g->script->data + at, g->script->len - at, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        at += (size_t)n;
    }
    if (!g->hang)
        shutdown(g->fd, SHUT_WR);
    return NULL;
}

static void *hear_main(void *arg)
{
    struct guest *g = arg;
    char block[4096];

    while (recv(g->fd, block, sizeof block, 0) > 0)
        ;
    return NULL;
}

/* Run a client against the script; returns client_run's status. Frees the script. */
static int against(struct buf *script, bool hang, int timeout_ms, struct client_result *result,
                   struct sm_error *err)
{
    struct client_spec spec = CLIENT_SPEC_INIT;
    struct guest g = {.script = script, .hang = hang};
    struct client *c;
    int fds[2], status;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    g.fd = fds[1];
    pthread_create(&g.speak, NULL, speak_main, &g);
    pthread_create(&g.hear, NULL, hear_main, &g);
    spec.argv = (const char *const[]){"x", NULL};
    assert_int_equal(client_new(&c, fds[0], &spec, err), 0);
    status = client_run(c, timeout_ms, result, err);
    client_free(c);
    shutdown(fds[0], SHUT_RDWR);
    pthread_join(g.speak, NULL);
    pthread_join(g.hear, NULL);
    close(fds[0]);
    close(fds[1]);
    buf_fini(script);
    return status;
}

static void expect_broken(struct buf *script, const char *text)
{
    struct client_result result;
    struct sm_error err;

    assert_int_equal(against(script, true, 10000, &result, &err), SM_EGUEST);
    assert_int_equal(err.code, SM_EGUEST);
    assert_false(result.refused);
    if (!strstr(err.text, text))
        fail_msg("\"%s\" is not in \"%s\"", text, err.text);
}

static void test_good_guest(void **state)
{
    struct client_result result;
    struct sm_error err;
    struct buf b = {0};

    say_started(&b);
    say_data(&b, 1, 100);
    say_data(&b, 2, PROTO_PAYLOAD_MAX);
    say_empty(&b, PROTO_EOF, 0);
    say_end(&b, 42);
    assert_int_equal(against(&b, false, 10000, &result, &err), 0);
    assert_int_equal(result.code, 42);
}

static void test_out_of_turn(void **state)
{
    struct buf b = {0};

    say_u32(&b, PROTO_STARTED, 0, 1);
    expect_broken(&b, "no hello");
    say_hello(&b);
    b.data[9] ^= 1;
    expect_broken(&b, "no hello");
    say_hello(&b);
    b.data[12] = 9;
    expect_broken(&b, "version 9");
    say_hello(&b);
    say_hello(&b);
    expect_broken(&b, "frame before the start");
    say_hello(&b);
    say_exit(&b, 0);
    expect_broken(&b, "frame before the start");
    say_hello(&b);
    say_data(&b, 1, 5);
    expect_broken(&b, "frame before the start");
    say_started(&b);
    say_u32(&b, PROTO_STARTED, 0, 1);
    expect_broken(&b, "out of turn");
    say_started(&b);
    say_empty(&b, PROTO_OK, 0);
    expect_broken(&b, "out of turn");
}

static void test_streams_abused(void **state)
{
    struct buf b = {0};

    say_started(&b);
    say_exit(&b, 0); /* before the streams' ends */
    expect_broken(&b, "bad exit");
    say_started(&b);
    say_empty(&b, PROTO_EOF, 1);
    say_data(&b, 1, 1);
    expect_broken(&b, "output after its end");
    say_started(&b);
    say_empty(&b, PROTO_EOF, 2);
    say_empty(&b, PROTO_EOF, 2);
    expect_broken(&b, "twice");
    say_started(&b);
    say_empty(&b, PROTO_EOF, 0);
    say_empty(&b, PROTO_EOF, 0);
    expect_broken(&b, "twice");
    say_started(&b);
    say_u32(&b, PROTO_CREDIT, 0, 1); /* the window is whole: nothing was sent */
    expect_broken(&b, "too much credit");
    say_started(&b);
    say_u32(&b, PROTO_CREDIT, 0, UINT32_MAX);
    expect_broken(&b, "too much credit");
}

static void test_bad_headers(void **state)
{
    static const uint8_t garbage[][8] = {
        {0xff, 0xff, 0xff, 0xff, PROTO_DATA, 1, 0, 0},
        {1, 0, 1, 0, PROTO_DATA, 1, 0, 0},
        {0, 0, 0, 0, 0, 0, 0, 0},
        {0, 0, 0, 0, 99, 0, 0, 0},
        {1, 0, 0, 0, PROTO_DATA, 7, 0, 0},
        {1, 0, 0, 0, PROTO_EXEC, 0, 0, 0},
        {4, 0, 0, 0, PROTO_SHUTDOWN, 0, 0, 0},
        {1, 0, 0, 0, PROTO_DATA, 1, 1, 0},
    };

    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        struct buf b = {0};
        say_started(&b);
        say(&b, garbage[i], 8);
        expect_broken(&b, "bad frame");
    }
}

/* Credit is what bounds our memory: a guest that ignores it is cut off, with a reader that has
 * stopped. */
static void test_credit_ignored(void **state)
{
    struct client_spec spec = CLIENT_SPEC_INIT;
    struct client_result result;
    struct sm_error err;
    struct buf b = {0};
    struct guest g = {.script = &b, .hang = true};
    struct client *c;
    int fds[2], out[2];

    say_started(&b);
    for (int i = 0; i < 100; i++)
        say_data(&b, 1, PROTO_PAYLOAD_MAX);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(pipe(out), 0);
    g.fd = fds[1];
    pthread_create(&g.speak, NULL, speak_main, &g);
    pthread_create(&g.hear, NULL, hear_main, &g);
    spec.argv = (const char *const[]){"x", NULL};
    spec.stdout_fd = out[1];
    assert_int_equal(client_new(&c, fds[0], &spec, &err), 0);
    assert_int_equal(client_run(c, 10000, &result, &err), SM_EGUEST);
    assert_non_null(strstr(err.text, "beyond its credit"));
    client_free(c);
    shutdown(fds[0], SHUT_RDWR);
    pthread_join(g.speak, NULL);
    pthread_join(g.hear, NULL);
    close(fds[0]), close(fds[1]), close(out[0]), close(out[1]);
    buf_fini(&b);
}

static void test_guest_dies(void **state)
{
    struct client_result result;
    struct sm_error err;
    struct buf b = {0};

    assert_int_equal(against(&b, false, 10000, &result, &err), SM_EGUEST);
    assert_non_null(strstr(err.text, "closed the connection"));
    say_started(&b);
    say_data(&b, 1, 10);
    b.len -= 3; /* in the middle of a frame */
    assert_int_equal(against(&b, false, 10000, &result, &err), SM_EGUEST);
    assert_non_null(strstr(err.text, "closed the connection"));
    say_started(&b);
    assert_int_equal(against(&b, true, 100, &result, &err), SM_ETIMEDOUT);
}

/* What it wrote before it died is delivered. */
static int collect(void *opaque, int stream, const void *data, size_t len)
{
    *(size_t *)opaque += len;
    return 0;
}

static void test_last_words(void **state)
{
    struct client_spec spec = CLIENT_SPEC_INIT;
    struct client_result result;
    struct sm_error err;
    struct buf b = {0};
    struct client *c;
    size_t got = 0;
    int fds[2];

    say_started(&b);
    say_data(&b, 2, 1234);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(io_write_full(fds[1], b.data, b.len), 0);
    close(fds[1]);
    spec.argv = (const char *const[]){"x", NULL};
    spec.output = collect;
    spec.opaque = &got;
    assert_int_equal(client_new(&c, fds[0], &spec, &err), 0);
    assert_int_equal(client_run(c, 10000, &result, &err), SM_EGUEST);
    assert_int_equal(got, 1234);
    client_free(c);
    close(fds[0]);
    buf_fini(&b);
}

static void test_refusals(void **state)
{
    static const struct {
        enum proto_error class;
        int status, code;
    } cases[] = {
        {PROTO_ERR_NOT_FOUND, SM_ENOTFOUND, 127}, {PROTO_ERR_NOT_EXECUTABLE, SM_EINVAL, 126},
        {PROTO_ERR_USER, SM_EINVAL, 125},         {PROTO_ERR_CWD, SM_EINVAL, 125},
        {PROTO_ERR_RESOURCE, SM_EGUEST, 125},     {PROTO_ERR_INTERNAL, SM_EGUEST, 125}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct client_result result;
        struct sm_error err;
        struct buf b = {0};
        uint8_t f[CODEC_ERROR];

        say_hello(&b);
        say(&b, f, codec_error_build(f, cases[i].class, 2, "why \033[2J"));
        assert_int_equal(against(&b, false, 10000, &result, &err), cases[i].status);
        assert_true(result.refused);
        assert_int_equal(result.code, cases[i].code);
        assert_non_null(strstr(err.text, "why ?[2J"));
    }
}

/* --- requests --- */

static int request_against(struct buf *script, int (*request)(int, int, struct sm_error *),
                           struct sm_error *err)
{
    int fds[2], status;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(io_write_full(fds[1], script->data, script->len), 0);
    shutdown(fds[1], SHUT_WR);
    status = request(fds[0], 5000, err);
    close(fds[0]);
    close(fds[1]);
    buf_fini(script);
    return status;
}

static int shut_down(int fd, int timeout_ms, struct sm_error *err)
{
    return request_shutdown(fd, 10, timeout_ms, err);
}

static void test_requests(void **state)
{
    struct sm_error err;
    struct buf b = {0};
    uint8_t f[CODEC_ERROR];

    say_hello(&b);
    assert_int_equal(request_against(&b, request_beacon, &err), 0);
    say_hello(&b);
    say(&b, f, codec_error_build(f, PROTO_ERR_BOOT, 0, "no layer"));
    assert_int_equal(request_against(&b, request_beacon, &err), SM_EGUEST);
    assert_string_equal(err.text, "the guest cannot start: no layer");
    say_hello(&b);
    say_empty(&b, PROTO_OK, 0);
    assert_int_equal(request_against(&b, request_beacon, &err), SM_EGUEST);
    assert_int_equal(request_against(&b, request_beacon, &err), SM_EGUEST); /* silence */

    say_hello(&b);
    say_empty(&b, PROTO_OK, 0);
    assert_int_equal(request_against(&b, request_ping, &err), 0);
    say_hello(&b);
    say_exit(&b, 0);
    assert_int_equal(request_against(&b, request_ping, &err), SM_EGUEST);
    say_hello(&b);
    assert_int_equal(request_against(&b, request_ping, &err), SM_EGUEST);
    say_hello(&b);
    assert_int_equal(request_against(&b, shut_down, &err), 0); /* gone before it could answer */
    assert_int_equal(buf_fill(&b, 0xa5, 1000), 0);
    assert_int_equal(request_against(&b, request_ping, &err), SM_EGUEST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_guest),     cmocka_unit_test(test_out_of_turn),
        cmocka_unit_test(test_streams_abused), cmocka_unit_test(test_bad_headers),
        cmocka_unit_test(test_credit_ignored), cmocka_unit_test(test_guest_dies),
        cmocka_unit_test(test_last_words),     cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_requests),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

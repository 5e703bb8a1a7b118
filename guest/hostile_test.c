/* SPDX-License-Identifier: Apache-2.0 */
/* The agent against a host that breaks the protocol: the connection ends, the agent goes on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/codec.h"
#include "agent/request.h"
#include "agent_fixture.h"
#include "base/buf.h"

static void say(struct buf *b, const uint8_t *frame, size_t len)
{
    assert_int_equal(buf_append(b, frame, len), 0);
}

static void say_hello(struct buf *b)
{
    uint8_t f[CODEC_SMALL];

    say(b, f, codec_hello_build(f));
}

static void say_frame(struct buf *b, enum proto_type type, unsigned stream, unsigned flags,
                      const void *payload, size_t len)
{
    uint8_t h[PROTO_HEADER_SIZE];

    codec_header_build(h, type, stream, flags, (uint32_t)len);
    say(b, h, sizeof h);
    if (payload)
        say(b, payload, len);
    else
        assert_int_equal(buf_fill(b, 'z', len), 0);
}

static void say_exec(struct buf *b, uint32_t flags, const char *script)
{
    char *argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)(uintptr_t)script, NULL};
    struct codec_exec x = {.flags = flags, .argv = argv};
    uint8_t *blob;
    size_t len;

    assert_int_equal(codec_exec_build(&x, &blob, &len), 0);
    say_frame(b, PROTO_EXEC, 0, 0, blob, len);
    free(blob);
}

/* Sends the script, then reads until the agent closes. Returns the type of its last whole frame. */
static int last_answer(const struct fixture *f, struct buf *b)
{
    struct codec_reader *r = malloc(sizeof *r);
    int fd = fixture_connect(f), last = 0;
    struct codec_frame frame;
    size_t sent = 0, room;
    ssize_t n = 1;

    codec_reader_init(r, CODEC_GUEST);
    while (n > 0) {
        struct pollfd p = {fd, (short)(POLLIN | (sent < b->len ? POLLOUT : 0)), 0};
        assert_true(poll(&p, 1, 10000) > 0); /* it must close by itself */
        if (p.revents & POLLOUT) {
            n = send(fd, b->data + sent, b->len - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
            sent = n > 0 ? sent + (size_t)n : b->len;
            n = 1;
        }
        if (p.revents & (POLLIN | POLLHUP | POLLERR)) {
            uint8_t *at = codec_reader_space(r, &room);
            n = recv(fd, at, room, 0);
            codec_reader_added(r, n > 0 ? (size_t)n : 0);
            while (n > 0 && codec_reader_next(r, &frame) == 1)
                last = frame.type;
        }
    }
    close(fd);
    free(r);
    buf_fini(b);
    return last;
}

static void test_before_the_request(void **state)
{
    struct buf b = {0};
    uint8_t f[CODEC_SMALL];

    assert_int_equal(buf_fill(&b, 0xff, 100), 0);
    assert_int_equal(last_answer(*state, &b), PROTO_HELLO);
    say_exec(&b, 0, "true"); /* no HELLO */
    assert_int_equal(last_answer(*state, &b), PROTO_HELLO);
    say_hello(&b);
    b.data[8] ^= 1;
    assert_int_equal(last_answer(*state, &b), PROTO_HELLO);
    say_hello(&b);
    b.data[12] = 77; /* another version is told so */
    assert_int_equal(last_answer(*state, &b), PROTO_ERROR);
    say_hello(&b);
    say_hello(&b);
    assert_int_equal(last_answer(*state, &b), PROTO_HELLO);
    say_hello(&b);
    say(&b, f, codec_u32_build(f, PROTO_STARTED, 0, 1)); /* only a guest says that */
    assert_int_equal(last_answer(*state, &b), PROTO_HELLO);
    say_hello(&b);
    say(&b, f, codec_signal_build(f, 9, 0)); /* to nobody */
    assert_int_equal(last_answer(*state, &b), PROTO_HELLO);
    fixture_expect_idle(*state);
}

static void test_exec_abused(void **state)
{
    struct buf b = {0};

    say_hello(&b);
    say_frame(&b, PROTO_EXEC, 0, 0, NULL, 100); /* nonsense */
    assert_int_equal(last_answer(*state, &b), PROTO_ERROR);
    say_hello(&b);
    for (size_t i = 0; i < 2 * PROTO_EXEC_MAX / PROTO_PAYLOAD_MAX; i++)
        say_frame(&b, PROTO_EXEC, 0, PROTO_MORE, NULL, PROTO_PAYLOAD_MAX);
    assert_int_equal(last_answer(*state, &b), PROTO_HELLO);
    say_hello(&b);
    say_frame(&b, PROTO_EXEC, 0, PROTO_MORE, NULL, 10);
    say_frame(&b, PROTO_PING, 0, 0, NULL, 0);
    assert_int_equal(last_answer(*state, &b), PROTO_HELLO);
    say_hello(&b);
    say_exec(&b, 0, "sleep 1000");
    say_exec(&b, 0, "sleep 1000");
    last_answer(*state, &b);
    fixture_expect_idle(*state); /* and the first command is gone */
}

static void test_streams_abused(void **state)
{
    uint8_t f[CODEC_SMALL];
    struct buf b = {0};

    say_hello(&b); /* beyond the credit */
    say_exec(&b, PROTO_EXEC_STDIN, "sleep 1000");
    for (size_t i = 0; i < 2 * PROTO_WINDOW / PROTO_PAYLOAD_MAX; i++)
        say_frame(&b, PROTO_DATA, 0, 0, NULL, PROTO_PAYLOAD_MAX);
    assert_int_not_equal(last_answer(*state, &b), PROTO_EXIT);
    say_hello(&b); /* after its end */
    say_exec(&b, PROTO_EXEC_STDIN, "sleep 1000");
    say_frame(&b, PROTO_EOF, 0, 0, NULL, 0);
    say_frame(&b, PROTO_DATA, 0, 0, NULL, 1);
    assert_int_not_equal(last_answer(*state, &b), PROTO_EXIT);
    say_hello(&b); /* not asked for */
    say_exec(&b, 0, "sleep 1000");
    say_frame(&b, PROTO_DATA, 0, 0, NULL, 1);
    assert_int_not_equal(last_answer(*state, &b), PROTO_EXIT);
    say_hello(&b); /* more credit than there can be */
    say_exec(&b, 0, "sleep 1000");
    say(&b, f, codec_u32_build(f, PROTO_CREDIT, 1, 1));
    assert_int_not_equal(last_answer(*state, &b), PROTO_EXIT);
    say_hello(&b); /* no terminal */
    say_exec(&b, 0, "sleep 1000");
    say(&b, f, codec_resize_build(f, 1, 1));
    assert_int_not_equal(last_answer(*state, &b), PROTO_EXIT);
    say_hello(&b); /* a stream that terminals do not have */
    say_exec(&b, PROTO_EXEC_TTY, "sleep 1000");
    say_frame(&b, PROTO_EOF, 2, 0, NULL, 0);
    assert_int_not_equal(last_answer(*state, &b), PROTO_EXIT);
    fixture_expect_idle(*state);
}

static void test_control_abused(void **state)
{
    uint8_t f[CODEC_SMALL], items[64];
    struct buf b = {0};
    size_t len = 0;

    say_hello(&b);
    say_frame(&b, PROTO_SETUP, 0, 0, NULL, 30); /* nonsense */
    assert_int_equal(last_answer(*state, &b), PROTO_HELLO);
    codec_item_put(items, sizeof items, &len, PROTO_ITEM_HOSTNAME, "a", 1);
    codec_item_put(items, sizeof items, &len, PROTO_ITEM_HOSTNAME, "b", 1);
    say_hello(&b);
    say_frame(&b, PROTO_SETUP, 0, 0, items, len); /* twice */
    assert_int_equal(last_answer(*state, &b), PROTO_HELLO);
    len = 0;
    codec_item_put(items, sizeof items, &len, PROTO_ITEM_HOSTNAME, "a\0b", 3);
    say_hello(&b);
    say_frame(&b, PROTO_SETUP, 0, 0, items, len);
    assert_int_equal(last_answer(*state, &b), PROTO_HELLO);
    len = 0;
    codec_item_put(items, sizeof items, &len, PROTO_ITEM_VOLUMES, "\0/a", 3); /* no NUL */
    say_hello(&b);
    say_frame(&b, PROTO_SETUP, 0, 0, items, len);
    assert_int_equal(last_answer(*state, &b), PROTO_HELLO);
    say_hello(&b);
    say(&b, f, codec_u32_build(f, PROTO_SHUTDOWN, 0, UINT32_MAX));
    assert_int_equal(last_answer(*state, &b), PROTO_HELLO);
    say_hello(&b); /* answers nobody reads: bounded, so the connection ends */
    for (int i = 0; i < 1000000; i++)
        say_frame(&b, PROTO_PING, 0, 0, NULL, 0);
    int fd = fixture_connect(*state);
    for (size_t at = 0; at < b.len;) {
        ssize_t n = send(fd, b.data + at, b.len - at, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        at += (size_t)n;
    }
    close(fd);
    buf_fini(&b);
    fixture_expect_idle(*state);
}

/* Valid openings, then noise of every kind: whatever it does, the agent must live and be idle
 * afterwards. */
static void test_noise(void **state)
{
    uint64_t seed = 7;

    for (int round = 0; round < 400; round++) {
        struct buf b = {0};
        size_t len;
        int fd = fixture_connect(*state);

        if (round % 4)
            say_hello(&b);
        if (round % 4 > 1)
            say_exec(&b, PROTO_EXEC_STDIN | (round % 3 ? 0 : PROTO_EXEC_TTY), "cat; sleep 1000");
        for (int i = 0; i < 20; i++) {
            uint8_t h[PROTO_HEADER_SIZE] = {0};
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            h[0] = (seed >> 40) & 15;
            h[4] = (seed >> 33) % 16;
            h[5] = (seed >> 50) % 3;
            len = (seed >> 20) & 15;
            if (h[4] == PROTO_SHUTDOWN)
                continue;
            say(&b, h, sizeof h);
            assert_int_equal(buf_fill(&b, (uint8_t)(seed >> 11), len), 0);
        }
        if (send(fd, b.data, b.len, MSG_NOSIGNAL) < 0) {
            /* already cut off */
        }
        close(fd);
        buf_fini(&b);
    }
    fixture_expect_idle(*state);
    struct outcome o;
    fixture_shell(*state, "echo alive", &o);
    assert_string_equal((char *)o.out[0].data, "alive\n");
    outcome_fini(&o);
}

/* More connections than it takes: refused, not fatal, and nothing is left. */
static void test_too_many_connections(void **state)
{
    enum { COUNT = 700 };
    static int fds[COUNT];
    struct outcome o;

    for (int i = 0; i < COUNT; i++)
        fds[i] = fixture_connect(*state);
    for (int i = 0; i < COUNT; i++)
        close(fds[i]);
    fixture_expect_idle(*state);
    fixture_shell(*state, "exit 3", &o);
    assert_int_equal(o.result.code, 3);
    outcome_fini(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_before_the_request),
        cmocka_unit_test(test_exec_abused),
        cmocka_unit_test(test_streams_abused),
        cmocka_unit_test(test_control_abused),
        cmocka_unit_test(test_noise),
        cmocka_unit_test(test_too_many_connections),
    };

    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "host/stream.h"

/* Random pieces through a small socket and a small ring arrive in order; nothing is lost. */
static void order_is_kept(void **state)
{
    const size_t total = 4u << 20;
    struct stream s;
    uint8_t piece[3000], got[5000];
    uint32_t in = 0, out = 0;
    int peer, small = 4096;
    bool backlogged = false;

    assert_int_equal(stream_pair(&s, 10000, &peer, NULL), 0);
    setsockopt(s.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    srand(7);
    while (out < total) {
        size_t n = (size_t)rand() % sizeof piece + 1;
        struct iovec iov[2] = {{piece, n / 3}, {piece + n / 3, n - n / 3}};
        ssize_t r;

        if (in < total && n <= s.capacity - stream_backlog(&s)) {
            for (size_t i = 0; i < n; i++)
                piece[i] = (uint8_t)((in + i) * 2654435761u >> 13);
            assert_int_equal(stream_write(&s, iov, 2), 0);
            in += (uint32_t)n;
        }
        backlogged |= stream_backlog(&s) != 0;
        if (rand() % 3 != 0) {
            r = recv(peer, got, (size_t)rand() % sizeof got + 1, MSG_DONTWAIT);
            for (ssize_t i = 0; i < r; i++)
                assert_int_equal(got[i], (uint8_t)((out + (uint32_t)i) * 2654435761u >> 13));
            out += r > 0 ? (uint32_t)r : 0;
        }
        assert_int_equal(stream_flush(&s), 0);
        if (in >= total && stream_backlog(&s) == 0 && out == in)
            break;
    }
    assert_true(backlogged);
    stream_fini(&s);
    stream_fini(&s);
    close(peer);
}

static void end_of_file_follows_the_backlog(void **state)
{
    static uint8_t data[400000], got[400000];
    struct stream s;
    struct iovec iov = {data, sizeof data};
    size_t n = 0;
    ssize_t r;
    int peer;

    assert_int_equal(stream_pair(&s, sizeof data, &peer, NULL), 0);
    assert_int_equal(stream_write(&s, &iov, 1), 0);
    assert_true(stream_backlog(&s) > 0);
    stream_shut_write(&s);
    while ((r = recv(peer, got + n, sizeof got - n, MSG_DONTWAIT)) != 0) {
        n += r > 0 ? (size_t)r : 0;
        assert_int_equal(stream_flush(&s), 0);
        if (n == sizeof got)
            break;
    }
    assert_int_equal(n, sizeof data);
    stream_flush(&s);
    assert_int_equal(recv(peer, got, 1, MSG_DONTWAIT), 0);
    stream_fini(&s);
    close(peer);
}

static void full_and_gone(void **state)
{
    static uint8_t data[400000];
    struct stream s;
    struct iovec iov = {data, sizeof data};
    int peer;

    assert_int_equal(stream_pair(&s, 1000, &peer, NULL), 0);
    assert_int_equal(stream_write(&s, &iov, 1), STREAM_FULL);
    assert_int_equal(stream_read(&s, &iov, 1), STREAM_AGAIN);
    assert_false(stream_hung_up(&s));
    assert_false(stream_has_input(&s));
    assert_int_equal(write(peer, "x", 1), 1);
    assert_true(stream_has_input(&s));
    shutdown(peer, SHUT_WR);
    assert_false(stream_hung_up(&s));
    close(peer);
    assert_true(stream_hung_up(&s));
    assert_int_equal(stream_read(&s, &iov, 1), 1); /* written before: still there */
    iov.iov_len = 1;
    assert_int_equal(stream_write(&s, &iov, 1), STREAM_GONE); /* and no SIGPIPE */
    stream_fini(&s);
}

/* Closing with input unread must look like end of file, not like an error. */
static void close_is_end_of_file(void **state)
{
    struct stream s;
    char byte;
    int peer;

    assert_int_equal(stream_pair(&s, 1000, &peer, NULL), 0);
    assert_int_equal(write(peer, "unread", 6), 6);
    stream_fini(&s);
    assert_int_equal(read(peer, &byte, 1), 0);
    assert_int_equal(send(peer, &byte, 1, MSG_NOSIGNAL), -1);
    close(peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_is_kept),
        cmocka_unit_test(end_of_file_follows_the_backlog),
        cmocka_unit_test(full_and_gone),
        cmocka_unit_test(close_is_end_of_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

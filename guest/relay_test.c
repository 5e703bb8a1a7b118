/* SPDX-License-Identifier: Apache-2.0 */
/* Connections through the agent, end to end on the host: connect.c against the agent's server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/codec.h"
#include "agent/connect.h"
#include "agent_fixture.h"

#define PATIENCE_MS 60000
#define BIG (4u << 20)

/* A server's listening socket on loopback. */
static int listener(uint16_t *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

/* Both ends of a connection through the agent. */
static void open_both(struct fixture *f, int *client, int *server)
{
    struct sm_error err;
    uint16_t port;
    int listening = listener(&port);
    *client = fixture_connect(f);
    if (connect_port(*client, port, PATIENCE_MS, &err))
        fail_msg("%s", err.text);
    *server = accept(listening, NULL, NULL);
    assert_true(*server >= 0);
    close(listening);
}

static size_t read_all(int fd, char *data, size_t size)
{
    size_t at = 0;
    while (at < size) {
        struct pollfd p = {fd, POLLIN, 0};
        assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
        ssize_t n = read(fd, data + at, size - at);
        if (n <= 0)
            break;
        at += (size_t)n;
    }
    return at;
}

static void test_both_ways_and_ends(void **state)
{
    char data[16];
    int client, server;
    open_both(*state, &client, &server);
    assert_int_equal(write(client, "ask", 3), 3);
    shutdown(client, SHUT_WR);
    assert_int_equal(read_all(server, data, sizeof data), 3); /* and its end */
    assert_int_equal(write(server, "answer", 6), 6);
    close(server);
    assert_int_equal(read_all(client, data, sizeof data), 6);
    assert_memory_equal(data, "answer", 6);
    close(client);
    open_both(*state, &client, &server); /* the other one ends first */
    assert_int_equal(write(server, "hello", 5), 5);
    shutdown(server, SHUT_WR);
    assert_int_equal(read_all(client, data, sizeof data), 5);
    assert_int_equal(write(client, "bye", 3), 3);
    close(client);
    assert_int_equal(read_all(server, data, sizeof data), 3);
    close(server);
    fixture_expect_idle(*state);
}

static void test_one_goes_away(void **state)
{
    char data[16];
    int client, server;
    open_both(*state, &client, &server);
    close(client);
    assert_int_equal(read_all(server, data, sizeof data), 0);
    close(server);
    open_both(*state, &client, &server);
    struct linger reset = {1, 0};
    setsockopt(server, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(server);
    assert_int_equal(read_all(client, data, sizeof data), 0);
    close(client);
    /* A server that ignores the end of what it is told, and a host that is gone. */
    open_both(*state, &client, &server);
    shutdown(client, SHUT_WR);
    assert_int_equal(read_all(server, data, sizeof data), 0);
    close(client);
    fixture_expect_idle(*state);
    close(server);
}

struct sender {
    pthread_t thread;
    int fd;
    const char *data;
};

static void *send_big(void *opaque)
{
    struct sender *s = opaque;
    for (size_t at = 0; at < BIG;) {
        ssize_t n = send(s->fd, s->data + at, BIG - at, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        at += (size_t)n;
    }
    shutdown(s->fd, SHUT_WR);
    return NULL;
}

/* Much in both directions at once, while neither side reads before it has to. */
static void test_big(void **state)
{
    char *data = malloc(BIG), *back = malloc(BIG + 1);
    struct sender senders[2];
    int client, server;
    uint32_t x = 1;
    for (size_t i = 0; i < BIG; i++)
        data[i] = (char)((x = x * 1664525 + 1013904223) >> 24);
    open_both(*state, &client, &server);
    senders[0] = (struct sender){.fd = client, .data = data};
    senders[1] = (struct sender){.fd = server, .data = data};
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_big, &senders[i]), 0);
    assert_int_equal(read_all(client, back, BIG + 1), BIG);
    assert_memory_equal(back, data, BIG);
    assert_int_equal(read_all(server, back, BIG + 1), BIG);
    assert_memory_equal(back, data, BIG);
    for (int i = 0; i < 2; i++)
        pthread_join(senders[i].thread, NULL);
    close(client);
    close(server);
    free(data);
    free(back);
    fixture_expect_idle(*state);
}

static void test_refusals(void **state)
{
    struct sm_error err;
    uint16_t port;
    uint8_t said[64], byte;
    close(listener(&port)); /* nobody is there now */
    int fd = fixture_connect(*state);
    assert_int_equal(connect_port(fd, port, PATIENCE_MS, &err), SM_ENOTFOUND);
    assert_non_null(strstr(err.text, "Connection refused"));
    close(fd);
    fd = fixture_connect(*state);
    assert_int_equal(connect_port(fd, 0, PATIENCE_MS, &err), SM_EGUEST); /* out of protocol */
    close(fd);
    /* Bytes before the answer: dropped, whole. */
    size_t len = codec_hello_build(said);
    len += codec_connect_build(said + len, port);
    said[len++] = 'x';
    fd = fixture_connect(*state);
    assert_int_equal(write(fd, said, len), len);
    while (read(fd, &byte, 1) == 1)
        ;
    close(fd);
    fixture_expect_idle(*state);
}

static void test_many(void **state)
{
    int clients[20], servers[20];
    char data[4];
    for (int i = 0; i < 20; i++)
        open_both(*state, &clients[i], &servers[i]);
    for (int i = 0; i < 20; i++) {
        data[0] = (char)i;
        assert_int_equal(write(clients[i], data, 1), 1);
    }
    for (int i = 0; i < 20; i++) {
        assert_int_equal(read_all(servers[i], data, 1), 1);
        assert_int_equal(data[0], i);
        close(servers[i]);
        close(clients[i]);
    }
    fixture_expect_idle(*state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_ways_and_ends),
        cmocka_unit_test(test_one_goes_away),
        cmocka_unit_test(test_big),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}

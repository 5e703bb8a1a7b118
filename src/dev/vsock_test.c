/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock packet by packet (checklist VS-01, VS-02, VS-04, and the ends of streams). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "dev/fake_vsock.h"

#define PORT 1024u  /* where the host listens */
#define GUEST 5000u /* the guest's end */

struct fixture {
    struct fake_vsock g;
    int fds[VSOCK_MAX_STREAMS + 1]; /* accepted */
    unsigned n_fds;
};

static uint8_t payload[FAKE_VSOCK_PAYLOAD];
static struct vsock_header h;

static void on_accept(void *opaque, int fd)
{
    struct fixture *x = opaque;

    x->fds[x->n_fds++] = fd;
}

static int setup(void **state)
{
    static struct fixture x;

    memset(&x, 0, sizeof x);
    fake_vsock_init(&x.g, 32);
    assert_int_equal(vsock_listen(x.g.d, PORT, on_accept, &x, NULL), 0);
    *state = &x;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *x = *state;

    for (unsigned i = 0; i < x->n_fds; i++)
        close(x->fds[i]);
    fake_vsock_fini(&x->g);
    return 0;
}

static void expect(struct fake_vsock *g, uint16_t op, uint32_t guest_port, uint32_t host_port)
{
    if (!fake_vsock_recv(g, &h, payload))
        fail_msg("no packet; op %u was due", op);
    assert_int_equal(h.op, op);
    assert_int_equal(h.dst_port, guest_port);
    assert_int_equal(h.src_port, host_port);
    assert_int_equal(h.type, TYPE_STREAM);
}

static void expect_nothing(struct fake_vsock *g)
{
    if (fake_vsock_recv(g, &h, payload))
        fail_msg("unexpected op %u", h.op);
}

/* The guest connects; returns the host's end. */
static int connected(struct fixture *x, uint32_t guest_port)
{
    fake_vsock_op(&x->g, OP_REQUEST, guest_port, PORT, 0);
    expect(&x->g, OP_RESPONSE, guest_port, PORT);
    return x->fds[x->n_fds - 1];
}

static void host_closes(struct fixture *x)
{
    close(x->fds[--x->n_fds]);
    fake_run(&x->g.f);
}

/* recv without waiting: bytes, 0 at end of file, -1 if there is nothing. */
static ssize_t get(int fd, void *to, size_t len)
{
    ssize_t n = recv(fd, to, len, MSG_DONTWAIT);

    assert_true(n >= 0 || errno == EAGAIN);
    return n;
}

static void guest_connects(void **state)
{
    struct fixture *x = *state;
    char text[16];
    int fd;

    fd = connected(x, GUEST);
    assert_int_equal(h.buf_alloc, VSOCK_BACKLOG_MAX);
    assert_true(bus_read(&x->g.f.bus, FAKE_MMIO + 0x100, 8) == VSOCK_GUEST_CID);
    fake_vsock_data(&x->g, GUEST, PORT, 0, "hello", 5);
    assert_int_equal(get(fd, text, sizeof text), 5);
    assert_memory_equal(text, "hello", 5);
    assert_int_equal(write(fd, "welcome", 7), 7);
    fake_run(&x->g.f);
    expect(&x->g, OP_RW, GUEST, PORT);
    assert_int_equal(h.len, 7);
    assert_int_equal(h.fwd_cnt, 5);
    assert_memory_equal(payload, "welcome", 7);
    fake_vsock_op(&x->g, OP_CREDIT_REQUEST, GUEST, PORT, 0);
    expect(&x->g, OP_CREDIT_UPDATE, GUEST, PORT);
    expect_nothing(&x->g);
    /* The guest closes: SHUTDOWN of both, answered by RST, and the host sees the end. */
    fake_vsock_op(&x->g, OP_SHUTDOWN, GUEST, PORT, SHUT_BOTH);
    expect(&x->g, OP_RST, GUEST, PORT);
    assert_int_equal(get(fd, text, 1), 0);
    assert_int_equal(send(fd, "x", 1, MSG_NOSIGNAL), -1);
    assert_int_equal(errno, EPIPE);
    assert_int_equal(x->g.d->n_streams, 0);
}

static void host_connects(void **state)
{
    struct fixture *x = *state;
    uint32_t port;
    int fd;

    assert_int_equal(vsock_connect(x->g.d, 77, &fd, NULL), 0);
    fake_run(&x->g.f);
    assert_true(fake_vsock_recv(&x->g, &h, payload));
    assert_int_equal(h.op, OP_REQUEST);
    assert_int_equal(h.dst_port, 77);
    port = h.src_port;
    assert_int_equal(write(fd, "early", 5), 5);
    fake_run(&x->g.f);
    expect_nothing(&x->g); /* not before the guest has agreed */
    fake_vsock_op(&x->g, OP_RESPONSE, 77, port, 0);
    expect(&x->g, OP_RW, 77, port);
    assert_memory_equal(payload, "early", 5);
    close(fd);
    fake_run(&x->g.f);
    expect(&x->g, OP_SHUTDOWN, 77, port);
    assert_int_equal(h.flags, SHUT_BOTH);
    fake_vsock_op(&x->g, OP_RST, 77, port, 0);
    expect_nothing(&x->g);
    assert_int_equal(x->g.d->n_streams, 0);
}

static void host_connect_refused_or_abandoned(void **state)
{
    struct fixture *x = *state;
    uint32_t port;
    char byte;
    int fd;

    assert_int_equal(vsock_connect(x->g.d, 77, &fd, NULL), 0);
    assert_int_equal(write(fd, "early", 5), 5);
    assert_true(fake_vsock_recv(&x->g, &h, payload));
    fake_vsock_op(&x->g, OP_RST, 77, h.src_port, 0);
    assert_int_equal(get(fd, &byte, 1), 0);
    close(fd);
    /* Closed before the answer, with nothing written. */
    assert_int_equal(vsock_connect(x->g.d, 77, &fd, NULL), 0);
    assert_true(fake_vsock_recv(&x->g, &h, payload));
    port = h.src_port;
    close(fd);
    fake_run(&x->g.f);
    expect(&x->g, OP_RST, 77, port);
    fake_vsock_op(&x->g, OP_RESPONSE, 77, port, 0);
    expect(&x->g, OP_RST, 77, port);
    /* Written and closed before the answer: the bytes still go. */
    assert_int_equal(vsock_connect(x->g.d, 77, &fd, NULL), 0);
    assert_true(fake_vsock_recv(&x->g, &h, payload));
    port = h.src_port;
    assert_int_equal(write(fd, "note", 4), 4);
    close(fd);
    fake_run(&x->g.f);
    expect_nothing(&x->g);
    fake_vsock_op(&x->g, OP_RESPONSE, 77, port, 0);
    expect(&x->g, OP_RW, 77, port);
    assert_memory_equal(payload, "note", 4);
    expect(&x->g, OP_SHUTDOWN, 77, port);
    fake_vsock_op(&x->g, OP_RST, 77, port, 0);
    assert_int_equal(x->g.d->n_streams, 0);
}

static void connect_before_the_driver(void **state)
{
    struct fixture *x = *state;
    int fd, other;

    fake_write(&x->g.f, 0x70, 0);
    assert_int_equal(vsock_connect(x->g.d, 9, &fd, NULL), 0);
    assert_int_equal(vsock_connect(x->g.d, 9, &other, NULL), 0);
    close(other); /* never heard of by the guest */
    fake_run(&x->g.f);
    assert_int_equal(x->g.d->n_streams, 1);
    assert_int_equal(write(fd, "first", 5), 5);
    /* The driver's own reset at start must not lose it: Linux resets before it negotiates. */
    fake_vsock_start(&x->g, 8);
    assert_true(fake_vsock_recv(&x->g, &h, payload));
    assert_int_equal(h.op, OP_REQUEST);
    fake_vsock_op(&x->g, OP_RESPONSE, 9, h.src_port, 0);
    assert_true(fake_vsock_recv(&x->g, &h, payload));
    assert_memory_equal(payload, "first", 5);
    close(fd);
}

static void invalid_packets(void **state)
{
    static const struct {
        uint64_t src_cid, dst_cid;
        uint16_t type, op;
        uint32_t src_port, dst_port, len;
        bool answered;
    } bad[] = {
        {4, 2, 1, OP_REQUEST, GUEST, PORT, 0, false}, /* not its own address */
        {2, 2, 1, OP_REQUEST, GUEST, PORT, 0, false}, /* the host's */
        {1ull << 32 | 3, 2, 1, OP_REQUEST, 1, PORT, 0, false},
        {3, 3, 1, OP_REQUEST, GUEST, PORT, 0, true},  /* to itself */
        {3, 99, 1, OP_REQUEST, GUEST, PORT, 0, true}, /* to another guest */
        {3, 2, 2, OP_REQUEST, GUEST, PORT, 0, true},  /* seqpacket: not offered */
        {3, 2, 0, OP_REQUEST, GUEST, PORT, 0, true},
        {3, 2, 0xffff, OP_RW, GUEST, PORT, 0, true},
        {3, 2, 1, OP_REQUEST, GUEST, PORT + 1, 0, true}, /* nobody listens */
        {3, 2, 1, OP_REQUEST, 0, 0, 0, true},
        {3, 2, 1, OP_REQUEST, 0xffffffff, 0xffffffff, 0, true},
        {3, 2, 1, OP_INVALID, GUEST, PORT, 0, true},
        {3, 2, 1, 8, GUEST, PORT, 0, true},
        {3, 2, 1, 0xffff, GUEST, PORT, 0, true},
        {3, 2, 1, OP_RESPONSE, GUEST, PORT, 0, true}, /* of no stream */
        {3, 2, 1, OP_RW, GUEST, PORT, 5, true},
        {3, 2, 1, OP_SHUTDOWN, GUEST, PORT, 0, true},
        {3, 2, 1, OP_CREDIT_UPDATE, GUEST, PORT, 0, true},
        {3, 2, 1, OP_CREDIT_REQUEST, GUEST, PORT, 0, true},
        {3, 2, 1, OP_RST, GUEST, PORT, 0, false},        /* never RST for RST */
        {3, 2, 1, OP_REQUEST, GUEST, PORT, 10000, true}, /* claims payload it has not */
        {0, 0, 0, 0, 0, 0, 0, false},
    };
    struct fixture *x = *state;

    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct vsock_header p = {.src_cid = bad[i].src_cid,
                                 .dst_cid = bad[i].dst_cid,
                                 .type = bad[i].type,
                                 .op = bad[i].op,
                                 .src_port = bad[i].src_port,
                                 .dst_port = bad[i].dst_port,
                                 .len = bad[i].len};

        fake_vsock_send(&x->g, &p, "12345", 5);
        if (fake_vsock_recv(&x->g, &h, payload) != bad[i].answered)
            fail_msg("packet %u: answer %s", i, bad[i].answered ? "missing" : "unexpected");
        if (bad[i].answered) {
            assert_int_equal(h.op, OP_RST);
            assert_true(h.src_cid == bad[i].dst_cid);
            assert_int_equal(h.type, bad[i].type);
            assert_int_equal(h.src_port, bad[i].dst_port);
            assert_int_equal(h.dst_port, bad[i].src_port);
        }
    }
    assert_int_equal(x->n_fds, 0);
    assert_int_equal(fake_read(&x->g.f, 0x70), 0xf);
}

static void invalid_for_a_stream(void **state)
{
    static const uint16_t ops[] = {OP_INVALID, OP_REQUEST, OP_RESPONSE, 8, 0xffff};
    struct fixture *x = *state;
    struct fake_desc tiny = {FAKE_BUFFERS + 0x200000, 43};
    char byte;

    for (unsigned i = 0; i < 7; i++) {
        int fd = connected(x, GUEST);
        struct vsock_header p = fake_vsock_header(i < 5 ? ops[i] : OP_RW, GUEST, PORT);

        p.len = i < 5 ? 0 : i == 5 ? 6 : 0xffffffff;
        fake_vsock_send(&x->g, &p, "12345", 5);
        expect(&x->g, OP_RST, GUEST, PORT);
        assert_int_equal(get(fd, &byte, 1), 0);
        host_closes(x);
        assert_int_equal(x->g.d->n_streams, 0);
    }
    fake_offer(&x->g.f, QUEUE_TX, 200, &tiny, 1); /* not even a header */
    fake_kick(&x->g.f, QUEUE_TX);
    expect_nothing(&x->g);
    assert_int_equal(fake_read(&x->g.f, 0x70), 0xf);
}

/* VS-02: bytes beyond the credit that was advertised. */
static void guest_overruns_credit(void **state)
{
    struct fixture *x = *state;
    static uint8_t block[32768], got[65536];
    uint32_t sent = 0, received = 0;
    int fd = connected(x, GUEST);
    ssize_t n;

    /* The host reads nothing. First its socket fills, then the backlog, then it is too much. */
    for (;;) {
        fake_vsock_data(&x->g, GUEST, PORT, 0, block, sizeof block);
        if (fake_vsock_recv(&x->g, &h, payload) && h.op == OP_RST)
            break;
        sent += sizeof block;
        assert_true(sent < 4u << 20);
    }
    assert_true(sent >= VSOCK_BACKLOG_MAX);
    /* What was accepted is delivered all the same. */
    while ((n = get(fd, got, sizeof got)) != 0) {
        received += n > 0 ? (uint32_t)n : 0;
        fake_run(&x->g.f);
    }
    assert_int_equal(received, sent);
    assert_int_equal(x->g.d->n_streams, 0);
}

static void credit_from_the_guest(void **state)
{
    struct fixture *x = *state;
    struct vsock_header p = fake_vsock_header(OP_REQUEST, GUEST, PORT);
    struct vsock_stream *s;
    int fd;

    p.buf_alloc = 0;
    fake_vsock_send(&x->g, &p, NULL, 0);
    expect(&x->g, OP_RESPONSE, GUEST, PORT);
    fd = x->fds[0];
    assert_int_equal(write(fd, "0123456789", 10), 10);
    fake_run(&x->g.f);
    expect_nothing(&x->g); /* no credit, no bytes; and nothing keeps the loop busy */
    assert_int_equal(loop_poll(x->g.f.loop, 0), 0);
    p.op = OP_CREDIT_UPDATE;
    p.buf_alloc = 4;
    fake_vsock_send(&x->g, &p, NULL, 0);
    expect(&x->g, OP_RW, GUEST, PORT);
    assert_int_equal(h.len, 4);
    expect(&x->g, OP_CREDIT_REQUEST, GUEST, PORT);
    expect_nothing(&x->g);
    p.buf_alloc = 2; /* less than what is in flight: no underflow */
    fake_vsock_send(&x->g, &p, NULL, 0);
    expect_nothing(&x->g);
    p.fwd_cnt = 4;
    p.buf_alloc = 5;
    fake_vsock_send(&x->g, &p, NULL, 0);
    expect(&x->g, OP_RW, GUEST, PORT);
    assert_int_equal(h.len, 5);
    expect(&x->g, OP_CREDIT_REQUEST, GUEST, PORT);
    p.fwd_cnt = 3; /* older than what is known: ignored */
    fake_vsock_send(&x->g, &p, NULL, 0);
    expect_nothing(&x->g);
    /* Counters roll over. */
    s = vsock_stream_find(x->g.d, GUEST, PORT);
    s->sent = 0xfffffffe;
    s->peer_fwd = 0xfffffffe;
    p.fwd_cnt = 0xfffffffe;
    p.buf_alloc = 100;
    assert_int_equal(write(fd, "abcd", 4), 4);
    fake_vsock_send(&x->g, &p, NULL, 0);
    expect(&x->g, OP_RW, GUEST, PORT);
    assert_int_equal(h.len, 5); /* the byte that was left, and these */
    p.fwd_cnt = 3;
    fake_vsock_send(&x->g, &p, NULL, 0);
    assert_int_equal(vsock_stream_credit(s), 100);
    /* More consumed than was sent. */
    p.fwd_cnt = 4;
    fake_vsock_send(&x->g, &p, NULL, 0);
    expect(&x->g, OP_RST, GUEST, PORT);
    assert_int_equal(x->g.d->n_streams, 0);
}

static void half_close_by_the_host(void **state)
{
    struct fixture *x = *state;
    int fd = connected(x, GUEST);
    char text[8];

    assert_int_equal(write(fd, "abc", 3), 3);
    shutdown(fd, SHUT_WR);
    fake_run(&x->g.f);
    expect(&x->g, OP_RW, GUEST, PORT);
    expect(&x->g, OP_SHUTDOWN, GUEST, PORT);
    assert_int_equal(h.flags, SHUT_SEND);
    fake_vsock_data(&x->g, GUEST, PORT, 3, "reply", 5); /* the other way still works */
    assert_int_equal(get(fd, text, sizeof text), 5);
    assert_int_equal(get(fd, text, sizeof text), -1);
    host_closes(x);
    expect(&x->g, OP_SHUTDOWN, GUEST, PORT);
    assert_int_equal(h.flags, SHUT_BOTH);
    fake_vsock_data(&x->g, GUEST, PORT, 3, "late", 4); /* under way: dropped, not an error */
    expect_nothing(&x->g);
    fake_vsock_op(&x->g, OP_SHUTDOWN, GUEST, PORT, SHUT_BOTH);
    expect(&x->g, OP_RST, GUEST, PORT);
    assert_int_equal(x->g.d->n_streams, 0);
}

static void half_close_by_the_guest(void **state)
{
    struct fixture *x = *state;
    int fd = connected(x, GUEST);
    char text[8];

    fake_vsock_data(&x->g, GUEST, PORT, 0, "abc", 3);
    fake_vsock_op(&x->g, OP_SHUTDOWN, GUEST, PORT, SHUT_SEND);
    assert_int_equal(get(fd, text, sizeof text), 3);
    assert_int_equal(get(fd, text, sizeof text), 0);
    assert_int_equal(write(fd, "still", 5), 5);
    fake_run(&x->g.f);
    expect(&x->g, OP_RW, GUEST, PORT);
    assert_int_equal(h.len, 5);
    fake_vsock_data(&x->g, GUEST, PORT, 5, "lie", 3); /* it said it was done */
    expect(&x->g, OP_RST, GUEST, PORT);
    /* And the direction the guest will not read. */
    fd = connected(x, GUEST);
    fake_vsock_op(&x->g, OP_SHUTDOWN, GUEST, PORT, SHUT_RECEIVE);
    assert_int_equal(send(fd, "x", 1, MSG_NOSIGNAL), -1);
    assert_int_equal(errno, EPIPE);
    fake_vsock_data(&x->g, GUEST, PORT, 0, "data", 4);
    assert_int_equal(get(fd, text, sizeof text), 4);
    host_closes(x);
    expect(&x->g, OP_SHUTDOWN, GUEST, PORT);
    fake_vsock_op(&x->g, OP_RST, GUEST, PORT, 0);
    assert_int_equal(x->g.d->n_streams, 0);
}

static void host_stops_reading_only(void **state)
{
    struct fixture *x = *state;
    int fd = connected(x, GUEST);

    shutdown(fd, SHUT_RD);
    fake_vsock_data(&x->g, GUEST, PORT, 0, "abc", 3);
    expect(&x->g, OP_SHUTDOWN, GUEST, PORT);
    assert_int_equal(h.flags, SHUT_RECEIVE);
    fake_vsock_data(&x->g, GUEST, PORT, 0, "abc", 3);
    expect_nothing(&x->g); /* said once */
    assert_int_equal(write(fd, "more", 4), 4);
    fake_run(&x->g.f);
    expect(&x->g, OP_RW, GUEST, PORT);
}

/* The guest has few buffers; the host writes much and closes. Nothing is lost. */
static void host_closes_with_bytes_waiting(void **state)
{
    struct fixture *x = *state;
    static uint8_t data[100000];
    int fd = connected(x, GUEST);
    uint32_t got = 0;

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i >> 7);
    assert_int_equal(write(fd, data, sizeof data), sizeof data);
    host_closes(x);
    while (fake_vsock_recv(&x->g, &h, payload) && h.op == OP_RW) {
        assert_memory_equal(payload, data + got, h.len);
        got += h.len;
    }
    assert_int_equal(got, sizeof data);
    assert_int_equal(h.op, OP_SHUTDOWN);
    assert_int_equal(h.flags, SHUT_BOTH);
    fake_vsock_op(&x->g, OP_RST, GUEST, PORT, 0);
    assert_int_equal(x->g.d->n_streams, 0);
}

/* The guest closes, and uses its port again, while the host has not read yet. Nothing is lost. */
static void guest_closes_with_bytes_waiting(void **state)
{
    struct fixture *x = *state;
    static uint8_t block[32768], got[65536];
    uint32_t sent = 0, received = 0;
    int first = connected(x, GUEST), second;
    ssize_t n;

    for (; sent < 12 * sizeof block; sent += sizeof block)
        fake_vsock_data(&x->g, GUEST, PORT, 0, block, sizeof block);
    fake_vsock_op(&x->g, OP_SHUTDOWN, GUEST, PORT, SHUT_BOTH);
    do
        assert_true(fake_vsock_recv(&x->g, &h, payload));
    while (h.op == OP_CREDIT_UPDATE);
    assert_int_equal(h.op, OP_RST);
    second = connected(x, GUEST);
    fake_vsock_data(&x->g, GUEST, PORT, 0, "new", 3);
    assert_int_equal(get(second, got, sizeof got), 3);
    assert_int_equal(x->g.d->n_streams, 2);
    while ((n = get(first, got, sizeof got)) != 0) {
        received += n > 0 ? (uint32_t)n : 0;
        fake_run(&x->g.f);
    }
    assert_int_equal(received, sent);
    assert_int_equal(x->g.d->n_streams, 1);
}

/* VS-04: without receive buffers the loop sleeps; RSTs wait, and the transmit queue with them. */
static void guest_starves_receive(void **state)
{
    struct fixture *x = *state;
    int fds[3];
    unsigned n;

    for (unsigned i = 0; i < 3; i++)
        fds[i] = connected(x, GUEST + i);
    fake_vsock_start(&x->g, 0); /* a reset ends the streams ... */
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(get(fds[i], payload, 1), 0);
    fake_vsock_offer(&x->g, 3); /* ... now with three buffers that do not come back */
    x->g.no_refill = true;
    for (unsigned i = 0; i < 3; i++)
        fds[i] = connected(x, GUEST + i);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(write(fds[i], "waiting", 7), 7);
    fake_run(&x->g.f);
    assert_int_equal(loop_poll(x->g.f.loop, 0), 0);
    for (unsigned i = 0; i < VSOCK_RST_PAUSE; i++)
        fake_vsock_op(&x->g, OP_RW, 1, 1, 0);
    assert_int_equal(x->g.tx_flight, 1);
    for (unsigned i = 0; i < 20; i++)
        fake_vsock_op(&x->g, OP_RW, 1, 1, 0);
    assert_true(x->g.d->tx_paused);
    assert_int_equal(x->g.d->rst_len, VSOCK_RST_PAUSE);
    assert_int_equal(loop_poll(x->g.f.loop, 0), 0);
    x->g.no_refill = false;
    fake_vsock_offer(&x->g, 20);
    for (n = 0; n < VSOCK_RST_PAUSE + 20; n++)
        expect(&x->g, OP_RST, 1, 1);
    for (unsigned i = 0; i < 3; i++)
        expect(&x->g, OP_RW, GUEST + i, PORT);
    expect_nothing(&x->g);
}

static void bad_receive_buffers(void **state)
{
    static const struct fake_desc bad[] = {{FAKE_BUFFERS, 43, FAKE_WRITE}, {FAKE_BUFFERS, 4096, 0}};
    struct fixture *x = *state;
    char byte;
    int fd;

    for (unsigned i = 0; i < 2; i++) {
        fake_vsock_start(&x->g, 1);
        fd = connected(x, GUEST);
        fake_vsock_start(&x->g, 0);
        fake_offer(&x->g.f, QUEUE_RX, 0, &bad[i], 1);
        fake_kick(&x->g.f, QUEUE_RX);
        assert_int_equal(fake_read(&x->g.f, 0x70), 0xf); /* not looked at until needed */
        fake_vsock_op(&x->g, OP_REQUEST, GUEST, PORT, 0);
        assert_int_equal(fake_read(&x->g.f, 0x70), 0x4f);
        assert_int_equal(fake_used_index(&x->g.f, QUEUE_RX), 0);
        fd = x->fds[x->n_fds - 1];
        assert_int_equal(get(fd, &byte, 1), 0); /* the host is not left waiting */
    }
    /* A header and no room for a byte: fine for control, not for data. */
    fake_vsock_start(&x->g, 0);
    for (uint16_t i = 0; i < 2; i++)
        fake_offer(&x->g.f, QUEUE_RX, i, &(struct fake_desc){FAKE_BUFFERS, 44, FAKE_WRITE}, 1);
    fake_vsock_op(&x->g, OP_REQUEST, GUEST, PORT, 0);
    assert_int_equal(fake_used_index(&x->g.f, QUEUE_RX), 1);
    fd = x->fds[x->n_fds - 1];
    assert_int_equal(write(fd, "x", 1), 1);
    fake_run(&x->g.f);
    assert_int_equal(fake_read(&x->g.f, 0x70), 0x4f);
    assert_int_equal(get(fd, &byte, 1), 0);
    assert_int_equal(x->g.d->n_streams, 0);
}

static void stream_limit(void **state)
{
    struct fixture *x = *state;
    struct sm_error err;
    uint32_t promised = 0;
    int fd;

    for (unsigned i = 0; i < VSOCK_MAX_STREAMS; i++) {
        connected(x, GUEST + i);
        promised += h.buf_alloc;
        assert_true(h.buf_alloc >= VSOCK_BACKLOG_MIN);
    }
    assert_true(promised <= VSOCK_BACKLOG_BYTES + VSOCK_MAX_STREAMS * VSOCK_BACKLOG_MIN);
    fake_vsock_op(&x->g, OP_REQUEST, 1, PORT, 0);
    expect(&x->g, OP_RST, 1, PORT);
    assert_int_equal(vsock_connect(x->g.d, 1, &fd, &err), SM_EINVAL);
    assert_int_equal(fd, -1);
    for (unsigned i = 0; i < VSOCK_MAX_STREAMS; i++) {
        fake_vsock_op(&x->g, OP_SHUTDOWN, GUEST + i, PORT, SHUT_BOTH);
        expect(&x->g, OP_RST, GUEST + i, PORT);
    }
    assert_int_equal(x->g.d->n_streams, 0);
    assert_int_equal(x->g.d->backlog_left, VSOCK_BACKLOG_BYTES);
}

static unsigned open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

/* VS-03: rapid reopening, ended from either side in turn. */
static void reopen(void **state)
{
    struct fixture *x = *state;
    unsigned before = open_fds();

    for (unsigned i = 0; i < 5000; i++) {
        int fd = connected(x, GUEST);

        fake_vsock_data(&x->g, GUEST, PORT, 0, "x", 1);
        assert_int_equal(get(fd, payload, 1), 1);
        if (i % 2) {
            host_closes(x);
            expect(&x->g, OP_SHUTDOWN, GUEST, PORT);
            fake_vsock_op(&x->g, OP_RST, GUEST, PORT, 0);
        } else {
            fake_vsock_op(&x->g, OP_SHUTDOWN, GUEST, PORT, SHUT_BOTH);
            expect(&x->g, OP_RST, GUEST, PORT);
            host_closes(x);
        }
        expect_nothing(&x->g);
    }
    assert_int_equal(x->g.d->n_streams, 0);
    assert_int_equal(open_fds(), before);
}

static void listeners(void **state)
{
    struct fixture *x = *state;
    struct sm_error err;

    assert_int_equal(vsock_listen(x->g.d, PORT, on_accept, x, &err), SM_EINVAL);
    for (uint32_t i = 1; i < VSOCK_MAX_LISTENERS; i++)
        assert_int_equal(vsock_listen(x->g.d, PORT + i, on_accept, x, &err), 0);
    assert_int_equal(vsock_listen(x->g.d, 1, on_accept, x, &err), SM_EINVAL);
    vsock_unlisten(x->g.d, PORT);
    vsock_unlisten(x->g.d, 1);
    fake_vsock_op(&x->g, OP_REQUEST, GUEST, PORT, 0);
    expect(&x->g, OP_RST, GUEST, PORT);
}

/* VS-05: the streams end, the listener stays, the guest is told. */
static void drop_all(void **state)
{
    struct fixture *x = *state;
    struct fake_desc event = {FAKE_BUFFERS + 0x300000, 4, FAKE_WRITE};
    uint32_t head, len;
    char byte;
    int fd = connected(x, GUEST);

    memset(mem_ptr_write(x->g.f.mem, event.addr, 4), 0xff, 4);
    vsock_drop_all(x->g.d);
    assert_int_equal(get(fd, &byte, 1), 0);
    fake_offer(&x->g.f, QUEUE_EVENT, 0, &event, 1);
    fake_kick(&x->g.f, QUEUE_EVENT);
    assert_true(fake_used(&x->g.f, QUEUE_EVENT, &head, &len));
    assert_int_equal(len, 4);
    assert_int_equal(*(const uint32_t *)mem_ptr(x->g.f.mem, event.addr, 4), 0);
    connected(x, GUEST);
}

static void bad_cid(void **state)
{
    static const uint32_t bad[] = {0, 1, 2, 0xffffffff};
    struct fake_driver f;
    struct virtio_env env;
    struct vsock *d;

    fake_init(&f);
    env = fake_env(&f);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(vsock_new(&env, bad[i], &d, NULL), SM_EINVAL);
    vsock_free(NULL);
    fake_fini(&f);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(guest_connects),
        T(host_connects),
        T(host_connect_refused_or_abandoned),
        T(connect_before_the_driver),
        T(invalid_packets),
        T(invalid_for_a_stream),
        T(guest_overruns_credit),
        T(credit_from_the_guest),
        T(half_close_by_the_host),
        T(half_close_by_the_guest),
        T(host_stops_reading_only),
        T(host_closes_with_bytes_waiting),
        T(guest_closes_with_bytes_waiting),
        T(guest_starves_receive),
        T(bad_receive_buffers),
        T(stream_limit),
        T(reopen),
        T(listeners),
        T(drop_all),
        cmocka_unit_test(bad_cid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

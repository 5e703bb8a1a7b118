/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock packet by packet (checklist VS-01, VS-02), and the ends of streams. */
#include "dev/vsock_fixture.h"

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

static void host_stops_reading_with_bytes_waiting(void **state)
{
    struct fixture *x = *state;
    static uint8_t block[65536];
    int fd = connected(x, GUEST);

    for (int i = 0; i < 5; i++)
        fake_vsock_data(&x->g, GUEST, PORT, 0, block, sizeof block);
    assert_true(stream_backlog(&vsock_stream_find(x->g.d, GUEST, PORT)->io) != 0);
    while (fake_vsock_recv(&x->g, &h, payload))
        assert_int_equal(h.op, OP_CREDIT_UPDATE);
    while (get(fd, block, sizeof block) > 0)
        ; /* the socket has room again; without that it is found out at the close */
    shutdown(fd, SHUT_RD);
    fake_run(&x->g.f);
    expect(&x->g, OP_SHUTDOWN, GUEST, PORT);
    assert_int_equal(h.flags, SHUT_RECEIVE);
    assert_int_equal(h.fwd_cnt, 5 * sizeof block); /* all is accounted for */
    assert_int_equal(loop_poll(x->g.f.loop, 0), 0);
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
        T(host_stops_reading_with_bytes_waiting),
        T(host_closes_with_bytes_waiting),
        T(guest_closes_with_bytes_waiting),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock in bulk (checklist VS-03), with the loop's own thread: a guest that echoes what it is sent,
 * within the credit it has, against host sockets that read and write at their own pace.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "dev/fake_vsock.h"

#define MAX_STREAMS 64
#define FIRST_GUEST 7000u
#define RING FAKE_VSOCK_ALLOC
#define CHUNK 65536u

/* The guest's end of one stream: what it received and has not sent back. */
struct echo {
    uint32_t host_port; /* 0: not open */
    uint8_t *ring;
    uint32_t at, len;
    uint32_t fwd;                      /* bytes taken out of the ring */
    uint32_t sent, dev_alloc, dev_fwd; /* credit the device gives */
    uint32_t told;                     /* fwd in the latest packet */
    bool end;                          /* the host's side ended */
    bool finished;                     /* and so did ours */
};

struct guest {
    struct fake_vsock v;
    struct echo streams[MAX_STREAMS]; /* by port - FIRST_GUEST */
    unsigned n;
    atomic_bool stop;
    atomic_uint resets;
};

static void take(struct guest *g)
{
    uint8_t payload[FAKE_VSOCK_PAYLOAD];
    struct vsock_header h;

    while (fake_vsock_recv(&g->v, &h, payload)) {
        struct echo *e = &g->streams[(h.dst_port - FIRST_GUEST) % MAX_STREAMS];

        e->dev_alloc = h.buf_alloc;
        e->dev_fwd = h.fwd_cnt;
        if (h.op == OP_REQUEST) {
            e->host_port = h.src_port;
            fake_vsock_op(&g->v, OP_RESPONSE, h.dst_port, h.src_port, 0);
        } else if (h.op == OP_RW) {
            if (h.len > RING - e->len)
                abort(); /* beyond the credit we gave */
            for (uint32_t i = 0; i < h.len; i++)
                e->ring[(e->at + e->len + i) % RING] = payload[i];
            e->len += h.len;
        } else if (h.op == OP_SHUTDOWN) {
            e->end |= (h.flags & SHUT_SEND) != 0;
        } else if (h.op == OP_RST) {
            if (!e->finished)
                abort();
            g->resets++;
        }
    }
}

static bool give(struct guest *g, unsigned i)
{
    struct echo *e = &g->streams[i];
    uint32_t room = e->dev_alloc - (e->sent - e->dev_fwd), n = e->len;
    struct vsock_header h = fake_vsock_header(OP_CREDIT_UPDATE, FIRST_GUEST + i, e->host_port);

    if (e->host_port == 0 || e->finished)
        return false;
    n = n < RING - e->at ? n : RING - e->at;
    n = n < room ? n : room;
    n = n < CHUNK ? n : CHUNK;
    if (n != 0) {
        e->told = e->fwd + n;
        fake_vsock_data(&g->v, FIRST_GUEST + i, e->host_port, e->told, e->ring + e->at, n);
        e->sent += n;
        e->fwd += n;
        e->at = (e->at + n) % RING;
        e->len -= n;
        return true;
    }
    if (e->end && e->len == 0) {
        e->finished = true;
        fake_vsock_op(&g->v, OP_SHUTDOWN, FIRST_GUEST + i, e->host_port, SHUT_BOTH);
        return true;
    }
    if (e->fwd - e->told >= RING / 4) {
        h.fwd_cnt = e->told = e->fwd;
        fake_vsock_send(&g->v, &h, NULL, 0);
    }
    return false;
}

static void *guest_main(void *opaque)
{
    struct guest *g = opaque;

    while (!g->stop) {
        bool busy = false;

        take(g);
        for (unsigned i = 0; i < g->n; i++)
            busy |= give(g, i);
        if (!busy)
            sched_yield();
    }
    return NULL;
}

static struct guest *guest_new(unsigned n, pthread_t *thread)
{
    struct guest *g = calloc(1, sizeof *g);

    assert_non_null(g);
    g->n = n;
    for (unsigned i = 0; i < n; i++)
        assert_non_null(g->streams[i].ring = malloc(RING));
    fake_vsock_init(&g->v, FAKE_VSOCK_RX);
    g->v.threaded = true;
    assert_int_equal(loop_start(g->v.f.loop, NULL), 0);
    assert_int_equal(pthread_create(thread, NULL, guest_main, g), 0);
    return g;
}

static void guest_free(struct guest *g, pthread_t thread)
{
    g->stop = true;
    pthread_join(thread, NULL);
    loop_stop(g->v.f.loop);
    fake_vsock_fini(&g->v);
    for (unsigned i = 0; i < g->n; i++)
        free(g->streams[i].ring);
    free(g);
}

static uint8_t pattern(unsigned stream, uint64_t at)
{
    return (uint8_t)((at * 0x9e3779b97f4a7c15ull + stream * 0x1234567ull) >> 29);
}

struct host_end {
    int fd;
    uint64_t out, in;
};

/* Move what can be moved. Returns true when all is back and the end was seen. */
static bool step(struct host_end *e, unsigned id, uint64_t total, short revents, uint32_t pace)
{
    static uint8_t data[CHUNK];
    ssize_t n;

    if (revents & POLLOUT && e->out < total) {
        size_t len = total - e->out < pace ? (size_t)(total - e->out) : pace;

        for (size_t i = 0; i < len; i++)
            data[i] = pattern(id, e->out + i);
        n = send(e->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        assert_true(n > 0 || errno == EAGAIN);
        e->out += n > 0 ? (uint64_t)n : 0;
        if (e->out == total)
            shutdown(e->fd, SHUT_WR);
    }
    if (revents & (POLLIN | POLLHUP)) {
        n = recv(e->fd, data, pace, MSG_DONTWAIT);
        for (ssize_t i = 0; i < n; i++)
            if (data[i] != pattern(id, e->in + (uint64_t)i))
                fail_msg("stream %u differs at %llu", id, (unsigned long long)e->in + (unsigned)i);
        if (n == 0) {
            assert_true(e->in == total);
            return true;
        }
        assert_true(n > 0 || errno == EAGAIN);
        e->in += n > 0 ? (uint64_t)n : 0;
    }
    return false;
}

static double run(unsigned n, uint64_t total, uint32_t pace)
{
    struct host_end ends[MAX_STREAMS] = {{0}};
    struct pollfd polls[MAX_STREAMS];
    struct timespec a, b;
    pthread_t thread;
    struct guest *g = guest_new(n, &thread);
    unsigned open = n;

    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(vsock_connect(g->v.d, FIRST_GUEST + i, &ends[i].fd, NULL), 0);
        polls[i] = (struct pollfd){ends[i].fd, POLLIN | POLLOUT, 0};
    }
    clock_gettime(CLOCK_MONOTONIC, &a);
    while (open != 0) {
        int ready = poll(polls, n, 20000);

        if (ready <= 0)
            fail_msg("stuck with %u of %u streams open", open, n);
        for (unsigned i = 0; i < n; i++) {
            if (polls[i].revents == 0)
                continue;
            if (step(&ends[i], i, total, polls[i].revents, pace)) {
                close(ends[i].fd);
                polls[i].fd = -1;
                open--;
            }
            if (ends[i].out == total)
                polls[i].events = POLLIN;
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &b);
    for (int i = 0; i < 1000 && g->resets != n; i++)
        usleep(1000);
    assert_int_equal(g->resets, n);
    guest_free(g, thread);
    return (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
}

static void one_wide_stream(void **state)
{
    double s = run(1, 64u << 20, CHUNK);

    print_message("64 MiB to the guest and back: %.2f s, %.0f MiB/s each way\n", s, 64 / s);
}

static void many_streams(void **state)
{
    double s = run(50, 1u << 20, 7001);

    print_message("50 streams of 1 MiB each way: %.2f s\n", s);
}

/* Host sockets closed in mid-flow, again and again: no signal, no leak, and the rest goes on. */
static void closed_in_mid_flow(void **state)
{
    static uint8_t data[CHUNK];
    pthread_t thread;
    struct guest *g = guest_new(MAX_STREAMS, &thread);
    int fds[MAX_STREAMS];

    for (unsigned i = 0; i < MAX_STREAMS; i++) {
        assert_int_equal(vsock_connect(g->v.d, FIRST_GUEST + i, &fds[i], NULL), 0);
        assert_int_equal(fcntl(fds[i], F_SETFL, O_NONBLOCK), 0);
    }
    for (int round = 0; round < 20; round++)
        for (unsigned i = 0; i < MAX_STREAMS; i++)
            if (send(fds[i], data, sizeof data, MSG_NOSIGNAL) < 0)
                assert_int_equal(errno, EAGAIN);
    for (unsigned i = 0; i < MAX_STREAMS; i++)
        close(fds[i]);
    for (int i = 0; i < 10000 && g->resets != MAX_STREAMS; i++)
        usleep(1000);
    assert_int_equal(g->resets, MAX_STREAMS);
    loop_lock(g->v.f.loop);
    assert_int_equal(g->v.d->n_streams, 0);
    assert_int_equal(g->v.d->backlog_left, VSOCK_BACKLOG_BYTES);
    loop_unlock(g->v.f.loop);
    guest_free(g, thread);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_wide_stream),
        cmocka_unit_test(many_streams),
        cmocka_unit_test(closed_in_mid_flow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

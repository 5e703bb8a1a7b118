/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock at its limits: buffers, streams, listeners, descriptors (checklist VS-03 ... VS-05).
 */
#include <dirent.h>
#include <sys/resource.h>

#include "dev/vsock_fixture.h"
#include "dev/pmem.h"
#include "dev/rng.h"

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

/* A full queue is worked off in more than one turn of the loop. */
static void many_packets_at_once(void **state)
{
    struct fixture *x = *state;
    struct vsock_header p = fake_vsock_header(OP_RST, 1, 1);
    struct fake_desc d = {FAKE_BUFFERS + 0x300000, sizeof p};

    memcpy(mem_ptr_write(x->g.f.mem, d.addr, sizeof p), &p, sizeof p);
    for (uint16_t i = 0; i < 256; i++)
        fake_offer(&x->g.f, QUEUE_TX, i, &d, 1);
    fake_write(&x->g.f, MMIO_QUEUE_NOTIFY, QUEUE_TX);
    fake_run(&x->g.f);
    assert_int_equal(fake_used_index(&x->g.f, QUEUE_TX), 256);
    expect_nothing(&x->g);
}

static void request_with_a_lie(void **state)
{
    struct fixture *x = *state;
    struct vsock_header p = fake_vsock_header(OP_REQUEST, GUEST, PORT);

    p.fwd_cnt = 1; /* it has taken a byte that nobody sent */
    fake_vsock_send(&x->g, &p, NULL, 0);
    expect(&x->g, OP_RST, GUEST, PORT);
    assert_int_equal(x->n_fds, 0);
    assert_int_equal(x->g.d->n_streams, 0);
}

static void limit_fds(rlim_t n)
{
    struct rlimit r;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &r), 0);
    r.rlim_cur = n;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &r), 0);
}

static rlim_t fd_limit(void)
{
    struct rlimit r;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &r), 0);
    return r.rlim_cur;
}

/* No descriptors left: an error for the host, RST for the guest, and nothing stays behind. */
static void out_of_descriptors(void **state)
{
    struct fixture *x = *state;
    rlim_t limit = fd_limit();
    struct sm_error err;
    int fd, lowest = dup(0);

    assert_true(lowest >= 0);
    close(lowest);
    for (int spare = 0; spare < 2; spare++) {
        limit_fds((rlim_t)lowest + (rlim_t)spare);
        assert_int_equal(vsock_connect(x->g.d, 1, &fd, &err), SM_EIO);
        assert_int_equal(fd, -1);
        fake_vsock_op(&x->g, OP_REQUEST, GUEST, PORT, 0);
        expect(&x->g, OP_RST, GUEST, PORT);
        limit_fds(limit);
        assert_int_equal(x->g.d->n_streams, 0);
        assert_int_equal(x->g.d->backlog_left, VSOCK_BACKLOG_BYTES);
    }
    connected(x, GUEST);
}

static void construction_fails_cleanly(void **state)
{
    struct pmem_config config = {FAKE_WINDOW, FAKE_WINDOW_BYTES, -1};
    rlim_t limit = fd_limit();
    struct fake_driver f;
    struct virtio_env env;
    unsigned before;
    struct vsock *d;
    struct pmem *p;
    struct rng *r;
    int lowest;

    fake_init(&f);
    env = fake_env(&f);
    before = open_fds();
    lowest = dup(0);
    close(lowest);
    for (rlim_t spare = 0; spare < 3; spare++) {
        limit_fds((rlim_t)lowest + spare);
        assert_int_equal(vsock_new(&env, 3, &d, NULL), SM_EIO);
        assert_null(d);
        if (spare < 2)
            assert_int_equal(rng_new(&env, &r, NULL), SM_EIO);
        if (spare < 1)
            assert_int_equal(pmem_new(&env, &config, &p, NULL), SM_EIO);
        limit_fds(limit);
        assert_int_equal(open_fds(), before);
    }
    fake_fini(&f);
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
        T(guest_starves_receive),
        T(bad_receive_buffers),
        T(stream_limit),
        T(reopen),
        T(listeners),
        T(many_packets_at_once),
        T(request_with_a_lie),
        T(out_of_descriptors),
        cmocka_unit_test(construction_fails_cleanly),
        cmocka_unit_test(bad_cid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

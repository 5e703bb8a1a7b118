/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the vsock tests share: a started device, a listener, and short words for what is said most.
 * Included once by each test program; the packet last seen is in h and payload.
 */
#ifndef SM_DEV_VSOCK_FIXTURE_H
#define SM_DEV_VSOCK_FIXTURE_H

#include <errno.h>
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

static uint8_t payload[FAKE_VSOCK_PAYLOAD];
static struct vsock_header h;

#define PORT 1024u  /* where the host listens */
#define GUEST 5000u /* the guest's end */

struct fixture {
    struct fake_vsock g;
    int fds[VSOCK_MAX_STREAMS + 1]; /* accepted */
    unsigned n_fds;
};

static inline void on_accept(void *opaque, int fd)
{
    struct fixture *x = opaque;

    x->fds[x->n_fds++] = fd;
}

static inline int setup(void **state)
{
    static struct fixture x;

    memset(&x, 0, sizeof x);
    fake_vsock_init(&x.g, 32);
    assert_int_equal(vsock_listen(x.g.d, PORT, on_accept, &x, NULL), 0);
    *state = &x;
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *x = *state;

    for (unsigned i = 0; i < x->n_fds; i++)
        close(x->fds[i]);
    fake_vsock_fini(&x->g);
    return 0;
}

static inline void expect(struct fake_vsock *g, uint16_t op, uint32_t guest_port,
                          uint32_t host_port)
{
    if (!fake_vsock_recv(g, &h, payload))
        fail_msg("no packet; op %u was due", op);
    assert_int_equal(h.op, op);
    assert_int_equal(h.dst_port, guest_port);
    assert_int_equal(h.src_port, host_port);
    assert_int_equal(h.type, TYPE_STREAM);
}

static inline void expect_nothing(struct fake_vsock *g)
{
    if (fake_vsock_recv(g, &h, payload))
        fail_msg("unexpected op %u", h.op);
}

/* The guest connects; returns the host's end. */
static inline int connected(struct fixture *x, uint32_t guest_port)
{
    fake_vsock_op(&x->g, OP_REQUEST, guest_port, PORT, 0);
    expect(&x->g, OP_RESPONSE, guest_port, PORT);
    return x->fds[x->n_fds - 1];
}

static inline void host_closes(struct fixture *x)
{
    close(x->fds[--x->n_fds]);
    fake_run(&x->g.f);
}

/* recv without waiting: bytes, 0 at end of file, -1 if there is nothing. */
static inline ssize_t get(int fd, void *to, size_t len)
{
    ssize_t n = recv(fd, to, len, MSG_DONTWAIT);

    assert_true(n >= 0 || errno == EAGAIN);
    return n;
}

#endif

// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-vsock: packets that nearly make sense between a few ports, host sockets that are written,
 * read, half-closed and closed at any time, few or odd receive buffers, and any other guest action.
 */
#include <sys/socket.h>
#include <unistd.h>

#include "dev/fake_vsock.h"
#include "fuzz_device.h"

#define MAX_FDS 16
#define PORT 1024u

struct host {
    struct fake_vsock v;
    int fds[MAX_FDS];
    unsigned n_fds;
};

static void keep_fd(void *opaque, int fd)
{
    struct host *x = opaque;

    if (x->n_fds == MAX_FDS)
        close(fd);
    else
        x->fds[x->n_fds++] = fd;
}

static void guest_packet(struct host *x, struct fuzz_input *in)
{
    static const uint8_t bytes[2048];
    uint8_t how = fuzz_u8(in);
    struct vsock_header h = fake_vsock_header(how & 15, 5000 + (how >> 4 & 1), PORT);
    struct vsock_stream *s;
    uint32_t len = 0;

    if (how & 0x80)
        h.dst_port = 0x80000001u + (fuzz_u8(in) & 7); /* where vsock_connect() starts */
    if (h.op == OP_RW)
        h.len = len = fuzz_u16(in) & 2047;
    if (h.op == OP_SHUTDOWN)
        h.flags = fuzz_u8(in);
    s = vsock_stream_find(x->v.d, h.src_port, h.dst_port);
    if (s != NULL)
        h.fwd_cnt = s->sent; /* all taken */
    if (how & 0x40) {
        h.fwd_cnt -= fuzz_u16(in);
        h.buf_alloc = fuzz_u32(in);
    }
    if (how & 0x20) /* any byte of the header */
        ((uint8_t *)&h)[fuzz_u8(in) % sizeof h] = fuzz_u8(in);
    memcpy(mem_ptr_write(x->v.f.mem, FAKE_BUFFERS + 0x700000, sizeof h), &h, sizeof h);
    memcpy(mem_ptr_write(x->v.f.mem, FAKE_BUFFERS + 0x700000 + sizeof h, len), bytes, len);
    fake_offer(&x->v.f, QUEUE_TX, fuzz_u8(in) % x->v.f.queues[QUEUE_TX].size,
               &(struct fake_desc){FAKE_BUFFERS + 0x700000, (uint32_t)sizeof h + len}, 1);
    fake_kick(&x->v.f, QUEUE_TX);
}

static void receive_buffers(struct host *x, struct fuzz_input *in)
{
    unsigned n = fuzz_u8(in) & 7;

    for (unsigned i = 0; i < n; i++)
        fake_offer(&x->v.f, QUEUE_RX, (uint16_t)i % x->v.f.queues[QUEUE_RX].size,
                   &(struct fake_desc){FAKE_BUFFERS + i * 0x1000, 0x1000, FAKE_WRITE}, 1);
    fake_kick(&x->v.f, QUEUE_RX);
}

static void host_action(struct host *x, struct fuzz_input *in)
{
    static uint8_t bytes[65536];
    uint8_t how = fuzz_u8(in);
    unsigned i = (how >> 4) % MAX_FDS;
    int fd;

    if ((how & 7) == 0) {
        if (vsock_connect(x->v.d, 5000 + (how >> 4 & 1), &fd, NULL) == 0)
            keep_fd(x, fd);
        return;
    }
    if (i >= x->n_fds)
        return;
    switch (how & 7) {
    case 1:
    case 2:
        (void)send(x->fds[i], bytes, fuzz_u16(in), MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
    case 3:
        (void)recv(x->fds[i], bytes, fuzz_u16(in), MSG_DONTWAIT);
        break;
    case 4:
        shutdown(x->fds[i], how & 8 ? SHUT_RD : SHUT_WR);
        break;
    default:
        close(x->fds[i]);
        x->fds[i] = x->fds[--x->n_fds];
        break;
    }
}

static void action(struct host *x, struct fuzz_input *in)
{
    uint8_t op = fuzz_u8(in);

    switch (op & 15) {
    case 0:
    case 1:
        fuzz_device_op(&x->v.f, in, QUEUE_COUNT);
        break;
    case 3:
        vsock_unlisten(x->v.d, PORT);
        if (op & 16)
            vsock_listen(x->v.d, PORT, keep_fd, x, NULL);
        break;
    case 4:
    case 5:
        receive_buffers(x, in);
        break;
    case 6:
    case 7:
    case 8:
    case 9:
        host_action(x, in);
        fake_run(&x->v.f);
        break;
    default:
        guest_packet(x, in);
        break;
    }
}

static void check(const struct host *x)
{
    const struct vsock *d = x->v.d;
    uint64_t granted = 0;
    unsigned n = 0;
    struct vsock_stream *s;

    fuzz_device_check(&x->v.f, &d->virtio);
    LIST_FOREACH(s, &d->all, all)
    {
        n++;
        granted += s->alloc > VSOCK_BACKLOG_MIN ? s->alloc : 0;
        if (stream_backlog(&s->io) > s->alloc || s->io.fd < 0)
            abort();
    }
    if (n != d->n_streams || granted + d->backlog_left != VSOCK_BACKLOG_BYTES ||
        d->rst_len > VSOCK_RST_MAX)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    struct host x;

    x.n_fds = 0;
    fake_vsock_init(&x.v, fuzz_u8(&in) & 63);
    vsock_listen(x.v.d, PORT, keep_fd, &x, NULL);
    while (in.left != 0) {
        action(&x, &in);
        check(&x);
    }
    for (unsigned i = 0; i < x.n_fds; i++)
        close(x.fds[i]);
    fake_run(&x.v.f);
    fake_vsock_fini(&x.v);
    return 0;
}

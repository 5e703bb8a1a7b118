/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/fake_vsock.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define TX_SLOTS 64u
#define TX_BYTES 0x11000u
#define TX_AT 0x800000ull
#define RX_BYTES 0x2000u
#define HEADER sizeof(struct vsock_header)

void fake_vsock_init(struct fake_vsock *x, unsigned rx_buffers)
{
    struct virtio_env env;

    memset(x, 0, sizeof *x);
    fake_init(&x->f);
    env = fake_env(&x->f);
    if (vsock_new(&env, VSOCK_GUEST_CID, &x->d, NULL) != 0)
        abort();
    fake_attach(&x->f, vsock_virtio(x->d));
    fake_vsock_start(x, rx_buffers);
}

void fake_vsock_fini(struct fake_vsock *x)
{
    fake_detach(&x->f);
    vsock_free(x->d);
    fake_fini(&x->f);
}

void fake_vsock_start(struct fake_vsock *x, unsigned rx_buffers)
{
    x->tx_slot = x->tx_flight = x->rx_next = 0;
    if (fake_start(&x->f, QUEUE_COUNT, 256, VIRTIO_F_EVENT_IDX) != 0xf)
        abort();
    fake_vsock_offer(x, rx_buffers);
}

static void kick(struct fake_vsock *x, unsigned q)
{
    if (x->threaded)
        fake_write(&x->f, MMIO_QUEUE_NOTIFY, q);
    else
        fake_kick(&x->f, q);
}

static void offer(struct fake_vsock *x, unsigned buffer)
{
    gpa_t at = FAKE_BUFFERS + (gpa_t)buffer * RX_BYTES;
    struct fake_desc d[2] = {{at, HEADER, FAKE_WRITE},
                             {at + HEADER, FAKE_VSOCK_PAYLOAD, FAKE_WRITE}};

    fake_offer(&x->f, QUEUE_RX, (uint16_t)(2 * buffer), d, 2);
}

void fake_vsock_offer(struct fake_vsock *x, unsigned n)
{
    while (n-- != 0) {
        offer(x, x->rx_next % FAKE_VSOCK_RX);
        x->rx_next++;
    }
    kick(x, QUEUE_RX);
}

void fake_vsock_send(struct fake_vsock *x, const struct vsock_header *h, const void *data,
                     uint32_t len)
{
    unsigned slot = x->tx_slot++ % TX_SLOTS;
    gpa_t at = TX_AT + (gpa_t)slot * TX_BYTES;
    struct fake_desc d[2] = {{at, HEADER}, {at + HEADER, len}};
    uint32_t head, used;
    uint8_t *p = mem_ptr_write(x->f.mem, at, TX_BYTES);

    while (fake_used(&x->f, QUEUE_TX, &head, &used))
        x->tx_flight--;
    while (x->threaded && x->tx_flight == TX_SLOTS) {
        if (fake_used(&x->f, QUEUE_TX, &head, &used))
            x->tx_flight--;
        else
            sched_yield();
    }
    if (x->tx_flight == TX_SLOTS)
        abort(); /* the test leaves the device paused with more than it can hold */
    memcpy(p, h, HEADER);
    if (len != 0)
        memcpy(p + HEADER, data, len);
    fake_offer(&x->f, QUEUE_TX, (uint16_t)(2 * slot), d, len != 0 ? 2 : 1);
    x->tx_flight++;
    kick(x, QUEUE_TX);
}

struct vsock_header fake_vsock_header(uint16_t op, uint32_t guest_port, uint32_t host_port)
{
    return (struct vsock_header){
        .src_cid = VSOCK_GUEST_CID,
        .dst_cid = VSOCK_HOST_CID,
        .src_port = guest_port,
        .dst_port = host_port,
        .type = TYPE_STREAM,
        .op = op,
        .buf_alloc = FAKE_VSOCK_ALLOC,
    };
}

void fake_vsock_op(struct fake_vsock *x, uint16_t op, uint32_t guest_port, uint32_t host_port,
                   uint32_t flags)
{
    struct vsock_header h = fake_vsock_header(op, guest_port, host_port);

    h.flags = flags;
    fake_vsock_send(x, &h, NULL, 0);
}

void fake_vsock_data(struct fake_vsock *x, uint32_t guest_port, uint32_t host_port, uint32_t fwd,
                     const void *data, uint32_t len)
{
    struct vsock_header h = fake_vsock_header(OP_RW, guest_port, host_port);

    h.len = len;
    h.fwd_cnt = fwd;
    fake_vsock_send(x, &h, data, len);
}

bool fake_vsock_recv(struct fake_vsock *x, struct vsock_header *h, void *payload)
{
    uint32_t head, len;
    const uint8_t *p;

    if (!fake_used(&x->f, QUEUE_RX, &head, &len))
        return false;
    p = mem_ptr(x->f.mem, FAKE_BUFFERS + (gpa_t)(head / 2) * RX_BYTES, RX_BYTES);
    memcpy(h, p, HEADER);
    if (len < HEADER || len != HEADER + h->len || h->dst_cid != VSOCK_GUEST_CID)
        abort(); /* used.len must be exactly what the header says */
    memcpy(payload, p + HEADER, h->len);
    if (!x->no_refill) {
        offer(x, head / 2);
        kick(x, QUEUE_RX);
    }
    return true;
}

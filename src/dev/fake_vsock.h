/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's virtio-vsock driver for tests, down to packets; no streams: each test says what it
 * sends. Buffers are laid out as Linux 6.1 does it: a 44-byte header and a payload in two
 * descriptors.
 */
#ifndef SM_DEV_FAKE_VSOCK_H
#define SM_DEV_FAKE_VSOCK_H

#include "dev/fake_driver.h"
#include "dev/vsock_impl.h"

#define FAKE_VSOCK_RX 128u /* most receive buffers */
#define FAKE_VSOCK_PAYLOAD 4096u
#define FAKE_VSOCK_ALLOC (256u << 10) /* the credit that requests and responses advertise */

struct fake_vsock {
    struct fake_driver f;
    struct vsock *d;
    unsigned tx_slot, tx_flight;
    unsigned rx_next; /* receive buffers offered so far, while fewer than FAKE_VSOCK_RX */
    bool no_refill;   /* do not offer a receive buffer again after use */
    bool threaded;    /* the loop has its thread: do not run it here */
};

void fake_vsock_init(struct fake_vsock *x, unsigned rx_buffers);
void fake_vsock_fini(struct fake_vsock *x);
void fake_vsock_start(struct fake_vsock *x, unsigned rx_buffers); /* (re)start the driver */
void fake_vsock_offer(struct fake_vsock *x, unsigned n);          /* n more receive buffers */

/* Send exactly this packet, with this much payload behind the header, whatever h->len says. */
void fake_vsock_send(struct fake_vsock *x, const struct vsock_header *h, const void *data,
                     uint32_t len);
/* A packet from the guest's port to the host's, with a proper header; flags or data as op needs. */
struct vsock_header fake_vsock_header(uint16_t op, uint32_t guest_port, uint32_t host_port);
void fake_vsock_op(struct fake_vsock *x, uint16_t op, uint32_t guest_port, uint32_t host_port,
                   uint32_t flags);
void fake_vsock_data(struct fake_vsock *x, uint32_t guest_port, uint32_t host_port, uint32_t fwd,
                     const void *data, uint32_t len);

/* The next packet from the device; payload has room for FAKE_VSOCK_PAYLOAD. False: there is none.
 */
bool fake_vsock_recv(struct fake_vsock *x, struct vsock_header *h, void *payload);

#endif

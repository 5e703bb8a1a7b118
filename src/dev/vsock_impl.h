/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside virtio-vsock; only vsock*.c include it. Everything here needs the loop's lock.
 *
 *   vsock.c         the device: life cycle, host API, event queue
 *   vsock_stream.c  streams: table, credit, host sockets
 *   vsock_packet.c  packets: the two data queues
 */
#ifndef SM_DEV_VSOCK_IMPL_H
#define SM_DEV_VSOCK_IMPL_H

#include <sys/queue.h>

#include "dev/vsock.h"
#include "host/stream.h"

enum { QUEUE_RX, QUEUE_TX, QUEUE_EVENT, QUEUE_COUNT };

/* Section 5.10.6: the packet header, little-endian, 44 bytes. */
struct vsock_header {
    uint64_t src_cid, dst_cid;
    uint32_t src_port, dst_port;
    uint32_t len;
    uint16_t type, op;
    uint32_t flags;
    uint32_t buf_alloc, fwd_cnt;
} __attribute__((packed));
_Static_assert(sizeof(struct vsock_header) == 44, "VIRTIO 1.2 5.10.6");

enum { TYPE_STREAM = 1 };
enum vsock_op {
    OP_INVALID = 0,
    OP_REQUEST = 1,
    OP_RESPONSE = 2,
    OP_RST = 3,
    OP_SHUTDOWN = 4,
    OP_RW = 5,
    OP_CREDIT_UPDATE = 6,
    OP_CREDIT_REQUEST = 7,
};
enum { SHUT_RECEIVE = 1, SHUT_SEND = 2, SHUT_BOTH = 3 };

enum stream_state {
    STATE_CONNECTING, /* we asked, or will ask, the guest */
    STATE_OPEN,
    STATE_DRAINING, /* gone for the guest; its last bytes are on their way to the host */
};

struct vsock_stream {
    struct vsock *dev;      /* borrowed */
    struct stream io;       /* our end of the socket pair */
    struct loop_source src; /* of io.fd; one-shot, armed by stream_arm() */
    uint32_t guest_port, host_port;
    enum stream_state state;
    bool queued;  /* in dev->runnable */
    bool hung_up; /* the host closed its end: nobody reads what the guest sends */

    /* Packets due to the guest. */
    bool want_request, want_response, want_update, want_credit;
    uint8_t shut, told_shut; /* SHUT_* of the host: now, and as the guest knows it */
    bool requested;          /* REQUEST went out */

    /* Host to guest. */
    bool readable;  /* the socket may have bytes; otherwise we wait for it */
    bool read_done; /* the socket will give no more, or the guest wants none */
    uint32_t sent;  /* payload bytes sent, wrapping */
    uint32_t peer_alloc, peer_fwd;

    /* Guest to host. */
    uint32_t alloc;    /* credit we advertise: capacity of the backlog */
    uint32_t received; /* payload bytes taken, wrapping */
    uint32_t told_fwd; /* fwd_cnt in the latest packet we sent */
    uint8_t peer_shut; /* SHUT_* the guest announced */

    LIST_ENTRY(vsock_stream) bucket;
    LIST_ENTRY(vsock_stream) all;
    TAILQ_ENTRY(vsock_stream) run;
};

struct vsock_rst {
    uint64_t src_cid;
    uint32_t src_port, dst_port;
    uint16_t type;
};

struct vsock_listener {
    uint32_t port;
    vsock_accept_fn *on_accept; /* NULL: free */
    void *opaque;
};

#define VSOCK_BUCKETS 256u
/* RSTs wait here for receive buffers. With this many waiting, transmitted packets wait too. */
#define VSOCK_RST_PAUSE 256u
#define VSOCK_RST_MAX (VSOCK_RST_PAUSE + 2 * VSOCK_MAX_STREAMS)

LIST_HEAD(vsock_list, vsock_stream);
TAILQ_HEAD(vsock_run, vsock_stream);

struct vsock {
    struct virtio virtio;
    uint32_t guest_cid;
    uint32_t next_port; /* next host port for vsock_connect() */
    unsigned n_streams;
    uint32_t backlog_left; /* of VSOCK_BACKLOG_BYTES */
    struct vsock_list buckets[VSOCK_BUCKETS];
    struct vsock_list all;
    struct vsock_run runnable; /* streams that may have a packet for the guest */
    struct vsock_listener listeners[VSOCK_MAX_LISTENERS];
    struct vsock_rst *rsts; /* owned: ring of VSOCK_RST_MAX */
    unsigned rst_at, rst_len;
    bool tx_paused;
};

/* vsock_stream.c */
int vsock_stream_new(struct vsock *d, uint32_t guest_port, uint32_t host_port,
                     enum stream_state state, int *peer_fd, struct vsock_stream **out,
                     struct sm_error *err);
struct vsock_stream *vsock_stream_find(struct vsock *d, uint32_t guest_port, uint32_t host_port);
void vsock_stream_free(struct vsock_stream *s);
/* The guest is done with it: forget the ports, deliver the backlog, then free. */
void vsock_stream_drop(struct vsock_stream *s);
/* The same, and tell the guest by RST. */
void vsock_stream_reset(struct vsock_stream *s);
void vsock_stream_run(struct vsock_stream *s); /* it may have something to send */
void vsock_stream_arm(struct vsock_stream *s); /* watch the socket for what matters now */
uint32_t vsock_stream_credit(const struct vsock_stream *s); /* bytes the guest will take */
uint32_t vsock_stream_fwd(const struct vsock_stream *s);
/* Take the guest's view of credit. -1: impossible. */
int vsock_stream_take_credit(struct vsock_stream *s, uint32_t alloc, uint32_t fwd);
/* Bytes from the guest, checked against credit. -1: the stream broke the rules or cannot go on. */
int vsock_stream_payload(struct vsock_stream *s, const struct iovec *iov, unsigned n, uint32_t len);
/* SHUTDOWN from the guest, one direction or both. May free s. */
void vsock_stream_shutdown(struct vsock_stream *s, uint32_t flags);
/* The socket is at its end: note what the guest must be told. */
void vsock_stream_end(struct vsock_stream *s);

/* vsock_packet.c */
void vsock_packet_rst(struct vsock *d, const struct vsock_rst *rst);
void vsock_packet_pump(struct vsock *d); /* send what is due to the guest */
void vsock_packet_take(struct vsock *d); /* handle what the guest sent */

/* vsock.c */
/* After work outside a kick: if the guest broke a queue, its streams end. May free streams. */
void vsock_settle(struct vsock *d);
bool vsock_accept(struct vsock *d, uint32_t guest_port, uint32_t host_port, uint32_t alloc,
                  uint32_t fwd);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock packets. To the guest: streams that may have something take turns, one packet each, so none
 * starves another; a packet is made only when a guest buffer is at hand, so nothing is stored.
 * From the guest: everything that fits no stream is answered by RST (VIRTIO 1.2 section 5.10.6.4).
 */
#include "dev/vsock_impl.h"

#include <stddef.h>

#define MAX_PAYLOAD (64u << 10)
#define TURN 256 /* packets handled before other work of the loop gets its turn */

void vsock_packet_rst(struct vsock *d, const struct vsock_rst *rst)
{
    /* Cannot overflow by the guest's doing (it is paused before); see VSOCK_RST_MAX. */
    if (d->rst_len == VSOCK_RST_MAX)
        return;
    d->rsts[(d->rst_at + d->rst_len++) % VSOCK_RST_MAX] = *rst;
}

static void send_rst(struct vsock *d, const struct virtq_chain *c)
{
    const struct vsock_rst *rst = &d->rsts[d->rst_at];
    struct vsock_header h = {
        .src_cid = rst->src_cid,
        .dst_cid = d->guest_cid,
        .src_port = rst->src_port,
        .dst_port = rst->dst_port,
        .type = rst->type,
        .op = OP_RST,
    };

    virtq_chain_write(c, 0, &h, sizeof h);
    virtq_push(&d->virtio.queues[QUEUE_RX], c, sizeof h);
    d->rst_at = (d->rst_at + 1) % VSOCK_RST_MAX;
    d->rst_len--;
}

/* What s would send next. */
static enum vsock_op next_op(const struct vsock_stream *s)
{
    if (s->want_request)
        return OP_REQUEST;
    if (s->state != STATE_OPEN)
        return OP_INVALID;
    if (s->want_response)
        return OP_RESPONSE;
    if (s->readable && vsock_stream_credit(s) != 0)
        return OP_RW;
    if (s->readable && s->want_credit)
        return OP_CREDIT_REQUEST;
    /* SEND goes out after the last byte, and only then may the guest hear of both. */
    if (s->shut & ~s->told_shut && !s->readable)
        return OP_SHUTDOWN;
    if (s->want_update)
        return OP_CREDIT_UPDATE;
    return OP_INVALID;
}

static void send_header(struct vsock_stream *s, const struct virtq_chain *c, enum vsock_op op,
                        uint32_t len)
{
    struct vsock *d = s->dev;
    struct vsock_header h = {
        .src_cid = VSOCK_HOST_CID,
        .dst_cid = d->guest_cid,
        .src_port = s->host_port,
        .dst_port = s->guest_port,
        .len = len,
        .type = TYPE_STREAM,
        .op = op,
        .flags = op == OP_SHUTDOWN ? s->shut : 0,
        .buf_alloc = s->alloc,
        .fwd_cnt = vsock_stream_fwd(s),
    };

    virtq_chain_write(c, 0, &h, sizeof h);
    virtq_push(&d->virtio.queues[QUEUE_RX], c, (uint32_t)sizeof h + len);
    s->told_fwd = h.fwd_cnt;
    s->want_update = false;
}

/* 1: sent; 0: the chain was not used. */
static int send_data(struct vsock_stream *s, const struct virtq_chain *c)
{
    struct iovec iov[VIRTQ_MAX_SIZE];
    uint32_t room = c->in_bytes - (uint32_t)sizeof(struct vsock_header);
    uint32_t credit = vsock_stream_credit(s);
    unsigned n_iov;
    ssize_t n;

    room = room < credit ? room : credit;
    room = room < MAX_PAYLOAD ? room : MAX_PAYLOAD;
    if (room == 0) {
        virtio_needs_reset(&s->dev->virtio); /* a receive buffer that can hold no byte */
        return 0;
    }
    n_iov = virtq_chain_slice(c, true, sizeof(struct vsock_header), room, iov);
    n = stream_read(&s->io, iov, n_iov);
    if (n > 0) {
        s->sent += (uint32_t)n;
        if (vsock_stream_credit(s) == 0)
            s->want_credit = true;
        send_header(s, c, OP_RW, (uint32_t)n);
        return 1;
    }
    if (n == STREAM_AGAIN) {
        s->readable = false;
        vsock_stream_arm(s);
    } else {
        vsock_stream_end(s);
    }
    return 0;
}

static int send_packet(struct vsock_stream *s, enum vsock_op op, const struct virtq_chain *c)
{
    switch (op) {
    case OP_RW:
        return send_data(s, c);
    case OP_REQUEST:
        s->want_request = false;
        s->requested = true;
        break;
    case OP_RESPONSE:
        s->want_response = false;
        break;
    case OP_CREDIT_REQUEST:
        s->want_credit = false;
        break;
    default:
        break;
    }
    send_header(s, c, op, 0);
    if (op == OP_SHUTDOWN)
        s->told_shut = s->shut;
    return 1;
}

static void take_turn(struct vsock *d, struct vsock_stream *s, enum vsock_op op,
                      const struct virtq_chain *c)
{
    TAILQ_REMOVE(&d->runnable, s, run);
    s->queued = false;
    if (send_packet(s, op, c) == 0)
        virtq_unpop(&d->virtio.queues[QUEUE_RX]);
    vsock_stream_run(s);
}

/* The first stream with something to send; the others leave the list. */
static struct vsock_stream *next_stream(struct vsock *d, enum vsock_op *op)
{
    struct vsock_stream *s;

    while ((s = TAILQ_FIRST(&d->runnable)) != NULL) {
        *op = next_op(s);
        if (*op != OP_INVALID)
            return s;
        TAILQ_REMOVE(&d->runnable, s, run);
        s->queued = false;
    }
    return NULL;
}

void vsock_packet_pump(struct vsock *d)
{
    struct virtio *v = &d->virtio;
    struct virtq *rx = &v->queues[QUEUE_RX];
    struct virtq_chain c;
    enum vsock_op op = OP_INVALID;
    int turn = 0;

    while (virtio_live(v)) {
        struct vsock_stream *s = d->rst_len == 0 ? next_stream(d, &op) : NULL;

        if (d->rst_len == 0 && s == NULL)
            break;
        if (turn++ == TURN) {
            virtio_kick(v, QUEUE_RX);
            break;
        }
        if (virtq_pop(rx, &c) <= 0)
            break;
        /* A receive buffer is for us to write, and holds at least a header. */
        if (c.n_out != 0 || c.in_bytes < sizeof(struct vsock_header)) {
            virtio_needs_reset(v);
            break;
        }
        if (d->rst_len != 0)
            send_rst(d, &c);
        else
            take_turn(d, s, op, &c);
    }
    virtio_interrupt(v, QUEUE_RX);
    if (d->tx_paused && d->rst_len < VSOCK_RST_PAUSE) {
        d->tx_paused = false;
        virtio_kick(v, QUEUE_TX);
    }
}

static void open_packet(struct vsock_stream *s, const struct vsock_header *h,
                        const struct iovec *iov, unsigned n_iov)
{
    switch (h->op) {
    case OP_RW:
        if (vsock_stream_payload(s, iov, n_iov, h->len) != 0)
            vsock_stream_reset(s);
        break;
    case OP_CREDIT_UPDATE:
        break; /* taken already */
    case OP_CREDIT_REQUEST:
        s->want_update = true;
        vsock_stream_run(s);
        break;
    case OP_SHUTDOWN:
        vsock_stream_shutdown(s, h->flags);
        break;
    default:
        vsock_stream_reset(s);
        break;
    }
}

static void stream_packet(struct vsock_stream *s, const struct vsock_header *h,
                          const struct iovec *iov, unsigned n_iov)
{
    if (h->op == OP_RST) {
        vsock_stream_drop(s);
        return;
    }
    if (vsock_stream_take_credit(s, h->buf_alloc, h->fwd_cnt) != 0) {
        vsock_stream_reset(s);
        return;
    }
    if (s->state == STATE_OPEN) {
        open_packet(s, h, iov, n_iov);
    } else if (s->requested && h->op == OP_RESPONSE) {
        s->state = STATE_OPEN;
        s->readable = true; /* the host may have written, or closed, meanwhile */
        vsock_stream_run(s);
        vsock_stream_arm(s);
    } else {
        vsock_stream_reset(s);
    }
}

static void packet(struct vsock *d, const struct vsock_header *h, const struct iovec *iov,
                   unsigned n_iov)
{
    /* An answer goes to the sender from whom it addressed. */
    struct vsock_rst rst = {h->dst_cid, h->dst_port, h->src_port, h->type};
    struct vsock_stream *s = NULL;

    if (h->src_cid != d->guest_cid)
        return; /* an answer could reach nobody */
    if (h->dst_cid == VSOCK_HOST_CID && h->type == TYPE_STREAM)
        s = vsock_stream_find(d, h->src_port, h->dst_port);
    if (s != NULL)
        stream_packet(s, h, iov, n_iov);
    else if (h->dst_cid == VSOCK_HOST_CID && h->type == TYPE_STREAM && h->op == OP_REQUEST &&
             vsock_accept(d, h->src_port, h->dst_port, h->buf_alloc, h->fwd_cnt))
        return;
    else if (h->op != OP_RST)
        vsock_packet_rst(d, &rst);
}

void vsock_packet_take(struct vsock *d)
{
    struct virtio *v = &d->virtio;
    struct virtq *tx = &v->queues[QUEUE_TX];
    struct virtq_chain c;
    struct iovec iov[VIRTQ_MAX_SIZE];
    struct vsock_header h;

    for (int turn = 0; virtio_live(v); turn++) {
        if (d->rst_len >= VSOCK_RST_PAUSE) {
            d->tx_paused = true;
            break;
        }
        if (turn == TURN) {
            virtio_kick(v, QUEUE_TX);
            break;
        }
        if (virtq_pop(tx, &c) <= 0)
            break;
        if (virtq_chain_read(&c, 0, &h, sizeof h) == sizeof h) {
            uint32_t payload = c.out_bytes - (uint32_t)sizeof h;
            unsigned n = 0;

            if (h.len > payload)
                h.op = OP_INVALID; /* it claims bytes that are not there */
            else
                n = virtq_chain_slice(&c, false, sizeof h, h.len, iov);
            packet(d, &h, iov, n);
        }
        virtq_push(tx, &c, 0);
    }
    virtio_interrupt(v, QUEUE_TX);
}

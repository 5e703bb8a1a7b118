/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One vsock stream: ports to the guest, a socket to the host, credit in between (VIRTIO 1.2 section
 * 5.10.6.3). Sockets are watched one-shot: a hang-up that cannot be acted on yet (the guest has no
 * credit left) must not keep the loop awake.
 */
#include "dev/vsock_impl.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

static struct vsock_list *bucket(struct vsock *d, uint32_t guest_port, uint32_t host_port)
{
    uint32_t h = (guest_port * 0x9e3779b1u) ^ (host_port * 0x85ebca6bu);

    return &d->buckets[(h >> 24) % VSOCK_BUCKETS];
}

struct vsock_stream *vsock_stream_find(struct vsock *d, uint32_t guest_port, uint32_t host_port)
{
    struct vsock_stream *s;

    LIST_FOREACH(s, bucket(d, guest_port, host_port), bucket)
    if (s->guest_port == guest_port && s->host_port == host_port)
        return s;
    return NULL;
}

/* A share of what is left, so that a few streams get wide windows and many still get one each. */
static uint32_t grant(struct vsock *d)
{
    uint32_t share = d->backlog_left / 4;

    if (share > VSOCK_BACKLOG_MAX)
        share = VSOCK_BACKLOG_MAX;
    if (share <= VSOCK_BACKLOG_MIN)
        return VSOCK_BACKLOG_MIN;
    d->backlog_left -= share;
    return share;
}

static void socket_ready(struct loop_source *src, uint32_t events);

int vsock_stream_new(struct vsock *d, uint32_t guest_port, uint32_t host_port,
                     enum stream_state state, int *peer_fd, struct vsock_stream **out,
                     struct sm_error *err)
{
    struct vsock_stream *s;
    int rc;

    *out = NULL;
    *peer_fd = -1;
    if (d->n_streams == VSOCK_MAX_STREAMS)
        return err_set(err, SM_EINVAL, "too many vsock streams (at most %u)", VSOCK_MAX_STREAMS);
    s = calloc(1, sizeof *s);
    if (s == NULL)
        return err_set(err, SM_ENOMEM, "out of memory");
    s->dev = d;
    s->guest_port = guest_port;
    s->host_port = host_port;
    s->state = state;
    s->alloc = grant(d);
    s->io.fd = -1;
    LIST_INSERT_HEAD(bucket(d, guest_port, host_port), s, bucket);
    LIST_INSERT_HEAD(&d->all, s, all);
    d->n_streams++;
    rc = stream_pair(&s->io, s->alloc, peer_fd, err);
    if (rc == 0) {
        s->src = (struct loop_source){.fd = s->io.fd, .ready = socket_ready, .opaque = s};
        rc = loop_add(d->virtio.env.loop, &s->src, EPOLLONESHOT, err);
    }
    if (rc != 0) {
        if (*peer_fd >= 0)
            close(*peer_fd);
        *peer_fd = -1;
        vsock_stream_free(s);
        return rc;
    }
    vsock_stream_arm(s);
    *out = s;
    return 0;
}

static void forget_ports(struct vsock_stream *s)
{
    if (s->state == STATE_DRAINING)
        return;
    LIST_REMOVE(s, bucket);
    if (s->queued)
        TAILQ_REMOVE(&s->dev->runnable, s, run);
    s->queued = false;
    s->state = STATE_DRAINING;
}

void vsock_stream_free(struct vsock_stream *s)
{
    struct vsock *d = s->dev;

    forget_ports(s);
    LIST_REMOVE(s, all);
    d->n_streams--;
    if (s->alloc > VSOCK_BACKLOG_MIN)
        d->backlog_left += s->alloc;
    loop_remove(d->virtio.env.loop, &s->src);
    stream_fini(&s->io);
    free(s);
}

void vsock_stream_drop(struct vsock_stream *s)
{
    if (s->hung_up || stream_backlog(&s->io) == 0) {
        vsock_stream_free(s);
        return;
    }
    forget_ports(s);
    stream_shut_read(&s->io);
    stream_shut_write(&s->io); /* once the backlog is out */
    vsock_stream_arm(s);
}

void vsock_stream_reset(struct vsock_stream *s)
{
    struct vsock_rst rst = {VSOCK_HOST_CID, s->host_port, s->guest_port, TYPE_STREAM};

    vsock_packet_rst(s->dev, &rst);
    vsock_stream_drop(s);
}

void vsock_stream_run(struct vsock_stream *s)
{
    if (s->queued || s->state == STATE_DRAINING)
        return;
    TAILQ_INSERT_TAIL(&s->dev->runnable, s, run);
    s->queued = true;
}

void vsock_stream_arm(struct vsock_stream *s)
{
    uint32_t events = EPOLLONESHOT;

    if (s->hung_up)
        return; /* nothing more to learn from the socket */
    if (s->state == STATE_OPEN && !s->readable && !s->read_done)
        events |= EPOLLIN | EPOLLRDHUP;
    if (stream_backlog(&s->io) != 0)
        events |= EPOLLOUT;
    loop_change(s->dev->virtio.env.loop, &s->src, events);
}

uint32_t vsock_stream_credit(const struct vsock_stream *s)
{
    uint32_t in_flight = s->sent - s->peer_fwd;

    return in_flight < s->peer_alloc ? s->peer_alloc - in_flight : 0;
}

uint32_t vsock_stream_fwd(const struct vsock_stream *s)
{
    return s->received - (uint32_t)stream_backlog(&s->io);
}

int vsock_stream_take_credit(struct vsock_stream *s, uint32_t alloc, uint32_t fwd)
{
    uint32_t ahead = fwd - s->peer_fwd;

    s->peer_alloc = alloc;
    /* A guest stamps packets on several CPUs before it queues them, so an older count may follow a
     * newer one. A count beyond what was sent is a lie. */
    if ((int32_t)ahead >= 0) {
        if (ahead > s->sent - s->peer_fwd)
            return -1;
        s->peer_fwd = fwd;
    }
    if (vsock_stream_credit(s) != 0) {
        s->want_credit = false;
        if (s->readable)
            vsock_stream_run(s);
    }
    return 0;
}

/* Tell the guest about free room once a quarter of the window has been used since it last heard. */
static void offer_credit(struct vsock_stream *s)
{
    if (s->state == STATE_OPEN && vsock_stream_fwd(s) - s->told_fwd >= s->alloc / 4) {
        s->want_update = true;
        vsock_stream_run(s);
    }
}

static void hang_up(struct vsock_stream *s)
{
    s->hung_up = true;
    stream_discard(&s->io);
    s->shut |= SHUT_RECEIVE;
    vsock_stream_run(s);
}

int vsock_stream_payload(struct vsock_stream *s, const struct iovec *iov, unsigned n, uint32_t len)
{
    if (len > s->alloc - (uint32_t)stream_backlog(&s->io) || s->peer_shut & SHUT_SEND)
        return -1; /* beyond the credit it was given, or after it said it was done */
    s->received += len;
    if (!s->hung_up) {
        int rc = stream_write(&s->io, iov, n);

        if (rc == STREAM_FULL)
            return -1;
        if (rc == STREAM_GONE) {
            /* The host closed its reading side; what it wrote may still be waiting for the guest.
             */
            stream_discard(&s->io);
            s->shut |= SHUT_RECEIVE;
            vsock_stream_run(s);
        }
        if (stream_backlog(&s->io) != 0)
            vsock_stream_arm(s);
    }
    offer_credit(s);
    return 0;
}

void vsock_stream_shutdown(struct vsock_stream *s, uint32_t flags)
{
    uint8_t before = s->peer_shut;

    s->peer_shut |= flags & SHUT_BOTH;
    if (s->peer_shut == SHUT_BOTH) {
        vsock_stream_reset(s); /* 5.10.6.5: the answer to a complete shutdown is RST */
        return;
    }
    if (s->peer_shut & ~before & SHUT_SEND)
        stream_shut_write(&s->io);
    if (s->peer_shut & ~before & SHUT_RECEIVE) {
        stream_shut_read(&s->io);
        s->readable = false;
        s->read_done = true;
    }
}

void vsock_stream_end(struct vsock_stream *s)
{
    s->readable = false;
    s->read_done = true;
    s->shut |= SHUT_SEND;
    if (stream_hung_up(&s->io))
        hang_up(s);
    else
        vsock_stream_arm(s);
}

static void flush(struct vsock_stream *s)
{
    if (stream_flush(&s->io) == STREAM_GONE) {
        stream_discard(&s->io);
        s->shut |= SHUT_RECEIVE;
        vsock_stream_run(s);
    }
    offer_credit(s);
}

/* The host closed before the guest answered. What it wrote first is still for the guest. */
static bool abandoned(const struct vsock_stream *s)
{
    return s->state == STATE_CONNECTING && !stream_has_input(&s->io);
}

static void socket_ready(struct loop_source *src, uint32_t events)
{
    struct vsock_stream *s = src->opaque;
    struct vsock *d = s->dev;

    if (stream_backlog(&s->io) != 0)
        flush(s);
    if (events & (EPOLLHUP | EPOLLERR) && s->state != STATE_CONNECTING)
        hang_up(s);
    if (s->state == STATE_DRAINING && stream_backlog(&s->io) == 0) {
        vsock_stream_free(s);
        return;
    }
    if (events & (EPOLLHUP | EPOLLERR) && abandoned(s)) {
        if (s->requested)
            vsock_stream_reset(s);
        else
            vsock_stream_free(s);
        vsock_packet_pump(d);
        vsock_settle(d);
        return;
    }
    if (s->state == STATE_OPEN && !s->read_done) {
        s->readable = true;
        vsock_stream_run(s);
    }
    /* A closed socket would report its hang-up again at once. */
    if (!(s->state == STATE_CONNECTING && events & (EPOLLHUP | EPOLLERR)))
        vsock_stream_arm(s);
    vsock_packet_pump(d);
    vsock_settle(d);
}

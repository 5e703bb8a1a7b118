/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Output is read straight into the wire's buffer, only when the host has credit for it and the
 * buffer has room: nothing is ever held twice. Input goes straight to the process; what it does not
 * take waits in a ring of one window. A terminal is one descriptor for both: out[0].
 */
#include "stream.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "spawn.h"

/* The kernel buffers no more of a terminal than this after its last writer is gone. */
#define TTY_DRAIN_MAX (128u << 10)

static struct source *input_of(struct session *s)
{
    return s->tty ? &s->out[0].src : &s->input;
}

static void close_input(struct session *s)
{
    s->input_open = false;
    ring_fini(&s->pending);
    if (!s->tty)
        server_unwatch(s->server, &s->input);
}

static void close_output(struct session *s, struct session_output *o)
{
    server_unwatch(s->server, &o->src);
    if (s->tty)
        close_input(s);
}

/* Write to the process; how many bytes it took, or -1 when nobody reads. */
static ssize_t feed(struct session *s, const uint8_t *data, size_t len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = write(input_of(s)->fd, data + done, len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            return -1;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

static void feed_pending(struct session *s)
{
    const uint8_t *p;
    size_t len;

    while (s->input_open && (p = ring_head(&s->pending, &len))) {
        ssize_t n = feed(s, p, len);
        if (n < 0) {
            close_input(s);
            return;
        }
        ring_drop(&s->pending, (size_t)n);
        s->owed += (uint32_t)n;
        if ((size_t)n < len)
            return;
    }
    if (s->input_open && s->input_ended) {
        if (s->tty)
            spawn_tty_eof(s->out[0].src.fd);
        close_input(s);
        s->input_refused = true; /* it said so itself */
    }
}

static int on_input(struct session *s, const struct codec_frame *f)
{
    ssize_t done = 0;

    if (s->input_ended || f->length > s->host_credit)
        return -1;
    s->host_credit -= f->length;
    if (!s->input_open)
        return 0; /* on its way when we told EOF */
    if (s->pending.len == 0)
        done = feed(s, f->payload, f->length);
    if (done < 0) {
        close_input(s);
        return 0;
    }
    s->owed += (uint32_t)done;
    return ring_put(&s->pending, f->payload + done, f->length - (size_t)done);
}

int stream_frame(struct session *s, const struct codec_frame *f)
{
    struct session_output *o = f->stream ? &s->out[f->stream - 1] : NULL;
    uint32_t bytes;

    if (s->tty && f->stream == PROTO_STDERR)
        return -1;
    if (f->type == PROTO_DATA)
        return on_input(s, f);
    if (f->type == PROTO_EOF && !o) {
        if (s->input_ended)
            return -1;
        s->input_ended = true;
        feed_pending(s);
        return 0;
    }
    if (f->type == PROTO_EOF) {
        close_output(s, o); /* the process gets SIGPIPE, or SIGHUP */
        return 0;
    }
    if (codec_credit_parse(f, &bytes) < 0 || bytes > PROTO_WINDOW - o->credit)
        return -1;
    o->credit += bytes;
    return 0;
}

/* One read into one DATA frame. */
static void take_output(struct session *s, struct session_output *o)
{
    size_t room = wire_room(&s->wire), max = PROTO_PAYLOAD_MAX;
    uint8_t *frame = wire_tail(&s->wire);
    ssize_t n;

    if (room <= WIRE_RESERVE + PROTO_HEADER_SIZE || o->credit == 0)
        return;
    room -= WIRE_RESERVE + PROTO_HEADER_SIZE;
    max = max < room ? max : room;
    max = max < o->credit ? max : o->credit;
    if (o->draining && max > o->drain_left)
        max = o->drain_left;
    n = max ? read(o->src.fd, frame + PROTO_HEADER_SIZE, max) : 0;
    if (n < 0 && (errno == EINTR || (errno == EAGAIN && !o->draining)))
        return;
    if (n <= 0) { /* end of file; EIO of a terminal without users; nothing left to drain */
        close_output(s, o);
        return;
    }
    codec_header_build(frame, PROTO_DATA, (unsigned)(o - s->out) + PROTO_STDOUT, 0, (uint32_t)n);
    wire_added(&s->wire, PROTO_HEADER_SIZE + (size_t)n);
    o->credit -= (uint32_t)n;
    if (o->draining)
        o->drain_left -= (size_t)n;
}

void stream_ready(struct session *s, struct source *src, uint32_t events)
{
    if (src == &s->input && events & EPOLLERR)
        close_input(s); /* the last reader is gone */
    if (src == input_of(s) && events & EPOLLOUT)
        feed_pending(s);
    for (int i = 0; i < 2; i++)
        if (src == &s->out[i].src && src->fd >= 0 && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
            take_output(s, &s->out[i]);
}

void stream_drain(struct session *s)
{
    close_input(s);
    for (int i = 0; i < 2; i++) {
        struct session_output *o = &s->out[i];
        int left = 0;
        if (o->src.fd < 0)
            continue;
        /* What a detached child writes from here on is not this command's output. */
        o->draining = true;
        if (s->tty)
            o->drain_left = TTY_DRAIN_MAX;
        else
            o->drain_left = ioctl(o->src.fd, FIONREAD, &left) == 0 ? (size_t)left : 0;
    }
}

/* True when a small frame fits and may be built at wire_tail. */
static bool room_for_small(struct session *s)
{
    return wire_room(&s->wire) >= CODEC_SMALL;
}

static void say_eof(struct session *s, unsigned stream)
{
    wire_added(&s->wire, codec_empty_build(wire_tail(&s->wire), PROTO_EOF, stream));
}

/* Queue what has to be said. True if something could not be queued for want of room. */
static bool queue_due(struct session *s)
{
    bool blocked = false;

    for (unsigned i = 0; i < 2; i++) {
        struct session_output *o = &s->out[i];
        if (!o->open || o->src.fd >= 0)
            continue;
        if (!room_for_small(s))
            return true;
        o->open = false;
        say_eof(s, PROTO_STDOUT + i);
    }
    if (s->reaped) {
        if (s->out[0].open || s->out[1].open)
            return false;
        if (!room_for_small(s))
            return true;
        wire_added(&s->wire, codec_exit_build(wire_tail(&s->wire), &s->exit));
        s->phase = SESSION_CLOSING;
        return false;
    }
    if (!s->input_open && !s->input_refused) {
        blocked = !room_for_small(s);
        if (!blocked) {
            s->input_refused = true;
            say_eof(s, PROTO_STDIN);
        }
    }
    if (s->input_open && s->owed >= PROTO_WINDOW / 4) {
        blocked = !room_for_small(s);
        if (!blocked) {
            wire_added(&s->wire,
                       codec_u32_build(wire_tail(&s->wire), PROTO_CREDIT, PROTO_STDIN, s->owed));
            s->host_credit += s->owed;
            s->owed = 0;
        }
    }
    return blocked;
}

/* Draining needs no event: a terminal that a detached child keeps open would never send one. */
static bool drain_some(struct session *s)
{
    bool moved = false;

    for (int i = 0; i < 2; i++) {
        struct session_output *o = &s->out[i];
        size_t queued = wire_queued(&s->wire);
        if (!o->draining || o->src.fd < 0)
            continue;
        if (o->drain_left == 0)
            close_output(s, o);
        else
            take_output(s, o);
        moved = moved || o->src.fd < 0 || wire_queued(&s->wire) != queued;
    }
    return moved;
}

/* Ask for events only where they could be acted on; otherwise a level-triggered wait would spin. */
static void watch(struct session *s)
{
    bool sent = wire_queued(&s->wire) == 0;
    bool reading = sent && s->phase == SESSION_RUNNING; /* no DATA before STARTED */
    bool writing = s->input_open && s->pending.len > 0;

    server_watch(s->server, &s->conn, EPOLLIN | (sent ? 0 : EPOLLOUT), true);
    for (int i = 0; i < 2; i++) {
        struct session_output *o = &s->out[i];
        uint32_t events = reading && o->credit ? EPOLLIN : 0;
        if (s->tty && i == 0 && writing)
            events |= EPOLLOUT;
        server_watch(s->server, &o->src, events, false);
    }
    /* With nothing to write it still tells that the reader is gone. */
    server_watch(s->server, &s->input, writing ? EPOLLOUT : 0, true);
}

int stream_pump(struct session *s)
{
    for (;;) {
        bool running = s->phase == SESSION_RUNNING;
        bool more = running && queue_due(s);

        if (wire_flush(&s->wire) < 0)
            return -1;
        if (wire_queued(&s->wire) > 0)
            break;
        if (running && s->phase == SESSION_RUNNING)
            more = drain_some(s) || more;
        if (!more)
            break;
    }
    watch(s);
    return 0;
}

void stream_close(struct session *s)
{
    close_output(s, &s->out[0]);
    close_output(s, &s->out[1]);
    close_input(s);
}

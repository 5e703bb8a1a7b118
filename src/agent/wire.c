/* SPDX-License-Identifier: Apache-2.0 */
/* See agent/wire.h. A linear buffer: it is nearly always emptied by the flush that follows a put.
 */
#include "agent/wire.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

void wire_init(struct wire *w, int fd, enum codec_peer peer)
{
    w->fd = fd;
    w->out_start = w->out_end = 0;
    codec_reader_init(&w->in, peer);
}

int wire_fill(struct wire *w)
{
    size_t room;
    uint8_t *p = codec_reader_space(&w->in, &room);
    ssize_t n = recv(w->fd, p, room, MSG_DONTWAIT);

    if (n > 0) {
        codec_reader_added(&w->in, (size_t)n);
        return 1;
    }
    return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

int wire_flush(struct wire *w)
{
    while (w->out_start < w->out_end) {
        ssize_t n = send(w->fd, w->out + w->out_start, w->out_end - w->out_start,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN || errno == ENOBUFS ? 0 : -1;
        w->out_start += (size_t)n;
    }
    w->out_start = w->out_end = 0;
    return 0;
}

size_t wire_room(struct wire *w)
{
    if (w->out_start) {
        memmove(w->out, w->out + w->out_start, w->out_end - w->out_start);
        w->out_end -= w->out_start;
        w->out_start = 0;
    }
    return sizeof w->out - w->out_end;
}

uint8_t *wire_tail(struct wire *w)
{
    return w->out + w->out_end;
}

void wire_added(struct wire *w, size_t len)
{
    w->out_end += len;
}

size_t wire_queued(const struct wire *w)
{
    return w->out_end - w->out_start;
}

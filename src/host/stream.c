/* SPDX-License-Identifier: Apache-2.0 */
/* A non-blocking AF_UNIX stream socket with a bounded ring of bytes waiting to go out. */
#include "host/stream.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A reset of the device, by a vCPU, ends streams as well. */
/* jail(main,loop,vcpu): socketpair sendmsg recvmsg recvfrom shutdown close poll */
int stream_pair(struct stream *s, size_t capacity, int *peer, struct sm_error *err)
{
    int fds[2];

    *s = (struct stream){.fd = -1, .capacity = capacity};
    *peer = -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
        return err_sys(err, "cannot create a socket pair");
    /* Our end is never waited on: every call passes MSG_DONTWAIT. */
    s->fd = fds[0];
    *peer = fds[1];
    return 0;
}

/* Closing a socket with unread input makes the peer see ECONNRESET instead of end of file. */
static void drain_input(struct stream *s)
{
    uint8_t waste[4096];

    shutdown(s->fd, SHUT_RD); /* nothing is added from now on, so this ends */
    while (recv(s->fd, waste, sizeof waste, MSG_DONTWAIT) > 0)
        ;
}

void stream_fini(struct stream *s)
{
    if (s->fd >= 0) {
        drain_input(s);
        close(s->fd);
    }
    free(s->ring);
    *s = (struct stream){.fd = -1};
}

ssize_t stream_read(struct stream *s, const struct iovec *iov, unsigned iov_count)
{
    struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = iov_count};
    ssize_t n;

    do
        n = recvmsg(s->fd, &msg, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        return n;
    return errno == EAGAIN ? STREAM_AGAIN : STREAM_GONE;
}

static ssize_t send_some(struct stream *s, const struct iovec *iov, unsigned iov_count)
{
    struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = iov_count};
    ssize_t n;

    do
        n = sendmsg(s->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        return n;
    /* ENOBUFS and ENOMEM are the host's shortage, not the peer's end: keep the bytes and retry. */
    return errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM ? STREAM_AGAIN : STREAM_GONE;
}

static void keep(struct stream *s, const uint8_t *data, size_t len)
{
    size_t to = (s->at + s->len) % s->capacity;
    size_t first = len < s->capacity - to ? len : s->capacity - to;

    memcpy(s->ring + to, data, first);
    memcpy(s->ring, data + first, len - first);
    s->len += len;
}

int stream_write(struct stream *s, const struct iovec *iov, unsigned iov_count)
{
    size_t total = 0, sent = 0;
    ssize_t n = 0;

    for (unsigned i = 0; i < iov_count; i++)
        total += iov[i].iov_len;
    if (total == 0)
        return 0;
    if (s->len == 0) {
        n = send_some(s, iov, iov_count);
        if (n == STREAM_GONE)
            return STREAM_GONE;
        sent = n > 0 ? (size_t)n : 0;
    }
    if (sent == total)
        return 0;
    if (total - sent > s->capacity - s->len)
        return STREAM_FULL;
    if (s->ring == NULL && (s->ring = malloc(s->capacity)) == NULL)
        return STREAM_FULL;
    for (unsigned i = 0; i < iov_count; i++) {
        size_t skip = sent < iov[i].iov_len ? sent : iov[i].iov_len;

        keep(s, (uint8_t *)iov[i].iov_base + skip, iov[i].iov_len - skip);
        sent -= skip;
    }
    return 0;
}

int stream_flush(struct stream *s)
{
    while (s->len != 0) {
        size_t first = s->len < s->capacity - s->at ? s->len : s->capacity - s->at;
        struct iovec iov[2] = {{s->ring + s->at, first}, {s->ring, s->len - first}};
        ssize_t n = send_some(s, iov, iov[1].iov_len != 0 ? 2 : 1);

        if (n == STREAM_AGAIN)
            return 0;
        if (n == STREAM_GONE)
            return STREAM_GONE;
        s->at = (s->at + (size_t)n) % s->capacity;
        s->len -= (size_t)n;
    }
    if (s->end_write)
        shutdown(s->fd, SHUT_WR);
    return 0;
}

void stream_discard(struct stream *s)
{
    s->len = 0;
}

void stream_shut_read(struct stream *s)
{
    shutdown(s->fd, SHUT_RD);
}

void stream_shut_write(struct stream *s)
{
    s->end_write = true;
    if (s->len == 0)
        shutdown(s->fd, SHUT_WR);
}

bool stream_hung_up(const struct stream *s)
{
    struct pollfd p = {.fd = s->fd};

    return poll(&p, 1, 0) > 0 && p.revents & (POLLHUP | POLLERR);
}

bool stream_has_input(const struct stream *s)
{
    uint8_t first;

    return recv(s->fd, &first, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each direction has its buffer and its own end, so that one that is full or over does not stop the
 * other. The agent reaps the process; it ends with the agent's shutdown as any other.
 */
#include "relay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/codec.h"
#include "launch.h"

#define BUFFER 65536
#define LOOK_MS 1000 /* how often a half-closed connection is looked at */

struct way {
    int from, to;
    size_t start, end;
    bool over; /* from has ended; once the rest is out, so has to */
    bool told;
    char data[BUFFER];
};

static int connect_to(uint16_t port)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    v6.sin6_addr = in6addr_loopback;
    if (fd >= 0 && connect(fd, (struct sockaddr *)&v4, sizeof v4) == 0)
        return fd;
    int error = errno;
    if (fd >= 0)
        close(fd);
    fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&v6, sizeof v6) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    errno = error; /* a guest without IPv6 says nothing of interest about it */
    return -1;
}

/* Both sockets still block here, and the frame is small. */
static void answer(int conn, const uint8_t *frame, size_t len)
{
    if (send(conn, frame, len, MSG_NOSIGNAL) != (ssize_t)len)
        _exit(1);
}

static void take(struct way *w)
{
    ssize_t n = read(w->from, w->data, sizeof w->data);

    if (n > 0) {
        w->start = 0;
        w->end = (size_t)n;
    } else if (n == 0) {
        w->over = true;
    } else if (errno != EAGAIN && errno != EINTR) {
        _exit(0); /* reset: the other side is reset with us */
    }
}

static void give(struct way *w)
{
    ssize_t n = send(w->to, w->data + w->start, w->end - w->start, MSG_NOSIGNAL);

    if (n >= 0)
        w->start += (size_t)n;
    else if (errno != EAGAIN && errno != EINTR)
        _exit(0);
}

static void move(struct way *w, short can_read, short can_write)
{
    if (w->start == w->end && !w->over && can_read)
        take(w);
    if (w->start < w->end && (can_write || can_read))
        give(w);
    if (w->over && w->start == w->end && !w->told) {
        w->told = true;
        shutdown(w->to, SHUT_WR);
    }
}

static short events_of(const struct way *in, const struct way *out)
{
    return (short)((in->start == in->end && !in->over ? POLLIN : 0) |
                   (out->start < out->end ? POLLOUT : 0));
}

static void carry(struct way *up, struct way *down) __attribute__((noreturn));

/* up: host to guest. */
static void carry(struct way *up, struct way *down)
{
    const short readable = POLLIN | POLLHUP | POLLERR, writable = POLLOUT | POLLERR;

    while (!up->told || !down->told) {
        struct pollfd p[2] = {{up->from, events_of(up, down), 0}, {up->to, events_of(down, up), 0}};

        if (poll(p, 2, up->told ? LOOK_MS : -1) < 0 && errno != EINTR)
            _exit(1);
        move(up, p[0].revents & readable, p[1].revents & writable);
        move(down, p[1].revents & readable, p[0].revents & writable);
        /* A host that has gone looks like one that has only said its end, until one writes. */
        if (up->told && ((p[0].revents & (POLLHUP | POLLERR)) ||
                         (send(up->from, "", 0, MSG_NOSIGNAL) < 0 && errno != EAGAIN)))
            _exit(0);
    }
    _exit(0);
}

static void relay(int conn, uint16_t port) __attribute__((noreturn));

static void relay(int conn, uint16_t port)
{
    struct way up = {.from = conn}, down = {.to = conn};
    uint8_t frame[CODEC_ERROR];
    char text[80];

    fcntl(conn, F_SETFL, 0);
    int fd = connect_to(port);
    if (fd < 0) {
        snprintf(text, sizeof text, "cannot connect to port %u of the guest: %s", port,
                 strerror(errno));
        answer(conn, frame, codec_error_build(frame, PROTO_ERR_CONNECT, (uint32_t)errno, text));
        _exit(0);
    }
    answer(conn, frame, codec_empty_build(frame, PROTO_OK, 0));
    fcntl(conn, F_SETFL, O_NONBLOCK);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    up.to = down.from = fd;
    carry(&up, &down);
}

int relay_start(int conn, uint16_t port)
{
    pid_t pid = fork();

    if (pid == 0) {
        launch_detach(&conn);
        relay(conn, port);
    }
    return pid < 0 ? -1 : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Reads exactly the frames of the answer: the byte after them is the caller's already. */
#include "agent/connect.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "agent/codec.h"
#include "base/clock.h"

struct answer {
    int fd;
    int64_t deadline; /* -1: none */
    struct sm_error *err;
};

static int broken(const struct answer *a, const char *what)
{
    return err_set(a->err, SM_EGUEST, "the guest's agent broke the protocol: %s", what);
}

static int wait_for(const struct answer *a, short events)
{
    struct pollfd p = {a->fd, events, 0};
    int64_t left = a->deadline < 0 ? -1 : a->deadline - clock_ms();
    int n =
        a->deadline >= 0 && left <= 0 ? 0 : poll(&p, 1, left < INT32_MAX ? (int)left : INT32_MAX);

    if (n < 0 && errno != EINTR)
        return err_sys(a->err, "poll");
    return n == 0 ? err_set(a->err, SM_ETIMEDOUT, "the guest's agent does not answer") : 0;
}

static int send_all(const struct answer *a, const uint8_t *p, size_t len)
{
    while (len) {
        ssize_t n = send(a->fd, p, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            p += n;
            len -= (size_t)n;
            continue;
        }
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return err_set(a->err, SM_EGUEST, "the guest closed the connection");
        int rc = wait_for(a, POLLOUT);
        if (rc)
            return rc;
    }
    return 0;
}

static int receive_all(const struct answer *a, uint8_t *p, size_t len)
{
    while (len) {
        ssize_t n = recv(a->fd, p, len, MSG_DONTWAIT);
        if (n > 0) {
            p += n;
            len -= (size_t)n;
            continue;
        }
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            return err_set(a->err, SM_EGUEST, "the guest closed the connection");
        int rc = wait_for(a, POLLIN);
        if (rc)
            return rc;
    }
    return 0;
}

/* One frame; payload has room for CODEC_ERROR bytes, which is more than any of these has. */
static int receive_frame(const struct answer *a, struct codec_frame *f, uint8_t *payload)
{
    uint8_t header[PROTO_HEADER_SIZE];
    int rc = receive_all(a, header, sizeof header);

    if (rc)
        return rc;
    if (codec_header_parse(header, CODEC_GUEST, f) < 0 || f->length > CODEC_ERROR)
        return broken(a, "bad frame");
    f->payload = payload;
    return receive_all(a, payload, f->length);
}

static int expect_hello(const struct answer *a, uint8_t *payload)
{
    struct codec_frame f;
    uint32_t version;
    int rc = receive_frame(a, &f, payload);

    if (rc)
        return rc;
    if (f.type != PROTO_HELLO || codec_hello_parse(&f, &version) < 0)
        return broken(a, "no hello");
    if (version != PROTO_VERSION)
        return err_set(a->err, SM_EGUEST, "the guest's agent speaks protocol version %u, not %u",
                       version, PROTO_VERSION);
    return 0;
}

int connect_port(int fd, uint16_t port, int timeout_ms, struct sm_error *err)
{
    struct answer a = {fd, timeout_ms < 0 ? -1 : clock_ms() + timeout_ms, err};
    uint8_t payload[CODEC_ERROR], out[2 * CODEC_SMALL];
    char text[PROTO_TEXT_MAX + 1];
    enum proto_error class;
    struct codec_frame f;
    uint32_t os_errno;
    size_t len = codec_hello_build(out);

    len += codec_connect_build(out + len, port);
    int rc = send_all(&a, out, len);
    rc = rc ? rc : expect_hello(&a, payload);
    rc = rc ? rc : receive_frame(&a, &f, payload);
    if (rc || f.type == PROTO_OK)
        return rc;
    if (f.type != PROTO_ERROR || codec_error_parse(&f, &class, &os_errno, text) < 0)
        return broken(&a, "frame out of turn");
    return err_set(err, class == PROTO_ERR_CONNECT ? SM_ENOTFOUND : SM_EGUEST, "%.400s", text);
}

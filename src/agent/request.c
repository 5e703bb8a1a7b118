/* SPDX-License-Identifier: Apache-2.0 */
/* One request, one answer, over the same wire as a session; the answer is as hostile as any. */
#include "agent/request.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "agent/pages.h"
#include "agent/wire.h"
#include "base/clock.h"

/* 0 when the wire can go on, else the error. */
static int wait_wire(struct wire *w, int64_t deadline, struct sm_error *err)
{
    struct pollfd p = {w->fd, (short)(POLLIN | (wire_queued(w) ? POLLOUT : 0)), 0};
    int64_t left = deadline - clock_ms();
    int n = left > 0 ? poll(&p, 1, (int)left) : 0;

    if (n < 0 && errno != EINTR)
        return err_sys(err, "poll");
    return n == 0 ? err_set(err, SM_ETIMEDOUT, "the guest's agent does not answer") : 0;
}

/* Next frame into *f. 1: there it is; 0: the guest closed instead; negative: error. */
static int next_frame(struct wire *w, struct codec_frame *f, int64_t deadline, struct sm_error *err)
{
    for (;;) {
        int more = codec_reader_next(&w->in, f), status;

        if (more > 0)
            return 1;
        if (more < 0)
            return err_set(err, SM_EGUEST, "the guest's agent broke the protocol: bad frame");
        if (wire_flush(w) < 0 && wire_queued(w))
            w->out_start = w->out_end; /* closed: its last words may still be there */
        status = wait_wire(w, deadline, err);
        if (status)
            return status;
        if (wire_fill(w) < 0)
            return 0;
    }
}

static int refusal(const struct codec_frame *f, const char *what, struct sm_error *err)
{
    char text[PROTO_TEXT_MAX + 1];
    enum proto_error class;
    uint32_t os_errno;

    if (codec_error_parse(f, &class, &os_errno, text) < 0)
        return err_set(err, SM_EGUEST, "the guest's agent broke the protocol: bad error");
    if (class == PROTO_ERR_VOLUME) /* the fault of what was asked for */
        return err_set(err, SM_EINVAL, "%.400s", text);
    return err_set(err, SM_EGUEST, "%s: %.400s", what, text);
}

static int expect_hello(struct wire *w, int64_t deadline, struct sm_error *err)
{
    struct codec_frame f;
    uint32_t version;
    int status = next_frame(w, &f, deadline, err);

    if (status < 0)
        return status;
    if (status == 0 || f.type != PROTO_HELLO || codec_hello_parse(&f, &version) < 0)
        return err_set(err, SM_EGUEST, "the guest's agent says no hello");
    if (version != PROTO_VERSION)
        return err_set(err, SM_EGUEST, "the guest's agent speaks protocol version %u, not %u",
                       version, PROTO_VERSION);
    return 0;
}

static int new_wire(struct wire **out, int fd, struct sm_error *err)
{
    *out = pages_new(sizeof **out);
    if (!*out)
        return err_set(err, SM_ENOMEM, "out of memory for a request");
    wire_init(*out, fd, CODEC_GUEST);
    return 0;
}

int request_beacon(int fd, int timeout_ms, struct sm_error *err)
{
    int64_t deadline = clock_ms() + timeout_ms;
    struct codec_frame f;
    struct wire *w;
    int status = new_wire(&w, fd, err);

    if (status)
        return status;
    status = expect_hello(w, deadline, err);
    if (status == 0) {
        status = next_frame(w, &f, deadline, err);
        if (status > 0)
            status = f.type == PROTO_ERROR
                         ? refusal(&f, "the guest cannot start", err)
                         : err_set(err, SM_EGUEST, "the guest's beacon says more than hello");
    }
    pages_free(w, sizeof *w);
    return status;
}

/* Sends HELLO and the request; 0 on OK. hangup_is_ok: for what may end the agent. */
static int transact(int fd, enum proto_type type, const uint8_t *payload, size_t len,
                    bool hangup_is_ok, int timeout_ms, struct sm_error *err)
{
    int64_t deadline = clock_ms() + timeout_ms;
    struct codec_frame f;
    struct wire *w;
    int status = new_wire(&w, fd, err);

    if (status)
        return status;
    wire_added(w, codec_hello_build(wire_tail(w)));
    codec_header_build(wire_tail(w), type, 0, 0, (uint32_t)len);
    if (len)
        memcpy(wire_tail(w) + PROTO_HEADER_SIZE, payload, len);
    wire_added(w, PROTO_HEADER_SIZE + len);
    status = expect_hello(w, deadline, err);
    if (status == 0) {
        status = next_frame(w, &f, deadline, err);
        if (status == 0)
            status = hangup_is_ok ? 0 : err_set(err, SM_EGUEST, "the guest closed the connection");
        else if (status > 0 && f.type == PROTO_ERROR)
            status = refusal(&f, "the guest's agent refused", err);
        else if (status > 0)
            status = f.type == PROTO_OK
                         ? 0
                         : err_set(err, SM_EGUEST,
                                   "the guest's agent broke the protocol: frame out of turn");
    }
    pages_free(w, sizeof *w);
    return status;
}

static int put_text(uint8_t *out, size_t *at, enum proto_item key, const char *text)
{
    return text ? codec_item_put(out, PROTO_PAYLOAD_MAX, at, key, text, strlen(text)) : 0;
}

static int put_volumes(uint8_t *out, size_t *at, const struct request_setup *s)
{
    uint8_t list[PROTO_VOLUMES_MAX * (PROTO_VOLUME_PATH_MAX + 2)];
    size_t len = 0;

    if (s->n_volumes > PROTO_VOLUMES_MAX)
        return -1;
    for (size_t i = 0; i < s->n_volumes; i++)
        if (codec_volume_put(list, sizeof list, &len, s->volumes[i].path,
                             (s->volumes[i].read_only ? PROTO_VOLUME_READ_ONLY : 0) |
                                 (s->volumes[i].folder ? PROTO_VOLUME_FOLDER : 0)) < 0)
            return -1;
    return len ? codec_item_put(out, PROTO_PAYLOAD_MAX, at, PROTO_ITEM_VOLUMES, list, len) : 0;
}

int request_setup(int fd, const struct request_setup *s, int timeout_ms, struct sm_error *err)
{
    uint8_t *out = pages_new(PROTO_PAYLOAD_MAX), clock[8];
    size_t at = 0;
    int status;

    if (!out)
        return err_set(err, SM_ENOMEM, "out of memory for a request");
    codec_u64_put(clock, s->clock_ns);
    if (put_text(out, &at, PROTO_ITEM_HOSTNAME, s->hostname) < 0 ||
        put_text(out, &at, PROTO_ITEM_RESOLV_CONF, s->resolv_conf) < 0 ||
        put_text(out, &at, PROTO_ITEM_HOSTS, s->hosts) < 0 ||
        put_text(out, &at, PROTO_ITEM_MACHINE_ID, s->machine_id) < 0 ||
        (s->clock_ns && codec_item_put(out, PROTO_PAYLOAD_MAX, &at, PROTO_ITEM_CLOCK, clock, 8)) ||
        (s->entropy_len && codec_item_put(out, PROTO_PAYLOAD_MAX, &at, PROTO_ITEM_ENTROPY,
                                          s->entropy, s->entropy_len) < 0) ||
        put_volumes(out, &at, s) < 0)
        status = err_set(err, SM_EINVAL,
                         "host name, /etc text, seed or volumes are too long for the guest");
    else
        status = transact(fd, PROTO_SETUP, out, at, false, timeout_ms, err);
    pages_free(out, PROTO_PAYLOAD_MAX);
    return status;
}

int request_bake(int fd, int timeout_ms, struct sm_error *err)
{
    return transact(fd, PROTO_BAKE, NULL, 0, false, timeout_ms, err);
}

int request_ping(int fd, int timeout_ms, struct sm_error *err)
{
    return transact(fd, PROTO_PING, NULL, 0, false, timeout_ms, err);
}

int request_shutdown(int fd, uint32_t grace_ms, int timeout_ms, struct sm_error *err)
{
    uint8_t frame[CODEC_SMALL];

    if (grace_ms > PROTO_GRACE_MAX_MS)
        return err_set(err, SM_EINVAL, "grace of %u ms, the most is %u", grace_ms,
                       PROTO_GRACE_MAX_MS);
    codec_u32_build(frame, PROTO_SHUTDOWN, 0, grace_ms);
    return transact(fd, PROTO_SHUTDOWN, frame + PROTO_HEADER_SIZE, 4, true, timeout_ms, err);
}

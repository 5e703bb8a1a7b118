/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock: life cycle, and the host's side of it (VIRTIO 1.2 section 5.10). No event is ever
 * sent. */
#include "dev/vsock_impl.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/le.h"

#define FIRST_PORT 0x80000000u /* host ports of vsock_connect(); listeners use lower ones */

static void free_streams(struct vsock *d)
{
    struct vsock_stream *s;

    while ((s = LIST_FIRST(&d->all)) != NULL)
        vsock_stream_free(s);
    d->rst_len = 0;
    d->tx_paused = false;
}

/*
 * The guest's side of every stream is gone. Bytes it sent before are still delivered. Streams that
 * it was not asked for yet may wait for the next driver: each one begins with a reset.
 */
static void drop_streams(struct vsock *d, bool keep_unasked)
{
    struct vsock_stream *s, *next;

    for (s = LIST_FIRST(&d->all); s != NULL; s = next) {
        next = LIST_NEXT(s, all);
        if (s->state != STATE_DRAINING && !(keep_unasked && s->want_request))
            vsock_stream_drop(s);
    }
    d->rst_len = 0;
    d->tx_paused = false;
}

void vsock_settle(struct vsock *d)
{
    if (!virtio_check(&d->virtio) && d->virtio.status & VIRTIO_S_NEEDS_RESET)
        drop_streams(d, false);
}

static void config(void *opaque, uint8_t *out)
{
    struct vsock *d = opaque;

    le64_put(out, d->guest_cid);
}

static void start(void *opaque)
{
    (void)opaque; /* every queue is kicked next, and that sends what waits */
}

static void kick(void *opaque, unsigned queue)
{
    struct vsock *d = opaque;

    if (queue == QUEUE_TX)
        vsock_packet_take(d);
    vsock_packet_pump(d);
    vsock_settle(d);
}

static void reset(void *opaque)
{
    drop_streams(opaque, true);
}

int vsock_new(const struct virtio_env *env, uint32_t guest_cid, struct vsock **out,
              struct sm_error *err)
{
    static const struct virtio_ops ops = {
        .name = "vsock",
        .device_id = 19,
        .n_queues = QUEUE_COUNT,
        .config_len = 8,
        .config = config,
        .start = start,
        .kick = kick,
        .reset = reset,
    };
    struct vsock *d;
    int rc;

    *out = NULL;
    if (guest_cid <= VSOCK_HOST_CID || guest_cid == UINT32_MAX)
        return err_set(err, SM_EINVAL, "vsock: %u is not a guest's address", guest_cid);
    d = calloc(1, sizeof *d);
    if (d == NULL)
        return err_set(err, SM_ENOMEM, "out of memory");
    d->guest_cid = guest_cid;
    d->next_port = FIRST_PORT;
    d->backlog_left = VSOCK_BACKLOG_BYTES;
    TAILQ_INIT(&d->runnable);
    d->rsts = calloc(VSOCK_RST_MAX, sizeof *d->rsts);
    if (d->rsts == NULL) {
        rc = err_set(err, SM_ENOMEM, "out of memory");
        goto fail;
    }
    loop_lock(env->loop);
    rc = virtio_init(&d->virtio, &ops, d, env, err);
    loop_unlock(env->loop);
    if (rc != 0)
        goto fail;
    *out = d;
    return 0;
fail:
    vsock_free(d);
    return rc;
}

void vsock_free(struct vsock *d)
{
    struct loop *loop;

    if (d == NULL)
        return;
    loop = d->virtio.env.loop;
    if (d->virtio.ops != NULL) {
        loop_lock(loop);
        free_streams(d);
        virtio_fini(&d->virtio);
        loop_unlock(loop);
    }
    free(d->rsts);
    free(d);
}

struct virtio *vsock_virtio(struct vsock *d)
{
    return &d->virtio;
}

static struct vsock_listener *listener(struct vsock *d, uint32_t port)
{
    for (unsigned i = 0; i < VSOCK_MAX_LISTENERS; i++)
        if (d->listeners[i].on_accept != NULL && d->listeners[i].port == port)
            return &d->listeners[i];
    return NULL;
}

int vsock_connect(struct vsock *d, uint32_t guest_port, int *fd, struct sm_error *err)
{
    struct vsock_stream *s;
    int rc;

    loop_lock(d->virtio.env.loop);
    do {
        d->next_port = d->next_port >= UINT32_MAX - 1 ? FIRST_PORT : d->next_port + 1;
    } while (vsock_stream_find(d, guest_port, d->next_port) != NULL ||
             listener(d, d->next_port) != NULL);
    rc = vsock_stream_new(d, guest_port, d->next_port, STATE_CONNECTING, fd, &s, err);
    if (rc == 0) {
        s->want_request = true;
        vsock_stream_run(s);
        vsock_packet_pump(d);
        vsock_settle(d);
    }
    loop_unlock(d->virtio.env.loop);
    return rc;
}

bool vsock_accept(struct vsock *d, uint32_t guest_port, uint32_t host_port, uint32_t alloc,
                  uint32_t fwd)
{
    struct vsock_listener *l = listener(d, host_port);
    struct vsock_stream *s;
    int fd;

    if (l == NULL || vsock_stream_new(d, guest_port, host_port, STATE_OPEN, &fd, &s, NULL) != 0)
        return false;
    if (vsock_stream_take_credit(s, alloc, fwd) != 0) {
        close(fd);
        vsock_stream_free(s);
        return false;
    }
    s->want_response = true;
    vsock_stream_run(s);
    l->on_accept(l->opaque, fd);
    return true;
}

int vsock_listen(struct vsock *d, uint32_t host_port, vsock_accept_fn *on_accept, void *opaque,
                 struct sm_error *err)
{
    struct vsock_listener *l = NULL;
    int rc = 0;

    loop_lock(d->virtio.env.loop);
    for (unsigned i = 0; i < VSOCK_MAX_LISTENERS && l == NULL; i++)
        if (d->listeners[i].on_accept == NULL)
            l = &d->listeners[i];
    if (listener(d, host_port) != NULL)
        rc = err_set(err, SM_EINVAL, "vsock port %u has a listener already", host_port);
    else if (l == NULL)
        rc = err_set(err, SM_EINVAL, "too many vsock listeners (at most %u)", VSOCK_MAX_LISTENERS);
    else
        *l = (struct vsock_listener){host_port, on_accept, opaque};
    loop_unlock(d->virtio.env.loop);
    return rc;
}

void vsock_unlisten(struct vsock *d, uint32_t host_port)
{
    struct vsock_listener *l;

    loop_lock(d->virtio.env.loop);
    l = listener(d, host_port);
    if (l != NULL)
        l->on_accept = NULL;
    loop_unlock(d->virtio.env.loop);
}

unsigned vsock_streams(struct vsock *d)
{
    loop_lock(d->virtio.env.loop);
    unsigned n = d->n_streams;
    loop_unlock(d->virtio.env.loop);
    return n;
}

/* One RST that the guest is due after a load. */
static void walk_rst(struct state *s, struct vsock *d, struct vsock_rst *rst)
{
    uint32_t type = rst->type;

    state_u64(s, &rst->src_cid);
    state_u32(s, &rst->src_port);
    state_u32(s, &rst->dst_port);
    state_u32(s, &type);
    rst->type = (uint16_t)type;
    if (s->loading && s->error.code == 0)
        vsock_packet_rst(d, rst);
}

/* Streams that the guest knows of; then the RSTs that were waiting already. */
static void save_rsts(struct state *s, struct vsock *d)
{
    struct vsock_stream *i;

    LIST_FOREACH(i, &d->all, all)
    {
        struct vsock_rst rst = {VSOCK_HOST_CID, i->host_port, i->guest_port, TYPE_STREAM};

        if (i->state != STATE_DRAINING && !i->want_request)
            walk_rst(s, d, &rst);
    }
    for (unsigned n = 0; n < d->rst_len; n++)
        walk_rst(s, d, &d->rsts[(d->rst_at + n) % VSOCK_RST_MAX]);
}

static uint32_t count_rsts(const struct vsock *d)
{
    const struct vsock_stream *i;
    uint32_t n = d->rst_len;

    LIST_FOREACH(i, &d->all, all)
    n += i->state != STATE_DRAINING && !i->want_request;
    return n;
}

void vsock_walk(struct state *s, void *object)
{
    struct vsock *d = object;
    uint32_t n = s->loading ? 0 : count_rsts(d);
    bool reserved = false; /* always 0: no version has set it */

    state_same(s, d->guest_cid, "the guest has another vsock address");
    state_u32(s, &d->next_port);
    state_check(s, d->next_port >= FIRST_PORT && d->next_port < UINT32_MAX,
                "a port number is out of range");
    state_bool(s, &reserved);
    state_u32(s, &n);
    state_check(s, n <= VSOCK_RST_MAX, "there are too many streams");
    if (!s->loading) {
        save_rsts(s, d);
        return;
    }
    for (uint32_t i = 0; i < n && s->error.code == 0; i++)
        walk_rst(s, d, &(struct vsock_rst){0});
}

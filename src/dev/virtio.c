/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device life cycle (VIRTIO 1.2 section 3.1): negotiation, queue activation at DRIVER_OK, reset,
 * kicks that cross from vCPU threads by eventfd, and the interrupt line.
 */
#include "dev/virtio.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define STATUS_DRIVER_BITS                                                                         \
    (VIRTIO_S_ACKNOWLEDGE | VIRTIO_S_DRIVER | VIRTIO_S_DRIVER_OK | VIRTIO_S_FEATURES_OK |          \
     VIRTIO_S_FAILED)

static void set_isr(struct virtio *v, uint32_t isr)
{
    bool was = v->isr != 0, is = isr != 0;

    v->isr = isr;
    if (was != is)
        irq_set(&v->env.irq, is);
}

/* jail(loop): read */
static void kicked(struct loop_source *src, uint32_t events)
{
    struct virtio_kick_source *k = src->opaque;
    struct virtio *v = k->owner;
    unsigned queue = (unsigned)(k - v->kicks);
    uint64_t count;

    (void)events;
    while (read(src->fd, &count, sizeof count) < 0 && errno == EINTR)
        ;
    if (virtio_live(v) && v->queues[queue].live)
        v->ops->kick(v->opaque, queue);
    virtio_check(v);
}

int virtio_init(struct virtio *v, const struct virtio_ops *ops, void *opaque,
                const struct virtio_env *env, struct sm_error *err)
{
    int rc = 0;

    assert(ops->n_queues <= VIRTIO_MAX_QUEUES && ops->config_len <= VIRTIO_MAX_CONFIG);
    memset(v, 0, sizeof *v);
    v->ops = ops;
    v->opaque = opaque;
    v->env = *env;
    for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++)
        v->kicks[i].src.fd = -1;
    for (unsigned i = 0; i < ops->n_queues && rc == 0; i++) {
        struct virtio_kick_source *k = &v->kicks[i];

        k->owner = v;
        k->src = (struct loop_source){
            .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .ready = kicked, .opaque = k};
        if (k->src.fd < 0)
            rc = err_sys(err, "cannot create an eventfd for virtio-%s", ops->name);
        else
            rc = loop_add(env->loop, &k->src, EPOLLIN, err);
    }
    if (rc != 0)
        virtio_fini(v);
    return rc;
}

void virtio_fini(struct virtio *v)
{
    if (v->ops == NULL)
        return;
    for (unsigned i = 0; i < v->ops->n_queues; i++) {
        if (v->kicks[i].src.fd < 0)
            continue;
        loop_remove(v->env.loop, &v->kicks[i].src);
        close(v->kicks[i].src.fd);
    }
    v->ops = NULL;
}

bool virtio_live(const struct virtio *v)
{
    return (v->status & (VIRTIO_S_DRIVER_OK | VIRTIO_S_NEEDS_RESET | VIRTIO_S_FAILED)) ==
           VIRTIO_S_DRIVER_OK;
}

/* jail(loop,vcpu): write */
void virtio_kick(struct virtio *v, unsigned queue)
{
    uint64_t one = 1;

    if (queue >= v->ops->n_queues)
        return;
    /* EAGAIN means the counter is full, so the wake-up is already due. */
    while (write(v->kicks[queue].src.fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void virtio_interrupt(struct virtio *v, unsigned queue)
{
    if (virtq_should_interrupt(&v->queues[queue]))
        set_isr(v, v->isr | VIRTIO_ISR_QUEUE);
}

void virtio_needs_reset(struct virtio *v)
{
    if (v->status & VIRTIO_S_NEEDS_RESET)
        return;
    v->status |= VIRTIO_S_NEEDS_RESET;
    for (unsigned i = 0; i < v->ops->n_queues; i++)
        v->queues[i].live = false;
    /* 2.1.2: a notification is due only once DRIVER_OK is set. */
    if (v->status & VIRTIO_S_DRIVER_OK)
        set_isr(v, v->isr | VIRTIO_ISR_CONFIG);
}

bool virtio_check(struct virtio *v)
{
    for (unsigned i = 0; i < v->ops->n_queues; i++)
        if (v->queues[i].broken)
            virtio_needs_reset(v);
    return virtio_live(v);
}

void virtio_config_changed(struct virtio *v)
{
    v->generation++;
    if (virtio_live(v))
        set_isr(v, v->isr | VIRTIO_ISR_CONFIG);
}

uint64_t virtio_features(const struct virtio *v)
{
    return v->ops->features | VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX;
}

void virtio_set_driver_features(struct virtio *v, uint64_t features)
{
    if (!(v->status & VIRTIO_S_FEATURES_OK))
        v->driver_features = features;
}

void virtio_ack(struct virtio *v, uint32_t bits)
{
    set_isr(v, v->isr & ~bits);
}

struct virtq *virtio_setup_queue(struct virtio *v, uint32_t index)
{
    /* Geometry may change only between FEATURES_OK and DRIVER_OK, and not while QueueReady is 1. */
    if (index >= v->ops->n_queues || !(v->status & VIRTIO_S_FEATURES_OK) ||
        v->status & (VIRTIO_S_DRIVER_OK | VIRTIO_S_NEEDS_RESET | VIRTIO_S_FAILED))
        return NULL;
    return &v->queues[index];
}

static void reset(struct virtio *v)
{
    for (unsigned i = 0; i < v->ops->n_queues; i++)
        virtq_reset(&v->queues[i]);
    v->status = 0;
    v->driver_features = 0;
    set_isr(v, 0);
    v->ops->reset(v->opaque);
}

static void start(struct virtio *v)
{
    bool event_idx = (v->driver_features & VIRTIO_F_EVENT_IDX) != 0;
    bool good = true;

    for (unsigned i = 0; i < v->ops->n_queues; i++)
        if (v->queues[i].ready && virtq_start(&v->queues[i], v->env.mem, event_idx) != 0)
            good = false;
    if (!good) {
        virtio_needs_reset(v);
        return;
    }
    v->ops->start(v->opaque);
    /* Drivers may fill queues before DRIVER_OK; their notifications were dropped then. */
    for (unsigned i = 0; i < v->ops->n_queues; i++)
        if (v->queues[i].live)
            virtio_kick(v, i);
}

/* The new status bits that this state allows; each step needs the one before (3.1.1). */
static uint32_t allowed(const struct virtio *v, uint32_t want)
{
    if (!(want & VIRTIO_S_ACKNOWLEDGE))
        want &= ~VIRTIO_S_DRIVER;
    if (!(want & VIRTIO_S_DRIVER))
        want &= ~VIRTIO_S_FEATURES_OK;
    /* 6.1: a driver that does not accept VERSION_1 gets no further. */
    if (v->driver_features & ~virtio_features(v) || !(v->driver_features & VIRTIO_F_VERSION_1))
        want &= ~VIRTIO_S_FEATURES_OK;
    if (!(want & VIRTIO_S_FEATURES_OK))
        want &= ~VIRTIO_S_DRIVER_OK;
    return want;
}

void virtio_set_status(struct virtio *v, uint32_t status)
{
    uint32_t device_bits = v->status & VIRTIO_S_NEEDS_RESET;
    uint32_t had = v->status & STATUS_DRIVER_BITS, want = status & STATUS_DRIVER_BITS;

    if (status == 0) {
        reset(v);
        return;
    }
    /* 2.1.1: the driver must not clear bits; and nothing but a reset follows FAILED. */
    if (had & ~want || had & VIRTIO_S_FAILED)
        return;
    want = (allowed(v, want) & ~VIRTIO_S_FAILED) | (want & VIRTIO_S_FAILED);
    v->status = want | device_bits;
    if (want & ~had & VIRTIO_S_DRIVER_OK && !(v->status & (VIRTIO_S_FAILED | VIRTIO_S_NEEDS_RESET)))
        start(v);
}

static void resume(struct state *s, struct virtio *v)
{
    bool event_idx = (v->driver_features & VIRTIO_F_EVENT_IDX) != 0, good = true;

    for (unsigned i = 0; i < v->ops->n_queues && good; i++) {
        struct virtq *q = &v->queues[i];

        if (q->live)
            good = virtio_live(v) && virtq_resume(q, v->env.mem, event_idx) == 0;
    }
    state_check(s, good, "a queue cannot be where it is");
    if (s->error.code != 0) {
        for (unsigned i = 0; i < v->ops->n_queues; i++)
            virtq_reset(&v->queues[i]);
        return;
    }
    if (v->isr != 0)
        irq_set(&v->env.irq, 1);
    for (unsigned i = 0; i < v->ops->n_queues; i++)
        if (v->queues[i].live)
            virtio_kick(v, i);
}

void virtio_walk(struct state *s, struct virtio *v)
{
    state_same(s, v->ops->device_id, "another device is in this place");
    state_same(s, v->ops->n_queues, "the device has another number of queues");
    state_u64(s, &v->driver_features);
    state_u32(s, &v->status);
    state_u32(s, &v->isr);
    state_u32(s, &v->generation);
    state_check(s,
                !(v->status & ~(STATUS_DRIVER_BITS | VIRTIO_S_NEEDS_RESET)) &&
                    allowed(v, v->status & STATUS_DRIVER_BITS) == (v->status & STATUS_DRIVER_BITS),
                "the device's status is impossible");
    state_check(s, !(v->isr & ~(VIRTIO_ISR_QUEUE | VIRTIO_ISR_CONFIG)),
                "the device's interrupt status is impossible");
    for (unsigned i = 0; i < v->ops->n_queues; i++)
        virtq_walk(s, &v->queues[i]);
    if (s->loading)
        resume(s, v);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a virtio device is to its transport (VIRTIO 1.2 sections 2 and 3). A device is a const table
 * of data and four callbacks; status, features, queues, interrupts and kicks are kept here.
 *
 * Locking: everything below needs the loop's lock, except virtio_kick(). Callbacks run with it
 * held, on the I/O thread (kick) or on the vCPU's thread that wrote the register (start, reset,
 * config). irq->set is called with the lock held and must not take it.
 *
 * Interrupts are level-triggered, active high: the line is up while InterruptStatus is not 0.
 */
#ifndef SM_DEV_VIRTIO_H
#define SM_DEV_VIRTIO_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "dev/virtq.h"
#include "hw/irq.h"
#include "hw/mem.h"

#define VIRTIO_MAX_QUEUES 5
#define VIRTIO_MAX_CONFIG 64

/* Feature bits that are the same for all devices (section 6). */
#define VIRTIO_F_EVENT_IDX (1ull << 29)
#define VIRTIO_F_VERSION_1 (1ull << 32)

/* Device status (section 2.1). */
#define VIRTIO_S_ACKNOWLEDGE 1u
#define VIRTIO_S_DRIVER 2u
#define VIRTIO_S_DRIVER_OK 4u
#define VIRTIO_S_FEATURES_OK 8u
#define VIRTIO_S_NEEDS_RESET 64u
#define VIRTIO_S_FAILED 128u

/* InterruptStatus (section 4.2.2). */
#define VIRTIO_ISR_QUEUE 1u
#define VIRTIO_ISR_CONFIG 2u

struct virtio_ops {
    const char *name;
    uint32_t device_id; /* section 5 */
    unsigned n_queues;
    unsigned config_len;
    uint64_t features; /* device-specific; the common ones are added */
    /* Fill config_len bytes. */
    void (*config)(void *opaque, uint8_t *out);
    /* DRIVER_OK was accepted and the queues are live. Each live queue is kicked once after this. */
    void (*start)(void *opaque);
    /* The driver notified this queue, or it was rekicked. The queue is live. */
    void (*kick)(void *opaque, unsigned queue);
    /* The driver reset the device; the queues are gone. */
    void (*reset)(void *opaque);
};

/* What a device is built on; all borrowed, all outlive it. */
struct virtio_env {
    struct mem *mem;
    struct loop *loop;
    struct irq irq;
};

struct virtio_kick_source {
    struct loop_source src; /* src.fd owned: an eventfd */
    struct virtio *owner;
};

struct virtio {
    const struct virtio_ops *ops;
    void *opaque; /* borrowed: the device */
    struct virtio_env env;
    struct virtq queues[VIRTIO_MAX_QUEUES];
    struct virtio_kick_source kicks[VIRTIO_MAX_QUEUES];
    uint64_t driver_features;
    uint32_t status;
    uint32_t isr;
    uint32_t generation; /* of the configuration space */
};

/* Before loop_start(), or with the lock held. v is zeroed first; on error it needs no fini. */
int virtio_init(struct virtio *v, const struct virtio_ops *ops, void *opaque,
                const struct virtio_env *env, struct sm_error *err);
/* After loop_stop(), or with the lock held. Calls no callback. */
void virtio_fini(struct virtio *v);

/* For devices. */
bool virtio_live(const struct virtio *v);                /* DRIVER_OK, not failed */
void virtio_interrupt(struct virtio *v, unsigned queue); /* after pushes; honours suppression */
void virtio_needs_reset(struct virtio *v);               /* the driver broke the rules */
void virtio_config_changed(struct virtio *v);
/* Turn a broken queue into NEEDS_RESET; returns virtio_live(). For work done outside a kick
 * callback (after one, the transport checks). */
bool virtio_check(struct virtio *v);
/* Have this queue's kick callback run again on the I/O thread, after other work. Any thread. */
void virtio_kick(struct virtio *v, unsigned queue);

/*
 * The walk of everything here (hw/state.h), for the transport. On loading, into a device that no
 * driver has touched: the interrupt line is driven as it was, and each live queue is kicked, for
 * notifications that were on their way when the state was saved. start() is not called.
 */
void virtio_walk(struct state *s, struct virtio *v);

/* For transports. */
uint64_t virtio_features(const struct virtio *v); /* offered */
void virtio_set_driver_features(struct virtio *v, uint64_t features);
void virtio_set_status(struct virtio *v, uint32_t status);
void virtio_ack(struct virtio *v, uint32_t bits);
/* The queue as the driver may set it up now, or NULL (no such queue, too late, or already ready).
 */
struct virtq *virtio_setup_queue(struct virtio *v, uint32_t index);

#endif

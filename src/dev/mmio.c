/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-mmio registers (VIRTIO 1.2 section 4.2.2) onto struct virtio. */
#include "dev/mmio.h"

#include <stdlib.h>
#include <string.h>

#define MAGIC 0x74726976u /* "virt" */
#define VERSION 2u
#define VENDOR 0x4d53u /* "SM" */

enum reg {
    R_MAGIC = 0x000,
    R_VERSION = 0x004,
    R_DEVICE_ID = 0x008,
    R_VENDOR_ID = 0x00c,
    R_DEVICE_FEATURES = 0x010,
    R_DEVICE_FEATURES_SEL = 0x014,
    R_DRIVER_FEATURES = 0x020,
    R_DRIVER_FEATURES_SEL = 0x024,
    R_QUEUE_SEL = 0x030,
    R_QUEUE_NUM_MAX = 0x034,
    R_QUEUE_NUM = 0x038,
    R_QUEUE_READY = 0x044,
    R_QUEUE_NOTIFY = MMIO_QUEUE_NOTIFY,
    R_INTERRUPT_STATUS = 0x060,
    R_INTERRUPT_ACK = 0x064,
    R_STATUS = 0x070,
    R_QUEUE_DESC_LOW = 0x080,
    R_QUEUE_DESC_HIGH = 0x084,
    R_QUEUE_DRIVER_LOW = 0x090,
    R_QUEUE_DRIVER_HIGH = 0x094,
    R_QUEUE_DEVICE_LOW = 0x0a0,
    R_QUEUE_DEVICE_HIGH = 0x0a4,
    R_SHM_LEN_LOW = 0x0b0,
    R_SHM_BASE_HIGH = 0x0bc,
    R_CONFIG_GENERATION = 0x0fc,
    R_CONFIG = 0x100,
};

struct mmio {
    struct virtio *v; /* borrowed */
    uint32_t device_features_sel;
    uint32_t driver_features_sel;
    uint32_t queue_sel;
};

int mmio_new(struct virtio *v, struct mmio **out, struct sm_error *err)
{
    struct mmio *m = calloc(1, sizeof *m);

    *out = m;
    if (m == NULL)
        return err_set(err, SM_ENOMEM, "out of memory");
    m->v = v;
    return 0;
}

void mmio_free(struct mmio *m)
{
    free(m);
}

void mmio_walk(struct state *s, void *object)
{
    struct mmio *m = object;

    state_u32(s, &m->device_features_sel);
    state_u32(s, &m->driver_features_sel);
    state_u32(s, &m->queue_sel);
    virtio_walk(s, m->v);
}

int mmio_kick_fd(const struct mmio *m, unsigned queue)
{
    return queue < m->v->ops->n_queues ? m->v->kicks[queue].src.fd : -1;
}

static uint64_t read_config(struct virtio *v, uint64_t offset, unsigned size)
{
    uint8_t config[VIRTIO_MAX_CONFIG] = {0};
    uint64_t value = 0;

    if (offset >= v->ops->config_len)
        return 0;
    v->ops->config(v->opaque, config);
    if (size > v->ops->config_len - offset)
        size = (unsigned)(v->ops->config_len - offset);
    memcpy(&value, config + offset, size);
    return value;
}

static uint32_t read_reg(struct mmio *m, uint64_t offset)
{
    struct virtio *v = m->v;

    switch (offset) {
    case R_MAGIC:
        return MAGIC;
    case R_VERSION:
        return VERSION;
    case R_DEVICE_ID:
        return v->ops->device_id;
    case R_VENDOR_ID:
        return VENDOR;
    case R_DEVICE_FEATURES:
        return m->device_features_sel < 2
                   ? (uint32_t)(virtio_features(v) >> (32 * m->device_features_sel))
                   : 0;
    case R_QUEUE_NUM_MAX:
        return m->queue_sel < v->ops->n_queues ? VIRTQ_MAX_SIZE : 0;
    case R_QUEUE_READY:
        return m->queue_sel < v->ops->n_queues && v->queues[m->queue_sel].ready;
    case R_INTERRUPT_STATUS:
        return v->isr;
    case R_STATUS:
        return v->status;
    case R_CONFIG_GENERATION:
        return v->generation;
    default:
        /* 4.2.2: a shared memory region that does not exist has length (and base) -1. */
        return offset >= R_SHM_LEN_LOW && offset <= R_SHM_BASE_HIGH ? ~0u : 0;
    }
}

static uint64_t mmio_read(void *opaque, uint64_t offset, unsigned size)
{
    struct mmio *m = opaque;
    uint64_t value = 0;

    loop_lock(m->v->env.loop);
    if (offset >= R_CONFIG)
        value = read_config(m->v, offset - R_CONFIG, size);
    else if (size == 4 && offset % 4 == 0)
        value = read_reg(m, offset);
    loop_unlock(m->v->env.loop);
    return value;
}

static void set_half(uint64_t *whole, bool high, uint32_t value)
{
    unsigned shift = high ? 32 : 0;

    *whole = (*whole & ~(0xffffffffull << shift)) | (uint64_t)value << shift;
}

static void write_queue_reg(struct mmio *m, uint64_t offset, uint32_t value)
{
    struct virtq *q = virtio_setup_queue(m->v, m->queue_sel);

    if (q == NULL)
        return;
    if (offset == R_QUEUE_READY) {
        q->ready = value & 1;
        return;
    }
    if (q->ready)
        return; /* 4.2.2.2: not while the queue is in use */
    switch (offset) {
    case R_QUEUE_NUM:
        q->want_size = value;
        break;
    case R_QUEUE_DESC_LOW:
    case R_QUEUE_DESC_HIGH:
        set_half(&q->desc_gpa, offset == R_QUEUE_DESC_HIGH, value);
        break;
    case R_QUEUE_DRIVER_LOW:
    case R_QUEUE_DRIVER_HIGH:
        set_half(&q->avail_gpa, offset == R_QUEUE_DRIVER_HIGH, value);
        break;
    case R_QUEUE_DEVICE_LOW:
    case R_QUEUE_DEVICE_HIGH:
        set_half(&q->used_gpa, offset == R_QUEUE_DEVICE_HIGH, value);
        break;
    }
}

static void write_reg(struct mmio *m, uint64_t offset, uint32_t value)
{
    struct virtio *v = m->v;
    uint64_t features = v->driver_features;

    switch (offset) {
    case R_DEVICE_FEATURES_SEL:
        m->device_features_sel = value;
        break;
    case R_DRIVER_FEATURES:
        if (m->driver_features_sel < 2) {
            set_half(&features, m->driver_features_sel == 1, value);
            virtio_set_driver_features(v, features);
        }
        break;
    case R_DRIVER_FEATURES_SEL:
        m->driver_features_sel = value;
        break;
    case R_QUEUE_SEL:
        m->queue_sel = value;
        break;
    case R_INTERRUPT_ACK:
        virtio_ack(v, value);
        break;
    case R_STATUS:
        virtio_set_status(v, value);
        break;
    default:
        write_queue_reg(m, offset, value);
        break;
    }
}

static void mmio_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct mmio *m = opaque;

    if (offset >= R_CONFIG || size != 4 || offset % 4 != 0)
        return; /* no device here has writable configuration */
    if (offset == R_QUEUE_NOTIFY) {
        /* No lock: the I/O thread may be at work for a while, and this is the hot path. */
        virtio_kick(m->v, (uint32_t)value);
        return;
    }
    loop_lock(m->v->env.loop);
    write_reg(m, offset, (uint32_t)value);
    loop_unlock(m->v->env.loop);
}

int mmio_attach(struct mmio *m, struct bus *bus, uint64_t addr, struct sm_error *err)
{
    static const struct bus_ops ops = {mmio_read, mmio_write};

    return bus_add(bus, addr, MMIO_WINDOW, &ops, m, err);
}

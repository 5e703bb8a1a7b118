// SPDX-License-Identifier: Apache-2.0
/*
 * The register window from power on: any access in any order, beside short cuts that take the
 * right steps, so that every state of the life cycle is met with every wrong next step.
 */
#include "fuzz_device.h"

struct device {
    struct fake_driver f;
    struct virtio v;
    struct virtq_chain c;
    bool live;
};

static void config(void *opaque, uint8_t *out)
{
    (void)opaque;
    memset(out, 0x42, 20);
}

static void start(void *opaque)
{
    struct device *d = opaque;

    if (d->live)
        abort(); /* twice without a reset */
    d->live = true;
}

static void reset(void *opaque)
{
    ((struct device *)opaque)->live = false;
}

static void kick(void *opaque, unsigned queue)
{
    struct device *d = opaque;

    if (!d->live || !virtio_live(&d->v))
        abort();
    while (virtq_pop(&d->v.queues[queue], &d->c) > 0)
        virtq_push(&d->v.queues[queue], &d->c, 0);
    virtio_interrupt(&d->v, queue);
}

static void step(struct device *d, struct fuzz_input *in)
{
    struct fake_driver *f = &d->f;
    uint8_t op = fuzz_u8(in);

    switch (op & 7) {
    case 0:
        fake_negotiate(f, fuzz_u8(in) & 1 ? fuzz_take(in, 8) : VIRTIO_F_VERSION_1);
        break;
    case 1:
        fake_set_queue(f, (op >> 3) % 3, (uint16_t)(1u << (op >> 5)), fuzz_gpa(in), fuzz_u8(in));
        f->queues[(op >> 3) % 3].size |= 1; /* the fake driver divides by it */
        break;
    case 2:
        fake_write(f, 0x70, op & 8 ? 0xf : fuzz_u32(in));
        break;
    case 3:
        loop_lock(f->loop);
        if (op & 8)
            virtio_config_changed(&d->v);
        else
            virtio_needs_reset(&d->v);
        loop_unlock(f->loop);
        break;
    default:
        fuzz_device_op(f, in, 3);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct virtio_ops ops = {.name = "test",
                                          .device_id = 42,
                                          .n_queues = 3,
                                          .config_len = 20,
                                          .features = 0x123,
                                          .config = config,
                                          .start = start,
                                          .kick = kick,
                                          .reset = reset};
    struct fuzz_input in = {data, size};
    struct device d = {.live = false};
    struct virtio_env env;

    fake_init(&d.f);
    env = fake_env(&d.f);
    if (virtio_init(&d.v, &ops, &d, &env, NULL) != 0)
        abort();
    fake_attach(&d.f, &d.v);
    for (unsigned q = 0; q < VIRTIO_MAX_QUEUES; q++)
        d.f.queues[q].size = 8;
    while (in.left != 0) {
        step(&d, &in);
        fuzz_device_check(&d.f, &d.v);
    }
    fake_detach(&d.f);
    virtio_fini(&d.v);
    fake_fini(&d.f);
    return 0;
}

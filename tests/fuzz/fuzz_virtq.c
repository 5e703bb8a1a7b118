// SPDX-License-Identifier: Apache-2.0
/* A virtqueue whose device reads and writes every byte that a chain offers it. */
#include "fuzz_device.h"

struct taker {
    struct fake_driver f;
    struct virtio v;
    struct virtq_chain c;
    uint8_t sum;
};

static void nothing(void *opaque)
{
    (void)opaque;
}

static void kick(void *opaque, unsigned queue)
{
    struct taker *t = opaque;
    struct virtq *q = &t->v.queues[queue];
    uint8_t block[4096];

    while (virtq_pop(q, &t->c) > 0) {
        uint32_t n, at = 0, total = 0;

        for (unsigned i = 0; i < t->c.n_out + t->c.n_in; i++)
            total += i < t->c.n_out ? (uint32_t)t->c.iov[i].iov_len : 0;
        if (total != t->c.out_bytes || t->c.n_out + t->c.n_in > q->size)
            abort();
        while (at < 1u << 20 && (n = virtq_chain_read(&t->c, at, block, sizeof block)) != 0) {
            t->sum ^= block[n - 1];
            at += n;
        }
        for (at = 0; at < 1u << 20; at += n)
            if ((n = virtq_chain_write(&t->c, at, block, sizeof block)) == 0)
                break;
        if (t->sum & 1 && t->c.in_bytes == 0)
            virtq_unpop(q);
        if (t->sum & 1 && t->c.in_bytes == 0 && virtq_pop(q, &t->c) <= 0)
            break;
        virtq_push(q, &t->c, at < t->c.in_bytes ? at : t->c.in_bytes);
    }
    virtio_interrupt(&t->v, queue);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct virtio_ops ops = {.name = "taker",
                                          .device_id = 42,
                                          .n_queues = 2,
                                          .start = nothing,
                                          .kick = kick,
                                          .reset = nothing};
    struct fuzz_input in = {data, size};
    struct taker t = {.sum = 0};
    struct virtio_env env;

    fake_init(&t.f);
    env = fake_env(&t.f);
    if (virtio_init(&t.v, &ops, &t, &env, NULL) != 0)
        abort();
    fake_attach(&t.f, &t.v);
    fake_start(&t.f, 2, (uint16_t)(1u << fuzz_u8(&in) % 9),
               fuzz_u8(&in) & 1 ? VIRTIO_F_EVENT_IDX : 0);
    while (in.left != 0) {
        fuzz_device_op(&t.f, &in, 2);
        fuzz_device_check(&t.f, &t.v);
    }
    fake_run(&t.f);
    fake_detach(&t.f);
    virtio_fini(&t.v);
    fake_fini(&t.f);
    return 0;
}

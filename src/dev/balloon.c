/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-balloon: memory that the guest does not need goes back to the host. */
#include "dev/balloon.h"

#include <stdlib.h>

#include "base/le.h"

#define PFN_SHIFT 12 /* section 5.5.6: whatever the guest's page size */
#define TURN 4       /* requests handled before other work of the loop gets its turn */

enum { INFLATE, DEFLATE, N_QUEUES = 5 };

struct balloon {
    struct virtio virtio;
};

static void config(void *opaque, uint8_t *out)
{
    (void)opaque;
    le32_put(out, 0);     /* num_pages: what the balloon should have */
    le32_put(out + 4, 0); /* actual: the driver's word for what it has */
}

/* Pages put into the balloon: an array of page numbers. */
static void inflate(struct balloon *b, const struct virtq_chain *c)
{
    uint8_t raw[4];

    for (uint32_t i = 0; i < BALLOON_INFLATE_MAX; i++) {
        if (virtq_chain_read(c, i * sizeof raw, raw, sizeof raw) != sizeof raw)
            break;
        mem_discard(b->virtio.env.mem, (gpa_t)le32_get(raw) << PFN_SHIFT, MEM_PAGE_SIZE);
    }
}

/* Free pages: the buffers themselves. */
static void report(struct balloon *b, const struct virtq_chain *c)
{
    if (!(b->virtio.driver_features & BALLOON_F_REPORTING))
        return;
    for (unsigned i = c->n_out; i < c->n_out + c->n_in; i++)
        mem_discard(b->virtio.env.mem, c->gpa[i], c->iov[i].iov_len);
}

static void kick(void *opaque, unsigned queue)
{
    struct balloon *b = opaque;
    struct virtq *q = &b->virtio.queues[queue];
    struct virtq_chain c;
    int turn;

    for (turn = 0; turn < TURN && virtq_pop(q, &c) > 0; turn++) {
        if (queue == INFLATE)
            inflate(b, &c);
        else if (queue != DEFLATE) /* whose pages the guest simply uses again */
            report(b, &c);
        virtq_push(q, &c, 0);
    }
    if (turn == TURN)
        virtio_kick(&b->virtio, queue);
    virtio_interrupt(&b->virtio, queue);
}

static void nothing(void *opaque)
{
    (void)opaque; /* no request outlives the kick that took it */
}

int balloon_new(const struct virtio_env *env, struct balloon **out, struct sm_error *err)
{
    static const struct virtio_ops ops = {
        .name = "balloon",
        .device_id = 5,
        .n_queues = N_QUEUES,
        .config_len = 8,
        .features = BALLOON_F_REPORTING,
        .config = config,
        .start = nothing,
        .kick = kick,
        .reset = nothing,
    };
    struct balloon *b = calloc(1, sizeof *b);
    int rc;

    *out = NULL;
    if (b == NULL)
        return err_set(err, SM_ENOMEM, "out of memory");
    loop_lock(env->loop);
    rc = virtio_init(&b->virtio, &ops, b, env, err);
    loop_unlock(env->loop);
    if (rc != 0) {
        free(b);
        return rc;
    }
    *out = b;
    return 0;
}

void balloon_free(struct balloon *b)
{
    struct loop *loop;

    if (b == NULL)
        return;
    loop = b->virtio.env.loop;
    loop_lock(loop);
    virtio_fini(&b->virtio);
    loop_unlock(loop);
    free(b);
}

struct virtio *balloon_virtio(struct balloon *b)
{
    return &b->virtio;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-pmem: one request queue whose only request is flush (VIRTIO 1.2 section 5.19). */
#include "dev/pmem.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/le.h"

#define REQUEST_FLUSH 0u
#define RESULT_OK 0u
#define RESULT_ERROR 0xffffffffu
#define TURN 64 /* requests handled before other work of the loop gets its turn */

struct pmem {
    struct virtio virtio;
    struct pmem_config config;
};

static void config(void *opaque, uint8_t *out)
{
    struct pmem *p = opaque;

    le64_put(out, p->config.start);
    le64_put(out + 8, p->config.size);
}

static uint32_t request(struct pmem *p, const struct virtq_chain *c)
{
    uint8_t type[4];

    if (virtq_chain_read(c, 0, type, sizeof type) != sizeof type || le32_get(type) != REQUEST_FLUSH)
        return RESULT_ERROR;
    if (p->config.fd >= 0 && fdatasync(p->config.fd) != 0)
        return RESULT_ERROR;
    return RESULT_OK;
}

static void kick(void *opaque, unsigned queue)
{
    struct pmem *p = opaque;
    struct virtq *q = &p->virtio.queues[queue];
    struct virtq_chain c;
    int turn;

    for (turn = 0; turn < TURN && virtq_pop(q, &c) > 0; turn++) {
        uint32_t written = 0;
        uint8_t answer[4];

        if (c.in_bytes >= sizeof answer) {
            le32_put(answer, request(p, &c));
            written = virtq_chain_write(&c, 0, answer, sizeof answer);
        }
        virtq_push(q, &c, written);
    }
    if (turn == TURN)
        virtio_kick(&p->virtio, queue);
    virtio_interrupt(&p->virtio, queue);
}

static void nothing(void *opaque)
{
    (void)opaque; /* no request outlives the kick that took it */
}

int pmem_new(const struct virtio_env *env, const struct pmem_config *cfg, struct pmem **out,
             struct sm_error *err)
{
    static const struct virtio_ops ops = {
        .name = "pmem",
        .device_id = 27,
        .n_queues = 1,
        .config_len = 16,
        .config = config,
        .start = nothing,
        .kick = kick,
        .reset = nothing,
    };
    struct pmem *p;
    int rc;

    *out = NULL;
    if (cfg->size == 0 || cfg->start % MEM_PAGE_SIZE != 0 || cfg->size % MEM_PAGE_SIZE != 0 ||
        cfg->start + cfg->size < cfg->start)
        return err_set(err, SM_EINVAL, "pmem window %#llx+%#llx is not whole pages",
                       (unsigned long long)cfg->start, (unsigned long long)cfg->size);
    p = calloc(1, sizeof *p);
    if (p == NULL)
        return err_set(err, SM_ENOMEM, "out of memory");
    p->config = *cfg;
    loop_lock(env->loop);
    rc = virtio_init(&p->virtio, &ops, p, env, err);
    loop_unlock(env->loop);
    if (rc != 0) {
        free(p);
        return rc;
    }
    *out = p;
    return 0;
}

void pmem_free(struct pmem *p)
{
    struct loop *loop;

    if (p == NULL)
        return;
    loop = p->virtio.env.loop;
    loop_lock(loop);
    virtio_fini(&p->virtio);
    loop_unlock(loop);
    free(p);
}

struct virtio *pmem_virtio(struct pmem *p)
{
    return &p->virtio;
}

void pmem_walk(struct state *s, void *object)
{
    struct pmem *p = object;

    state_same(s, p->config.start, "a layer is at another address");
    state_same(s, p->config.size, "a layer has another size");
}

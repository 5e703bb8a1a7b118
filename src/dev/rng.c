/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-rng: one queue of writable buffers, a quota per period, a timer when it is used up. */
#include "dev/rng.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define REQUEST_COST 512u /* what a request uses of the quota besides its bytes */

struct rng {
    struct virtio virtio;
    struct loop_source timer; /* timer.fd owned; armed while the quota is in use */
    uint32_t left;            /* of the quota, this period */
    bool ticking;
};

/* jail(loop,vcpu): timerfd_settime read */
static void set_timer(struct rng *r, bool on)
{
    struct itimerspec t = {.it_value.tv_nsec = on ? RNG_PERIOD_MS * 1000000L : 0};

    timerfd_settime(r->timer.fd, 0, &t, NULL);
    r->ticking = on;
}

static void new_period(struct loop_source *src, uint32_t events)
{
    struct rng *r = src->opaque;
    uint64_t expirations;

    (void)events;
    if (read(src->fd, &expirations, sizeof expirations) < 0)
        return; /* disarmed in between */
    r->left = RNG_QUOTA;
    r->ticking = false;
    virtio_kick(&r->virtio, 0);
}

static uint32_t fill(const struct virtq_chain *c)
{
    struct iovec iov[VIRTQ_MAX_SIZE];
    unsigned n = virtq_chain_slice(c, true, 0, RNG_REQUEST_MAX, iov);
    uint32_t done = 0;

    for (unsigned i = 0; i < n; i++) {
        size_t at = 0;

        while (at < iov[i].iov_len) {
            ssize_t got = getrandom((uint8_t *)iov[i].iov_base + at, iov[i].iov_len - at, 0);

            if (got < 0 && errno == EINTR)
                continue;
            if (got <= 0)
                return done + (uint32_t)at;
            at += (size_t)got;
        }
        done += (uint32_t)at;
    }
    return done;
}

static void kick(void *opaque, unsigned queue)
{
    struct rng *r = opaque;
    struct virtq *q = &r->virtio.queues[queue];
    struct virtq_chain c;

    while (r->left != 0 && virtq_pop(q, &c) > 0) {
        uint32_t n = fill(&c);
        uint32_t cost = n + REQUEST_COST;

        virtq_push(q, &c, n);
        r->left -= cost < r->left ? cost : r->left;
    }
    if (r->left != RNG_QUOTA && !r->ticking)
        set_timer(r, true);
    virtio_interrupt(&r->virtio, queue);
}

static void nothing(void *opaque)
{
    (void)opaque; /* the quota outlives a reset, or resets would lift it */
}

int rng_new(const struct virtio_env *env, struct rng **out, struct sm_error *err)
{
    static const struct virtio_ops ops = {.name = "rng",
                                          .device_id = 4,
                                          .n_queues = 1,
                                          .start = nothing,
                                          .kick = kick,
                                          .reset = nothing};
    struct rng *r = calloc(1, sizeof *r);
    int rc;

    *out = NULL;
    if (r == NULL)
        return err_set(err, SM_ENOMEM, "out of memory");
    r->left = RNG_QUOTA;
    r->virtio.env = *env;
    r->timer =
        (struct loop_source){.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
                             .ready = new_period,
                             .opaque = r};
    loop_lock(env->loop);
    rc = r->timer.fd < 0 ? err_sys(err, "cannot create a timer")
                         : loop_add(env->loop, &r->timer, EPOLLIN, err);
    if (rc == 0)
        rc = virtio_init(&r->virtio, &ops, r, env, err);
    loop_unlock(env->loop);
    if (rc != 0) {
        r->virtio.env = *env;
        rng_free(r);
        return rc;
    }
    *out = r;
    return 0;
}

void rng_free(struct rng *r)
{
    struct loop *loop;

    if (r == NULL)
        return;
    loop = r->virtio.env.loop;
    loop_lock(loop);
    virtio_fini(&r->virtio);
    loop_remove(loop, &r->timer);
    loop_unlock(loop);
    if (r->timer.fd >= 0)
        close(r->timer.fd);
    free(r);
}

struct virtio *rng_virtio(struct rng *r)
{
    return &r->virtio;
}

// SPDX-License-Identifier: Apache-2.0
/* sm_pool: a pool (pool/pool.h) whose items are VMs of one image. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"
#include "base/err.h"
#include "pool/pool.h"

#define MAX_VMS 4096u
#define MAX_DEFAULT 16u
#define STARTS_MAX 64u
#define IDLE_DEFAULT_MS 60000u
#define ACQUIRE_DEFAULT_MS 30000u
#define RETRY_MS 100u
#define RETRY_MAX_MS 10000u

struct sm_pool {
    struct pool *pool;         /* owned */
    sm_image *image;           /* borrowed */
    struct sm_vm_config start; /* its strings are the two below */
    char *kernel, *cpu;        /* owned, or NULL */
};

static int make(void *opaque, void **item, struct sm_error *err)
{
    struct sm_pool *p = opaque;
    sm_vm *vm;
    int rc = sm_vm_start(p->image, &p->start, &vm, err);
    *item = vm;
    return rc;
}

static void end(void *opaque, void *item)
{
    sm_vm_free(item);
}

static bool usable(void *opaque, void *item)
{
    return sm_vm_state(item) == SM_VM_RUNNING;
}

static const struct pool_ops vms = {.make = make, .end = end, .usable = usable};

static int check(struct sm_pool_config *c, struct sm_error *err)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    if (!c->max)
        c->max = c->min > MAX_DEFAULT ? c->min : MAX_DEFAULT;
    if (!c->starts_max)
        c->starts_max = processors < 1                  ? 1
                        : processors > (long)STARTS_MAX ? STARTS_MAX
                                                        : (uint32_t)processors;
    if (!c->idle_ms)
        c->idle_ms = IDLE_DEFAULT_MS;
    if (!c->acquire_ms)
        c->acquire_ms = ACQUIRE_DEFAULT_MS;
    if (c->max > MAX_VMS)
        return err_set(err, SM_EINVAL, "a pool of %u VMs (max): at most %u", c->max, MAX_VMS);
    if (c->min > c->max)
        return err_set(err, SM_EINVAL, "a pool of at least %u VMs (min) and at most %u (max)",
                       c->min, c->max);
    if (c->starts_max > STARTS_MAX)
        return err_set(err, SM_EINVAL, "%u starts at once (starts_max): at most %u", c->starts_max,
                       STARTS_MAX);
    if (c->on_release > SM_POOL_KEEP)
        return err_set(err, SM_EINVAL, "on_release is %u, which says nothing", c->on_release);
    return 0;
}

static int64_t limit(uint32_t ms)
{
    return ms == SM_FOREVER ? -1 : (int64_t)ms;
}

static int keep_machine(struct sm_pool *p, const struct sm_vm_config *given, struct sm_error *err)
{
    int rc = config_copy(&p->start, sizeof p->start, given, "sm_vm_config", err);
    if (rc)
        return rc;
    if (p->start.volumes && p->start.volumes[0])
        return err_set(err, SM_EINVAL, "the VMs of a pool cannot have volumes");
    p->start.size = sizeof p->start;
    if ((p->start.kernel && !(p->kernel = strdup(p->start.kernel))) ||
        (p->start.cpu && !(p->cpu = strdup(p->start.cpu))))
        return err_set(err, SM_ENOMEM, "out of memory");
    p->start.kernel = p->kernel;
    p->start.cpu = p->cpu;
    return 0;
}

SM_API int sm_pool_new(sm_image *image, const struct sm_pool_config *given, sm_pool **out,
                       struct sm_error *err)
{
    struct sm_pool_config c;
    *out = NULL;
    int rc = config_copy(&c, sizeof c, given, "sm_pool_config", err);
    rc = rc ? rc : check(&c, err);
    if (rc)
        return rc;
    struct sm_pool *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(err, SM_ENOMEM, "out of memory");
    const struct pool_config config = {
        .ops = &vms,
        .opaque = p,
        .min = c.min,
        .max = c.max,
        .makers = c.starts_max < c.max ? c.starts_max : c.max,
        .idle_ms = limit(c.idle_ms),
        .acquire_ms = limit(c.acquire_ms),
        .renew = c.on_release == SM_POOL_RENEW,
        .retry_ms = RETRY_MS,
        .retry_max_ms = RETRY_MAX_MS,
    };
    p->image = image;
    rc = keep_machine(p, c.vm, err);
    rc = rc ? rc : pool_new(&config, &p->pool, err);
    if (rc) {
        sm_pool_free(p);
        return rc;
    }
    *out = p;
    return 0;
}

SM_API void sm_pool_free(sm_pool *p)
{
    if (!p)
        return;
    pool_free(p->pool);
    free(p->kernel);
    free(p->cpu);
    free(p);
}

SM_API int sm_pool_acquire(sm_pool *p, sm_vm **out, struct sm_error *err)
{
    void *vm;
    int rc = pool_acquire(p->pool, &vm, err);
    *out = vm;
    return rc == SM_ETIMEDOUT ? err_wrap(err, rc, "the pool's VMs") : rc;
}

SM_API int sm_pool_release(sm_pool *p, sm_vm *vm, struct sm_error *err)
{
    int rc = vm ? pool_release(p->pool, vm, err) : 0;
    return rc ? err_wrap(err, rc, "the VM cannot be released") : 0;
}

SM_API void sm_pool_stats(sm_pool *p, struct sm_pool_stats *out)
{
    struct pool_stats s;
    pool_stats(p->pool, &s);
    *out = (struct sm_pool_stats){
        .ready = s.ready,
        .used = s.used,
        .starting = s.making,
        .waiting = s.waiting,
        .acquired = s.acquired,
        .started = s.made,
        .failed = s.failed,
        .expired = s.expired,
    };
}

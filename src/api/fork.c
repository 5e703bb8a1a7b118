// SPDX-License-Identifier: Apache-2.0
/*
 * Clones of a VM that runs. Its memory and state go into files without a name, from which VMs are
 * started as from any snapshot; the last one that uses them takes them along, however it ends.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/start.h"
#include "base/thread.h"

#define STARTS_MAX 16

SM_API int sm_image_from_vm(sm_vm *vm, sm_image **out, struct sm_snapshot_info *info,
                            struct sm_error *err)
{
    struct snapshot *snapshot;
    uint64_t pause_ns = 0;
    *out = NULL;
    if (info)
        *info = (struct sm_snapshot_info){0};
    int rc = start_check_folders(vm, err);
    rc = rc ? rc : start_capture(vm, &snapshot, &pause_ns, err);
    rc = rc ? rc : image_of_snapshot(vm->store, vm->data_dir, snapshot, out, err);
    if (!rc && info)
        info->pause_ns = pause_ns;
    return rc;
}

struct clones {
    sm_image *image;
    const struct sm_vm_config *config;
    uint32_t n;
    sm_vm **out;
    pthread_mutex_t lock; /* of what follows */
    uint32_t next;
    int rc;
    struct sm_error err; /* the first */
};

static bool next_clone(struct clones *c, uint32_t *i)
{
    pthread_mutex_lock(&c->lock);
    bool go = !c->rc && c->next < c->n;
    *i = go ? c->next++ : 0;
    pthread_mutex_unlock(&c->lock);
    return go;
}

static void *start_clones(void *opaque)
{
    struct clones *c = opaque;
    uint32_t i;
    while (next_clone(c, &i)) {
        struct sm_error err = {0};
        int rc = sm_vm_start(c->image, c->config, &c->out[i], &err);
        pthread_mutex_lock(&c->lock);
        if (rc && !c->rc) {
            c->rc = rc;
            c->err = err;
        }
        pthread_mutex_unlock(&c->lock);
    }
    return NULL;
}

/* As many at once as there are processors. This thread works too; with no others it still ends. */
static void start_all(struct clones *c)
{
    pthread_t threads[STARTS_MAX - 1];
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t n = 0, most = processors > STARTS_MAX ? STARTS_MAX : (uint32_t)processors;
    while (n + 1 < most && n + 1 < c->n && thread_start(&threads[n], start_clones, c) == 0)
        n++;
    start_clones(c);
    while (n > 0)
        pthread_join(threads[--n], NULL);
}

SM_API int sm_vm_fork(sm_vm *vm, const struct sm_vm_config *config, uint32_t n, sm_vm **clones,
                      struct sm_snapshot_info *info, struct sm_error *err)
{
    struct clones c = {.config = config, .n = n, .out = clones};
    memset(clones, 0, n * sizeof *clones);
    int rc = sm_image_from_vm(vm, &c.image, info, err);
    if (rc)
        return rc;
    pthread_mutex_init(&c.lock, NULL);
    start_all(&c);
    pthread_mutex_destroy(&c.lock);
    for (uint32_t i = 0; c.rc && i < n; i++) {
        sm_vm_free(clones[i]);
        clones[i] = NULL;
    }
    sm_image_free(c.image);
    if (c.rc && err)
        *err = c.err;
    return c.rc;
}

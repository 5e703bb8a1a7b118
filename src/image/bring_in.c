/* SPDX-License-Identifier: Apache-2.0 */
/* Layers are independent: threads take the next one until none is left. */
#include "image/bring_in.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "image/ingest.h"

struct work {
    struct store *store;
    struct source *src;
    const struct plan *plan;
    struct image *image;
    int (*after)(void *opaque, size_t layer, struct sm_error *err);
    void *opaque;
    atomic_bool *cancel;
    pthread_mutex_t lock; /* of what follows */
    size_t next;
    int rc; /* the first error */
    struct sm_error err;
};

/* The next layer to do; false when there is none, or no sense in it. */
static bool next_layer(struct work *w, size_t *i)
{
    pthread_mutex_lock(&w->lock);
    bool go = w->next < w->plan->n_layers && !w->rc;
    if (go && w->cancel && atomic_load(w->cancel)) {
        w->rc = err_set(&w->err, SM_EINTR, "interrupted");
        go = false;
    }
    *i = go ? w->next++ : 0;
    pthread_mutex_unlock(&w->lock);
    return go;
}

static void *run(void *opaque)
{
    struct work *w = opaque;
    size_t i;
    while (next_layer(w, &i)) {
        struct sm_error err = {0};
        int rc = ingest_layer(w->store, w->src, &w->plan->layers[i], w->plan->config.diff_ids[i],
                              &w->image->layers[i], &err);
        if (!rc && w->after) {
            rc = w->after(w->opaque, i, &err);
        }
        if (rc) {
            pthread_mutex_lock(&w->lock);
            if (!w->rc) {
                w->rc = rc;
                w->err = err;
            }
            pthread_mutex_unlock(&w->lock);
            if (w->cancel) {
                atomic_store(w->cancel, true); /* the others need not end their layers */
            }
        }
    }
    return NULL;
}

/* This thread works too; with no others it still ends. */
static void run_all(struct work *w)
{
    pthread_t threads[BRING_IN_THREADS - 1];
    size_t n = 0, most = w->plan->n_layers - 1;
    while (w->src->parallel && n < most && n < BRING_IN_THREADS - 1 &&
           thread_start(&threads[n], run, w) == 0) {
        n++;
    }
    run(w);
    while (n > 0) {
        pthread_join(threads[--n], NULL);
    }
}

int bring_in(struct store *store, struct source *src, struct plan *plan, struct image *image,
             int (*after)(void *opaque, size_t layer, struct sm_error *err), void *opaque,
             atomic_bool *cancel, struct sm_error *err)
{
    struct work w = {.store = store,
                     .src = src,
                     .plan = plan,
                     .image = image,
                     .after = after,
                     .opaque = opaque,
                     .cancel = cancel};
    image->layers = calloc(plan->n_layers, sizeof *image->layers);
    if (!image->layers) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < plan->n_layers; i++) {
        image->layers[i].held = (struct store_held)STORE_HELD_NONE;
    }
    image->n_layers = plan->n_layers;
    pthread_mutex_init(&w.lock, NULL);
    run_all(&w);
    pthread_mutex_destroy(&w.lock);
    if (w.rc) {
        if (err) {
            *err = w.err;
        }
        return w.rc;
    }
    memcpy(image->config_digest, plan->config_digest, sizeof image->config_digest);
    image->config = plan->config;
    plan->config = (struct image_config){0};
    return SM_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The caller's thread only waits and reports; everything else is done by a thread of its own and
 * those that it starts, so that a stop is heard at once.
 */
#include "image/pull.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/thread.h"
#include "image/bring_in.h"
#include "image/catalog.h"
#include "image/platform.h"
#include "image/progress.h"
#include "image/registry.h"
#include "image/source_registry.h"

#define INDEX_DEPTH_MAX 4
#define REPORT_MS 100

struct pull {
    struct store *store;
    const struct name *name;
    const struct image_options *options;
    struct image *image;
    struct progress progress;
    struct http_options http_options;
    /* What it makes on the way. */
    struct http *http;
    struct registry *registry;
    struct source *source;
    struct buf document; /* the manifest */
    struct catalog_record record;
    struct manifest manifest;
    struct plan plan;
    struct store_held document_held;
    /* How it ended. */
    int rc;
    struct sm_error err;
};

/* Does the document have the digest that led to it? */
static int check_digest(const struct buf *text, const char *expected, char digest[DIGEST_STR_SIZE],
                        struct sm_error *err)
{
    hash_bytes(text->data, text->len, digest);
    if (expected[0] && strcmp(digest, expected) != 0) {
        return err_set(err, SM_ECORRUPT, "manifest %s does not match its digest: its content is %s",
                       expected, digest);
    }
    return SM_OK;
}

/* Which of an index's manifests is for us. */
static int choose(const struct manifest *index, const char *what, const struct descriptor **out,
                  struct sm_error *err)
{
    const struct descriptor **all = calloc(index->n + 1, sizeof *all);
    size_t chosen = 0;
    if (!all) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < index->n; i++) {
        all[i] = &index->items[i];
    }
    int rc = platform_select(all, index->n, what, &chosen, err);
    *out = rc ? NULL : all[chosen];
    free(all);
    return rc;
}

static int fetch_one(struct pull *p, const char *reference, const char *digest, const char *claim,
                     struct sm_error *err)
{
    char media[128], what[NAME_TEXT_MAX + 16];
    snprintf(what, sizeof what, "manifest %.250s", reference);
    p->document.len = 0;
    int rc = registry_manifest(p->registry, p->http, reference, &p->document, media, err);
    rc = rc ? rc : check_digest(&p->document, digest, p->record.manifest, err);
    if (!rc) {
        /* Some registries name no type, or a general one; then the document's own word counts. */
        const char *said = media_of(media) != MEDIA_UNKNOWN ? media : NULL;
        if (said && claim && strcmp(said, claim) != 0) {
            return err_set(err, SM_ECORRUPT, "%s is referred to as %.100s but served as %.100s",
                           what, claim, said);
        }
        rc = manifest_parse(p->document.data, p->document.len, claim ? claim : said, what,
                            &p->manifest, err);
    }
    return rc;
}

/* From the name to the one manifest, through indexes. */
static int fetch_manifest(struct pull *p, struct sm_error *err)
{
    const struct name *n = p->name;
    const char *digest = p->options->pinned ? p->options->pinned : n->digest;
    int rc = fetch_one(p, digest[0] ? digest : n->tag, digest, NULL, err);
    for (int depth = 0; !rc && p->manifest.kind == MEDIA_INDEX; depth++) {
        const struct descriptor *next = NULL;
        struct manifest index = p->manifest;
        p->manifest = (struct manifest){0};
        rc = depth == INDEX_DEPTH_MAX
                 ? err_set(err, SM_ECORRUPT, "indexes are nested deeper than %d levels",
                           INDEX_DEPTH_MAX)
                 : choose(&index, "the index", &next, err);
        rc = rc ? rc : fetch_one(p, next->digest, next->digest, next->media_type, err);
        if (!rc && p->document.len != next->size_bytes) {
            rc = err_set(err, SM_ECORRUPT, "manifest %s has %zu bytes instead of %llu",
                         next->digest, p->document.len, (unsigned long long)next->size_bytes);
        }
        manifest_fini(&index);
    }
    return rc;
}

static int read_plan(struct pull *p, struct sm_error *err)
{
    const struct manifest *m = &p->manifest;
    int rc =
        source_registry_new(p->store, p->registry, &p->http_options, &p->progress, &p->source, err);
    rc = rc ? rc : source_registry_expect(p->source, &m->config, err);
    for (size_t i = 0; i < m->n && !rc; i++) {
        rc = source_registry_expect(p->source, &m->items[i], err);
    }
    return rc ? rc : plan_read(p->source, m, &p->plan, err);
}

/* From now on the caller can see the layers. */
static int show_layers(struct pull *p, struct sm_error *err)
{
    const struct plan *plan = &p->plan;
    struct progress_item *items = calloc(plan->n_layers, sizeof *items);
    if (!items) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < plan->n_layers; i++) {
        memcpy(items[i].digest, plan->layers[i].digest, sizeof items[i].digest);
        items[i].size_bytes = plan->layers[i].size_bytes;
    }
    pthread_mutex_lock(&p->progress.lock);
    p->progress.items = items;
    p->progress.n = plan->n_layers;
    pthread_mutex_unlock(&p->progress.lock);
    return SM_OK;
}

/* A layer that was there already may come from elsewhere: the blob belongs to the image too. */
static int finish_layer(void *opaque, size_t layer, struct sm_error *err)
{
    struct pull *p = opaque;
    struct progress_item *item = &p->progress.items[layer];
    int rc = source_registry_ensure(p->source, p->plan.layers[layer].digest, err);
    if (!rc) {
        atomic_store(&item->done_bytes, item->size_bytes);
        atomic_store(&item->state, SM_LAYER_READY);
    }
    return rc;
}

static int run(struct pull *p, struct sm_error *err)
{
    struct registry_options options = {.insecure = p->options->insecure,
                                       .http = p->http_options,
                                       .attempts = p->options->attempts};
    int rc = http_new(&p->http_options, &p->http, err);
    rc = rc ? rc : registry_new(p->name, &options, &p->registry, err);
    rc = rc ? rc : fetch_manifest(p, err);
    rc = rc ? rc
            : store_put_blob(p->store, p->record.manifest, p->document.data, p->document.len,
                             &p->document_held, err);
    rc = rc ? rc : read_plan(p, err);
    rc = rc ? rc : show_layers(p, err);
    rc = rc ? rc
            : bring_in(p->store, p->source, &p->plan, p->image, finish_layer, p,
                       &p->progress.cancel, err);
    if (!rc) {
        struct catalog_record *r = &p->record;
        const char *own = p->manifest.media_type;
        name_format(p->name, r->name);
        memcpy(r->config, p->image->config_digest, sizeof r->config);
        strcpy(r->media_type, own && strlen(own) < sizeof r->media_type ? own : MEDIA_OCI_MANIFEST);
        r->manifest_bytes = p->document.len;
        r->added_s = (int64_t)time(NULL);
        rc = catalog_put(p->store, r, err);
        memcpy(p->image->name, r->name, sizeof p->image->name);
        memcpy(p->image->manifest_digest, r->manifest, sizeof p->image->manifest_digest);
    }
    return rc;
}

static void *run_thread(void *opaque)
{
    struct pull *p = opaque;
    p->rc = run(p, &p->err);
    pthread_mutex_lock(&p->progress.lock);
    p->progress.done = 1;
    pthread_cond_signal(&p->progress.over);
    pthread_mutex_unlock(&p->progress.lock);
    return NULL;
}

static void report(struct pull *p)
{
    struct sm_layer_progress layers[MANIFEST_MAX_LAYERS];
    size_t n = 0;
    if (!p->options->progress) {
        return;
    }
    pthread_mutex_lock(&p->progress.lock);
    for (; n < p->progress.n && n < MANIFEST_MAX_LAYERS; n++) {
        struct progress_item *item = &p->progress.items[n];
        layers[n] = (struct sm_layer_progress){
            .digest = item->digest,
            .state = (enum sm_layer_state)atomic_load(&item->state),
            .done_bytes = atomic_load(&item->done_bytes),
            .total_bytes = item->size_bytes,
        };
    }
    pthread_mutex_unlock(&p->progress.lock);
    if (p->options->progress(p->options->opaque, layers, n)) {
        atomic_store(&p->progress.cancel, true);
    }
}

/* Until it is over; the caller hears of it every REPORT_MS. */
static void wait_for_end(struct pull *p)
{
    bool done = false;
    while (!done) {
        int64_t next = clock_ms() + REPORT_MS;
        pthread_mutex_lock(&p->progress.lock);
        if (!p->progress.done) {
            clock_wait(&p->progress.over, &p->progress.lock, next);
        }
        done = p->progress.done;
        pthread_mutex_unlock(&p->progress.lock);
        report(p);
    }
}

int pull_image(struct store *store, const struct name *name, const struct image_options *options,
               struct image *image, struct sm_error *err)
{
    static const struct image_options none;
    struct pull p = {.store = store,
                     .name = name,
                     .options = options ? options : &none,
                     .image = image,
                     .document_held = STORE_HELD_NONE};
    pthread_t thread;
    p.http_options =
        (struct http_options){.idle_ms = p.options->idle_ms, .cancel = &p.progress.cancel};
    pthread_mutex_init(&p.progress.lock, NULL);
    clock_cond_init(&p.progress.over);
    if (thread_start(&thread, run_thread, &p)) {
        p.rc = err_set(&p.err, SM_ENOMEM, "cannot start a thread for a pull");
    } else {
        wait_for_end(&p);
        pthread_join(thread, NULL);
    }
    source_free(p.source);
    store_release(&p.document_held);
    plan_fini(&p.plan);
    manifest_fini(&p.manifest);
    buf_fini(&p.document);
    registry_free(p.registry);
    http_free(p.http);
    free(p.progress.items);
    pthread_cond_destroy(&p.progress.over);
    pthread_mutex_destroy(&p.progress.lock);
    if (p.rc && err) {
        *err = p.err;
    }
    return p.rc;
}

int pull_recall_record(struct store *store, const struct catalog_record *record,
                       struct image *image, struct sm_error *err)
{
    struct source *src = NULL;
    struct buf document = {0};
    struct manifest m = {0};
    struct plan plan = {0};
    struct descriptor d = {.size_bytes = record->manifest_bytes};
    memcpy(d.digest, record->manifest, sizeof d.digest);
    /* The store's blobs lie as an OCI layout's do. */
    int rc = source_dir_open(store_path(store), &src, err);
    rc = rc ? rc : source_read_blob(src, &d, "the image's manifest", &document, err);
    rc = rc ? rc
            : manifest_parse(document.data, document.len, record->media_type,
                             "the image's manifest", &m, err);
    rc = rc ? rc : plan_read(src, &m, &plan, err);
    rc = rc ? rc : bring_in(store, src, &plan, image, NULL, NULL, NULL, err);
    if (!rc) {
        memcpy(image->name, record->name, sizeof image->name);
        memcpy(image->manifest_digest, record->manifest, sizeof image->manifest_digest);
    }
    plan_fini(&plan);
    manifest_fini(&m);
    buf_fini(&document);
    source_free(src);
    return rc;
}

int pull_recall(struct store *store, const struct name *name, struct image *image,
                struct sm_error *err)
{
    struct catalog_record record;
    char text[NAME_TEXT_MAX];
    name_format(name, text);
    int rc = catalog_get(store, text, &record, err);
    return rc ? rc : pull_recall_record(store, &record, image, err);
}

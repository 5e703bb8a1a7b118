/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A download has a thread of its own, which appends to the blob's file in the store; the reader
 * follows in that file. So neither waits for the other but for bytes, memory stays small, and the
 * network is as fast as it can be.
 */
#include "image/source_registry.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/thread.h"

#define PREFIX "blobs/sha256/"

struct expected {
    char digest[DIGEST_STR_SIZE];
    uint64_t size_bytes;
};

struct remote {
    struct source src;
    struct store *store; /* borrowed, as the next three */
    struct registry *registry;
    struct http_options http;
    struct progress *progress; /* may be NULL */
    size_t n_expected;
    struct expected *expected; /* owned */
    pthread_mutex_t lock;      /* of what follows */
    size_t n_held;
    struct store_held *held; /* owned */
};

struct download {
    struct stream stream;
    struct remote *remote; /* borrowed */
    struct expected what;
    struct progress_item *item; /* borrowed; may be NULL */
    struct store_item into;
    struct hash *hash;
    uint64_t pos; /* of the reader */
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t more;
    uint64_t have;
    bool over;
    bool stop; /* the reader has gone */
    int rc;
    struct sm_error err;
};

static struct progress_item *item_of(struct remote *r, const char *digest)
{
    struct progress *p = r->progress;
    for (size_t i = 0; p && i < p->n; i++) {
        if (strcmp(p->items[i].digest, digest) == 0) {
            return &p->items[i];
        }
    }
    return NULL;
}

static int take_bytes(void *opaque, const void *data, size_t len, struct sm_error *err)
{
    struct download *d = opaque;
    hash_update(d->hash, data, len);
    if (io_pwrite_full(d->into.fd, data, len, d->have)) {
        return err_sys(err, "cannot write to the store");
    }
    store_item_progress(&d->into);
    pthread_mutex_lock(&d->lock);
    d->have += len;
    bool stop = d->stop;
    pthread_cond_signal(&d->more);
    pthread_mutex_unlock(&d->lock);
    if (d->item) {
        atomic_store(&d->item->done_bytes, d->have);
    }
    return stop ? err_set(err, SM_EINTR, "no longer wanted") : SM_OK;
}

static int run(struct download *d, struct sm_error *err)
{
    struct http *h;
    char actual[DIGEST_STR_SIZE];
    int rc = http_new(&d->remote->http, &h, err);
    if (rc) {
        return rc;
    }
    rc = registry_blob(d->remote->registry, h, d->what.digest, d->what.size_bytes, take_bytes, d,
                       err);
    http_free(h);
    if (!rc) {
        hash_final(d->hash, actual);
        if (strcmp(actual, d->what.digest) != 0) {
            rc = err_set(err, SM_ECORRUPT, "blob %s does not match its digest: its content is %s",
                         d->what.digest, actual);
        }
    }
    return rc;
}

static void *run_thread(void *opaque)
{
    struct download *d = opaque;
    struct sm_error err = {0};
    int rc = run(d, &err);
    pthread_mutex_lock(&d->lock);
    d->rc = rc;
    d->err = err;
    d->over = true;
    pthread_cond_broadcast(&d->more);
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

/* Wait for bytes past pos. With the lock held. */
static void wait_for_more(struct download *d)
{
    while (d->have == d->pos && !d->over) {
        clock_wait(&d->more, &d->lock, clock_ms() + 1000);
        if (d->stream.tick) {
            d->stream.tick(d->stream.tick_opaque);
        }
    }
}

static ssize_t download_read(struct stream *s, void *data, size_t len)
{
    struct download *d = (struct download *)s;
    pthread_mutex_lock(&d->lock);
    wait_for_more(d);
    uint64_t left = d->have - d->pos;
    int rc = d->over ? d->rc : SM_OK;
    pthread_mutex_unlock(&d->lock);
    if (left == 0 && rc) {
        s->why = &d->err;
        errno = EIO;
        return -1;
    }
    ssize_t n;
    do {
        n = left ? pread(d->into.fd, data, len < left ? len : (size_t)left, (off_t)d->pos) : 0;
    } while (n < 0 && errno == EINTR);
    d->pos += n > 0 ? (uint64_t)n : 0;
    return n;
}

/* Wait for the end, then the blob is in the store or not. */
static int download_end(struct download *d, struct store_held *held, struct sm_error *err)
{
    pthread_join(d->thread, NULL);
    int rc = d->rc;
    if (rc && err) {
        *err = d->err;
    }
    rc = rc ? rc : store_item_commit(&d->into, held, err);
    store_item_abort(&d->into);
    pthread_cond_destroy(&d->more);
    pthread_mutex_destroy(&d->lock);
    hash_free(d->hash);
    free(d);
    return rc;
}

static int keep(struct remote *r, struct store_held *held, struct sm_error *err)
{
    int rc = SM_OK;
    pthread_mutex_lock(&r->lock);
    struct store_held *grown = realloc(r->held, (r->n_held + 1) * sizeof *grown);
    if (grown) {
        r->held = grown;
        r->held[r->n_held++] = *held;
    } else {
        rc = err_set(err, SM_ENOMEM, "out of memory");
        store_release(held);
    }
    pthread_mutex_unlock(&r->lock);
    return rc;
}

/* A reader that goes early takes the download with it, unless all has come. */
static void download_close(struct stream *s)
{
    struct download *d = (struct download *)s;
    struct remote *r = d->remote;
    struct store_held held = STORE_HELD_NONE;
    pthread_mutex_lock(&d->lock);
    d->stop = d->have < d->what.size_bytes;
    pthread_mutex_unlock(&d->lock);
    if (download_end(d, &held, NULL) == SM_OK) {
        keep(r, &held, NULL); /* else it is only fetched again */
    }
}

/* The blob's download begins. into is begun, and taken over. */
static int start(struct remote *r, const struct expected *what, struct store_item *into,
                 struct download **out, struct sm_error *err)
{
    struct download *d = calloc(1, sizeof *d);
    struct hash *hash = hash_new();
    if (!d || !hash) {
        free(d);
        hash_free(hash);
        store_item_abort(into);
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    d->stream = (struct stream){
        .read = download_read, .close = download_close, .size_bytes = what->size_bytes};
    d->remote = r;
    d->what = *what;
    d->item = item_of(r, what->digest);
    d->into = *into;
    d->hash = hash;
    pthread_mutex_init(&d->lock, NULL);
    clock_cond_init(&d->more);
    if (d->item) {
        atomic_store(&d->item->state, SM_LAYER_DOWNLOADING);
    }
    if (thread_start(&d->thread, run_thread, d)) {
        pthread_cond_destroy(&d->more);
        pthread_mutex_destroy(&d->lock);
        hash_free(hash);
        free(d);
        store_item_abort(into);
        return err_set(err, SM_ENOMEM, "cannot start a thread for a download");
    }
    *out = d;
    return SM_OK;
}

static const struct expected *find(const struct remote *r, const char *digest)
{
    for (size_t i = 0; i < r->n_expected; i++) {
        if (strcmp(r->expected[i].digest, digest) == 0) {
            return &r->expected[i];
        }
    }
    return NULL;
}

/* Either the blob, held, or a download of it. */
static int hold_or_start(struct remote *r, const char *digest, struct store_held *held,
                         struct download **d, struct sm_error *err)
{
    const struct expected *what = find(r, digest);
    *d = NULL;
    if (!what) {
        return err_set(err, SM_ENOTFOUND, "blob %s belongs to no manifest", digest);
    }
    for (;;) {
        struct store_item into = {0};
        int rc = store_hold(r->store, STORE_BLOB, digest, held, err);
        if (rc != SM_ENOTFOUND) {
            return rc;
        }
        rc = store_item_begin(r->store, STORE_BLOB, digest, &into, err);
        if (rc || !into.present) {
            return rc ? rc : start(r, what, &into, d, err);
        }
    }
}

struct file {
    struct stream stream;
    int fd; /* borrowed: of the source's */
    uint64_t pos;
};

static ssize_t file_read(struct stream *s, void *data, size_t len)
{
    struct file *f = (struct file *)s;
    ssize_t n;
    do {
        n = pread(f->fd, data, len, (off_t)f->pos);
    } while (n < 0 && errno == EINTR);
    f->pos += n > 0 ? (uint64_t)n : 0;
    return n;
}

static void file_close(struct stream *s)
{
    free(s);
}

static int remote_open(struct source *src, const char *name, struct stream **out,
                       struct sm_error *err)
{
    struct remote *r = (struct remote *)src;
    char digest[DIGEST_STR_SIZE] = "sha256:";
    struct store_held held;
    struct download *d;
    strncat(digest, name + strlen(PREFIX), HASH_HEX_LEN);
    int rc = hold_or_start(r, digest, &held, &d, err);
    if (rc || d) {
        *out = d ? &d->stream : NULL;
        return rc;
    }
    struct file *f = calloc(1, sizeof *f);
    if (!f) {
        store_release(&held);
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    f->stream =
        (struct stream){.read = file_read, .close = file_close, .size_bytes = held.size_bytes};
    f->fd = held.fd;
    rc = keep(r, &held, err);
    if (rc) {
        free(f);
        return rc;
    }
    *out = &f->stream;
    return SM_OK;
}

static void remote_free(struct source *src)
{
    struct remote *r = (struct remote *)src;
    for (size_t i = 0; i < r->n_held; i++) {
        store_release(&r->held[i]);
    }
    pthread_mutex_destroy(&r->lock);
    free(r->held);
    free(r->expected);
    free(src->label);
    free(r);
}

static const struct source_ops remote_ops = {remote_open, remote_free};

int source_registry_new(struct store *store, struct registry *registry,
                        const struct http_options *http, struct progress *progress,
                        struct source **out, struct sm_error *err)
{
    struct remote *r = calloc(1, sizeof *r);
    *out = NULL;
    if (!r || !(r->src.label = strdup("the registry"))) {
        free(r);
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    r->src.ops = &remote_ops;
    r->src.parallel = true;
    r->store = store;
    r->registry = registry;
    r->http = *http;
    r->progress = progress;
    pthread_mutex_init(&r->lock, NULL);
    *out = &r->src;
    return SM_OK;
}

int source_registry_expect(struct source *src, const struct descriptor *d, struct sm_error *err)
{
    struct remote *r = (struct remote *)src;
    struct expected *grown = realloc(r->expected, (r->n_expected + 1) * sizeof *grown);
    if (!grown) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    r->expected = grown;
    r->expected[r->n_expected].size_bytes = d->size_bytes;
    memcpy(r->expected[r->n_expected++].digest, d->digest, sizeof d->digest);
    return SM_OK;
}

int source_registry_ensure(struct source *src, const char *digest, struct sm_error *err)
{
    struct remote *r = (struct remote *)src;
    struct store_held held;
    struct download *d;
    int rc = hold_or_start(r, digest, &held, &d, err);
    if (!rc && d) {
        rc = download_end(d, &held, err);
    }
    return rc ? rc : keep(r, &held, err);
}

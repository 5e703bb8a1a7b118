/* SPDX-License-Identifier: Apache-2.0 */
/* One blob out of an archive or folder into the store. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "image/load_parts.h"

#define BLOCK (1u << 20)

static int read_error(const struct stream *s, const char *entry, struct sm_error *err)
{
    return s->why ? err_set(err, s->why->code, "%s", s->why->text)
                  : err_sys(err, "cannot read %.200s", entry);
}

/* The whole stream, given to take in blocks. */
static int each_block(struct stream *s, const char *entry,
                      int (*take)(void *opaque, const void *data, size_t len, struct sm_error *err),
                      void *opaque, struct sm_error *err)
{
    uint64_t got = 0;
    int rc = SM_OK;
    uint8_t *block = malloc(BLOCK);
    if (!block) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    while (!rc) {
        ssize_t n = s->read(s, block, BLOCK);
        if (n < 0) {
            rc = read_error(s, entry, err);
        } else if (n == 0) {
            break;
        } else {
            got += (uint64_t)n;
            rc = take(opaque, block, (size_t)n, err);
        }
    }
    if (!rc && got != s->size_bytes) {
        rc = err_set(err, SM_ECORRUPT, "%.200s is truncated: %" PRIu64 " bytes instead of %" PRIu64,
                     entry, got, s->size_bytes);
    }
    free(block);
    return rc;
}

struct copy {
    struct hash *hash;
    struct store_item *into;
};

static int copy_block(void *opaque, const void *data, size_t len, struct sm_error *err)
{
    struct copy *c = opaque;
    hash_update(c->hash, data, len);
    store_item_progress(c->into);
    return io_write_full(c->into->fd, data, len) ? err_sys(err, "cannot write to the store")
                                                 : SM_OK;
}

static int copy_blob(struct loading *l, const char *entry, const struct descriptor *d,
                     struct store_item *into, struct sm_error *err)
{
    struct stream *s;
    char actual[DIGEST_STR_SIZE];
    struct copy c = {.into = into};
    int rc = source_open_entry(l->src, entry, &s, err);
    if (rc) {
        return rc == SM_ENOTFOUND
                   ? err_set(err, rc, "blob %s is missing from %.150s", d->digest, l->src->label)
                   : rc;
    }
    if (s->size_bytes != d->size_bytes) {
        rc = err_set(err, SM_ECORRUPT, "blob %s has %" PRIu64 " bytes instead of %" PRIu64 "%s",
                     d->digest, s->size_bytes, d->size_bytes,
                     s->size_bytes < d->size_bytes ? ": it is truncated" : "");
    } else if (!(c.hash = hash_new())) {
        rc = err_set(err, SM_ENOMEM, "out of memory");
    } else if (!(rc = each_block(s, entry, copy_block, &c, err))) {
        hash_final(c.hash, actual);
        rc = strcmp(actual, d->digest) == 0
                 ? SM_OK
                 : err_set(err, SM_ECORRUPT, "blob %s does not match its digest: its content is %s",
                           d->digest, actual);
    }
    hash_free(c.hash);
    s->close(s);
    return rc;
}

static int keep(struct loading *l, struct store_held *held, struct sm_error *err)
{
    struct store_held *grown = realloc(l->held, (l->n_held + 1) * sizeof *grown);
    if (!grown) {
        store_release(held);
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    l->held = grown;
    l->held[l->n_held++] = *held;
    return SM_OK;
}

int loading_blob(struct loading *l, const char *entry, const struct descriptor *d,
                 struct sm_error *err)
{
    for (;;) {
        struct store_item into = {0};
        struct store_held held;
        int rc = store_hold(l->store, STORE_BLOB, d->digest, &held, err);
        if (rc == SM_OK) {
            return keep(l, &held, err);
        }
        if (rc != SM_ENOTFOUND ||
            (rc = store_item_begin(l->store, STORE_BLOB, d->digest, &into, err))) {
            return rc;
        }
        if (into.present) {
            continue; /* made, and perhaps collected, meanwhile */
        }
        rc = copy_blob(l, entry, d, &into, err);
        rc = rc ? rc : store_item_commit(&into, &held, err);
        store_item_abort(&into);
        return rc ? rc : keep(l, &held, err);
    }
}

struct measure {
    struct hash *hash;
    uint8_t head[LAYER_HEAD];
    size_t head_len;
};

static int measure_block(void *opaque, const void *data, size_t len, struct sm_error *err)
{
    struct measure *m = opaque;
    size_t room = sizeof m->head - m->head_len, n = len < room ? len : room;
    (void)err;
    memcpy(m->head + m->head_len, data, n);
    m->head_len += n;
    hash_update(m->hash, data, len);
    return SM_OK;
}

int loading_measure(struct loading *l, const char *entry, struct descriptor *d,
                    enum layer_codec *codec, struct sm_error *err)
{
    struct stream *s;
    struct measure m = {.hash = hash_new()};
    int rc = m.hash ? source_open_entry(l->src, entry, &s, err)
                    : err_set(err, SM_ENOMEM, "out of memory");
    if (!rc) {
        rc = each_block(s, entry, measure_block, &m, err);
        d->size_bytes = s->size_bytes;
        s->close(s);
    }
    if (!rc) {
        hash_final(m.hash, d->digest);
        *codec = layer_codec_of(m.head, m.head_len);
    }
    hash_free(m.hash);
    return rc;
}

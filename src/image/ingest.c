/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The conversion reads the layer once: each block is hashed on its way to the converter. When the
 * converter gives up on broken bytes, the rest is still hashed, so that the message can say whether
 * the bytes are wrong or the layer was made wrong.
 */
#include "image/ingest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 65536

struct feed {
    struct stream *stream; /* borrowed */
    struct hash *hash;     /* owned */
    struct store_item *into;
    uint8_t head[LAYER_HEAD]; /* first bytes, read ahead to see the compression */
    size_t head_len, head_pos;
    uint64_t got;
};

/* What messages call it: its digest where it has one. */
static const char *name_of(const struct plan_layer *l)
{
    return l->digest[0] ? l->digest : l->entry;
}

static ssize_t feed_read(void *opaque, void *data, size_t len)
{
    struct feed *f = opaque;
    store_item_progress(f->into);
    if (f->head_pos < f->head_len) {
        size_t n = f->head_len - f->head_pos;
        n = n < len ? n : len;
        memcpy(data, f->head + f->head_pos, n);
        f->head_pos += n;
        return (ssize_t)n;
    }
    ssize_t n = f->stream->read(f->stream, data, len);
    if (n > 0) {
        hash_update(f->hash, data, (size_t)n);
        f->got += (uint64_t)n;
    }
    return n;
}

/* Look at the first bytes. */
static int sniff(struct feed *f, const char *name, enum layer_codec *codec, struct sm_error *err)
{
    while (f->head_len < sizeof f->head) {
        ssize_t n = f->stream->read(f->stream, f->head + f->head_len, sizeof f->head - f->head_len);
        if (n < 0) {
            return err_sys(err, "cannot read layer %s", name);
        }
        if (n == 0) {
            break;
        }
        f->head_len += (size_t)n;
    }
    hash_update(f->hash, f->head, f->head_len);
    f->got = f->head_len;
    *codec = layer_codec_of(f->head, f->head_len);
    return SM_OK;
}

/* Hash what the converter left. 0, or -1 with errno. */
static int drain(struct feed *f)
{
    uint8_t block[BLOCK];
    ssize_t n;
    while ((n = feed_read(f, block, sizeof block)) > 0) {
    }
    return n < 0 ? -1 : 0;
}

/* rc is what the conversion said; the digests have the last word. */
static int verify(struct feed *f, const struct plan_layer *l, const char *diff_id,
                  const char *actual_diff_id, int rc, struct sm_error *err)
{
    char actual[DIGEST_STR_SIZE];
    if ((rc && (rc != SM_ECORRUPT || f->stream->why)) || drain(f)) {
        if (f->stream->why) {
            return err_set(err, f->stream->why->code, "%s", f->stream->why->text);
        }
        return rc ? rc : err_sys(err, "cannot read layer %s", name_of(l));
    }
    hash_final(f->hash, actual);
    if (f->got != f->stream->size_bytes) {
        return err_set(err, SM_ECORRUPT,
                       "layer %s is truncated: %" PRIu64 " bytes instead of %" PRIu64, name_of(l),
                       f->got, f->stream->size_bytes);
    }
    if (l->digest[0] && strcmp(actual, l->digest) != 0) {
        return err_set(err, SM_ECORRUPT, "layer %s does not match its digest: its content is %s",
                       l->digest, actual);
    }
    if (rc) {
        return err_wrap(err, rc, "layer %s", name_of(l));
    }
    if (strcmp(actual_diff_id, diff_id) != 0) {
        return err_set(err, SM_ECORRUPT,
                       "layer %s does not match its diff id in the config: %s instead of %s",
                       name_of(l), actual_diff_id, diff_id);
    }
    return SM_OK;
}

static void tick(void *opaque)
{
    store_item_progress(opaque);
}

static int convert(struct source *src, const struct plan_layer *l, const char *diff_id,
                   struct store_item *into, struct sm_error *err)
{
    struct feed f = {.into = into};
    char actual[DIGEST_STR_SIZE] = "";
    enum layer_codec codec = l->codec;
    int rc = source_open_entry(src, l->entry, &f.stream, err);
    if (rc) {
        return rc != SM_ENOTFOUND
                   ? rc
                   : err_set(err, rc, "layer %s is missing from %.150s%s", name_of(l), src->label,
                             l->foreign ? ": it is a foreign layer, which images need not contain"
                                        : "");
    }
    f.stream->tick = tick;
    f.stream->tick_opaque = into;
    if (l->size_known && f.stream->size_bytes != l->size_bytes) {
        rc = err_set(err, SM_ECORRUPT, "layer %s has %" PRIu64 " bytes instead of %" PRIu64 "%s",
                     name_of(l), f.stream->size_bytes, l->size_bytes,
                     f.stream->size_bytes < l->size_bytes ? ": it is truncated" : "");
    } else if (!(f.hash = hash_new())) {
        rc = err_set(err, SM_ENOMEM, "out of memory");
    } else if (l->codec_known || !(rc = sniff(&f, name_of(l), &codec, err))) {
        struct layer_input in = {feed_read, &f};
        rc = layer_to_erofs(&in, codec, into->fd, NULL, actual, err);
        rc = verify(&f, l, diff_id, actual, rc, err);
    }
    hash_free(f.hash);
    f.stream->close(f.stream);
    return rc;
}

int ingest_layer(struct store *store, struct source *src, const struct plan_layer *layer,
                 const char *diff_id, struct image_layer *out, struct sm_error *err)
{
    memcpy(out->diff_id, diff_id, sizeof out->diff_id);
    for (;;) {
        struct store_item into = {0};
        int rc = store_hold(store, STORE_LAYER, diff_id, &out->held, err);
        if (rc != SM_ENOTFOUND ||
            (rc = store_item_begin(store, STORE_LAYER, diff_id, &into, err))) {
            return rc;
        }
        if (into.present) {
            continue; /* made, and perhaps collected, meanwhile */
        }
        rc = convert(src, layer, diff_id, &into, err);
        rc = rc ? rc : store_item_commit(&into, &out->held, err);
        store_item_abort(&into);
        return rc != SM_ENOSPC ? rc
                               : err_wrap(err, rc, "the store %.150s has no room for layer %s",
                                          store_path(store), name_of(layer));
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * First all that is to be written is found and held, so that what is missing is said before the
 * first byte, and no gc takes it away meanwhile.
 */
#include "image/save.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/save_doc.h"
#include "image/source.h"

#define BLOCK (1u << 20)
#define LAYOUT_MARKER "{\"imageLayoutVersion\":\"1.0.0\"}"

struct saved_blob {
    char digest[DIGEST_STR_SIZE];
    uint64_t size_bytes;
    struct store_held held; /* the bytes; or, when it has no path, */
    struct buf text;        /* a document of ours */
};

struct save {
    struct store *store; /* borrowed, as the next three */
    struct source *src;
    struct sink *sink;
    const struct save_options *options;
    size_t n_images, n_blobs;
    struct saved_image *images; /* owned */
    struct saved_blob *blobs;   /* owned; each digest once */
    uint64_t done, total;
    uint8_t *block; /* owned */
};

static struct saved_blob *add_blob(struct save *s, const char *digest, uint64_t size_bytes)
{
    struct saved_blob *grown = realloc(s->blobs, (s->n_blobs + 1) * sizeof *grown);
    if (!grown) {
        return NULL;
    }
    s->blobs = grown;
    struct saved_blob *b = &grown[s->n_blobs++];
    *b = (struct saved_blob){.size_bytes = size_bytes, .held = STORE_HELD_NONE};
    memcpy(b->digest, digest, sizeof b->digest);
    s->total += size_bytes;
    return b;
}

static bool has_blob(const struct save *s, const char *digest)
{
    for (size_t i = 0; i < s->n_blobs; i++) {
        if (strcmp(s->blobs[i].digest, digest) == 0) {
            return true;
        }
    }
    return false;
}

static int hold_blob(struct save *s, const struct descriptor *d, struct sm_error *err)
{
    if (has_blob(s, d->digest)) {
        return SM_OK;
    }
    struct saved_blob *b = add_blob(s, d->digest, d->size_bytes);
    if (!b) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    int rc = store_hold(s->store, STORE_BLOB, d->digest, &b->held, err);
    if (!rc && b->held.size_bytes != d->size_bytes) {
        rc = err_set(err, SM_ECORRUPT, "blob %s has %" PRIu64 " bytes instead of %" PRIu64,
                     d->digest, b->held.size_bytes, d->size_bytes);
    }
    return rc;
}

/* The manifest as it is written, among the blobs. Takes text over. */
static int add_manifest(struct save *s, struct saved_image *m, struct buf *text,
                        struct sm_error *err)
{
    int rc = SM_OK;
    m->media_type = m->record.media_type;
    if (strcmp(m->media_type, MEDIA_DOCKER_MANIFEST) == 0 && !m->name.digest[0]) {
        m->media_type = MEDIA_OCI_MANIFEST;
        rc = save_doc_to_oci(text, err);
    }
    if (rc) {
        return rc;
    }
    hash_bytes(text->data, text->len, m->digest);
    m->size_bytes = text->len;
    if (!has_blob(s, m->digest)) {
        struct saved_blob *b = add_blob(s, m->digest, text->len);
        if (!b) {
            return err_set(err, SM_ENOMEM, "out of memory");
        }
        b->text = *text;
        *text = (struct buf){0};
    }
    return SM_OK;
}

static int add_image(struct save *s, struct saved_image *m, struct sm_error *err)
{
    struct buf text = {0};
    struct descriptor d = {0};
    char key[NAME_TEXT_MAX];
    name_format(&m->name, key);
    int rc = catalog_get(s->store, key, &m->record, err);
    if (rc) {
        return rc;
    }
    d.size_bytes = m->record.manifest_bytes;
    memcpy(d.digest, m->record.manifest, sizeof d.digest);
    rc = source_read_blob(s->src, &d, "its manifest", &text, err);
    rc = rc ? rc
            : manifest_parse(text.data, text.len, m->record.media_type, "its manifest",
                             &m->manifest, err);
    if (!rc && m->manifest.kind != MEDIA_MANIFEST) {
        rc = err_set(err, SM_ECORRUPT, "its manifest is an index");
    }
    rc = rc ? rc : add_manifest(s, m, &text, err);
    rc = rc ? rc : hold_blob(s, &m->manifest.config, err);
    for (size_t i = 0; i < m->manifest.n && !rc; i++) {
        rc = hold_blob(s, &m->manifest.items[i], err);
    }
    buf_fini(&text);
    return rc == SM_ENOTFOUND || rc == SM_ECORRUPT
               ? err_wrap(err, rc, "image %.150s is damaged, pull it again", key)
               : rc;
}

static int report(struct save *s, size_t len, struct sm_error *err)
{
    const struct save_options *o = s->options;
    s->done += len;
    return o->progress && o->progress(o->opaque, s->done, s->total)
               ? err_set(err, SM_EINTR, "interrupted")
               : SM_OK;
}

/* From the store, hashed on the way. */
static int copy_blob(struct save *s, const struct saved_blob *b, struct sm_error *err)
{
    char actual[DIGEST_STR_SIZE];
    struct hash *hash = hash_new();
    int rc = hash ? SM_OK : err_set(err, SM_ENOMEM, "out of memory");
    for (uint64_t at = 0; at < b->size_bytes && !rc;) {
        uint64_t left = b->size_bytes - at;
        ssize_t n = pread(b->held.fd, s->block, left < BLOCK ? (size_t)left : BLOCK, (off_t)at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            rc = n < 0 ? err_sys(err, "cannot read blob %s", b->digest)
                       : err_set(err, SM_ECORRUPT, "blob %s is cut short", b->digest);
            break;
        }
        hash_update(hash, s->block, (size_t)n);
        at += (uint64_t)n;
        rc = sink_write(s->sink, s->block, (size_t)n, err);
        rc = rc ? rc : report(s, (size_t)n, err);
    }
    if (!rc) {
        hash_final(hash, actual);
        if (strcmp(actual, b->digest) != 0) {
            rc = err_set(err, SM_ECORRUPT,
                         "the store's blob %s is damaged, its content is %s: `verify --repair`",
                         b->digest, actual);
        }
    }
    hash_free(hash);
    return rc;
}

static int write_text(struct save *s, const char *name, const char *text, struct sm_error *err)
{
    if (!text) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    int rc = sink_file(s->sink, name, strlen(text), err);
    return rc ? rc : sink_write(s->sink, text, strlen(text), err);
}

static int write_all(struct save *s, struct sm_error *err)
{
    char *index = save_doc_index(s->images, s->n_images);
    char *docker = s->options->docker ? save_doc_docker(s->images, s->n_images) : NULL;
    int rc = write_text(s, "oci-layout", LAYOUT_MARKER, err);
    rc = rc ? rc : write_text(s, "index.json", index, err);
    if (!rc && s->options->docker) {
        rc = write_text(s, "manifest.json", docker, err);
    }
    free(index);
    free(docker);
    for (size_t i = 0; i < s->n_blobs && !rc; i++) {
        const struct saved_blob *b = &s->blobs[i];
        char name[sizeof "blobs/sha256/" + HASH_HEX_LEN];
        snprintf(name, sizeof name, "blobs/sha256/%s", b->digest + strlen("sha256:"));
        rc = sink_file(s->sink, name, b->size_bytes, err);
        if (!rc && b->held.path) {
            rc = copy_blob(s, b, err);
        } else if (!rc) {
            rc = sink_write(s->sink, b->text.data, b->text.len, err);
            rc = rc ? rc : report(s, b->text.len, err);
        }
    }
    return rc ? rc : sink_commit(s->sink, err);
}

static void fini(struct save *s)
{
    for (size_t i = 0; i < s->n_blobs; i++) {
        store_release(&s->blobs[i].held);
        buf_fini(&s->blobs[i].text);
    }
    for (size_t i = 0; s->images && i < s->n_images; i++) {
        manifest_fini(&s->images[i].manifest);
    }
    source_free(s->src);
    free(s->blobs);
    free(s->images);
    free(s->block);
}

int save_images(struct store *store, const struct name *names, size_t n, struct sink *sink,
                const struct save_options *options, struct sm_error *err)
{
    struct save s = {.store = store, .sink = sink, .options = options, .n_images = n};
    s.images = calloc(n, sizeof *s.images);
    s.block = malloc(BLOCK);
    int rc = s.images && s.block ? source_dir_open(store_path(store), &s.src, err)
                                 : err_set(err, SM_ENOMEM, "out of memory");
    for (size_t i = 0; i < n && !rc; i++) {
        s.images[i].name = names[i];
        rc = add_image(&s, &s.images[i], err);
    }
    rc = rc ? rc : write_all(&s, err);
    fini(&s);
    return rc;
}

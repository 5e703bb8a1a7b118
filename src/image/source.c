/* SPDX-License-Identifier: Apache-2.0 */
/* What all sources share: whole documents, checked against their descriptors. */
#include "image/source.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/json_doc.h"

void source_free(struct source *src)
{
    if (src) {
        src->ops->free(src);
    }
}

int source_open_entry(struct source *src, const char *name, struct stream **out,
                      struct sm_error *err)
{
    *out = NULL;
    return src->ops->open(src, name, out, err);
}

/* The same for the blob of a valid digest. */
static int open_blob(struct source *src, const char *digest, struct stream **out,
                     struct sm_error *err)
{
    char name[sizeof "blobs/sha256/" + HASH_HEX_LEN];
    snprintf(name, sizeof name, "blobs/sha256/%s", digest + strlen("sha256:"));
    return source_open_entry(src, name, out, err);
}

static int read_stream(struct stream *s, const char *what, size_t max, struct buf *out,
                       struct sm_error *err)
{
    if (s->size_bytes > max) {
        return err_set(err, SM_ECORRUPT, "%s is larger than the limit of %zu bytes", what, max);
    }
    size_t end = out->len + (size_t)s->size_bytes;
    if (buf_reserve(out, (size_t)s->size_bytes + 1)) {
        return err_set(err, SM_ENOMEM, "out of memory reading %s", what);
    }
    while (out->len < end) {
        ssize_t n = s->read(s, out->data + out->len, end - out->len);
        if (n < 0 && s->why) {
            return err_set(err, s->why->code, "%s", s->why->text);
        }
        if (n < 0) {
            return errno == EBADMSG
                       ? err_set(err, SM_ECORRUPT, "%s cannot be read: broken archive", what)
                       : err_sys(err, "cannot read %s", what);
        }
        if (n == 0) {
            return err_set(err, SM_ECORRUPT, "%s is cut short", what);
        }
        out->len += (size_t)n;
    }
    return SM_OK;
}

int source_read_entry(struct source *src, const char *name, size_t max, struct buf *out,
                      struct sm_error *err)
{
    struct stream *s;
    int rc = source_open_entry(src, name, &s, err);
    if (!rc) {
        rc = read_stream(s, name, max, out, err);
        s->close(s);
    }
    return rc;
}

int source_read_blob(struct source *src, const struct descriptor *d, const char *what,
                     struct buf *out, struct sm_error *err)
{
    struct stream *s;
    char actual[DIGEST_STR_SIZE];
    size_t start = out->len;
    if (d->size_bytes > JSON_DOC_MAX_BYTES) {
        return err_set(err, SM_ECORRUPT, "%s is larger than the limit of %u bytes", what,
                       JSON_DOC_MAX_BYTES);
    }
    int rc = open_blob(src, d->digest, &s, err);
    if (rc) {
        return rc == SM_ENOTFOUND ? err_set(err, rc, "%s is missing from %.150s", what, src->label)
                                  : rc;
    }
    if (s->size_bytes != d->size_bytes) {
        rc = err_set(err, SM_ECORRUPT, "%s has %" PRIu64 " bytes instead of %" PRIu64, what,
                     s->size_bytes, d->size_bytes);
    } else {
        rc = read_stream(s, what, JSON_DOC_MAX_BYTES, out, err);
    }
    s->close(s);
    if (rc) {
        return rc;
    }
    hash_bytes(out->data + start, out->len - start, actual);
    if (strcmp(actual, d->digest) != 0) {
        return err_set(err, SM_ECORRUPT, "%s does not match its digest: its content is %s", what,
                       actual);
    }
    return SM_OK;
}

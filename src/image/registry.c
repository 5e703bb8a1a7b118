/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to a registry: redirects, challenges, and when to try again. */
#include "image/registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/json_doc.h"
#include "image/registry_impl.h"

#define HUB "docker.io"
#define HUB_SERVER "registry-1.docker.io"
#define HOPS_MAX 10
#define ATTEMPTS 6
#define WAIT_FIRST_MS 250u
#define WAIT_MOST_MS 10000u
#define RETRY_AFTER_MOST_S 60
#define PROGRESS (1u << 20) /* bytes that make a broken connection worth another round of tries */

static const char *const manifest_types[] = {
    "Accept: application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json",
    NULL};

int registry_new(const struct name *name, const struct registry_options *options,
                 struct registry **out, struct sm_error *err)
{
    struct registry *r = calloc(1, sizeof *r);
    *out = NULL;
    if (!r) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    r->name = *name;
    r->options = *options;
    r->options.attempts = options->attempts ? options->attempts : ATTEMPTS;
    pthread_mutex_init(&r->lock, NULL);
    *out = r;
    return SM_OK;
}

void registry_free(struct registry *r)
{
    if (r) {
        if (r->authorization) {
            explicit_bzero(r->authorization, strlen(r->authorization));
        }
        free(r->authorization);
        credential_fini(&r->credential);
        pthread_mutex_destroy(&r->lock);
        free(r);
    }
}

/* The registry's own words, harmless to a terminal; "" when there are none. */
static void server_text(const struct buf *text, char *out, size_t size)
{
    json_t *doc;
    out[0] = '\0';
    if (json_doc_parse(text->data, text->len, "error", &doc, NULL) == SM_OK) {
        const json_t *first = json_array_get(json_object_get(doc, "errors"), 0);
        const char *message = json_string_value(json_object_get(first, "message"));
        message = message ? message : json_string_value(json_object_get(doc, "details"));
        snprintf(out, size, "%s%s", message ? ": " : "", message ? message : "");
        json_decref(doc);
    }
    for (char *p = out; *p; p++) {
        if ((unsigned char)*p < ' ' || *p == 127) {
            *p = '?';
        }
    }
}

int registry_refusal(const struct registry *r, const struct http_reply *reply,
                     const struct buf *text, const char *what, bool as_user, struct sm_error *err)
{
    char said[160];
    server_text(text, said, sizeof said);
    switch (reply->status) {
    case 404:
        return err_set(err, SM_ENOTFOUND, "%s has no %s%s", r->name.host, what, said);
    case 401:
    case 403:
        return err_set(err, SM_EIO,
                       "%s denies access to %s (%s)%s; `docker login %s` or "
                       "SUPERMACHINE_REGISTRY_AUTH may help",
                       r->name.host, what,
                       as_user ? "as the user we are logged in as" : "nobody logged in", said,
                       r->name.host);
    case 429:
        return err_set(err, SM_EIO, "%s: too many requests%s", r->name.host, said);
    default:
        return err_set(err, SM_EIO, "%s answers %u to a request for %s%s", r->name.host,
                       reply->status, what, said);
    }
}

static bool passes(unsigned status)
{
    return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 ||
           status == 504;
}

/* What is asked for, and who takes it. */
struct ask {
    const char *path; /* after /v2/ */
    const char *what; /* for messages */
    const char *const *accept;
    uint64_t offset;
    int (*sink)(void *opaque, const struct http_reply *reply, const void *data, size_t len,
                struct sm_error *err);
    void *opaque;
};

/* The body of one exchange: to the sink when it is what was asked for. */
struct intake {
    const struct ask *ask;
    struct buf text; /* of any other reply */
};

static int take_body(void *opaque, const struct http_reply *reply, const void *data, size_t len,
                     struct sm_error *err)
{
    struct intake *in = opaque;
    if (reply->status == 200 || reply->status == 206) {
        return in->ask->sink(in->ask->opaque, reply, data, len, err);
    }
    return registry_collect(&in->text, reply, data, len, err);
}

/* The Authorization line for a request to o, a copy; NULL for none. */
static int own_authorization(struct registry *r, const struct origin *o, char **line,
                             unsigned *generation, struct sm_error *err)
{
    *line = NULL;
    pthread_mutex_lock(&r->lock);
    *generation = r->generation;
    bool send = r->authorization && origin_equal(o, &r->origin);
    *line = send ? strdup(r->authorization) : NULL;
    pthread_mutex_unlock(&r->lock);
    return send && !*line ? err_set(err, SM_ENOMEM, "out of memory") : SM_OK;
}

static int run_once(struct registry *r, struct http *h, const struct ask *ask, const char *url,
                    const struct origin *o, struct intake *in, struct http_reply *reply,
                    unsigned *generation, struct sm_error *err)
{
    char *line;
    int rc = own_authorization(r, o, &line, generation, err);
    if (rc) {
        return rc;
    }
    const char *headers[] = {line          ? line
                             : ask->accept ? ask->accept[0]
                                           : NULL,
                             line && ask->accept ? ask->accept[0] : NULL, NULL};
    struct http_request q = {.url = url,
                             .headers = headers,
                             .offset = ask->offset,
                             .nearest = r->settled ? r->reach : REACH_LINK,
                             .any_certificate = registry_is_insecure(r, o),
                             .body = take_body,
                             .opaque = in};
    in->text.len = 0;
    rc = http_run(h, &q, reply, err);
    if (line) {
        explicit_bzero(line, strlen(line));
        free(line);
    }
    return rc;
}

static bool is_redirect(unsigned status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* Where a redirect leads: url becomes it. */
static int follow(struct registry *r, const struct http_reply *reply, char url[URL_MAX],
                  struct origin *o, struct sm_error *err)
{
    char *next = malloc(URL_MAX);
    int rc = next ? SM_OK : err_set(err, SM_ENOMEM, "out of memory");
    if (!rc && !reply->location[0]) {
        rc = err_set(err, SM_ECORRUPT, "%s redirects to nowhere", o->host);
    }
    rc = rc ? rc : origin_of(reply->location, url, "the redirect to", next, o, err);
    if (!rc && !o->https && !registry_may_be_plain(r, o)) {
        rc = err_set(err, SM_ECORRUPT, "the redirect to %.200s is not https: refused", o->host);
    }
    if (!rc) {
        strcpy(url, next);
    }
    free(next);
    return rc;
}

/* Along redirects and through one challenge, to a reply that is neither. url has URL_MAX bytes. */
static int travel(struct registry *r, struct http *h, const struct ask *ask, char *url,
                  struct intake *in, struct http_reply *reply, struct sm_error *err)
{
    struct origin o;
    bool challenged = false;
    unsigned generation;
    snprintf(url, URL_MAX, "%s/v2/%s", r->base, ask->path);
    int rc = origin_of(url, NULL, "the registry", NULL, &o, err);
    for (int hops = 0; !rc;) {
        rc = run_once(r, h, ask, url, &o, in, reply, &generation, err);
        if (rc) {
            break;
        }
        if (!r->settled) {
            r->origin = o;
            r->reach = reply->reach;
            r->settled = true;
        }
        if (is_redirect(reply->status)) {
            rc = ++hops > HOPS_MAX ? err_set(err, SM_ECORRUPT, "%s: more than %d redirects",
                                             r->name.host, HOPS_MAX)
                                   : follow(r, reply, url, &o, err);
        } else if (reply->status == 401 && !challenged && origin_equal(&o, &r->origin)) {
            challenged = true; /* the second refusal is the answer */
            rc = registry_authorize(r, h, &reply->challenge, generation, err);
        } else {
            break;
        }
    }
    return rc;
}

static bool has_user(struct registry *r)
{
    pthread_mutex_lock(&r->lock);
    bool user = r->credential.user != NULL;
    pthread_mutex_unlock(&r->lock);
    return user;
}

/* One try. reply->transient says whether another may help. */
static int try_once(struct registry *r, struct http *h, const struct ask *ask,
                    struct http_reply *reply, struct sm_error *err)
{
    struct intake in = {.ask = ask};
    char *url = malloc(URL_MAX);
    int rc =
        url ? travel(r, h, ask, url, &in, reply, err) : err_set(err, SM_ENOMEM, "out of memory");
    if (!rc && reply->status != 200 && reply->status != 206) {
        rc = registry_refusal(r, reply, &in.text, ask->what, has_user(r), err);
        reply->transient = passes(reply->status);
    }
    buf_fini(&in.text);
    free(url);
    return rc;
}

static bool cancelled(const struct registry *r)
{
    return r->options.http.cancel && atomic_load(r->options.http.cancel);
}

/* Wait before try number n (from 1). 0, or the error that ends it all. */
static int wait_before(const struct registry *r, unsigned n, int64_t retry_after_s,
                       struct sm_error *err)
{
    if (retry_after_s > RETRY_AFTER_MOST_S) {
        return err_set(err, SM_EIO, "%s asks to come back in %lld s; try again then", r->name.host,
                       (long long)retry_after_s);
    }
    unsigned ms = n > 6 ? WAIT_MOST_MS : WAIT_FIRST_MS << (n - 1);
    ms = ms < WAIT_MOST_MS ? ms : WAIT_MOST_MS;
    ms += (unsigned)(clock_ns() / 1000 % (ms / 4 + 1)); /* many clients shall not come in step */
    if (retry_after_s >= 0) {
        ms = (unsigned)retry_after_s * 1000;
    }
    for (unsigned done = 0; done <= ms; done += 50) {
        if (cancelled(r)) {
            return err_set(err, SM_EINTR, "interrupted");
        }
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    return SM_OK;
}

static int fetch_document(struct registry *r, struct http *h, const struct ask *ask,
                          struct buf *out, struct http_reply *reply, struct sm_error *err)
{
    size_t start = out->len;
    for (unsigned n = 1;; n++) {
        out->len = start;
        int rc = try_once(r, h, ask, reply, err);
        if (!rc || !reply->transient || (reply->stranger && !r->settled) ||
            n >= r->options.attempts) {
            return rc;
        }
        rc = wait_before(r, n, reply->retry_after_s, err);
        if (rc) {
            return rc;
        }
    }
}

static int take_document(void *opaque, const struct http_reply *reply, const void *data, size_t len,
                         struct sm_error *err)
{
    struct buf *out = opaque;
    if (len > JSON_DOC_MAX_BYTES - out->len ||
        (reply->size_bytes != HTTP_SIZE_UNKNOWN && reply->size_bytes > JSON_DOC_MAX_BYTES)) {
        return err_set(err, SM_ECORRUPT, "the manifest is larger than the limit of %u bytes",
                       JSON_DOC_MAX_BYTES);
    }
    return buf_append(out, data, len) ? err_set(err, SM_ENOMEM, "out of memory") : SM_OK;
}

int registry_manifest(struct registry *r, struct http *h, const char *reference, struct buf *out,
                      char media_type[128], struct sm_error *err)
{
    const char *host = strcmp(r->name.host, HUB) == 0 ? HUB_SERVER : r->name.host;
    char path[NAME_TEXT_MAX + 32], what[NAME_TEXT_MAX + 32];
    struct origin o;
    snprintf(path, sizeof path, "%s/manifests/%s", r->name.path, reference);
    snprintf(what, sizeof what, "%.200s%s%.128s", r->name.path, strchr(reference, ':') ? "@" : ":",
             reference);
    struct ask ask = {
        .path = path, .what = what, .accept = manifest_types, .sink = take_document, .opaque = out};
    struct http_reply *reply = calloc(1, sizeof *reply);
    if (!reply) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    if (!r->settled) {
        snprintf(r->base, sizeof r->base, "https://%.255s", host);
    }
    int rc = origin_of(r->base, NULL, "the registry", NULL, &o, err);
    rc = rc ? rc : fetch_document(r, h, &ask, out, reply, err);
    if (rc && !r->settled && reply->stranger && registry_may_be_plain(r, &o)) {
        snprintf(r->base, sizeof r->base, "http://%.255s", host);
        rc = fetch_document(r, h, &ask, out, reply, err);
    }
    memcpy(media_type, reply->content_type, sizeof reply->content_type);
    free(reply);
    return rc;
}

/* A blob on its way: what has arrived, over all tries. */
struct transfer {
    struct registry *r;
    uint64_t size_bytes, have;
    uint64_t skip;  /* bytes of this reply that we have already */
    bool begun;     /* this reply's first bytes were seen */
    bool no_range;  /* the server cannot, or does it wrong */
    uint64_t asked; /* offset of this try */
    int (*sink)(void *opaque, const void *data, size_t len, struct sm_error *err);
    void *opaque;
};

static int take_blob(void *opaque, const struct http_reply *reply, const void *data, size_t len,
                     struct sm_error *err)
{
    struct transfer *t = opaque;
    const uint8_t *p = data;
    if (!t->begun) {
        t->begun = true;
        t->skip = reply->status == 206 ? 0 : t->have;
        if (reply->status == 206 && reply->range_start != t->asked) {
            t->no_range = true;
            return err_set(err, SM_ECORRUPT, "%s sends another part than was asked for",
                           t->r->name.host);
        }
        uint64_t start = reply->status == 206 ? t->asked : 0;
        if (reply->size_bytes != HTTP_SIZE_UNKNOWN && reply->size_bytes > t->size_bytes - start) {
            return err_set(err, SM_ECORRUPT, "it is longer than the manifest says");
        }
    }
    size_t drop = t->skip < len ? (size_t)t->skip : len;
    t->skip -= drop;
    p += drop;
    len -= drop;
    if (len > t->size_bytes - t->have) {
        return err_set(err, SM_ECORRUPT, "it is longer than the manifest says");
    }
    t->have += len;
    return len ? t->sink(t->opaque, p, len, err) : SM_OK;
}

int registry_blob(struct registry *r, struct http *h, const char *digest, uint64_t size_bytes,
                  int (*sink)(void *opaque, const void *data, size_t len, struct sm_error *err),
                  void *opaque, struct sm_error *err)
{
    char path[NAME_TEXT_MAX + 32];
    struct transfer t = {.r = r, .size_bytes = size_bytes, .sink = sink, .opaque = opaque};
    struct ask ask = {.path = path, .what = digest, .sink = take_blob, .opaque = &t};
    struct http_reply *reply = calloc(1, sizeof *reply);
    int rc = SM_OK;
    snprintf(path, sizeof path, "%s/blobs/%s", r->name.path, digest);
    uint64_t mark = 0;
    unsigned n = 0;
    for (; reply && n < r->options.attempts; n++) {
        if (n && (rc = wait_before(r, n, rc ? reply->retry_after_s : -1, err))) {
            break;
        }
        t.begun = false;
        t.asked = ask.offset = t.no_range ? 0 : t.have;
        bool could_range = !t.no_range;
        rc = try_once(r, h, &ask, reply, err);
        if (rc && reply->status == 416) {
            t.no_range = true;
        }
        if (!rc && t.have == size_bytes) {
            break;
        }
        if (rc && !reply->transient && !(could_range && t.no_range)) {
            break;
        }
        if (!rc) {
            rc = err_set(err, SM_ECORRUPT, "it ends after %llu of %llu bytes",
                         (unsigned long long)t.have, (unsigned long long)size_bytes);
        }
        if (t.have - mark >= PROGRESS) {
            mark = t.have;
            n = 0;
        }
    }
    rc = reply ? rc : err_set(err, SM_ENOMEM, "out of memory");
    free(reply);
    return rc ? err_wrap(err, rc, "blob %s", digest) : SM_OK;
}

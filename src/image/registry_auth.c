/* SPDX-License-Identifier: Apache-2.0 */
/* Answering a registry's challenge: Basic, or a token from the server that it names (distribution's
 * token.md and oauth.md). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/io.h"
#include "base/json_doc.h"
#include "image/registry_impl.h"

#define TOKEN_MAX 65536

static bool listed(const struct registry *r, const struct origin *o)
{
    char with_port[ORIGIN_HOST_MAX + 16];
    bool v6 = strchr(o->host, ':') != NULL;
    snprintf(with_port, sizeof with_port, "%s%s%s:%u", v6 ? "[" : "", o->host, v6 ? "]" : "",
             o->port);
    for (const char *const *p = r->options.insecure; p && *p; p++) {
        if (strcmp(*p, o->host) == 0 || strcmp(*p, with_port) == 0) {
            return true;
        }
    }
    return false;
}

bool registry_is_insecure(const struct registry *r, const struct origin *o)
{
    return listed(r, o);
}

bool registry_may_be_plain(const struct registry *r, const struct origin *o)
{
    return listed(r, o) || reach_of_host(o->host) == REACH_LOOPBACK;
}

int registry_collect(void *opaque, const struct http_reply *reply, const void *data, size_t len,
                     struct sm_error *err)
{
    struct buf *text = opaque;
    (void)reply;
    if (len > REGISTRY_TEXT_MAX - text->len) {
        return err_set(err, SM_ECORRUPT, "the registry's answer is larger than %u KiB",
                       REGISTRY_TEXT_MAX >> 10);
    }
    return buf_append(text, data, len) ? err_set(err, SM_ENOMEM, "out of memory") : SM_OK;
}

static void wipe(char *text)
{
    if (text) {
        explicit_bzero(text, strlen(text));
        free(text);
    }
}

/* "Authorization: Basic ..." of the credential; NULL when out of memory. */
static char *basic_line(const struct credential *c)
{
    struct buf pair = {0}, text = {0};
    char *line = NULL;
    if (!buf_printf(&pair, "%s:%s", c->user, c->secret) &&
        !base64_encode(pair.data, pair.len, &text)) {
        line = io_format("Authorization: Basic %s", (const char *)text.data);
    }
    if (pair.data) {
        explicit_bzero(pair.data, pair.cap);
    }
    if (text.data) {
        explicit_bzero(text.data, text.cap);
    }
    buf_fini(&pair);
    buf_fini(&text);
    return line;
}

static void keep(struct registry *r, char *line)
{
    wipe(r->authorization);
    r->authorization = line;
    r->generation++;
}

static int answer_basic(struct registry *r, struct sm_error *err)
{
    if (!r->credential.user || r->credential.identity) {
        return err_set(err, SM_EIO,
                       "%s asks for a user name and password: run `docker login %s`, or set "
                       "SUPERMACHINE_REGISTRY_AUTH=%s=USER:PASSWORD",
                       r->name.host, r->name.host, r->name.host);
    }
    char *line = basic_line(&r->credential);
    if (!line) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    keep(r, line);
    return SM_OK;
}

/* For a URL or a form (RFC 3986 2.1); NULL when out of memory. */
static char *escape(const char *text)
{
    static const char hex[] = "0123456789ABCDEF";
    char *out = malloc(strlen(text) * 3 + 1), *p = out;
    for (; out && *text; text++) {
        unsigned char c = (unsigned char)*text;
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            strchr("-._~", c)) {
            *p++ = (char)c;
        } else {
            *p++ = '%';
            *p++ = hex[c >> 4];
            *p++ = hex[c & 15];
        }
    }
    if (out) {
        *p = '\0';
    }
    return out;
}

/* service=...&scope=..., encoded; NULL when out of memory. */
static char *query_of(const struct registry *r, const struct challenge *c)
{
    char scope[NAME_PATH_MAX + 32];
    /* Our own scope: what we need, not what the registry would like us to ask for. */
    snprintf(scope, sizeof scope, "repository:%s:pull", r->name.path);
    char *service = escape(c->service), *s = escape(scope);
    char *query = service && s ? io_format("%s%s%sscope=%s", c->service[0] ? "service=" : "",
                                           service, c->service[0] ? "&" : "", s)
                               : NULL;
    free(service);
    free(s);
    return query;
}

static int read_token(const struct buf *text, char **out, struct sm_error *err)
{
    json_t *doc;
    const char *token, *access;
    int rc = json_doc_parse(text->data, text->len, "the token server's answer", &doc, err);
    *out = NULL;
    if (rc) {
        return rc;
    }
    if ((rc = json_doc_string(doc, "token", "the token server's answer", &token, err)) ||
        (rc = json_doc_string(doc, "access_token", "the token server's answer", &access, err))) {
        json_decref(doc);
        return rc;
    }
    token = token && token[0] ? token : access;
    size_t len = token ? strlen(token) : 0;
    bool clean = len > 0 && len <= TOKEN_MAX;
    for (size_t i = 0; i < len && clean; i++) {
        clean = token[i] > ' ' && token[i] < 127; /* it goes into a header */
    }
    if (!clean) {
        rc = err_set(err, SM_ECORRUPT, "the token server's answer holds no usable token");
    } else if (!(*out = io_format("Authorization: Bearer %s", token))) {
        rc = err_set(err, SM_ENOMEM, "out of memory");
    }
    json_decref(doc);
    return rc;
}

/* The request for a token: everything in it is owned. */
struct token_request {
    struct origin origin;
    char *url, *basic, *form;
    bool withheld; /* there is a credential, and the server is somebody else's */
};

static void token_request_fini(struct token_request *t)
{
    free(t->url);
    wipe(t->basic);
    wipe(t->form);
}

static int build(struct registry *r, const struct challenge *c, struct token_request *t,
                 struct sm_error *err)
{
    const struct credential *who = &r->credential;
    int rc = origin_of(c->realm, NULL, "the registry's token server", NULL, &t->origin, err);
    if (rc) {
        return rc;
    }
    if (!t->origin.https && !registry_may_be_plain(r, &t->origin)) {
        return err_set(err, SM_ECORRUPT, "the registry's token server %.200s is not https: refused",
                       t->origin.host);
    }
    bool ours = origin_same_owner(r->origin.host, t->origin.host);
    t->withheld = who->user && !ours;
    char *query = query_of(r, c);
    if (query && who->user && ours && who->identity) {
        char *token = escape(who->secret);
        t->url = strdup(c->realm);
        t->form = token ? io_format("grant_type=refresh_token&client_id=supermachine&%s"
                                    "&refresh_token=%s",
                                    query, token)
                        : NULL;
        rc = t->url && t->form ? SM_OK : SM_ENOMEM;
        wipe(token);
    } else {
        t->url =
            query ? io_format("%s%s%s", c->realm, strchr(c->realm, '?') ? "&" : "?", query) : NULL;
        t->basic = who->user && ours ? basic_line(who) : NULL;
        rc = t->url && (t->basic || !who->user || !ours) ? SM_OK : SM_ENOMEM;
    }
    free(query);
    return rc ? err_set(err, rc, "out of memory") : SM_OK;
}

static int answer_bearer(struct registry *r, struct http *h, const struct challenge *c,
                         struct sm_error *err)
{
    struct token_request t = {0};
    struct http_reply *reply = malloc(sizeof *reply);
    struct buf text = {0};
    char *line = NULL;
    int rc = reply ? build(r, c, &t, err) : err_set(err, SM_ENOMEM, "out of memory");
    if (!rc) {
        const char *headers[] = {t.basic, NULL};
        struct http_request q = {.url = t.url,
                                 .headers = headers,
                                 .form = t.form,
                                 .nearest = r->reach,
                                 .any_certificate = registry_is_insecure(r, &t.origin),
                                 .body = registry_collect,
                                 .opaque = &text};
        rc = http_run(h, &q, reply, err);
        rc = rc ? err_wrap(err, rc, "token server") : SM_OK;
    }
    if (!rc && reply->status != 200) {
        rc = registry_refusal(r, reply, &text, "a token", r->credential.user != NULL, err);
        if (t.withheld) {
            err_set(err, rc,
                    "%s refuses a token to nobody; its token server %.150s is not of the same "
                    "owner, so credentials were not sent there",
                    r->name.host, t.origin.host);
        }
    }
    if (!rc && !(rc = read_token(&text, &line, err))) {
        keep(r, line);
    }
    if (text.data) {
        explicit_bzero(text.data, text.cap);
    }
    buf_fini(&text);
    token_request_fini(&t);
    free(reply);
    return rc;
}

int registry_authorize(struct registry *r, struct http *h, const struct challenge *c, unsigned seen,
                       struct sm_error *err)
{
    int rc = SM_OK;
    pthread_mutex_lock(&r->lock);
    if (r->generation == seen) {
        if (!r->asked) {
            rc = auth_find(r->name.host, r->options.http.cancel, &r->credential, err);
            r->asked = rc == SM_OK;
        }
        if (!rc) {
            rc = c->scheme == CHALLENGE_BEARER ? answer_bearer(r, h, c, err)
                 : c->scheme == CHALLENGE_BASIC
                     ? answer_basic(r, err)
                     : err_set(err, SM_EUNSUPPORTED,
                               "%s asks for a proof of identity that is neither Basic nor Bearer",
                               r->name.host);
        }
    }
    pthread_mutex_unlock(&r->lock);
    return rc;
}

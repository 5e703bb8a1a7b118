/* SPDX-License-Identifier: Apache-2.0 */
#include "image/http.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"
#include "image/libcurl.h"

#define HEADERS_MAX (256u << 10)
#define CONNECT_MS 20000
#define IDLE_MS 30000
#define POLL_MS 50
#define LIFE_BYTES 1024

struct http {
    struct libcurl curl;
    CURLM *multi;
    CURL *easy;
    struct http_options options;
};

/* One exchange, as libcurl's callbacks see it. */
struct exchange {
    const struct libcurl *curl;
    const struct http_request *request;
    struct http_reply *reply;
    struct sm_error *err;
    int rc; /* of a callback that stopped it */
    size_t header_bytes;
    int64_t heard_ms; /* last sign of life: some header, or a KiB of the body */
    size_t unheard;   /* bytes since */
    struct origin origin;
    bool proxied;
    bool connected; /* by this exchange: reply->reach is known */
};

int http_new(const struct http_options *options, struct http **out, struct sm_error *err)
{
    struct http *h = calloc(1, sizeof *h);
    *out = NULL;
    int rc = h ? libcurl_load(&h->curl, err) : err_set(err, SM_ENOMEM, "out of memory");
    /* Counted, and safe in threads since libcurl 7.84. */
    if (!rc && h->curl.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        rc = err_set(err, SM_ENOMEM, "cannot start libcurl");
    }
    if (rc) {
        free(h);
        return rc;
    }
    h->options = *options;
    h->multi = h->curl.multi_init();
    h->easy = h->curl.easy_init();
    if (!h->multi || !h->easy) {
        http_free(h);
        return err_set(err, SM_ENOMEM, "out of memory for an HTTP connection");
    }
    *out = h;
    return SM_OK;
}

void http_free(struct http *h)
{
    if (h) {
        h->curl.easy_cleanup(h->easy);
        h->curl.multi_cleanup(h->multi);
        h->curl.global_cleanup();
        free(h);
    }
}

/* The last word before a connection: names are resolved by now. */
static curl_socket_t open_socket(void *opaque, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct exchange *x = opaque;
    (void)purpose;
    enum reach reach = reach_of_address(&address->addr);
    if (!x->proxied) {
        if (reach < x->request->nearest) {
            x->rc =
                err_set(x->err, SM_ECORRUPT, "the registry sends us to %s, which is in %s: refused",
                        x->origin.host, reach_name(reach));
            return CURL_SOCKET_BAD;
        }
        x->reply->reach = reach;
        x->connected = true;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static void copy_text(char *to, size_t size, const char *value, size_t len)
{
    if (len < size) {
        memcpy(to, value, len);
        to[len] = '\0';
    }
}

/* Retry-After (RFC 9110 10.2.3): seconds or a date. */
static int64_t parse_retry_after(const struct libcurl *curl, const char *text)
{
    char *end;
    long long seconds = strtoll(text, &end, 10);
    if (text[0] >= '0' && text[0] <= '9' && *end == '\0') {
        return seconds;
    }
    time_t when = curl->getdate(text, NULL);
    if (when < 0) {
        return -1;
    }
    time_t now = time(NULL);
    return when > now ? (int64_t)(when - now) : 0;
}

static uint64_t parse_size(const char *text)
{
    char *end;
    unsigned long long n = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' ? n : HTTP_SIZE_UNKNOWN;
}

/* "bytes 5-9/10" (RFC 9110 14.4). */
static uint64_t parse_range(const char *text)
{
    char *end;
    if (strncasecmp(text, "bytes ", 6) != 0 || text[6] < '0' || text[6] > '9') {
        return HTTP_SIZE_UNKNOWN;
    }
    unsigned long long n = strtoull(text + 6, &end, 10);
    return *end == '-' ? n : HTTP_SIZE_UNKNOWN;
}

static int take_header(struct exchange *x, const char *name, size_t name_len, const char *value,
                       size_t len)
{
    struct http_reply *r = x->reply;
    char text[URL_MAX];
#define IS(what) (name_len == sizeof(what) - 1 && strncasecmp(name, what, name_len) == 0)
    if (len >= sizeof text) {
        return SM_OK; /* nothing of use is so long */
    }
    memcpy(text, value, len);
    text[len] = '\0';
    if (IS("www-authenticate")) {
        return challenge_read(text, &r->challenge, x->err);
    }
    if (IS("content-length")) {
        r->size_bytes = parse_size(text);
    } else if (IS("content-range")) {
        r->range_start = parse_range(text);
    } else if (IS("retry-after")) {
        r->retry_after_s = parse_retry_after(x->curl, text);
    } else if (IS("location")) {
        copy_text(r->location, sizeof r->location, value, len);
    } else if (IS("content-type")) {
        copy_text(r->content_type, sizeof r->content_type, value, strcspn(text, "; "));
    }
#undef IS
    return SM_OK;
}

/* "HTTP/1.1 206 ..." */
static unsigned parse_status(const char *line, size_t len)
{
    const char *space = memchr(line, ' ', len);
    unsigned status = 0;
    for (size_t i = 1; space && i <= 3 && space + i < line + len; i++) {
        status = space[i] >= '0' && space[i] <= '9' ? status * 10 + (unsigned)(space[i] - '0') : 0;
    }
    return status;
}

static size_t on_header(char *data, size_t size, size_t count, void *opaque)
{
    struct exchange *x = opaque;
    size_t len = size * count;
    x->heard_ms = x->header_bytes ? x->heard_ms : clock_ms(); /* a drip of headers is not life */
    x->header_bytes += len;
    if (x->header_bytes > HEADERS_MAX) {
        x->rc = err_set(x->err, SM_ECORRUPT, "%s sends more than %u KiB of headers", x->origin.host,
                        HEADERS_MAX >> 10);
        return 0;
    }
    if (len >= 5 && memcmp(data, "HTTP/", 5) == 0) { /* a fresh reply: after 100, or a proxy's */
        enum reach reach = x->reply->reach;
        *x->reply = (struct http_reply){.size_bytes = HTTP_SIZE_UNKNOWN,
                                        .range_start = HTTP_SIZE_UNKNOWN,
                                        .retry_after_s = -1,
                                        .reach = reach,
                                        .status = parse_status(data, len)};
        return len;
    }
    const char *colon = memchr(data, ':', len);
    if (colon) {
        const char *value = colon + 1, *end = data + len;
        while (value < end && (*value == ' ' || *value == '\t')) {
            value++;
        }
        while (end > value && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' ')) {
            end--;
        }
        x->rc = take_header(x, data, (size_t)(colon - data), value, (size_t)(end - value));
    }
    return x->rc ? 0 : len;
}

static size_t on_body(char *data, size_t size, size_t count, void *opaque)
{
    struct exchange *x = opaque;
    size_t len = size * count;
    x->unheard += len;
    if (x->unheard >= LIFE_BYTES) { /* a byte now and then is not life */
        x->unheard = 0;
        x->heard_ms = clock_ms();
    }
    x->rc = x->request->body(x->request->opaque, x->reply, data, len, x->err);
    return x->rc ? 0 : len;
}

static int set_up(struct http *h, struct exchange *x, struct curl_slist *headers, const char *proxy)
{
    const struct http_request *q = x->request;
    const char *file = getenv("SSL_CERT_FILE"), *folder = getenv("SSL_CERT_DIR");
    CURL *e = h->easy;
    char range[32];
    int bad = 0;
    h->curl.easy_reset(e);
#define SET(option, value) bad |= h->curl.easy_setopt(e, option, value) != CURLE_OK
    SET(CURLOPT_URL, q->url);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_PROXY, proxy ? proxy : "");
    SET(CURLOPT_USERAGENT, "supermachine");
    SET(CURLOPT_CONNECTTIMEOUT_MS,
        (long)(h->options.connect_ms ? h->options.connect_ms : CONNECT_MS));
    SET(CURLOPT_HTTPHEADER, headers);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, x);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, x);
    SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
    SET(CURLOPT_OPENSOCKETDATA, x);
    SET(CURLOPT_BUFFERSIZE, 256L << 10);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    if (q->any_certificate) {
        SET(CURLOPT_SSL_VERIFYPEER, 0L);
        SET(CURLOPT_SSL_VERIFYHOST, 0L);
    }
    if (file && file[0]) {
        SET(CURLOPT_CAINFO, file);
    }
    if (folder && folder[0]) {
        SET(CURLOPT_CAPATH, folder);
    }
    if (q->form) {
        SET(CURLOPT_POSTFIELDS, q->form);
    }
    if (q->offset) { /* CURLOPT_RESUME_FROM would refuse an answer from the start */
        snprintf(range, sizeof range, "%" PRIu64 "-", q->offset);
        SET(CURLOPT_RANGE, range);
    }
#undef SET
    return bad ? err_set(x->err, SM_ENOMEM, "out of memory for a request") : SM_OK;
}

/* Run the transfer to its end; *result is libcurl's. */
static int drive(struct http *h, struct exchange *x, CURLcode *result)
{
    unsigned idle = h->options.idle_ms ? h->options.idle_ms : IDLE_MS;
    int running = 1, left;
    x->heard_ms = clock_ms();
    while (running) {
        if (h->curl.multi_perform(h->multi, &running) != CURLM_OK) {
            return err_set(x->err, SM_EIO, "libcurl failed");
        }
        if (h->options.cancel && atomic_load(h->options.cancel)) {
            return err_set(x->err, SM_EINTR, "interrupted");
        }
        if (running && clock_ms() - x->heard_ms > idle) {
            x->reply->transient = true;
            return err_set(x->err, SM_ETIMEDOUT, "%s sends nothing, or next to nothing, for %u ms",
                           x->origin.host, idle);
        }
        if (running) {
            h->curl.multi_poll(h->multi, NULL, 0, POLL_MS, NULL);
        }
    }
    CURLMsg *m = h->curl.multi_info_read(h->multi, &left);
    *result = m ? m->data.result : CURLE_FAILED_INIT;
    return SM_OK;
}

static bool is_tls_trust(CURLcode c)
{
    return c == CURLE_PEER_FAILED_VERIFICATION || c == CURLE_SSL_CACERT_BADFILE ||
           c == CURLE_SSL_ISSUER_ERROR;
}

/* libcurl's code into ours. */
static int judge(struct exchange *x, CURLcode c, const char *text)
{
    const char *why = text[0] ? text : x->curl->easy_strerror(c);
    const struct origin *o = &x->origin;
    struct http_reply *r = x->reply;
    if (c == CURLE_OK) {
        return SM_OK;
    }
    if (is_tls_trust(c)) {
        return err_set(x->err, SM_EIO,
                       "the certificate of %s:%u is not trusted (%.150s); SSL_CERT_FILE names the "
                       "authorities to trust, --insecure-registry %s:%u trusts it as it is",
                       o->host, o->port, why, o->host, o->port);
    }
    r->stranger = r->status == 0 &&
                  (c == CURLE_SSL_CONNECT_ERROR || c == CURLE_RECV_ERROR || c == CURLE_SEND_ERROR ||
                   c == CURLE_COULDNT_CONNECT || c == CURLE_GOT_NOTHING);
    r->transient = c != CURLE_COULDNT_RESOLVE_HOST && c != CURLE_UNSUPPORTED_PROTOCOL &&
                   c != CURLE_URL_MALFORMAT && c != CURLE_WEIRD_SERVER_REPLY &&
                   c != CURLE_COULDNT_RESOLVE_PROXY;
    if (c == CURLE_OPERATION_TIMEDOUT) {
        return err_set(x->err, SM_ETIMEDOUT, "%s:%u does not answer: %.200s", o->host, o->port,
                       why);
    }
    if (c == CURLE_OUT_OF_MEMORY) {
        return err_set(x->err, SM_ENOMEM, "out of memory for a request");
    }
    if (c == CURLE_WEIRD_SERVER_REPLY || c == CURLE_UNSUPPORTED_PROTOCOL) {
        return err_set(x->err, SM_ECORRUPT, "%s:%u does not speak HTTP: %.200s", o->host, o->port,
                       why);
    }
    return err_set(x->err, SM_EIO, "%s:%u: %.250s", o->host, o->port, why);
}

static struct curl_slist *header_list(const struct libcurl *curl, const char *const *lines)
{
    struct curl_slist *list = NULL;
    for (; lines && *lines; lines++) {
        struct curl_slist *grown = curl->slist_append(list, *lines);
        if (!grown) {
            curl->slist_free_all(list);
            return NULL;
        }
        list = grown;
    }
    return list;
}

int http_run(struct http *h, const struct http_request *request, struct http_reply *reply,
             struct sm_error *err)
{
    struct sm_error unwanted;
    char text[CURL_ERROR_SIZE] = "";
    struct exchange x = {
        .curl = &h->curl, .request = request, .reply = reply, .err = err ? err : &unwanted};
    *reply = (struct http_reply){
        .size_bytes = HTTP_SIZE_UNKNOWN, .range_start = HTTP_SIZE_UNKNOWN, .retry_after_s = -1};
    int rc = origin_of(request->url, NULL, "the address", NULL, &x.origin, x.err);
    if (rc) {
        return rc;
    }
    const char *proxy = origin_proxy(&x.origin);
    x.proxied = proxy != NULL;
    reply->reach = reach_of_host(x.origin.host);
    if (reply->reach < request->nearest) {
        return err_set(err, SM_ECORRUPT, "the registry sends us to %s, which is in %s: refused",
                       x.origin.host, reach_name(reply->reach));
    }
    struct curl_slist *headers = header_list(&h->curl, request->headers);
    CURLcode result = CURLE_FAILED_INIT;
    rc = set_up(h, &x, headers, proxy);
    h->curl.easy_setopt(h->easy, CURLOPT_ERRORBUFFER, text);
    if (!rc && h->curl.multi_add_handle(h->multi, h->easy) != CURLM_OK) {
        rc = err_set(x.err, SM_ENOMEM, "out of memory for a request");
    } else if (!rc) {
        rc = drive(h, &x, &result);
        h->curl.multi_remove_handle(h->multi, h->easy);
    }
    h->curl.slist_free_all(headers);
    h->curl.easy_setopt(h->easy, CURLOPT_ERRORBUFFER, NULL);
    return rc ? rc : x.rc ? x.rc : judge(&x, result, text);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One HTTP exchange at a time, over libcurl: no redirects, no retries, no authentication of its own
 * accord, nothing unbounded. What may be asked of whom is for registry.c. A struct http keeps
 * connections open between exchanges and belongs to one thread.
 *
 * From the environment: proxies (origin.h), SSL_CERT_FILE, SSL_CERT_DIR.
 */
#ifndef SM_IMAGE_HTTP_H
#define SM_IMAGE_HTTP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "image/challenge.h"
#include "image/origin.h"

struct http;

struct http_options {
    unsigned connect_ms;       /* 0: 20000 */
    unsigned idle_ms;          /* give up when nothing arrives for so long; 0: 30000 */
    const atomic_bool *cancel; /* borrowed; set by another thread: stop within 100 ms. Or NULL */
};

#define HTTP_SIZE_UNKNOWN UINT64_MAX

/* What came back. */
struct http_reply {
    unsigned status;       /* 0: no reply */
    bool transient;        /* after an error: trying again may help */
    bool stranger;         /* after an error: nobody is there, or nobody who speaks TLS or HTTP */
    enum reach reach;      /* where the server is */
    uint64_t size_bytes;   /* of the body; HTTP_SIZE_UNKNOWN */
    uint64_t range_start;  /* of a 206; HTTP_SIZE_UNKNOWN when it does not say */
    int64_t retry_after_s; /* -1: not said */
    struct challenge challenge;
    char content_type[128];
    char location[URL_MAX]; /* "" when not said */
};

struct http_request {
    const char *url;
    const char *const *headers; /* NULL-terminated lines, or NULL */
    const char *form;           /* POST this; NULL: GET */
    uint64_t offset;            /* ask for the bytes from here on */
    bool any_certificate;       /* do not verify the server's */
    enum reach nearest;         /* refuse to connect to anything nearer */
    /* The body's bytes, with the reply as far as it is known. Return 0, or an error code after
     * filling err, which http_run then returns. */
    int (*body)(void *opaque, const struct http_reply *reply, const void *data, size_t len,
                struct sm_error *err);
    void *opaque;
};

/* options are borrowed. */
int http_new(const struct http_options *options, struct http **out, struct sm_error *err);
void http_free(struct http *h);

/*
 * SM_OK when a whole reply came, whatever its status. SM_EIO: network, TLS, or a body shorter than
 * it says; SM_ETIMEDOUT; SM_EINTR: cancelled; SM_ECORRUPT: no HTTP, or headers beyond 256 KiB.
 */
int http_run(struct http *h, const struct http_request *request, struct http_reply *reply,
             struct sm_error *err);

#endif

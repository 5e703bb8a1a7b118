/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One repository at a registry, to read from (OCI distribution-spec, pull). Speaks for one pull:
 * the scheme is found by the first call, the token is kept, and calls of several threads share it
 * (each with a struct http of its own).
 *
 * Rules: https, but for this machine and for hosts given as insecure, where http is tried after
 * https. Credentials and tokens go to the registry's own origin, and credentials to a token server
 * of the same owner (origin.h), never along a redirect. Neither a redirect nor a token server may
 * be nearer to this machine than the registry is. Documents are at most 4 MiB; tokens and error
 * texts 1 MiB. Failures that may pass (network, 408, 429, 5xx) are tried again, later and later, or
 * when Retry-After says so, if that is within a minute.
 */
#ifndef SM_IMAGE_REGISTRY_H
#define SM_IMAGE_REGISTRY_H

#include "base/buf.h"
#include "image/http.h"
#include "image/name.h"

struct registry;

struct registry_options {
    const char *const *insecure; /* borrowed, NULL-terminated: HOST or HOST:PORT; may be NULL */
    struct http_options http;
    unsigned attempts; /* without progress, of each request; 0: 6 */
};

int registry_new(const struct name *name, const struct registry_options *options,
                 struct registry **out, struct sm_error *err);
void registry_free(struct registry *r);

/*
 * The manifest or index of a tag or digest, of any known kind, as bytes appended to out, and its
 * Content-Type. Its digest is the caller's to check. Must be the first call, and have returned
 * before other threads make theirs. SM_ENOTFOUND: no such image; SM_EIO: also when access is
 * denied; all that http.h says.
 */
int registry_manifest(struct registry *r, struct http *h, const char *reference, struct buf *out,
                      char media_type[128], struct sm_error *err);

/*
 * The blob's bytes, in order and each once, to sink; a connection that breaks is taken up where it
 * broke. Never more than size_bytes; SM_ECORRUPT when the registry has more or fewer. What they are
 * is the caller's to check. sink returns 0 or an error code after filling err.
 */
int registry_blob(struct registry *r, struct http *h, const char *digest, uint64_t size_bytes,
                  int (*sink)(void *opaque, const void *data, size_t len, struct sm_error *err),
                  void *opaque, struct sm_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a request goes: scheme, host and port (RFC 6454), and how near to this machine that is.
 * What may be sent there, and whether a server may send us there, follows from these.
 */
#ifndef SM_IMAGE_ORIGIN_H
#define SM_IMAGE_ORIGIN_H

#include <stdbool.h>
#include <sys/socket.h>

#include "base/err.h"

#define ORIGIN_HOST_MAX 255
#define URL_MAX 8192

/* Nearest first: a server may name only places that are as far as itself or farther. */
enum reach {
    REACH_LINK,     /* link-local (cloud metadata services), multicast */
    REACH_LOOPBACK, /* this machine */
    REACH_PRIVATE,  /* RFC 1918, RFC 4193, RFC 6598 and the like */
    REACH_PUBLIC,
};

struct origin {
    bool https;
    char host[ORIGIN_HOST_MAX + 1]; /* lower case, without brackets */
    unsigned port;
};

/*
 * Take url apart. base may be NULL; else url may be relative to it, and full (URL_MAX bytes) gets
 * the whole. SM_ECORRUPT for anything but http and https, for a user name or password in it, and
 * for what is no URL. what names it in errors.
 */
int origin_of(const char *url, const char *base, const char *what, char *full, struct origin *out,
              struct sm_error *err);

bool origin_equal(const struct origin *a, const struct origin *b);

/* Do two hosts belong to one owner, as far as names tell: equal, or one is in the other's domain
 * (registry.example.com: example.com; never a mere public suffix). */
bool origin_same_owner(const char *host, const char *other);

enum reach reach_of_address(const struct sockaddr *address);
/* By the text alone: an address, or localhost; any other name is REACH_PUBLIC. */
enum reach reach_of_host(const char *host);
const char *reach_name(enum reach reach); /* "this machine", ... */

/* The proxy that the environment names for origin (http_proxy, https_proxy, HTTPS_PROXY, all_proxy,
 * ALL_PROXY, but no_proxy, NO_PROXY); NULL for none. This machine is never proxied. */
const char *origin_proxy(const struct origin *o);

#endif

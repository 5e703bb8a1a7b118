/* SPDX-License-Identifier: Apache-2.0 */
#include "image/origin.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "image/libcurl.h"

static int bad(struct sm_error *err, const char *what, const char *url, const char *why)
{
    return err_set(err, SM_ECORRUPT, "%s \"%.150s\" %s", what, url, why);
}

/* One part of a URL into text; false when it is missing or too long. */
static bool part(const struct libcurl *c, CURLU *u, CURLUPart which, char *text, size_t size)
{
    char *got = NULL;
    bool ok =
        c->url_get(u, which, &got, which == CURLUPART_PORT ? CURLU_DEFAULT_PORT : 0) == CURLUE_OK &&
        strlen(got) < size;
    if (ok) {
        strcpy(text, got);
    }
    c->free(got);
    return ok;
}

static int take_apart(const struct libcurl *c, CURLU *u, const char *url, const char *what,
                      struct origin *out, struct sm_error *err)
{
    char scheme[16], port[8], any[ORIGIN_HOST_MAX], host[ORIGIN_HOST_MAX + 1];
    if (!part(c, u, CURLUPART_SCHEME, scheme, sizeof scheme) ||
        (strcmp(scheme, "https") != 0 && strcmp(scheme, "http") != 0)) {
        return bad(err, what, url, "is neither http nor https");
    }
    char *user = NULL, *password = NULL;
    bool userinfo = c->url_get(u, CURLUPART_USER, &user, 0) == CURLUE_OK ||
                    c->url_get(u, CURLUPART_PASSWORD, &password, 0) == CURLUE_OK;
    c->free(user);
    c->free(password);
    if (userinfo) {
        return bad(err, what, "(hidden)", "has a user name or password in it");
    }
    if (!part(c, u, CURLUPART_HOST, host, sizeof host) ||
        !part(c, u, CURLUPART_PORT, port, sizeof port)) {
        return bad(err, what, url, "has no valid host");
    }
    if (part(c, u, CURLUPART_ZONEID, any, sizeof any)) {
        return bad(err, what, url, "has a zone in its address");
    }
    size_t len = strlen(host);
    bool bracket = host[0] == '[' && host[len - 1] == ']';
    memcpy(out->host, host + bracket, len - 2 * bracket);
    out->host[len - 2 * bracket] = '\0';
    for (char *p = out->host; *p; p++) {
        *p = (char)tolower((unsigned char)*p);
    }
    out->https = scheme[4] == 's';
    out->port = (unsigned)strtoul(port, NULL, 10);
    return SM_OK;
}

int origin_of(const char *url, const char *base, const char *what, char *full, struct origin *out,
              struct sm_error *err)
{
    *out = (struct origin){0};
    if (strlen(url) >= URL_MAX) {
        return bad(err, what, url, "is too long");
    }
    struct libcurl c;
    int rc = libcurl_load(&c, err);
    if (rc) {
        return rc;
    }
    CURLU *u = c.url();
    if (!u) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    if ((base && c.url_set(u, CURLUPART_URL, base, 0) != CURLUE_OK) ||
        c.url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK) {
        rc = bad(err, what, url, "is not a URL");
    } else {
        rc = take_apart(&c, u, url, what, out, err);
    }
    if (!rc && full && !part(&c, u, CURLUPART_URL, full, URL_MAX)) {
        rc = bad(err, what, url, "is too long");
    }
    c.url_cleanup(u);
    return rc;
}

bool origin_equal(const struct origin *a, const struct origin *b)
{
    return a->https == b->https && a->port == b->port && strcmp(a->host, b->host) == 0;
}

static bool inside(const char *host, const char *domain)
{
    size_t h = strlen(host), d = strlen(domain);
    return h > d && host[h - d - 1] == '.' && strcmp(host + h - d, domain) == 0;
}

/* "com", "co.uk": a name below which anybody can have one. By shape; no list is complete. */
static bool public_suffix(const char *domain)
{
    const char *dot = strchr(domain, '.');
    return !dot || (!strchr(dot + 1, '.') && strlen(dot + 1) == 2 && dot - domain <= 3);
}

bool origin_same_owner(const char *host, const char *other)
{
    struct in_addr v4;
    if (strcmp(host, other) == 0) {
        return true;
    }
    if (strchr(host, ':') || strchr(other, ':') || inet_pton(AF_INET, host, &v4) == 1 ||
        inet_pton(AF_INET, other, &v4) == 1) {
        return false; /* addresses have no domains */
    }
    if (inside(other, host) && !public_suffix(host)) {
        return true;
    }
    const char *parent = strchr(host, '.');
    return parent && !public_suffix(parent + 1) &&
           (strcmp(other, parent + 1) == 0 || inside(other, parent + 1));
}

struct net {
    uint32_t net;
    unsigned bits;
    enum reach reach;
};

/* IANA's special-purpose registry, as far as it matters here. */
static const struct net nets[] = {
    {0x00000000, 8, REACH_LOOPBACK}, /* 0.0.0.0 is this machine for Linux */
    {0x7f000000, 8, REACH_LOOPBACK}, /* RFC 1122 */
    {0xa9fe0000, 16, REACH_LINK},    /* RFC 3927 */
    {0xe0000000, 3, REACH_LINK},     /* multicast, reserved, broadcast */
    {0x0a000000, 8, REACH_PRIVATE},  /* RFC 1918 */
    {0xac100000, 12, REACH_PRIVATE}, /* RFC 1918 */
    {0xc0a80000, 16, REACH_PRIVATE}, /* RFC 1918 */
    {0x64400000, 10, REACH_PRIVATE}, /* RFC 6598 */
    {0xc0000000, 24, REACH_PRIVATE}, /* RFC 6890 */
    {0xc6120000, 15, REACH_PRIVATE}, /* RFC 2544 */
};

static enum reach reach_v4(uint32_t a)
{
    for (size_t i = 0; i < sizeof nets / sizeof nets[0]; i++) {
        if ((a ^ nets[i].net) >> (32 - nets[i].bits) == 0) {
            return nets[i].reach;
        }
    }
    return REACH_PUBLIC;
}

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static enum reach reach_v6(const uint8_t a[16])
{
    static const uint8_t zero[16], nat64[12] = {0x00, 0x64, 0xff, 0x9b};
    if (memcmp(a, zero, 15) == 0 && a[15] <= 1) {
        return REACH_LOOPBACK;
    }
    if ((memcmp(a, zero, 10) == 0 && a[10] == 0xff && a[11] == 0xff) || memcmp(a, zero, 12) == 0 ||
        memcmp(a, nat64, 12) == 0) {
        return reach_v4(be32(a + 12)); /* an IPv4 address in other clothes */
    }
    if (a[0] == 0x20 && a[1] == 0x02) {
        return reach_v4(be32(a + 2)); /* RFC 3056 */
    }
    if ((a[0] == 0xfe && (a[1] & 0xc0) == 0x80) || a[0] == 0xff) {
        return REACH_LINK;
    }
    return (a[0] & 0xfe) == 0xfc || (a[0] == 0xfe && (a[1] & 0xc0) == 0xc0) ? REACH_PRIVATE
                                                                            : REACH_PUBLIC;
}

enum reach reach_of_address(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, address, sizeof in);
        return reach_v4(ntohl(in.sin_addr.s_addr));
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, address, sizeof in6);
        return reach_v6(in6.sin6_addr.s6_addr);
    }
    return REACH_LINK; /* nothing we ask for */
}

enum reach reach_of_host(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    size_t len = strlen(host);
    /* inet_aton, because "127.1" and "0x7f000001" reach the same place. */
    if (inet_aton(host, &v4)) {
        return reach_v4(ntohl(v4.s_addr));
    }
    if (inet_pton(AF_INET6, host, &v6) == 1) {
        return reach_v6(v6.s6_addr);
    }
    if (strcmp(host, "localhost") == 0 ||
        (len > 10 && strcmp(host + len - 10, ".localhost") == 0)) {
        return REACH_LOOPBACK;
    }
    return REACH_PUBLIC;
}

const char *reach_name(enum reach reach)
{
    static const char *const names[] = {"a link-local network", "this machine", "a private network",
                                        "the internet"};
    return names[reach];
}

/* Is host one of the comma-separated names and domains? */
static bool listed(const char *list, const char *host)
{
    while (*list) {
        size_t n = strcspn(list, ", ");
        const char *s = list + (n > 0 && *list == '.');
        size_t len = n - (size_t)(s - list), h = strlen(host);
        if ((n == 1 && *list == '*') ||
            (len > 0 && h >= len && strncasecmp(host + h - len, s, len) == 0 &&
             (h == len || host[h - len - 1] == '.'))) {
            return true;
        }
        list += n;
        list += strspn(list, ", ");
    }
    return false;
}

static const char *variable(const char *lower, const char *upper)
{
    const char *value = getenv(lower);
    if (!value || !value[0]) {
        value = upper ? getenv(upper) : NULL;
    }
    return value && value[0] ? value : NULL;
}

const char *origin_proxy(const struct origin *o)
{
    const char *none = variable("no_proxy", "NO_PROXY");
    if (reach_of_host(o->host) == REACH_LOOPBACK || (none && listed(none, o->host))) {
        return NULL;
    }
    /* No HTTP_PROXY: a CGI server sets it from a request's header. */
    const char *proxy =
        o->https ? variable("https_proxy", "HTTPS_PROXY") : variable("http_proxy", NULL);
    return proxy ? proxy : variable("all_proxy", "ALL_PROXY");
}

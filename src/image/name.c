/* SPDX-License-Identifier: Apache-2.0 */
/* distribution/reference: reference.go, regexp.go and normalize.go say what is read here. */
#include "image/name.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define HUB "docker.io"
#define HUB_OLD "index.docker.io"
#define OFFICIAL "library/"

static bool is_lower(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alnum(char c)
{
    return is_lower(c) || (c >= 'A' && c <= 'Z');
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* "[...]" with hexadecimal digits, ':' and '.' inside: its length, or 0. */
static size_t ipv6_len(const char *s, size_t len)
{
    size_t i = 1;
    if (len < 4 || s[0] != '[') {
        return 0;
    }
    while (i < len && (is_hex(s[i]) || s[i] == ':' || s[i] == '.')) {
        i++;
    }
    return i > 2 && i < len && s[i] == ']' ? i + 1 : 0;
}

/* Labels of letters, digits and inner dashes, joined by dots: the length of it. */
static size_t dns_len(const char *s, size_t len)
{
    size_t i = 0;
    while (i < len && (is_alnum(s[i]) || s[i] == '-' || s[i] == '.')) {
        bool edge = i == 0 || s[i - 1] == '.' || i + 1 == len || s[i + 1] == '.' || s[i + 1] == ':';
        if (!is_alnum(s[i]) && edge) {
            return 0;
        }
        i++;
    }
    return i;
}

static bool host_valid(const char *s, size_t len)
{
    size_t i = ipv6_len(s, len);
    unsigned port = 0;
    i = i ? i : dns_len(s, len);
    if (i == 0 || i == len) {
        return i > 0;
    }
    if (s[i] != ':' || i + 1 == len || len - i > 6) {
        return false;
    }
    for (i++; i < len; i++) {
        if (s[i] < '0' || s[i] > '9') {
            return false;
        }
        port = port * 10 + (unsigned)(s[i] - '0');
    }
    return port > 0 && port < 65536;
}

/* Lower-case words joined by '.', '_', "__" or any number of '-'. */
static bool component_valid(const char *s, size_t len)
{
    for (size_t i = 0; i < len;) {
        if (!is_lower(s[i])) {
            return false;
        }
        while (i < len && is_lower(s[i])) {
            i++;
        }
        if (i == len) {
            return true;
        }
        size_t run = 1;
        while (i + run < len && s[i + run] == s[i]) {
            run++;
        }
        if (!(s[i] == '-' || (s[i] == '.' && run == 1) || (s[i] == '_' && run <= 2))) {
            return false;
        }
        i += run;
    }
    return false;
}

static bool path_valid(const char *s)
{
    for (;;) {
        size_t n = strcspn(s, "/");
        if (!component_valid(s, n)) {
            return false;
        }
        if (!s[n]) {
            return true;
        }
        s += n + 1;
    }
}

static bool tag_valid(const char *s)
{
    size_t n = 0;
    for (; s[n]; n++) {
        if (!(is_alnum(s[n]) || s[n] == '_' || (n > 0 && (s[n] == '.' || s[n] == '-')))) {
            return false;
        }
    }
    return n > 0 && n <= NAME_TAG_MAX;
}

static int take_digest(const char *text, const char *digest, struct name *out, struct sm_error *err)
{
    if (!digest_valid(digest)) {
        return strncmp(digest, "sha256:", 7) != 0 && strchr(digest, ':')
                   ? err_set(err, SM_EUNSUPPORTED,
                             "image %.200s: only sha256 digests are supported", text)
                   : err_set(err, SM_EINVAL,
                             "image %.200s: after @ comes sha256: and 64 lower-case hex digits",
                             text);
    }
    strcpy(out->digest, digest);
    return SM_OK;
}

/* Is the first component a host? Docker's rule. */
static bool looks_like_host(const char *s, size_t len)
{
    if (len == strlen("localhost") && memcmp(s, "localhost", len) == 0) {
        return true;
    }
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '.' || s[i] == ':' || (s[i] >= 'A' && s[i] <= 'Z')) {
            return true;
        }
    }
    return false;
}

static int take_repository(const char *text, const char *repo, struct name *out,
                           struct sm_error *err)
{
    size_t first = strcspn(repo, "/");
    const char *path = repo;
    const char *official = "";
    strcpy(out->host, HUB);
    if (repo[first] && looks_like_host(repo, first)) {
        if (!host_valid(repo, first)) {
            return err_set(err, SM_EINVAL, "image %.200s: \"%.*s\" is not a host name", text,
                           (int)first, repo);
        }
        memcpy(out->host, repo, first);
        out->host[first] = '\0';
        path = repo + first + 1;
        if (strcmp(out->host, HUB_OLD) == 0) {
            strcpy(out->host, HUB);
        }
    }
    if (strcmp(out->host, HUB) == 0 && !strchr(path, '/')) {
        official = OFFICIAL;
    }
    if (strlen(out->host) + 1 + strlen(official) + strlen(path) > NAME_PATH_MAX) {
        return err_set(err, SM_EINVAL, "image %.100s...: the name is longer than %d bytes", text,
                       NAME_PATH_MAX);
    }
    if (!path_valid(path)) {
        return err_set(err, SM_EINVAL,
                       "image %.200s: \"%.100s\" must be lower-case letters and digits, with "
                       "single . _ - and / between them",
                       text, path);
    }
    strcat(strcpy(out->path, official), path); /* they fit: checked above */
    return SM_OK;
}

int name_parse(const char *text, struct name *out, struct sm_error *err)
{
    char repo[2 * NAME_PATH_MAX + NAME_TAG_MAX];
    *out = (struct name){0};
    const char *at = strchr(text, '@');
    size_t len = at ? (size_t)(at - text) : strlen(text);
    if (len == 0 || len >= sizeof repo) {
        return err_set(err, SM_EINVAL, "image %.100s: the name is %s", text,
                       len ? "too long" : "missing");
    }
    memcpy(repo, text, len);
    repo[len] = '\0';
    int rc = at ? take_digest(text, at + 1, out, err) : SM_OK;
    char *slash = strrchr(repo, '/');
    char *colon = strrchr(slash ? slash : repo, ':');
    if (!rc && colon) {
        *colon = '\0';
        if (!tag_valid(colon + 1)) {
            rc =
                err_set(err, SM_EINVAL, "image %.200s: a tag is 1 to %d letters, digits, _ . and -",
                        text, NAME_TAG_MAX);
        } else {
            strcpy(out->tag, colon + 1);
        }
    } else if (!at) {
        strcpy(out->tag, "latest");
    }
    if (!rc && !slash && digest_hex_valid(repo)) { /* Docker takes it for an image's id */
        rc = err_set(err, SM_EINVAL,
                     "image %.200s: 64 hex digits cannot be a name (write NAME@sha256:...)", text);
    }
    rc = rc ? rc : take_repository(text, repo, out, err);
    if (rc) {
        *out = (struct name){0};
    }
    return rc;
}

void name_format(const struct name *n, char out[NAME_TEXT_MAX])
{
    strcpy(out, n->host); /* name_parse has checked all lengths */
    strcat(out, "/");
    strcat(out, n->path);
    strcat(out, n->digest[0] ? "@" : ":");
    strcat(out, n->digest[0] ? n->digest : n->tag);
}

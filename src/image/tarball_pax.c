/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PAX extended headers: "LENGTH KEY=VALUE\n" records. A record that does not parse, a key that
 * matters given twice, or an empty value for one (POSIX: "as if absent", which readers disagree
 * about) is an error.
 */
#include "image/tarball_parts.h"

#include <stdlib.h>
#include <string.h>

static const char *const pax_names[PAX_KEYS] = {
    [PAX_PATH] = "path",
    [PAX_LINKPATH] = "linkpath",
    [PAX_SIZE] = "size",
    [PAX_UID] = "uid",
    [PAX_GID] = "gid",
    [PAX_MTIME] = "mtime",
    [PAX_CHARSET] = "hdrcharset",
    [PAX_DEVMAJOR] = "SCHILY.devmajor",
    [PAX_DEVMINOR] = "SCHILY.devminor",
    [PAX_SPARSE_MAJOR] = "GNU.sparse.major",
    [PAX_SPARSE_MINOR] = "GNU.sparse.minor",
    [PAX_SPARSE_NAME] = "GNU.sparse.name",
    [PAX_SPARSE_REALSIZE] = "GNU.sparse.realsize",
    [PAX_SPARSE_SIZE] = "GNU.sparse.size",
    [PAX_SPARSE_NUMBLOCKS] = "GNU.sparse.numblocks",
    [PAX_SPARSE_MAP] = "GNU.sparse.map",
};

/* They change the content or the kind of the entry in ways this reader does not know. */
static const char *const pax_refused[] = {"SCHILY.realsize", "SCHILY.offset", "SCHILY.filetype",
                                          "SUN.holesdata", "GNU.volume.filename"};

static const char schily_xattr[] = "SCHILY.xattr.", libarchive_xattr[] = "LIBARCHIVE.xattr.";

static bool starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

static int unhex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* %XX in place. */
static int url_decode(char *s)
{
    char *out = s;
    for (; *s; s++) {
        if (*s == '%') {
            int hi = unhex(s[1]), lo = hi < 0 ? -1 : unhex(s[2]);
            if (lo < 0 || hi * 16 + lo == 0) {
                return -1;
            }
            *out++ = (char)(hi * 16 + lo);
            s += 2;
        } else {
            *out++ = *s;
        }
    }
    *out = 0;
    return 0;
}

/* Base64 in place, with or without padding. */
static int base64_decode(uint8_t *p, size_t *len)
{
    uint32_t acc = 0;
    unsigned bits = 0;
    size_t n = *len, out = 0;
    while (n && p[n - 1] == '=') {
        n--;
    }
    for (size_t i = 0; i < n; i++) {
        uint8_t c = p[i];
        int v = c >= 'A' && c <= 'Z'   ? c - 'A'
                : c >= 'a' && c <= 'z' ? c - 'a' + 26
                : c >= '0' && c <= '9' ? c - '0' + 52
                : c == '+'             ? 62
                : c == '/'             ? 63
                                       : -1;
        if (v < 0) {
            return -1;
        }
        acc = (acc << 6 | (uint32_t)v) & 0xffffff;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            p[out++] = (uint8_t)(acc >> bits);
        }
    }
    *len = out;
    return bits >= 6 ? -1 : 0; /* a lone last digit carries no byte */
}

static int add_xattr(struct tarball *t, char *name, uint8_t *value, size_t len, bool encoded,
                     struct sm_error *err)
{
    struct pax *p = &t->pax;
    if (encoded && (url_decode(name) || base64_decode(value, &len))) {
        return err_set(err, SM_ECORRUPT, "tar byte %llu: xattr record does not decode",
                       (unsigned long long)t->offset);
    }
    if (!*name) {
        return err_set(err, SM_ECORRUPT, "tar byte %llu: xattr without a name",
                       (unsigned long long)t->offset);
    }
    if (p->xattr_count == p->xattr_cap) {
        size_t cap = p->xattr_cap ? p->xattr_cap * 2 : 16;
        struct tarball_xattr *grown = realloc(p->xattrs, cap * sizeof *grown);
        if (!grown) {
            return err_set(err, SM_ENOMEM, "out of memory for xattrs");
        }
        p->xattrs = grown;
        p->xattr_cap = cap;
    }
    p->xattrs[p->xattr_count++] = (struct tarball_xattr){name, value, len};
    return 0;
}

/* "0.0" sparse maps repeat these two keys, in pairs. */
static int sparse_pair(struct tarball *t, const char *key, const char *value, uint64_t *offset,
                       bool *open, struct sm_error *err)
{
    uint64_t v;
    bool is_offset = strcmp(key, "GNU.sparse.offset") == 0;
    if (tarball_decimal(value, &v) || is_offset == *open) {
        return err_set(err, SM_ECORRUPT, "tar byte %llu: malformed sparse map",
                       (unsigned long long)t->offset);
    }
    *open = is_offset;
    if (is_offset) {
        *offset = v;
        return 0;
    }
    return sparse_add(t, *offset, v, err);
}

static int set_key(struct tarball *t, enum pax_key k, char *value, size_t len, struct sm_error *err)
{
    struct pax_value *v = &t->pax.v[k];
    if (v->p) {
        return err_set(err, SM_ECORRUPT, "tar byte %llu: extended header gives %s twice",
                       (unsigned long long)t->offset, pax_names[k]);
    }
    if (len == 0 || memchr(value, 0, len)) {
        return err_set(err, SM_ECORRUPT,
                       "tar byte %llu: extended header's %s is empty or has a NUL",
                       (unsigned long long)t->offset, pax_names[k]);
    }
    if (k == PAX_CHARSET && strcmp(value, "BINARY") && strcmp(value, "ISO-IR 10646 2000 UTF-8")) {
        return err_set(err, SM_EUNSUPPORTED, "tar byte %llu: names in character set \"%.60s\"",
                       (unsigned long long)t->offset, value);
    }
    *v = (struct pax_value){value, len};
    return 0;
}

struct record_state {
    bool global;
    bool pair_open;
    uint64_t pair_offset;
};

/* One record; key and value are NUL-terminated in place. */
static int pax_record(struct tarball *t, struct record_state *s, char *key, char *value, size_t len,
                      struct sm_error *err)
{
    int known = -1;
    for (int k = 0; k < PAX_KEYS; k++) {
        if (strcmp(key, pax_names[k]) == 0) {
            known = k;
        }
    }
    bool pair = strcmp(key, "GNU.sparse.offset") == 0 || strcmp(key, "GNU.sparse.numbytes") == 0;
    bool schily = starts(key, schily_xattr), libarchive = starts(key, libarchive_xattr);
    if (s->global && (known >= 0 || pair || schily || libarchive)) {
        return err_set(err, SM_EUNSUPPORTED,
                       "tar byte %llu: global header sets \"%.60s\" for all entries",
                       (unsigned long long)t->offset, key);
    }
    for (size_t i = 0; i < sizeof pax_refused / sizeof *pax_refused; i++) {
        if (strcmp(key, pax_refused[i]) == 0) {
            return err_set(err, SM_EUNSUPPORTED, "tar byte %llu: extended header key %s",
                           (unsigned long long)t->offset, key);
        }
    }
    if (known >= 0) {
        return set_key(t, (enum pax_key)known, value, len, err);
    }
    if (pair) {
        return sparse_pair(t, key, value, &s->pair_offset, &s->pair_open, err);
    }
    if (schily || libarchive) {
        size_t skip = strlen(schily ? schily_xattr : libarchive_xattr);
        return add_xattr(t, key + skip, (uint8_t *)value, len, libarchive, err);
    }
    return 0;
}

static int pax_parse(struct tarball *t, bool global, struct sm_error *err)
{
    struct record_state s = {.global = global};
    char *p = (char *)t->pax.raw.data, *end = p + t->pax.raw.len;
    while (p < end) {
        size_t len = 0;
        char *q = p;
        for (; q < end && q - p < 8 && *q >= '0' && *q <= '9'; q++) {
            len = len * 10 + (size_t)(*q - '0');
        }
        if (q == p || q == end || *q != ' ' || len > (size_t)(end - p) ||
            len < (size_t)(q - p) + 2 || p[len - 1] != '\n') {
            return err_set(err, SM_ECORRUPT, "tar byte %llu: malformed extended header record",
                           (unsigned long long)t->offset);
        }
        char *key = q + 1, *last = p + len - 1;
        char *eq = memchr(key, '=', (size_t)(last - key));
        if (!eq || eq == key || memchr(key, 0, (size_t)(eq - key))) {
            return err_set(err, SM_ECORRUPT, "tar byte %llu: malformed extended header key",
                           (unsigned long long)t->offset);
        }
        *eq = *last = 0;
        int rc = pax_record(t, &s, key, eq + 1, (size_t)(last - eq - 1), err);
        if (rc) {
            return rc;
        }
        p += len;
    }
    if (s.pair_open) {
        return err_set(err, SM_ECORRUPT, "tar byte %llu: malformed sparse map",
                       (unsigned long long)t->offset);
    }
    return 0;
}

int pax_read(struct tarball *t, uint64_t size, bool global, struct sm_error *err)
{
    struct pax *p = &t->pax;
    if (p->present) {
        return err_set(err, SM_ECORRUPT, "tar byte %llu: two extended headers for one entry",
                       (unsigned long long)t->offset);
    }
    p->raw.len = 0;
    if (buf_reserve(&p->raw, (size_t)size + 1)) {
        return err_set(err, SM_ENOMEM, "out of memory for an extended header");
    }
    int rc = tarball_take(t, p->raw.data, (size_t)size, "extended header", err);
    if (rc) {
        return rc;
    }
    p->raw.len = (size_t)size;
    p->present = !global;
    return pax_parse(t, global, err);
}

void pax_clear(struct pax *p)
{
    p->present = false;
    p->raw.len = 0;
    p->xattr_count = 0;
    memset(p->v, 0, sizeof p->v);
}

void pax_fini(struct pax *p)
{
    buf_fini(&p->raw);
    free(p->xattrs);
}

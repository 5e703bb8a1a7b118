/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walks the archive block by block: extended headers are gathered, then applied to the entry they
 * precede. Why not libarchive (3.6.2 tried): it rewrites names by locale (NFD to NFC), cuts PAX
 * names at a NUL, takes unknown types for regular files and does not check gzip's CRC; a layer's
 * bytes must mean one thing.
 */
#include "image/tarball_parts.h"

#include <stdlib.h>
#include <string.h>
#include <sys/param.h>

#define OCTAL_SIZE_MAX 077777777777ll /* what 11 octal digits hold */

struct tarball *tarball_new(struct tarball_source source)
{
    struct tarball *t = calloc(1, sizeof *t);
    if (t) {
        t->source = source;
    }
    return t;
}

void tarball_free(struct tarball *t)
{
    if (!t) {
        return;
    }
    pax_fini(&t->pax);
    buf_fini(&t->long_name);
    buf_fini(&t->long_link);
    buf_fini(&t->name);
    buf_fini(&t->link);
    free(t->extents);
    free(t);
}

/* At least one byte in the window, unless the archive has ended. */
static int refill(struct tarball *t, struct sm_error *err)
{
    return t->avail ? 0 : t->source.next(t->source.opaque, &t->data, &t->avail, err);
}

static void use(struct tarball *t, size_t len)
{
    t->data += len;
    t->avail -= len;
    t->offset += len;
}

/* Up to len bytes: fewer only at the end. */
static int take_some(struct tarball *t, uint8_t *out, size_t len, size_t *got, struct sm_error *err)
{
    for (*got = 0; *got < len;) {
        int rc = refill(t, err);
        if (rc || !t->avail) {
            return rc;
        }
        size_t n = MIN(t->avail, len - *got);
        memcpy(out + *got, t->data, n);
        use(t, n);
        *got += n;
    }
    return 0;
}

int tarball_take(struct tarball *t, void *out, size_t len, const char *what, struct sm_error *err)
{
    size_t got;
    int rc = take_some(t, out, len, &got, err);
    if (!rc && got != len) {
        rc = err_set(err, SM_ECORRUPT, "tar ends inside %s at byte %llu: it is truncated", what,
                     (unsigned long long)t->offset);
    }
    return rc;
}

int tarball_read(struct tarball *t, const uint8_t **data, size_t *len, struct sm_error *err)
{
    *data = NULL;
    *len = 0;
    if (!t->left) {
        return 0;
    }
    int rc = refill(t, err);
    if (rc) {
        return rc;
    }
    if (!t->avail) {
        return err_set(err, SM_ECORRUPT,
                       "tar ends inside the data of \"%.200s\" at byte %llu: it is truncated",
                       t->entry.name, (unsigned long long)t->offset);
    }
    *data = t->data;
    *len = (size_t)MIN((uint64_t)t->avail, t->left);
    use(t, *len);
    t->left -= *len;
    return 0;
}

static int skip_rest(struct tarball *t, struct sm_error *err)
{
    uint8_t pad[TAR_BLOCK];
    const uint8_t *data;
    size_t len;
    if (t->source.skip && t->left > t->avail) {
        uint64_t skipped = t->source.skip(t->source.opaque, t->left - t->avail);
        t->left -= t->avail + skipped;
        use(t, t->avail);
        t->offset += skipped;
    }
    do {
        int rc = tarball_read(t, &data, &len, err);
        if (rc) {
            return rc;
        }
    } while (len);
    unsigned n = t->pad;
    t->pad = 0;
    return tarball_take(t, pad, n, "padding", err);
}

static bool all_zero(const uint8_t *p, size_t len)
{
    return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

/* After the first zero block: a second one or the end, then nothing but zeros. */
static int read_end(struct tarball *t, struct sm_error *err)
{
    if (t->pax.present || t->has_long_name || t->has_long_link) {
        return err_set(err, SM_ECORRUPT, "tar byte %llu: extended header without its entry",
                       (unsigned long long)t->offset);
    }
    for (;;) {
        int rc = refill(t, err);
        if (rc || !t->avail) {
            t->ended = true;
            return rc;
        }
        if (!all_zero(t->data, t->avail)) {
            return err_set(err, SM_ECORRUPT, "tar has data after its end mark (past byte %llu)",
                           (unsigned long long)t->offset);
        }
        use(t, t->avail);
    }
}

/* A NUL-terminated copy of a field that may fill its whole width. */
static int set_text(struct buf *b, const void *p, size_t width, struct sm_error *err)
{
    size_t len = strnlen(p, width);
    if (buf_append(b, p, len) || buf_append(b, "", 1)) {
        return err_set(err, SM_ENOMEM, "out of memory for a name");
    }
    b->len--;
    return 0;
}

/* GNU 'L' and 'K': the data is the name, with one or more NULs after it. */
static int read_long(struct tarball *t, uint64_t size, struct buf *b, bool *has,
                     struct sm_error *err)
{
    if (*has) {
        return err_set(err, SM_ECORRUPT, "tar byte %llu: two long names for one entry",
                       (unsigned long long)t->offset);
    }
    b->len = 0;
    if (buf_reserve(b, (size_t)size + 1)) {
        return err_set(err, SM_ENOMEM, "out of memory for a name");
    }
    int rc = tarball_take(t, b->data, (size_t)size, "a long name", err);
    if (rc) {
        return rc;
    }
    b->data[size] = 0;
    b->len = strlen((char *)b->data);
    if (b->len == 0 || !all_zero(b->data + b->len, (size_t)size - b->len)) {
        return err_set(err, SM_ECORRUPT, "tar byte %llu: long name is empty or has a NUL inside",
                       (unsigned long long)t->offset);
    }
    *has = true;
    return 0;
}

enum dialect { DIALECT_V7, DIALECT_USTAR, DIALECT_GNU };

static int dialect(const uint8_t *b, enum dialect *out)
{
    if (memcmp(b + 257,
               "ustar\0"
               "00",
               8) == 0) {
        *out = DIALECT_USTAR;
    } else if (memcmp(b + 257, "ustar  ", 8) == 0) {
        *out = DIALECT_GNU;
    } else if (all_zero(b + 257, TAR_BLOCK - 257)) {
        *out = DIALECT_V7;
    } else {
        return -1;
    }
    return 0;
}

/* One name from up to four places; two extended ones at once are an error. */
static int set_name(struct tarball *t, struct buf *out, const struct pax_value *pax, bool has_long,
                    const struct buf *longer, const uint8_t *prefix, const uint8_t *field,
                    struct sm_error *err)
{
    out->len = 0;
    if (pax->p && has_long) {
        return err_set(err, SM_ECORRUPT, "tar byte %llu: name given by PAX and by GNU headers",
                       (unsigned long long)t->offset);
    }
    if (pax->p) {
        return set_text(out, pax->p, pax->len, err);
    }
    if (has_long) {
        return set_text(out, longer->data, longer->len, err);
    }
    if (prefix && prefix[0]) {
        int rc = set_text(out, prefix, 155, err);
        if (rc || buf_append(out, "/", 1)) {
            return rc ? rc : err_set(err, SM_ENOMEM, "out of memory for a name");
        }
    }
    return set_text(out, field, 100, err);
}

static int set_names(struct tarball *t, const uint8_t *b, enum dialect d, struct sm_error *err)
{
    const struct pax_value *v = t->pax.v;
    const struct pax_value *path = v[PAX_SPARSE_NAME].p ? &v[PAX_SPARSE_NAME] : &v[PAX_PATH];
    int rc = set_name(t, &t->name, path, t->has_long_name, &t->long_name,
                      d == DIALECT_USTAR ? b + 345 : NULL, b, err);
    rc = rc ? rc
            : set_name(t, &t->link, &v[PAX_LINKPATH], t->has_long_link, &t->long_link, NULL,
                       b + 157, err);
    if (!rc && t->name.len == 0) {
        rc = err_set(err, SM_ECORRUPT, "tar byte %llu: entry without a name",
                     (unsigned long long)t->offset);
    }
    if (!rc) {
        t->entry.name = (char *)t->name.data;
        t->entry.link = (char *)t->link.data;
    }
    return rc;
}

/* A header number, or the PAX value that replaces it; within 0..max. */
static int set_id(struct tarball *t, const uint8_t *field, size_t len, const struct pax_value *pax,
                  uint32_t max, const char *what, uint32_t *out, struct sm_error *err)
{
    int64_t v = 0;
    uint64_t u;
    if (pax && pax->p ? tarball_decimal(pax->p, &u) : tarball_number(field, len, &v)) {
        u = UINT64_MAX;
    } else if (!(pax && pax->p)) {
        u = v < 0 ? UINT64_MAX : (uint64_t)v;
    }
    if (u > max) {
        return err_set(err, SM_ECORRUPT, "entry \"%.200s\": %s is malformed or out of range",
                       t->entry.name, what);
    }
    *out = (uint32_t)u;
    return 0;
}

static int set_numbers(struct tarball *t, const uint8_t *b, enum dialect d, struct sm_error *err)
{
    struct tarball_entry *e = &t->entry;
    const struct pax_value *v = t->pax.v;
    bool device = e->type == TARBALL_CHR || e->type == TARBALL_BLK;
    /* Writers put the file type in here too. */
    int rc = set_id(t, b + 100, 8, NULL, 0177777, "mode", &e->mode, err);
    rc = rc ? rc : set_id(t, b + 108, 8, &v[PAX_UID], UINT32_MAX, "uid", &e->uid, err);
    rc = rc ? rc : set_id(t, b + 116, 8, &v[PAX_GID], UINT32_MAX, "gid", &e->gid, err);
    if (!rc && device && d == DIALECT_V7) {
        rc = err_set(err, SM_ECORRUPT, "entry \"%.200s\": device without numbers", e->name);
    }
    if (!rc && device) {
        rc = set_id(t, b + 329, 8, &v[PAX_DEVMAJOR], 0xfff, "device major", &e->major, err);
        rc = rc ? rc
                : set_id(t, b + 337, 8, &v[PAX_DEVMINOR], 0xfffff, "device minor", &e->minor, err);
    }
    if (rc) {
        return rc;
    }
    e->mode &= 07777;
    if (v[PAX_MTIME].p ? tarball_time(v[PAX_MTIME].p, &e->mtime, &e->mtime_nsec)
                       : tarball_number(b + 136, 12, &e->mtime)) {
        return err_set(err, SM_ECORRUPT, "entry \"%.200s\": malformed mtime", e->name);
    }
    return 0;
}

static int set_type(struct tarball *t, uint8_t flag, struct sm_error *err)
{
    static const char flags[] = {
        [TARBALL_REG] = '0', [TARBALL_HARDLINK] = '1', [TARBALL_SYMLINK] = '2', [TARBALL_CHR] = '3',
        [TARBALL_BLK] = '4', [TARBALL_DIR] = '5',      [TARBALL_FIFO] = '6'};
    bool slash = t->name.len && t->name.data[t->name.len - 1] == '/';
    if (flag == 0 && slash) {
        t->entry.type = TARBALL_DIR; /* how v7 wrote directories */
        return 0;
    }
    if (flag == 0 || flag == '7' || flag == 'S') {
        flag = '0';
    }
    const char *at = memchr(flags, flag, sizeof flags);
    if (!at) {
        return err_set(err, SM_EUNSUPPORTED, "entry \"%.200s\": unknown tar type 0x%02x",
                       t->entry.name, flag);
    }
    t->entry.type = (enum tarball_type)(at - flags);
    if (slash && t->entry.type != TARBALL_DIR) {
        return err_set(err, SM_ECORRUPT, "entry \"%.200s\": name of a non-directory ends in '/'",
                       t->entry.name);
    }
    return 0;
}

/* The PAX size must confirm the header's, unless that could not hold it. */
static int set_size(struct tarball *t, int64_t field, struct sm_error *err)
{
    const struct pax_value *v = &t->pax.v[PAX_SIZE];
    struct tarball_entry *e = &t->entry;
    uint64_t size = (uint64_t)field;
    if (v->p) {
        if (tarball_decimal(v->p, &size) || size > INT64_MAX) {
            return err_set(err, SM_ECORRUPT, "entry \"%.200s\": malformed size", e->name);
        }
        bool too_big = size > OCTAL_SIZE_MAX && (field == 0 || field == OCTAL_SIZE_MAX);
        if (size != (uint64_t)field && !too_big) {
            return err_set(err, SM_ECORRUPT,
                           "entry \"%.200s\": size is %lld in its header and %llu in its extended "
                           "header",
                           e->name, (long long)field, (unsigned long long)size);
        }
    }
    if (size && e->type != TARBALL_REG) {
        return err_set(err, SM_ECORRUPT, "entry \"%.200s\": has data but is not a file", e->name);
    }
    e->size = e->stored = t->left = size;
    t->pad = (unsigned)(-size % TAR_BLOCK);
    return 0;
}

static int read_entry(struct tarball *t, const uint8_t *b, enum dialect d, int64_t size,
                      struct sm_error *err)
{
    uint8_t flag = b[156];
    if (flag == 'S' && (d != DIALECT_GNU || t->pax.present)) {
        return err_set(err, SM_ECORRUPT, "tar byte %llu: GNU sparse entry in another format",
                       (unsigned long long)t->offset);
    }
    /* libarchive takes a size from there whatever the type. */
    if (flag != 'S' && d == DIALECT_GNU && !all_zero(b + 386, 495 - 386)) {
        return err_set(err, SM_ECORRUPT, "tar byte %llu: sparse map on an entry that is not sparse",
                       (unsigned long long)t->offset);
    }
    memset(&t->entry, 0, sizeof t->entry);
    int rc = set_names(t, b, d, err);
    rc = rc ? rc : set_type(t, flag, err);
    rc = rc ? rc : set_numbers(t, b, d, err);
    rc = rc ? rc : set_size(t, size, err);
    rc = rc ? rc : flag == 'S' ? sparse_gnu_header(t, b, err) : sparse_pax(t, err);
    if (rc) {
        return rc;
    }
    bool link = t->entry.type == TARBALL_HARDLINK || t->entry.type == TARBALL_SYMLINK;
    if (link && t->link.len == 0) {
        return err_set(err, SM_ECORRUPT, "entry \"%.200s\": link without a target", t->entry.name);
    }
    if (!link) {
        t->entry.link = ""; /* every reader ignores it there */
    }
    t->entry.extents = t->extents;
    t->entry.extent_count = t->extent_count;
    t->entry.xattrs = t->pax.xattrs;
    t->entry.xattr_count = t->pax.xattr_count;
    return 0;
}

/* One header block of any kind; *entry tells whether it completed an entry. */
static int read_header(struct tarball *t, const uint8_t *b, bool *entry, struct sm_error *err)
{
    int64_t size;
    enum dialect d;
    *entry = false;
    if (!tarball_checksum_ok(b) || dialect(b, &d)) {
        return err_set(err, SM_ECORRUPT, "tar byte %llu: not a tar header",
                       (unsigned long long)t->offset - TAR_BLOCK);
    }
    if (tarball_number(b + 124, 12, &size) || size < 0) {
        return err_set(err, SM_ECORRUPT, "tar byte %llu: malformed size",
                       (unsigned long long)t->offset - TAR_BLOCK);
    }
    uint8_t flag = b[156];
    if (flag != 'x' && flag != 'g' && flag != 'L' && flag != 'K') {
        *entry = true;
        return read_entry(t, b, d, size, err);
    }
    if (size > TARBALL_EXTENDED_MAX) {
        return err_set(err, SM_EUNSUPPORTED,
                       "tar byte %llu: extended header of %lld bytes, more than the limit of %u",
                       (unsigned long long)t->offset - TAR_BLOCK, (long long)size,
                       TARBALL_EXTENDED_MAX);
    }
    t->pad = (unsigned)(-size & (TAR_BLOCK - 1));
    switch (flag) {
    case 'L':
        return read_long(t, (uint64_t)size, &t->long_name, &t->has_long_name, err);
    case 'K':
        return read_long(t, (uint64_t)size, &t->long_link, &t->has_long_link, err);
    default:
        return pax_read(t, (uint64_t)size, flag == 'g', err);
    }
}

int tarball_next(struct tarball *t, const struct tarball_entry **out, struct sm_error *err)
{
    uint8_t block[TAR_BLOCK];
    bool entry = false, between = true; /* no extended header was read for what comes */
    *out = NULL;
    pax_clear(&t->pax);
    t->has_long_name = t->has_long_link = false;
    t->extent_count = 0;
    while (!entry) {
        size_t got;
        int rc = t->ended ? 0 : skip_rest(t, err);
        if (rc || t->ended) {
            return rc;
        }
        rc = take_some(t, block, sizeof block, &got, err);
        if (!rc && got == 0 && between && t->offset > 0 && t->source.may_lack_end) {
            t->ended = true;
            return 0;
        }
        between = false;
        if (!rc && got < sizeof block) {
            rc = err_set(err, SM_ECORRUPT,
                         "tar ends at byte %llu without its end mark: it is truncated",
                         (unsigned long long)t->offset);
        }
        if (!rc && all_zero(block, sizeof block)) {
            return read_end(t, err);
        }
        rc = rc ? rc : read_header(t, block, &entry, err);
        if (rc) {
            return rc;
        }
    }
    t->entry.stored_at = t->offset;
    *out = &t->entry;
    return 0;
}

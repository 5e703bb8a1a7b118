/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sparse maps: old GNU ('S' entries) and the PAX forms 0.0, 0.1 and 1.0 (GNU tar manual, "Storing
 * Sparse Files"). Whatever the form, the result is t->extents; memory follows the map's bytes in
 * the archive, never the sizes it claims.
 */
#include "image/tarball_parts.h"

#include <stdlib.h>
#include <string.h>

static int bad_map(struct tarball *t, const char *why, struct sm_error *err)
{
    return err_set(err, SM_ECORRUPT, "tar byte %llu: sparse map %s", (unsigned long long)t->offset,
                   why);
}

int sparse_add(struct tarball *t, uint64_t offset, uint64_t len, struct sm_error *err)
{
    uint64_t end;
    if (__builtin_add_overflow(offset, len, &end) || end > INT64_MAX) {
        return bad_map(t, "goes past the largest file size", err);
    }
    if (len == 0) {
        return 0;
    }
    if (t->extent_count) {
        const struct tarball_extent *last = &t->extents[t->extent_count - 1];
        if (offset < last->offset + last->len) {
            return bad_map(t, "is unordered or overlaps", err);
        }
    }
    if (t->extent_count == TARBALL_EXTENTS_MAX) {
        return bad_map(t, "has more than 262144 pieces", err);
    }
    if (t->extent_count == t->extent_cap) {
        size_t cap = t->extent_cap ? t->extent_cap * 2 : 64;
        struct tarball_extent *grown = realloc(t->extents, cap * sizeof *grown);
        if (!grown) {
            return err_set(err, SM_ENOMEM, "out of memory for a sparse map");
        }
        t->extents = grown;
        t->extent_cap = cap;
    }
    t->extents[t->extent_count++] = (struct tarball_extent){offset, len};
    return 0;
}

static int add_fields(struct tarball *t, const uint8_t *p, size_t count, struct sm_error *err)
{
    for (size_t i = 0; i < count; i++, p += 24) {
        int64_t offset, len;
        if (tarball_number(p, 12, &offset) || tarball_number(p + 12, 12, &len) || offset < 0 ||
            len < 0) {
            return bad_map(t, "has a malformed number", err);
        }
        int rc = sparse_add(t, (uint64_t)offset, (uint64_t)len, err);
        if (rc) {
            return rc;
        }
    }
    return 0;
}

/* The map is complete: fits the size, and accounts for every stored byte. */
static int finish(struct tarball *t, uint64_t size, struct sm_error *err)
{
    uint64_t sum = 0; /* cannot overflow: extents are disjoint below 2^63 */
    for (size_t i = 0; i < t->extent_count; i++) {
        sum += t->extents[i].len;
    }
    if (t->extent_count) {
        const struct tarball_extent *last = &t->extents[t->extent_count - 1];
        if (last->offset + last->len > size) {
            return bad_map(t, "goes past the end of its file", err);
        }
    }
    if (size > INT64_MAX || sum != t->left) {
        return bad_map(t, "does not add up to the stored size", err);
    }
    t->entry.sparse = true;
    t->entry.size = size;
    t->entry.stored = sum;
    return 0;
}

int sparse_gnu_header(struct tarball *t, const uint8_t block[TAR_BLOCK], struct sm_error *err)
{
    int64_t size;
    if (tarball_number(block + 483, 12, &size) || size < 0) {
        return bad_map(t, "has a malformed file size", err);
    }
    int rc = add_fields(t, block + 386, 4, err);
    bool more = block[482] != 0;
    /* Bounded: extension blocks without extents are refused below. */
    while (!rc && more) {
        uint8_t ext[TAR_BLOCK];
        size_t before = t->extent_count;
        rc = tarball_take(t, ext, sizeof ext, "sparse map", err);
        if (!rc) {
            rc = add_fields(t, ext, 21, err);
            more = ext[504] != 0;
        }
        if (!rc && more && t->extent_count == before) {
            rc = bad_map(t, "has an empty extension block", err);
        }
    }
    return rc ? rc : finish(t, (uint64_t)size, err);
}

/* "offset,len,offset,len..." */
static int add_map_string(struct tarball *t, const char *map, struct sm_error *err)
{
    uint64_t v[2];
    while (*map) {
        for (int i = 0; i < 2; i++) {
            char number[24];
            size_t len = strcspn(map, ",");
            if (len >= sizeof number) {
                return bad_map(t, "has a malformed number", err);
            }
            memcpy(number, map, len);
            number[len] = 0;
            if (tarball_decimal(number, &v[i])) {
                return bad_map(t, "has a malformed number", err);
            }
            map += len;
            if (*map == ',') {
                map++;
            }
        }
        int rc = sparse_add(t, v[0], v[1], err);
        if (rc) {
            return rc;
        }
    }
    return 0;
}

/* The 1.0 map sits in front of the data: decimal lines, padded to a block. */
struct map_reader {
    uint8_t block[TAR_BLOCK];
    size_t at; /* TAR_BLOCK = nothing read */
};

static int map_number(struct tarball *t, struct map_reader *r, uint64_t *out, struct sm_error *err)
{
    char number[24];
    for (size_t n = 0; n < sizeof number; n++) {
        if (r->at == TAR_BLOCK) {
            if (t->left < TAR_BLOCK) {
                return bad_map(t, "is longer than the entry", err);
            }
            int rc = tarball_take(t, r->block, TAR_BLOCK, "sparse map", err);
            if (rc) {
                return rc;
            }
            t->left -= TAR_BLOCK;
            r->at = 0;
        }
        number[n] = (char)r->block[r->at++];
        if (number[n] == '\n') {
            number[n] = 0;
            return tarball_decimal(number, out) ? bad_map(t, "has a malformed number", err) : 0;
        }
    }
    return bad_map(t, "has a malformed number", err);
}

static int map_in_data(struct tarball *t, struct sm_error *err)
{
    struct map_reader r = {.at = TAR_BLOCK};
    uint64_t count, offset, len;
    int rc = map_number(t, &r, &count, err);
    if (!rc && count > TARBALL_EXTENTS_MAX) {
        rc = bad_map(t, "has more than 262144 pieces", err);
    }
    for (uint64_t i = 0; !rc && i < count; i++) {
        rc = map_number(t, &r, &offset, err);
        rc = rc ? rc : map_number(t, &r, &len, err);
        rc = rc ? rc : sparse_add(t, offset, len, err);
    }
    return rc;
}

int sparse_pax(struct tarball *t, struct sm_error *err)
{
    const struct pax_value *v = t->pax.v;
    bool any = t->extent_count > 0;
    for (int k = PAX_SPARSE_MAJOR; k <= PAX_SPARSE_MAP; k++) {
        any = any || v[k].p;
    }
    if (!any) {
        return 0;
    }
    uint64_t major = 0, minor = 0, size, count;
    if ((v[PAX_SPARSE_MAJOR].p && tarball_decimal(v[PAX_SPARSE_MAJOR].p, &major)) ||
        (v[PAX_SPARSE_MINOR].p && tarball_decimal(v[PAX_SPARSE_MINOR].p, &minor))) {
        return bad_map(t, "has a malformed version", err);
    }
    bool one = major == 1 && minor == 0;
    if (!one && (major != 0 || minor > 1)) {
        return err_set(err, SM_EUNSUPPORTED, "tar byte %llu: sparse format %llu.%llu",
                       (unsigned long long)t->offset, (unsigned long long)major,
                       (unsigned long long)minor);
    }
    const struct pax_value *want = &v[one ? PAX_SPARSE_REALSIZE : PAX_SPARSE_SIZE];
    const struct pax_value *other = &v[one ? PAX_SPARSE_SIZE : PAX_SPARSE_REALSIZE];
    if (t->entry.type != TARBALL_REG || !want->p || other->p || tarball_decimal(want->p, &size) ||
        (one && (!v[PAX_SPARSE_NAME].p || v[PAX_SPARSE_MAP].p || t->extent_count))) {
        return bad_map(t, "contradicts its own format version", err);
    }
    int rc = 0;
    if (one) {
        rc = map_in_data(t, err);
    } else if (v[PAX_SPARSE_MAP].p) {
        rc = t->extent_count ? bad_map(t, "is given twice", err)
                             : add_map_string(t, v[PAX_SPARSE_MAP].p, err);
    }
    if (!rc && v[PAX_SPARSE_NUMBLOCKS].p && tarball_decimal(v[PAX_SPARSE_NUMBLOCKS].p, &count)) {
        rc = bad_map(t, "has a malformed count", err);
    }
    return rc ? rc : finish(t, size, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A strict, streaming reader of tar archives: v7, POSIX ustar, PAX and GNU (long names, sparse
 * files of every GNU form). Spec: POSIX.1-2017 "pax", GNU tar manual "Tar Internals", star(5) for
 * SCHILY.*.
 *
 * It refuses (SM_ECORRUPT, or SM_EUNSUPPORTED for well-formed things outside the list) whatever two
 * readers could understand differently: bad checksums, sizes that disagree, repeated or malformed
 * extended records, names with NUL, unknown entry types, data after the end mark, a missing end
 * mark. Names are bytes: never converted, whatever the locale.
 *
 * Memory: the extended header being read (at most 1 MiB) and the sparse map (at most 4 MiB). No
 * file content is held. One thread at a time per reader.
 */
#ifndef SM_IMAGE_TARBALL_H
#define SM_IMAGE_TARBALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TARBALL_EXTENDED_MAX (1u << 20) /* bytes of one extended header or long name */
#define TARBALL_EXTENTS_MAX (1u << 18)  /* pieces of one sparse file */

/* Where the bytes come from. next: point *data at the next *len bytes, valid until the following
 * call; *len 0 at the end, again and again. Non-zero return is an error, already in err. skip, or
 * NULL: pass over the next bytes unread, at most len; returns how many, fewer only at the end. */
struct tarball_source {
    int (*next)(void *opaque, const uint8_t **data, size_t *len, struct sm_error *err);
    uint64_t (*skip)(void *opaque, uint64_t len);
    void *opaque; /* borrowed */
    /* The archive may also end between two members, as umoci's do: somebody else sees that it is
     * whole. */
    bool may_lack_end;
};

enum tarball_type {
    TARBALL_REG,
    TARBALL_HARDLINK,
    TARBALL_SYMLINK,
    TARBALL_CHR,
    TARBALL_BLK,
    TARBALL_DIR,
    TARBALL_FIFO,
};

struct tarball_extent {
    uint64_t offset;
    uint64_t len; /* never 0 */
};

struct tarball_xattr {
    const char *name; /* NUL-terminated, no NUL inside, not empty */
    const uint8_t *value;
    size_t len;
};

/* One archive member. All pointers are the reader's, valid until the next tarball_next. */
struct tarball_entry {
    enum tarball_type type;
    const char *name; /* as written, not normalised; not empty */
    const char *link; /* target of a hard or symbolic link, else "" */
    uint32_t mode;    /* permission bits only: 07777 */
    uint32_t uid, gid;
    uint32_t major, minor;
    int64_t mtime; /* seconds, with mtime_nsec in 0..999999999 added */
    uint32_t mtime_nsec;
    uint64_t size;      /* of the file, holes included */
    uint64_t stored;    /* bytes that tarball_read will give */
    uint64_t stored_at; /* where in the archive they begin */
    bool sparse; /* extents say where the stored bytes go: ascending, inside size, sum = stored */
    const struct tarball_extent *extents;
    size_t extent_count;
    const struct tarball_xattr *xattrs;
    size_t xattr_count;
};

struct tarball;

struct tarball *tarball_new(struct tarball_source source); /* NULL when out of memory */
void tarball_free(struct tarball *t);

/* The next member, or *out = NULL at the end of the archive; by then the source was read to its
 * end. What was left unread of the member before is skipped. After an error only tarball_free is
 * allowed. */
int tarball_next(struct tarball *t, const struct tarball_entry **out, struct sm_error *err);

/* The next piece of the current member's stored bytes, valid until the next call; *len 0 after the
 * last. */
int tarball_read(struct tarball *t, const uint8_t **data, size_t *len, struct sm_error *err);

#endif

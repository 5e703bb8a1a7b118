/* SPDX-License-Identifier: Apache-2.0 */
/* What the tarball_*.c files share. Nothing outside them includes this. */
#ifndef SM_IMAGE_TARBALL_PARTS_H
#define SM_IMAGE_TARBALL_PARTS_H

#include "base/buf.h"
#include "image/tarball.h"

#define TAR_BLOCK 512

/* The PAX keys that change what an entry is. Others are ignored, as POSIX asks. */
enum pax_key {
    PAX_PATH,
    PAX_LINKPATH,
    PAX_SIZE,
    PAX_UID,
    PAX_GID,
    PAX_MTIME,
    PAX_CHARSET,
    PAX_DEVMAJOR,
    PAX_DEVMINOR,
    PAX_SPARSE_MAJOR,
    PAX_SPARSE_MINOR,
    PAX_SPARSE_NAME,
    PAX_SPARSE_REALSIZE,
    PAX_SPARSE_SIZE,
    PAX_SPARSE_NUMBLOCKS,
    PAX_SPARSE_MAP,
    PAX_KEYS
};

struct pax_value {
    const char *p; /* into pax.raw, NUL-terminated; NULL = not given */
    size_t len;
};

struct pax {
    bool present;
    struct buf raw; /* the records as read; keys and values point into it */
    struct pax_value v[PAX_KEYS];
    struct tarball_xattr *xattrs; /* owned */
    size_t xattr_count, xattr_cap;
};

struct tarball {
    struct tarball_source source;
    const uint8_t *data; /* borrowed from the source: not yet used */
    size_t avail;
    uint64_t offset; /* bytes of the archive used so far, for messages */
    uint64_t left;   /* stored bytes of the current entry still to come */
    unsigned pad;    /* then this many to the next block */
    bool ended;
    struct pax pax;
    bool has_long_name, has_long_link;
    struct buf long_name, long_link; /* from GNU 'L' and 'K' */
    struct buf name, link;           /* what the entry points at */
    struct tarball_extent *extents;  /* owned */
    size_t extent_count, extent_cap;
    struct tarball_entry entry;
};

/* Numeric header field: octal with blanks around, or base-256. 0, or -1 when it is neither or does
 * not fit. All blank is 0. */
int tarball_number(const uint8_t *p, size_t len, int64_t *out);
/* Unsigned decimal, digits only, ended by NUL. 0 or -1. */
int tarball_decimal(const char *p, uint64_t *out);
/* [-]seconds[.fraction] as in PAX mtime. 0 or -1. */
int tarball_time(const char *p, int64_t *sec, uint32_t *nsec);
bool tarball_checksum_ok(const uint8_t block[TAR_BLOCK]);

/* Exactly len archive bytes; the archive ending before is SM_ECORRUPT naming what. */
int tarball_take(struct tarball *t, void *out, size_t len, const char *what, struct sm_error *err);

/* Read and check size bytes of PAX records. A global header may carry only keys that are ignored.
 */
int pax_read(struct tarball *t, uint64_t size, bool global, struct sm_error *err);
void pax_clear(struct pax *p); /* forgets the records, keeps the memory */
void pax_fini(struct pax *p);

/* Append an extent; checks order, overlap and count. Length 0 is dropped. */
int sparse_add(struct tarball *t, uint64_t offset, uint64_t len, struct sm_error *err);
/* Old GNU 'S' header and its extension blocks. */
int sparse_gnu_header(struct tarball *t, const uint8_t block[TAR_BLOCK], struct sm_error *err);
/* PAX forms 0.0, 0.1 and 1.0; no-op when the entry has none. Form 1.0 takes its map from the data.
 */
int sparse_pax(struct tarball *t, struct sm_error *err);

#endif

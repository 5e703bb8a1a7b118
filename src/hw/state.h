/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State that is saved and loaded by one walk: a struct has one function that visits its fields in
 * order, and the same function writes them out and takes them in. So there are no two lists to
 * differ. Values are little-endian and packed; a walk changes only with its section's version.
 *
 * A file is a header and named, versioned, checksummed sections (docs/formats/snapshot.md). What is
 * loaded is hostile even when its checksum is right: a walk checks each value against what the
 * struct's code relies on, by state_check(), or checks the whole after the walk.
 *
 * Errors stick: after the first one a walk reads zeros and changes nothing that matters, and the
 * section's load fails. Not thread-safe per object.
 */
#ifndef SM_HW_STATE_H
#define SM_HW_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define STATE_NAME_SIZE 16 /* of a section, with its NULs */
#define STATE_SECTIONS_MAX 256
#define STATE_DIGEST_SIZE 32
#define STATE_HEADER_SIZE 48
#define STATE_SECTION_HEADER_SIZE (STATE_NAME_SIZE + 8 + STATE_DIGEST_SIZE)

struct state {
    bool loading;
    struct buf *out;     /* saving: borrowed */
    const uint8_t *data; /* loading: borrowed */
    size_t len, at;
    const char *section;
    struct sm_error error; /* the first one; code is 0 while all is well */
};

void state_u8(struct state *s, uint8_t *v);
void state_u16(struct state *s, uint16_t *v);
void state_u32(struct state *s, uint32_t *v);
void state_u64(struct state *s, uint64_t *v);
void state_bool(struct state *s, bool *v); /* anything but 0 and 1 is an error */
void state_bytes(struct state *s, void *data, size_t len);

/* Loading only: fail unless ok, with what (static text) named. Does nothing when saving. */
void state_check(struct state *s, bool ok, const char *what);
/* A value that must be the same in the VM that loads as in the one that saved: its configuration.
 * The error is SM_EUNSUPPORTED, for it says that the snapshot fits another machine. */
void state_same(struct state *s, uint64_t value, const char *what);

typedef void state_walk_fn(struct state *s, void *object);

/* ---- files ---- */

/* Start a file that belongs to the document with this SHA-256. 0 or SM_ENOMEM. */
int state_begin(struct buf *file, const uint8_t digest[STATE_DIGEST_SIZE], struct sm_error *err);
/* Any time later: it belongs to this one, which was not known at first. */
void state_bind(struct buf *file, const uint8_t digest[STATE_DIGEST_SIZE]);
/* Append a section: what walk makes of object. */
int state_save(struct buf *file, const char *name, uint32_t version, state_walk_fn *walk,
               void *object, struct sm_error *err);

struct state_section {
    char name[STATE_NAME_SIZE];
    uint32_t version;
    const uint8_t *data; /* borrowed from the file's bytes */
    size_t len;
    bool taken;
};

struct state_file {
    struct state_section sections[STATE_SECTIONS_MAX];
    unsigned n;
};

/* Check a whole file and its checksums; *out borrows data. SM_ECORRUPT: truncated, no state file,
 * damaged, or of another document; SM_EUNSUPPORTED: another format version. */
int state_open(struct state_file *out, const uint8_t *data, size_t len,
               const uint8_t digest[STATE_DIGEST_SIZE], struct sm_error *err);
/* Load object from the section of that name. SM_EUNSUPPORTED: there is none, or it has another
 * version; SM_ECORRUPT: a value is impossible. The object is then partly changed: throw it away. */
int state_load(struct state_file *file, const char *name, uint32_t version, state_walk_fn *walk,
               void *object, struct sm_error *err);
/* After the last load: every section was used. */
int state_finish(const struct state_file *file, struct sm_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where an image's documents and layers are read from: named, finite streams of bytes. A folder
 * (source_dir.c) or a tar archive (source_tar.c); what they mean is for layout.c and
 * docker_archive.c. One thread at a time, but where it says parallel.
 */
#ifndef SM_IMAGE_SOURCE_H
#define SM_IMAGE_SOURCE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"
#include "image/manifest.h"
#include "image/store.h"

struct stream {
    /* Up to len bytes; 0 at the end; -1 with errno. The end comes after size_bytes, or earlier when
     * the host's file is cut short. */
    ssize_t (*read)(struct stream *s, void *data, size_t len);
    void (*close)(struct stream *s); /* frees s */
    uint64_t size_bytes;
    const struct sm_error *why; /* borrowed: after -1, more than errno can say; or NULL */
    void (*tick)(void *opaque); /* set by the reader: called while read waits; or NULL */
    void *tick_opaque;
};

struct source;
struct source_ops {
    int (*open)(struct source *src, const char *name, struct stream **out, struct sm_error *err);
    void (*free)(struct source *src);
};
struct source {
    const struct source_ops *ops;
    bool parallel; /* entries may be opened and read by several threads at once */
    char *label;   /* owned by the implementation: the path, for messages */
};

/* A folder. SM_ENOTFOUND when there is none, SM_EINVAL when path is something else. */
int source_dir_open(const char *path, struct source **out, struct sm_error *err);

/*
 * A tar archive, plain or compressed (gzip, bzip2, xz, zstd), in a regular file or a pipe. One that
 * cannot be read at any offset is first unpacked, whole, into an unnamed file of the store. Links
 * between entries are followed. SM_ECORRUPT when it is not a tar archive.
 */
int source_tar_open(const char *path, struct store *store, struct source **out,
                    struct sm_error *err);

void source_free(struct source *src); /* NULL is fine */

/* Open the entry called name ("index.json", "blobs/sha256/..."). SM_ENOTFOUND when there is none.
 * Its stream must be closed before the source is freed. */
int source_open_entry(struct source *src, const char *name, struct stream **out,
                      struct sm_error *err);

/* Read a whole entry of at most max bytes into out (appended). */
int source_read_entry(struct source *src, const char *name, size_t max, struct buf *out,
                      struct sm_error *err);
/* Read a small document, checked against its descriptor's size and digest. what names it in errors.
 */
int source_read_blob(struct source *src, const struct descriptor *d, const char *what,
                     struct buf *out, struct sm_error *err);

#endif

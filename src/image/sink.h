/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where an image's files are written to, as source.h is where they are read from: a tar archive
 * (sink_tar.c) or a folder (sink_dir.c). What has a name on this host appears there complete, by
 * rename, when sink_commit says so, or not at all. One thread at a time.
 */
#ifndef SM_IMAGE_SINK_H
#define SM_IMAGE_SINK_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct sink;
struct sink_ops {
    int (*file)(struct sink *s, const char *name, uint64_t size_bytes, struct sm_error *err);
    int (*write)(struct sink *s, const void *data, size_t len, struct sm_error *err);
    int (*commit)(struct sink *s, struct sm_error *err);
    void (*free)(struct sink *s);
};
struct sink {
    const struct sink_ops *ops;
};

/*
 * A tar archive at path, in place of a file that is there; or, when path is NULL, written to fd
 * (borrowed). A path that is no regular file (a pipe, a device) is written to directly. Mode 0600.
 */
int sink_tar_open(const char *path, int fd, struct sink **out, struct sm_error *err);
/* A folder at path, where there is none yet or an empty one: SM_EINVAL else. Mode 0700. */
int sink_dir_open(const char *path, struct sink **out, struct sm_error *err);

/* Begin a file; exactly size_bytes are written next. Its name is our own ("index.json",
 * "blobs/sha256/..."), each once. */
int sink_file(struct sink *s, const char *name, uint64_t size_bytes, struct sm_error *err);
int sink_write(struct sink *s, const void *data, size_t len, struct sm_error *err);
/* All is written: make it durable, then visible. */
int sink_commit(struct sink *s, struct sm_error *err);
/* Without a commit nothing of it stays but what went into a pipe. NULL is fine. */
void sink_free(struct sink *s);

#endif

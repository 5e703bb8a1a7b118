/* SPDX-License-Identifier: Apache-2.0 */
/* Whole-transfer file I/O and crash-safe file creation. EINTR is retried everywhere. */
#ifndef SM_BASE_IO_H
#define SM_BASE_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

/* Read until len bytes or end of file. Returns the bytes read, or -1 with errno. */
ssize_t io_read_full(int fd, void *data, size_t len);
/* Write all of it. Returns 0, or -1 with errno. */
int io_write_full(int fd, const void *data, size_t len);
/* The same at an offset of the file; its position stays. */
int io_pwrite_full(int fd, const void *data, size_t len, uint64_t offset);

/* Read a whole file into out (appended), refusing more than max bytes. */
int io_slurp(const char *path, size_t max, struct buf *out, struct sm_error *err);

/*
 * A file that appears under its final name complete or not at all: write to a temporary in the same
 * folder, fsync, rename, fsync of the folder.
 */
struct io_atomic {
    int fd;     /* write here; -1 when closed */
    char *path; /* owned: final name */
    char *temp; /* owned: temporary name, same folder */
};
int io_atomic_begin(struct io_atomic *a, const char *path, unsigned mode, struct sm_error *err);
/* On error the temporary is removed and nothing exists under the final name. */
int io_atomic_commit(struct io_atomic *a, struct sm_error *err);
/* Removes the temporary; a no-op after commit and on a zeroed object with fd -1. */
void io_atomic_abort(struct io_atomic *a);

/* mkdir -p with the given mode for what it creates. */
int io_mkdirs(const char *path, unsigned mode, struct sm_error *err);

/* printf into fresh memory; NULL when out of memory. The caller frees. */
char *io_format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif

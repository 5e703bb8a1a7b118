/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tar archive as a sink: ustar (POSIX.1-2017, pax), with GNU's binary size for what eleven octal
 * digits do not hold. Owner, times and modes are the same for all, so equal images are equal
 * archives.
 */
#include "image/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"

#define BLOCK 512
#define OCTAL_SIZE_MAX ((UINT64_C(1) << 33) - 1)

struct tar_sink {
    struct sink sink;
    struct io_atomic file; /* fd -1: written directly */
    int fd;
    int own_fd;    /* a pipe or device that we opened, or -1 */
    bool begun;    /* the archive has its folders */
    uint64_t left; /* of the file that is being written */
    unsigned pad;  /* after it */
    char *label;   /* owned */
};

/* POSIX ustar header. */
struct header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100],
        magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155], unused[12];
};
_Static_assert(sizeof(struct header) == BLOCK, "ustar header");

static int put(struct tar_sink *t, const void *data, size_t len, struct sm_error *err)
{
    return io_write_full(t->fd, data, len) ? err_sys(err, "cannot write to %s", t->label) : SM_OK;
}

static int put_header(struct tar_sink *t, const char *name, char type, uint64_t size,
                      struct sm_error *err)
{
    struct header h = {.type = type};
    unsigned sum = 0;
    memcpy(h.name, name, strlen(name)); /* ours, all shorter */
    strcpy(h.mode, type == '5' ? "0000755" : "0000644");
    strcpy(h.uid, "0000000");
    strcpy(h.gid, "0000000");
    strcpy(h.mtime, "00000000000");
    if (size <= OCTAL_SIZE_MAX) {
        snprintf(h.size, sizeof h.size, "%011llo", (unsigned long long)size);
    } else {
        h.size[0] = (char)0x80;
        for (int i = 0; i < 8; i++) {
            h.size[11 - i] = (char)(size >> (8 * i));
        }
    }
    memcpy(h.magic, "ustar", 6);
    memcpy(h.version, "00", 2);
    memset(h.checksum, ' ', sizeof h.checksum);
    for (size_t i = 0; i < sizeof h; i++) {
        sum += ((const uint8_t *)&h)[i];
    }
    snprintf(h.checksum, sizeof h.checksum - 1, "%06o", sum);
    return put(t, &h, sizeof h, err);
}

static int tar_file(struct sink *s, const char *name, uint64_t size, struct sm_error *err)
{
    struct tar_sink *t = (struct tar_sink *)s;
    int rc = t->begun ? SM_OK : put_header(t, "blobs/", '5', 0, err);
    rc = rc || t->begun ? rc : put_header(t, "blobs/sha256/", '5', 0, err);
    t->begun = true;
    t->left = size;
    t->pad = (unsigned)(-size % BLOCK);
    return rc ? rc : put_header(t, name, '0', size, err);
}

static int tar_write(struct sink *s, const void *data, size_t len, struct sm_error *err)
{
    static const uint8_t zeros[BLOCK];
    struct tar_sink *t = (struct tar_sink *)s;
    int rc = put(t, data, len, err);
    t->left -= len;
    if (!rc && t->left == 0) {
        rc = put(t, zeros, t->pad, err);
    }
    return rc;
}

static int tar_commit(struct sink *s, struct sm_error *err)
{
    static const uint8_t end[2 * BLOCK];
    struct tar_sink *t = (struct tar_sink *)s;
    int rc = put(t, end, sizeof end, err);
    if (!rc && t->file.fd >= 0) {
        rc = io_atomic_commit(&t->file, err);
    }
    return rc;
}

static void tar_free(struct sink *s)
{
    struct tar_sink *t = (struct tar_sink *)s;
    io_atomic_abort(&t->file);
    if (t->own_fd >= 0) {
        close(t->own_fd);
    }
    free(t->label);
    free(t);
}

static const struct sink_ops tar_ops = {tar_file, tar_write, tar_commit, tar_free};

/* A regular file, or a name that is free. */
static int open_atomic(struct tar_sink *t, const char *path, bool exists, struct sm_error *err)
{
    /* Through a link: what it names is replaced, not the link. */
    char *real = exists ? realpath(path, NULL) : strdup(path);
    int rc =
        real ? io_atomic_begin(&t->file, real, 0600, err) : err_sys(err, "cannot create %s", path);
    free(real);
    t->fd = t->file.fd;
    return rc;
}

static int open_path(struct tar_sink *t, const char *path, struct sm_error *err)
{
    struct stat st;
    bool exists = stat(path, &st) == 0;
    if (exists && S_ISDIR(st.st_mode)) {
        return err_set(err, SM_EINVAL, "%s is a folder: name a file in it", path);
    }
    if (!exists || S_ISREG(st.st_mode)) {
        return open_atomic(t, path, exists, err);
    }
    t->fd = t->own_fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    return t->fd < 0 ? err_sys(err, "cannot open %s", path) : SM_OK;
}

int sink_tar_open(const char *path, int fd, struct sink **out, struct sm_error *err)
{
    struct tar_sink *t = calloc(1, sizeof *t);
    *out = NULL;
    if (!t || !(t->label = strdup(path ? path : "the output"))) {
        free(t);
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    t->sink.ops = &tar_ops;
    t->file.fd = t->own_fd = -1;
    t->fd = fd;
    int rc = path ? open_path(t, path, err) : SM_OK;
    if (rc) {
        tar_free(&t->sink);
        return rc;
    }
    *out = &t->sink;
    return SM_OK;
}

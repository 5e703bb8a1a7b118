/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A folder as a source. The folder is the user's own, so links in it are followed; names come from
 * our own code or are checked digests, so none can lead out of it by itself.
 */
#include "image/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct dir_source {
    struct source src;
    int fd; /* of the folder */
};

struct file_stream {
    struct stream stream;
    int fd;
    uint64_t left;
};

static ssize_t file_read(struct stream *stream, void *data, size_t len)
{
    struct file_stream *f = (struct file_stream *)stream;
    size_t want = len < f->left ? len : (size_t)f->left;
    ssize_t n;
    do {
        n = want ? read(f->fd, data, want) : 0;
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        f->left -= (uint64_t)n;
    }
    return n;
}

static void file_close(struct stream *stream)
{
    struct file_stream *f = (struct file_stream *)stream;
    close(f->fd);
    free(f);
}

static int dir_open(struct source *src, const char *name, struct stream **out, struct sm_error *err)
{
    struct dir_source *d = (struct dir_source *)src;
    /* Not blocking: a FIFO planted under the name must not hang us. */
    int fd = openat(d->fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        return err_sys(err, "cannot open %s/%s", src->label, name);
    }
    struct stat st;
    struct file_stream *f = NULL;
    int rc;
    if (fstat(fd, &st)) {
        rc = err_sys(err, "cannot look at %s/%s", src->label, name);
    } else if (!S_ISREG(st.st_mode)) {
        rc = err_set(err, SM_ECORRUPT, "%s/%s is not a regular file", src->label, name);
    } else if (!(f = calloc(1, sizeof *f))) {
        rc = err_set(err, SM_ENOMEM, "out of memory");
    } else {
        f->stream = (struct stream){
            .read = file_read, .close = file_close, .size_bytes = (uint64_t)st.st_size};
        f->fd = fd;
        f->left = (uint64_t)st.st_size;
        posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
        *out = &f->stream;
        return SM_OK;
    }
    close(fd);
    return rc;
}

static void dir_free(struct source *src)
{
    struct dir_source *d = (struct dir_source *)src;
    if (d->fd >= 0) {
        close(d->fd);
    }
    free(src->label);
    free(d);
}

static const struct source_ops dir_ops = {dir_open, dir_free};

int source_dir_open(const char *path, struct source **out, struct sm_error *err)
{
    struct dir_source *d = calloc(1, sizeof *d);
    *out = NULL;
    if (!d || !(d->src.label = strdup(path))) {
        free(d);
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    d->src.ops = &dir_ops;
    d->src.parallel = true;
    d->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->fd < 0) {
        int rc = errno == ENOTDIR ? err_set(err, SM_EINVAL, "%s is not a folder", path)
                                  : err_sys(err, "cannot open %s", path);
        dir_free(&d->src);
        return rc;
    }
    *out = &d->src;
    return SM_OK;
}

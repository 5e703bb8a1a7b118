/* SPDX-License-Identifier: Apache-2.0 */
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

ssize_t io_read_full(int fd, void *data, size_t len)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = read(fd, (char *)data + done, len - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -1;
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int io_write_full(int fd, const void *data, size_t len)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = write(fd, (const char *)data + done, len - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -1;
        }
        done += (size_t)n;
    }
    return 0;
}

int io_pwrite_full(int fd, const void *data, size_t len, uint64_t offset)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = pwrite(fd, (const char *)data + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -1;
        }
        done += (size_t)n;
    }
    return 0;
}

int io_slurp(const char *path, size_t max, struct buf *out, struct sm_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return err_sys(err, "cannot open %s", path);
    }
    size_t start = out->len;
    int rc = SM_OK;
    size_t want = 4096; /* most are smaller; the others are read in larger steps */
    for (;; want = 65536) {
        if (buf_reserve(out, want)) {
            rc = err_set(err, SM_ENOMEM, "out of memory reading %s", path);
            break;
        }
        ssize_t n = io_read_full(fd, out->data + out->len, want);
        if (n < 0) {
            rc = err_sys(err, "cannot read %s", path);
            break;
        }
        out->len += (size_t)n;
        if (out->len - start > max) {
            rc = err_set(err, SM_EINVAL, "%s is larger than the limit of %zu bytes", path, max);
            break;
        }
        if ((size_t)n < want) {
            break;
        }
    }
    close(fd);
    if (rc) {
        out->len = start;
    }
    return rc;
}

char *io_format(const char *fmt, ...)
{
    va_list ap;
    char *s;
    va_start(ap, fmt);
    int n = vasprintf(&s, fmt, ap);
    va_end(ap);
    return n < 0 ? NULL : s;
}

int io_atomic_begin(struct io_atomic *a, const char *path, unsigned mode, struct sm_error *err)
{
    *a = (struct io_atomic){.fd = -1};
    a->path = strdup(path);
    a->temp = io_format("%s.tmp.XXXXXX", path);
    if (!a->path || !a->temp) {
        io_atomic_abort(a);
        return err_set(err, SM_ENOMEM, "out of memory creating %s", path);
    }
    a->fd = mkostemp(a->temp, O_CLOEXEC);
    if (a->fd < 0) {
        int rc = err_sys(err, "cannot create %s", path);
        free(a->temp);
        a->temp = NULL;
        io_atomic_abort(a);
        return rc;
    }
    if (fchmod(a->fd, mode)) {
        int rc = err_sys(err, "cannot set the mode of %s", path);
        io_atomic_abort(a);
        return rc;
    }
    return SM_OK;
}

static int sync_folder(const char *path)
{
    char *copy = strdup(path);
    if (!copy) {
        errno = ENOMEM;
        return -1;
    }
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(copy);
    if (fd < 0) {
        return -1;
    }
    int rc = fsync(fd);
    close(fd);
    return rc;
}

int io_atomic_commit(struct io_atomic *a, struct sm_error *err)
{
    int rc = SM_OK;
    if (fsync(a->fd)) {
        rc = err_sys(err, "cannot write %s to disk", a->path);
        close(a->fd);
    } else if (close(a->fd)) {
        rc = err_sys(err, "cannot write %s", a->path);
    }
    a->fd = -1;
    if (!rc && rename(a->temp, a->path)) {
        rc = err_sys(err, "cannot rename %s into place", a->path);
    }
    if (!rc) {
        free(a->temp);
        a->temp = NULL;
        if (sync_folder(a->path)) {
            rc = err_sys(err, "cannot sync the folder of %s", a->path);
        }
    }
    io_atomic_abort(a);
    return rc;
}

void io_atomic_abort(struct io_atomic *a)
{
    if (a->fd >= 0) {
        close(a->fd);
    }
    if (a->temp) {
        unlink(a->temp);
    }
    free(a->temp);
    free(a->path);
    *a = (struct io_atomic){.fd = -1};
}

int io_mkdirs(const char *path, unsigned mode, struct sm_error *err)
{
    char *copy = strdup(path);
    if (!copy) {
        return err_set(err, SM_ENOMEM, "out of memory creating %s", path);
    }
    int rc = SM_OK;
    for (char *p = copy + 1; !rc; p++) {
        char c = *p;
        if (c != '/' && c != '\0') {
            continue;
        }
        *p = '\0';
        if (mkdir(copy, mode) && errno != EEXIST) {
            rc = err_sys(err, "cannot create folder %s", copy);
        }
        *p = c;
        if (c == '\0') {
            break;
        }
    }
    free(copy);
    return rc;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A folder as a sink: filled under a temporary name beside its own, then renamed. */
#include "image/sink.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"

#define BLOBS "blobs/sha256"

struct dir_sink {
    struct sink sink;
    char *path, *temp; /* owned; temp is NULL while there is no such folder */
    int folder;        /* of temp */
    int fd;            /* of the file that is being written, or -1 */
    uint64_t left;     /* of it */
};

static int close_file(struct dir_sink *d, struct sm_error *err)
{
    int rc = fsync(d->fd) ? err_sys(err, "cannot write to %s", d->path) : SM_OK;
    close(d->fd);
    d->fd = -1;
    return rc;
}

static int dir_file(struct sink *s, const char *name, uint64_t size, struct sm_error *err)
{
    struct dir_sink *d = (struct dir_sink *)s;
    d->fd = openat(d->folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    d->left = size;
    return d->fd < 0 ? err_sys(err, "cannot create %s/%s", d->path, name) : SM_OK;
}

static int dir_write(struct sink *s, const void *data, size_t len, struct sm_error *err)
{
    struct dir_sink *d = (struct dir_sink *)s;
    if (io_write_full(d->fd, data, len)) {
        return err_sys(err, "cannot write to %s", d->path);
    }
    d->left -= len;
    return d->left == 0 ? close_file(d, err) : SM_OK;
}

/* fsync of a folder below base. 0, or -1 with errno. */
static int sync_folder(int base, const char *name)
{
    int fd = openat(base, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 ? -1 : fsync(fd);
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}

static int sync_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *parent = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    int rc = parent ? sync_folder(AT_FDCWD, parent) : -1;
    free(parent);
    return rc;
}

static int dir_commit(struct sink *s, struct sm_error *err)
{
    struct dir_sink *d = (struct dir_sink *)s;
    if (sync_folder(d->folder, BLOBS) || sync_folder(d->folder, "blobs") || fsync(d->folder)) {
        return err_sys(err, "cannot write to %s", d->path);
    }
    if (rename(d->temp, d->path)) {
        return err_sys(err, "cannot put %s into place", d->path);
    }
    free(d->temp);
    d->temp = NULL;
    return sync_parent(d->path) ? err_sys(err, "cannot sync the folder of %s", d->path) : SM_OK;
}

/* Remove the files of one of our own folders, and then it. */
static void remove_folder(int base, const char *name)
{
    struct dirent *e;
    int fd = openat(base, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    while (dir && (e = readdir(dir))) {
        unlinkat(fd, e->d_name, 0); /* what is a folder stays */
    }
    if (dir) {
        closedir(dir);
    } else if (fd >= 0) {
        close(fd);
    }
    unlinkat(base, name, AT_REMOVEDIR);
}

static void dir_free(struct sink *s)
{
    struct dir_sink *d = (struct dir_sink *)s;
    if (d->fd >= 0) {
        close(d->fd);
    }
    if (d->temp) {
        remove_folder(d->folder, BLOBS);
        remove_folder(d->folder, "blobs");
        remove_folder(AT_FDCWD, d->temp);
    }
    if (d->folder >= 0) {
        close(d->folder);
    }
    free(d->temp);
    free(d->path);
    free(d);
}

static const struct sink_ops dir_ops = {dir_file, dir_write, dir_commit, dir_free};

/* Is the name free, or that of an empty folder? */
static int check_free(const char *path, struct sm_error *err)
{
    struct dirent *e;
    size_t n = 0;
    DIR *dir = opendir(path);
    if (!dir) {
        return errno == ENOENT    ? SM_OK
               : errno == ENOTDIR ? err_set(err, SM_EINVAL, "%s exists, and is no folder", path)
                                  : err_sys(err, "cannot create %s", path);
    }
    while ((e = readdir(dir))) {
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    }
    closedir(dir);
    return n ? err_set(err, SM_EINVAL, "%s exists, and is not empty: name another folder", path)
             : SM_OK;
}

static int make_temp(struct dir_sink *d, struct sm_error *err)
{
    char *temp = io_format("%s.tmp.XXXXXX", d->path);
    if (!temp || !mkdtemp(temp)) {
        int rc = err_sys(err, "cannot create %s", d->path);
        free(temp);
        return rc;
    }
    d->temp = temp;
    d->folder = open(temp, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (d->folder < 0 || mkdirat(d->folder, "blobs", 0700) || mkdirat(d->folder, BLOBS, 0700)) {
        return err_sys(err, "cannot create %s", d->path);
    }
    return SM_OK;
}

int sink_dir_open(const char *path, struct sink **out, struct sm_error *err)
{
    struct dir_sink *d = calloc(1, sizeof *d);
    size_t len = strlen(path);
    *out = NULL;
    while (len > 1 && path[len - 1] == '/') {
        len--;
    }
    if (!d || !(d->path = strndup(path, len))) {
        free(d);
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    d->sink.ops = &dir_ops;
    d->fd = d->folder = -1;
    int rc = check_free(d->path, err);
    rc = rc ? rc : make_temp(d, err);
    if (rc) {
        dir_free(&d->sink);
        return rc;
    }
    *out = &d->sink;
    return SM_OK;
}

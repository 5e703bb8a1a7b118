/* SPDX-License-Identifier: Apache-2.0 */
/* See file.h. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int file_make_folders(const char *path)
{
    char part[PATH_MAX];
    size_t len = strlen(path);

    if (len >= sizeof part)
        return ENAMETOOLONG;
    for (size_t i = 1; i <= len; i++) {
        if (path[i] && path[i] != '/')
            continue;
        memcpy(part, path, i);
        part[i] = 0;
        if (mkdir(part, 0755) < 0 && errno != EEXIST)
            return errno;
    }
    return 0;
}

static int in_place(struct file *f, int flags)
{
    f->in_place = true;
    /* Without waiting for the reader of a pipe: where there is none it is an error. */
    f->fd = open(f->target, O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | flags);
    return f->fd < 0 || fcntl(f->fd, F_SETFL, 0) < 0 ? errno : 0;
}

static int open_temp(struct file *f)
{
    f->fd = open(f->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    return f->fd < 0 ? errno : 0;
}

/* The folder that the file is to be in. */
static int make_parent(const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');

    if (!slash || slash == path)
        return ENOENT;
    memcpy(folder, path, (size_t)(slash - path));
    folder[slash - path] = 0;
    return file_make_folders(folder);
}

int file_create(struct file *f, const char *path)
{
    struct stat st;
    bool exists = stat(path, &st) == 0;
    int error = exists ? 0 : errno;

    *f = (struct file){.fd = -1};
    if (error && error != ENOENT)
        return error;
    if (exists && S_ISDIR(st.st_mode))
        return EISDIR;
    if (!exists && (!*path || path[strlen(path) - 1] == '/'))
        return *path ? EISDIR : ENOENT;
    if (strlen(path) >= sizeof f->target)
        return ENAMETOOLONG;
    /* Through symbolic links, as any program that opens the path would write. */
    if (!exists || !S_ISREG(st.st_mode) || !realpath(path, f->target))
        strcpy(f->target, path);
    if (exists && !S_ISREG(st.st_mode))
        return in_place(f, 0);
    if (snprintf(f->temp, sizeof f->temp, "%s.sm-%d", f->target, (int)getpid()) >=
        (int)sizeof f->temp)
        return ENAMETOOLONG;
    error = open_temp(f);
    if (error == ENOENT && !exists && make_parent(f->target) == 0)
        error = open_temp(f);
    if (exists && (error == EACCES || error == EPERM || error == EROFS))
        return in_place(f, O_TRUNC);
    if (!error && exists && fchown(f->fd, st.st_uid, st.st_gid) < 0) {
        /* it becomes the writer's own, as any new file */
    }
    return error;
}

int file_write(struct file *f, const void *data, size_t len)
{
    const char *p = data;

    while (len) {
        ssize_t n = write(f->fd, p, len);
        if (n < 0 && errno != EINTR)
            return errno;
        if (n > 0) {
            p += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

int file_commit(struct file *f, uint32_t mode)
{
    /* A device's mode is not its writer's to change. */
    if (!f->in_place && fchmod(f->fd, mode) < 0)
        return errno;
    if (close(f->fd) < 0) {
        f->fd = -1;
        return errno;
    }
    f->fd = -1;
    return f->in_place || rename(f->temp, f->target) == 0 ? 0 : errno;
}

void file_discard(struct file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
    if (!f->in_place && *f->temp)
        unlink(f->temp);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A volume is made as tmp/volume-HASH under the lock of that name, made durable, and put into place
 * by a link, which fails if there is one. What a killed maker left is overwritten or swept by the
 * next one.
 */
#include "image/store_volume.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "image/mkfs.h"
#include "image/store_impl.h"
#include "image/volume.h"

#define PREFIX "volume-"
#define SUFFIX ".img"
#define NAME_MAX_LEN 64

bool store_volume_name_valid(const char *name)
{
    static const char first[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
    return len >= 2 && len <= NAME_MAX_LEN && !name[len] && strchr(first, name[0]);
}

static int check_name(const char *name, struct sm_error *err)
{
    if (store_volume_name_valid(name)) {
        return SM_OK;
    }
    return err_set(err, SM_EINVAL,
                   "\"%.80s\" cannot be a volume: a name has 2 to %d letters, digits, _ . - and "
                   "begins with a letter or digit; a file is given by its absolute path",
                   name, NAME_MAX_LEN);
}

/* Name of a volume's lock, and of its file in tmp/. */
static char *temp_name(const char *name)
{
    char digest[DIGEST_STR_SIZE];
    hash_bytes(name, strlen(name), digest);
    return io_format(PREFIX "%s", digest + strlen("sha256:"));
}

/* Files in tmp/ whose maker was killed. */
static void sweep(struct store *s)
{
    DIR *d = opendir(s->tmp);
    struct dirent *e;
    while (d && (e = readdir(d))) {
        int lock;
        if (strncmp(e->d_name, PREFIX, strlen(PREFIX)) == 0 &&
            store_lock_try(s, e->d_name, &lock, NULL) == SM_OK && lock >= 0) {
            unlinkat(dirfd(d), e->d_name, 0);
            close(lock);
        }
    }
    if (d) {
        closedir(d);
    }
}

static int fill(struct store *s, const char *temp, struct sm_error *err)
{
    int fd = open(temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)STORE_VOLUME_BYTES)) {
        int rc = store_fail(s->path, "adding a volume", err);
        if (fd >= 0) {
            close(fd);
        }
        return rc;
    }
    int rc = mkfs_ext4(temp, err);
    if (!rc && fsync(fd)) {
        rc = store_fail(s->path, "adding a volume", err);
    }
    close(fd);
    return rc;
}

/* With the lock held. */
static int make(struct store *s, const char *temp, const char *path, bool *made,
                struct sm_error *err)
{
    if (access(path, F_OK) == 0) {
        return SM_OK;
    }
    unlink(temp);
    int rc = fill(s, temp, err);
    if (!rc && (link(temp, path) || store_sync_folder(s->volumes))) {
        rc = store_fail(s->path, "adding a volume", err);
    }
    unlink(temp);
    *made = rc == SM_OK;
    return rc;
}

int store_volume_path(struct store *s, const char *name, char **path, bool *made,
                      struct sm_error *err)
{
    *path = NULL;
    *made = false;
    int rc = check_name(name, err), lock;
    if (rc) {
        return rc;
    }
    *path = io_format("%s/%s" SUFFIX, s->volumes, name);
    if (*path && access(*path, F_OK) == 0) {
        return SM_OK;
    }
    char *lock_name = temp_name(name);
    char *temp = lock_name ? io_format("%s/%s", s->tmp, lock_name) : NULL;
    rc = *path && temp ? store_lock_take(s, lock_name, "making the same volume", &lock, err)
                       : err_set(err, SM_ENOMEM, "out of memory");
    if (!rc) {
        store_lock_sign(lock);
        rc = make(s, temp, *path, made, err);
        close(lock);
        sweep(s);
    }
    free(lock_name);
    free(temp);
    if (rc) {
        free(*path);
        *path = NULL;
    }
    return rc;
}

static int show(struct store *s, const char *file, int folder,
                int (*each)(void *opaque, const struct store_volume *volume), void *opaque,
                struct sm_error *err)
{
    struct stat st;
    size_t len = strlen(file), suffix = strlen(SUFFIX);
    if (len <= suffix || strcmp(file + len - suffix, SUFFIX) != 0 ||
        fstatat(folder, file, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode)) {
        return SM_OK;
    }
    char *name = strndup(file, len - suffix), *path = io_format("%s/%s", s->volumes, file);
    int rc = name && path ? SM_OK : err_set(err, SM_ENOMEM, "out of memory");
    if (!rc && store_volume_name_valid(name)) {
        struct store_volume v = {.name = name,
                                 .path = path,
                                 .size_bytes = (uint64_t)st.st_size,
                                 .disk_bytes = (uint64_t)st.st_blocks * 512};
        rc = each(opaque, &v);
    }
    free(name);
    free(path);
    return rc;
}

int store_each_volume(struct store *s, int (*each)(void *opaque, const struct store_volume *volume),
                      void *opaque, struct sm_error *err)
{
    int rc = SM_OK;
    struct dirent *e;
    DIR *d = opendir(s->volumes);
    if (!d) {
        return err_sys(err, "cannot list the volumes in %s", s->path);
    }
    while (!rc && (e = readdir(d))) {
        rc = show(s, e->d_name, dirfd(d), each, opaque, err);
    }
    closedir(d);
    return rc;
}

int store_remove_volume(struct store *s, const char *name, struct sm_error *err)
{
    int rc = check_name(name, err);
    if (rc) {
        return rc;
    }
    char *path = io_format("%s/%s" SUFFIX, s->volumes, name);
    if (!path) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        rc = errno == ENOENT ? err_set(err, SM_ENOTFOUND, "there is no volume \"%s\"", name)
                             : err_sys(err, "cannot remove the volume %s", path);
    }
    /* Whoever opens it meanwhile waits for nobody: it finds the lock taken, or the file gone. */
    rc = rc ? rc : volume_lock(fd, false, path, err);
    if (!rc && unlink(path)) {
        rc = store_fail(s->path, "removing a volume", err);
    }
    if (fd >= 0) {
        close(fd);
    }
    free(path);
    return rc;
}

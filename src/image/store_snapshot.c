/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What makes it safe is what makes layers safe (store_item.c): a folder reaches snapshots/ only by
 * rename after its files are durable, and only its lock's holder touches tmp/snapshot-<key>.
 */
#include "image/store_snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "image/store_impl.h"

#define PREFIX "snapshot-"

int store_find_snapshot(struct store *s, const char *key, char **path, struct sm_error *err)
{
    struct stat st;
    *path = io_format("%s/%s", s->snapshots, key);
    if (!*path) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    if (lstat(*path, &st) == 0 && S_ISDIR(st.st_mode)) {
        return SM_OK;
    }
    free(*path);
    *path = NULL;
    return err_set(err, SM_ENOTFOUND, "there is no such snapshot");
}

/* Remove the files in a folder that holds nothing else; returns their size on disk. */
static uint64_t remove_files(const char *path)
{
    struct stat st;
    uint64_t bytes = 0;
    DIR *d = opendir(path);
    struct dirent *e;
    while (d && (e = readdir(d))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
            continue;
        }
        bool known = fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0;
        if (unlinkat(dirfd(d), e->d_name, 0) == 0 && known) {
            bytes += (uint64_t)st.st_blocks * 512;
        }
    }
    if (d) {
        closedir(d);
    }
    return bytes;
}

static uint64_t remove_folder(const char *path)
{
    uint64_t bytes = remove_files(path);
    rmdir(path);
    return bytes;
}

/* What killed makers left in tmp/: folders whose lock nobody holds. */
static void sweep(struct store *s)
{
    DIR *d = opendir(s->tmp);
    struct dirent *e;
    while (d && (e = readdir(d))) {
        int lock;
        if (strncmp(e->d_name, PREFIX, strlen(PREFIX)) != 0 ||
            !digest_hex_valid(e->d_name + strlen(PREFIX)) ||
            store_lock_try(s, e->d_name, &lock, NULL) != SM_OK || lock < 0) {
            continue;
        }
        char *path = io_format("%s/%s", s->tmp, e->d_name);
        if (path) {
            remove_folder(path);
        }
        free(path);
        close(lock);
    }
    if (d) {
        closedir(d);
    }
}

static int take_lock(struct store *s, const char *name, bool wait, struct store_snapshot *w,
                     struct sm_error *err)
{
    if (wait) {
        return store_lock_take(s, name, "baking the same image", &w->lock_fd, err);
    }
    int rc = store_lock_try(s, name, &w->lock_fd, err);
    w->busy = !rc && w->lock_fd < 0;
    return rc;
}

static int make_folder(struct store_snapshot *w, const char *name, struct sm_error *err)
{
    struct store *s = w->store;
    w->folder = io_format("%s/%s", s->tmp, name);
    if (!w->folder) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    store_lock_sign(w->lock_fd);
    sweep(s);
    remove_folder(w->folder);
    if (mkdir(w->folder, 0700) == 0) {
        return SM_OK;
    }
    int rc = store_fail(s->path, "adding a snapshot", err);
    free(w->folder);
    w->folder = NULL;
    return rc;
}

int store_snapshot_begin(struct store *s, const char *key, bool wait, bool replace,
                         struct store_snapshot *w, struct sm_error *err)
{
    struct stat st;
    *w = (struct store_snapshot){.lock_fd = -1, .store = s};
    char *name = io_format(PREFIX "%s", key);
    w->path = io_format("%s/%s", s->snapshots, key);
    int rc = name && w->path ? SM_OK : err_set(err, SM_ENOMEM, "out of memory");
    rc = rc ? rc : take_lock(s, name, wait, w, err);
    if (!rc && !w->busy) {
        w->present = !replace && lstat(w->path, &st) == 0;
        rc = w->present ? SM_OK : make_folder(w, name, err);
    }
    free(name);
    if (rc) {
        store_snapshot_abort(w);
    }
    return rc;
}

int store_snapshot_commit(struct store_snapshot *w, struct sm_error *err)
{
    struct store *s = w->store;
    int rc = SM_OK;
    if (store_sync_folder(w->folder)) {
        rc = err_sys(err, "cannot write snapshot %s to disk", w->path);
    } else if (rename(w->folder, w->path) == 0) {
        free(w->folder);
        w->folder = NULL;
    } else if ((errno != ENOTEMPTY && errno != EEXIST) ||
               renameat2(AT_FDCWD, w->folder, AT_FDCWD, w->path, RENAME_EXCHANGE) != 0) {
        rc = err_sys(err, "cannot put snapshot %s into place", w->path);
    }
    if (!rc && store_sync_folder(s->snapshots)) {
        rc = err_sys(err, "cannot sync the folder of snapshot %s", w->path);
    }
    store_snapshot_abort(w); /* after an exchange the folder holds the old one */
    return rc;
}

void store_snapshot_abort(struct store_snapshot *w)
{
    if (!w->store) {
        return;
    }
    if (w->folder) {
        remove_folder(w->folder);
    }
    if (w->lock_fd >= 0) {
        close(w->lock_fd);
    }
    free(w->folder);
    free(w->path);
    *w = (struct store_snapshot){.lock_fd = -1};
}

/* ---- looking after them ---- */

int store_each_snapshot(struct store *s,
                        int (*each)(void *opaque, const char *key, const char *path), void *opaque,
                        struct sm_error *err)
{
    int rc = SM_OK;
    struct dirent *e;
    DIR *d = opendir(s->snapshots);
    if (!d) {
        return err_sys(err, "cannot list the snapshots in %s", s->path);
    }
    while (!rc && (e = readdir(d))) {
        if (!digest_hex_valid(e->d_name)) {
            continue;
        }
        char *path = io_format("%s/%s", s->snapshots, e->d_name);
        rc = path ? each(opaque, e->d_name, path) : err_set(err, SM_ENOMEM, "out of memory");
        free(path);
    }
    closedir(d);
    return rc;
}

bool store_remove_snapshot(struct store *s, const char *key, uint64_t *bytes)
{
    int lock = -1;
    bool gone = false;
    *bytes = 0;
    char *name = io_format(PREFIX "%s", key);
    char *path = io_format("%s/%s", s->snapshots, key);
    char *aside = io_format("%s/" PREFIX "%s", s->tmp, key);
    if (name && path && aside && store_lock_try(s, name, &lock, NULL) == SM_OK && lock >= 0) {
        /* away from its name as a whole: half a snapshot is never seen */
        remove_folder(aside);
        gone = rename(path, aside) == 0;
        *bytes = remove_folder(aside);
        close(lock);
    }
    free(aside);
    free(path);
    free(name);
    return gone;
}

void store_forget_digests(struct store *s)
{
    remove_files(s->digests);
}

/* ---- digests of files ---- */

/* Where the digest of a file with this status is remembered. NULL when out of memory. */
static char *memo_path(struct store *s, const char *path, const struct stat *st)
{
    char digest[DIGEST_STR_SIZE];
    char *identity =
        io_format("%s %llu %llu %llu %lld.%09ld %lld.%09ld", path, (unsigned long long)st->st_dev,
                  (unsigned long long)st->st_ino, (unsigned long long)st->st_size,
                  (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec, (long long)st->st_ctim.tv_sec,
                  st->st_ctim.tv_nsec);
    if (!identity) {
        return NULL;
    }
    hash_bytes(identity, strlen(identity), digest);
    free(identity);
    return io_format("%s/%s", s->digests, digest + strlen("sha256:"));
}

static bool recall(const char *memo, char digest[DIGEST_STR_SIZE])
{
    struct buf text = {0};
    bool good =
        io_slurp(memo, DIGEST_STR_SIZE, &text, NULL) == SM_OK && text.len == DIGEST_STR_SIZE - 1;
    if (good) {
        memcpy(digest, text.data, text.len);
        digest[text.len] = '\0';
        good = digest_valid(digest);
    }
    buf_fini(&text);
    return good;
}

/* A store that cannot be written forgets; nothing else is lost. */
static void remember(const char *memo, const char *digest)
{
    struct io_atomic a;
    if (io_atomic_begin(&a, memo, 0600, NULL) != SM_OK) {
        return;
    }
    if (io_write_full(a.fd, digest, DIGEST_STR_SIZE - 1) == 0) {
        io_atomic_commit(&a, NULL);
    } else {
        io_atomic_abort(&a);
    }
}

int store_file_digest(struct store *s, const char *path, char digest[DIGEST_STR_SIZE],
                      struct sm_error *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0) {
        int rc = err_sys(err, "cannot open %s", path);
        if (fd >= 0) {
            close(fd);
        }
        return rc;
    }
    int rc = SM_OK;
    char *memo = S_ISREG(st.st_mode) ? memo_path(s, path, &st) : NULL;
    if (!memo) {
        rc = err_set(err, SM_EINVAL, "%s is not a regular file", path);
    } else if (!recall(memo, digest)) {
        if (hash_file(fd, UINT64_MAX, NULL, NULL, digest) < 0) {
            rc = err_sys(err, "cannot read %s", path);
        } else {
            remember(memo, digest);
        }
    }
    free(memo);
    close(fd);
    return rc;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding and making one layer. What makes it safe: a file reaches layers/ only by rename after
 * fsync, and only its lock's holder ever touches tmp/<diff id>.erofs. flock() dies with its holder,
 * so a killed maker leaves at worst a file in tmp/, which the next maker of any layer sweeps away.
 */
#include "image/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "image/store_impl.h"

#define POLL_NS 20000000
#define TOUCH_NS 1000000000u
#define SUFFIX ".erofs"

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static const char *hex_of(const char *diff_id)
{
    return diff_id + strlen("sha256:");
}

int store_find_layer(struct store *s, const char *diff_id, char **path, uint64_t *size_bytes,
                     struct sm_error *err)
{
    struct stat st;
    *path = io_format("%s/%s" SUFFIX, s->layers, hex_of(diff_id));
    if (!*path) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    int rc = SM_OK;
    if (lstat(*path, &st)) {
        rc = errno == ENOENT ? err_set(err, SM_ENOTFOUND, "layer %s is not in the store", diff_id)
                             : err_sys(err, "store %s: cannot look at layer %s", s->path, diff_id);
    } else if (!S_ISREG(st.st_mode) || st.st_size == 0) {
        rc = err_set(err, SM_ECORRUPT, "the store's layer %s is not a layer: remove it", *path);
    } else {
        *size_bytes = (uint64_t)st.st_size;
    }
    if (rc) {
        free(*path);
        *path = NULL;
    }
    return rc;
}

static int open_lock(struct store *s, const char *hex, int *fd, struct sm_error *err)
{
    *fd = -1;
    char *name = io_format("%s/layer-%s", s->locks, hex);
    if (!name) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    *fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    int rc = *fd < 0 ? store_fail(s->path, "locking a layer", err) : SM_OK;
    free(name);
    return rc;
}

/* Remove what killed makers left in tmp/: files whose lock nobody holds. */
static void sweep(struct store *s)
{
    DIR *d = opendir(s->tmp);
    struct dirent *e;
    while (d && (e = readdir(d))) {
        char digest[DIGEST_STR_SIZE + sizeof SUFFIX];
        size_t len = strlen(e->d_name);
        if (len != HASH_HEX_LEN + strlen(SUFFIX) || strcmp(e->d_name + HASH_HEX_LEN, SUFFIX) != 0) {
            continue;
        }
        memcpy(digest, "sha256:", 7);
        memcpy(digest + 7, e->d_name, HASH_HEX_LEN);
        digest[7 + HASH_HEX_LEN] = '\0';
        int lock;
        if (digest_valid(digest) && open_lock(s, digest + 7, &lock, NULL) == SM_OK) {
            if (flock(lock, LOCK_EX | LOCK_NB) == 0) {
                unlinkat(dirfd(d), e->d_name, 0);
            }
            close(lock);
        }
    }
    if (d) {
        closedir(d);
    }
}

/* The lock file's time of last sign of life, written by store_layer_progress. */
static struct timespec life_sign(int lock_fd)
{
    struct stat st = {0};
    fstat(lock_fd, &st);
    return st.st_mtim;
}

static int wait_for_lock(struct store *s, struct store_layer *l, const char *diff_id,
                         struct sm_error *err)
{
    struct timespec seen = {0};
    uint64_t since = now_ns();
    while (flock(l->lock_fd, LOCK_EX | LOCK_NB)) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            return err_sys(err, "store %s: cannot lock layer %s", s->path, diff_id);
        }
        struct timespec life = life_sign(l->lock_fd);
        uint64_t now = now_ns();
        if (life.tv_sec != seen.tv_sec || life.tv_nsec != seen.tv_nsec) {
            seen = life;
            since = now;
        } else if (now - since > (uint64_t)s->patience_ms * 1000000u) {
            char who[32] = "?";
            ssize_t n = pread(l->lock_fd, who, sizeof who - 1, 0);
            who[n > 0 ? n : 0] = '\0';
            return err_set(err, SM_ETIMEDOUT,
                           "another process (%s) is converting layer %s and has made no progress "
                           "for %u s; end it and try again",
                           n > 0 ? who : "?", diff_id, s->patience_ms / 1000);
        }
        nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
    }
    return SM_OK;
}

static int start_file(struct store *s, struct store_layer *l, struct sm_error *err)
{
    if (unlink(l->temp) && errno != ENOENT) {
        return store_fail(s->path, "cleaning up", err);
    }
    l->fd = open(l->temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    return l->fd < 0 ? store_fail(s->path, "adding a layer", err) : SM_OK;
}

int store_layer_begin(struct store *s, const char *diff_id, struct store_layer *l,
                      struct sm_error *err)
{
    uint64_t size;
    const char *hex = hex_of(diff_id);
    *l = (struct store_layer){.fd = -1, .lock_fd = -1, .folder = s->layers};
    char *found = NULL;
    int rc = open_lock(s, hex, &l->lock_fd, err);
    if (!rc && !(rc = wait_for_lock(s, l, diff_id, err))) {
        rc = store_find_layer(s, diff_id, &found, &size, err);
        free(found);
        if (rc == SM_OK) {
            store_layer_abort(l);
            l->present = true;
            return SM_OK;
        }
        rc = rc == SM_ENOTFOUND ? SM_OK : rc;
    }
    if (!rc) {
        l->temp = io_format("%s/%s" SUFFIX, s->tmp, hex);
        l->path = io_format("%s/%s" SUFFIX, s->layers, hex);
        rc = l->temp && l->path ? SM_OK : err_set(err, SM_ENOMEM, "out of memory");
    }
    if (!rc) {
        /* Who holds it, for the message of a waiter. Advice only, so errors do not matter. */
        if (ftruncate(l->lock_fd, 0) == 0) {
            dprintf(l->lock_fd, "pid %d", (int)getpid());
        }
        sweep(s);
        rc = start_file(s, l, err);
    }
    if (rc) {
        store_layer_abort(l);
    }
    return rc;
}

void store_layer_progress(struct store_layer *l)
{
    uint64_t now = now_ns();
    if (now - l->touched_ns > TOUCH_NS) {
        l->touched_ns = now;
        futimens(l->lock_fd, NULL);
    }
}

static int sync_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 ? -1 : fsync(fd);
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}

int store_layer_commit(struct store_layer *l, struct sm_error *err)
{
    int rc = SM_OK;
    if (fsync(l->fd)) {
        rc = err_sys(err, "cannot write layer %s to disk", l->path);
    } else if (close(l->fd)) {
        l->fd = -1;
        rc = err_sys(err, "cannot write layer %s", l->path);
    } else {
        l->fd = -1;
        if (rename(l->temp, l->path)) {
            rc = err_sys(err, "cannot put layer %s into place", l->path);
        }
    }
    if (!rc) {
        free(l->temp);
        l->temp = NULL;
        if (sync_folder(l->folder)) {
            rc = err_sys(err, "cannot sync the folder of layer %s", l->path);
        }
    }
    store_layer_abort(l);
    return rc;
}

void store_layer_abort(struct store_layer *l)
{
    if (!l->folder) {
        return; /* never begun, or over */
    }
    if (l->fd >= 0) {
        close(l->fd);
    }
    if (l->temp) {
        unlink(l->temp);
    }
    if (l->lock_fd >= 0) {
        close(l->lock_fd);
    }
    free(l->temp);
    free(l->path);
    *l = (struct store_layer){.fd = -1, .lock_fd = -1};
}

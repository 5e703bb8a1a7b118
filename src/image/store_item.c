/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holding and making one item. What makes it safe: a file reaches its folder only by rename after
 * fsync, and only its lock's holder ever touches its file in tmp/. flock() dies with its holder, so
 * a killed maker leaves at worst a file in tmp/, which the next maker of any item sweeps away.
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
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "image/seal.h"
#include "image/store_impl.h"

#define TOUCH_NS 1000000000u

static const struct {
    const char *name;   /* in messages and lock names */
    const char *suffix; /* of the file */
    const char *temp;   /* of its file in tmp/ */
} kinds[STORE_KINDS] = {
    [STORE_LAYER] = {"layer", ".erofs", ".erofs"},
    [STORE_BLOB] = {"blob", "", ".blob"},
};

static const char *hex_of(const char *digest)
{
    return digest + strlen("sha256:");
}

const char *store_suffix(enum store_kind kind)
{
    return kinds[kind].suffix;
}

static int flock_retry(int fd, int how)
{
    int rc;
    do {
        rc = flock(fd, how);
    } while (rc && errno == EINTR);
    return rc;
}

void store_release(struct store_held *held)
{
    if (held->path) {
        close(held->fd);
    }
    free(held->path);
    *held = (struct store_held)STORE_HELD_NONE;
}

int store_hold(struct store *s, enum store_kind kind, const char *digest, struct store_held *out,
               struct sm_error *err)
{
    struct stat st;
    *out = (struct store_held)STORE_HELD_NONE;
    char *path = io_format("%s/%s%s", s->folders[kind], hex_of(digest), kinds[kind].suffix);
    if (!path) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    int rc = SM_OK;
    if (fd < 0) {
        rc = errno == ENOENT
                 ? err_set(err, SM_ENOTFOUND, "%s %s is not in the store", kinds[kind].name, digest)
             : errno == ELOOP
                 ? err_set(err, SM_ECORRUPT, "the store's %s is a link: remove it", path)
                 : err_sys(err, "store %s: cannot open %s %s", s->path, kinds[kind].name, digest);
    } else if (flock_retry(fd, LOCK_SH) || fstat(fd, &st)) {
        rc = err_sys(err, "store %s: cannot lock %s %s", s->path, kinds[kind].name, digest);
    } else if (st.st_nlink == 0) { /* gc was faster */
        rc = err_set(err, SM_ENOTFOUND, "%s %s is not in the store", kinds[kind].name, digest);
    } else if (!S_ISREG(st.st_mode) || (st.st_size == 0 && kind == STORE_LAYER)) {
        rc = err_set(err, SM_ECORRUPT, "the store's %s is not a %s: remove it", path,
                     kinds[kind].name);
    }
    if (rc) {
        if (fd >= 0) {
            close(fd);
        }
        free(path);
        return rc;
    }
    *out = (struct store_held){fd, path, (uint64_t)st.st_size};
    return SM_OK;
}

/* NULL when out of memory. */
static char *lock_name(enum store_kind kind, const char *hex)
{
    return io_format("%s-%s", kinds[kind].name, hex);
}

/* Is name that of a maker's file in tmp/? */
static bool is_temp(const char *name, enum store_kind *kind, char digest[DIGEST_STR_SIZE])
{
    for (int k = 0; k < STORE_KINDS; k++) {
        if (digest_of_file_name(name, kinds[k].temp, digest)) {
            *kind = (enum store_kind)k;
            return true;
        }
    }
    return false;
}

void store_sweep(struct store *s)
{
    DIR *d = opendir(s->tmp);
    struct dirent *e;
    while (d && (e = readdir(d))) {
        char digest[DIGEST_STR_SIZE];
        enum store_kind kind;
        if (!is_temp(e->d_name, &kind, digest)) {
            continue;
        }
        char *name = lock_name(kind, hex_of(digest));
        int lock = -1;
        if (name && store_lock_try(s, name, &lock, NULL) == SM_OK && lock >= 0) {
            unlinkat(dirfd(d), e->d_name, 0);
            close(lock);
        }
        free(name);
    }
    if (d) {
        closedir(d);
    }
}

static int take_lock(struct store *s, struct store_item *l, struct sm_error *err)
{
    char *name = lock_name(l->kind, hex_of(l->digest));
    char *what = io_format("making %s %s", kinds[l->kind].name, l->digest);
    int rc = name && what ? store_lock_take(s, name, what, &l->lock_fd, err)
                          : err_set(err, SM_ENOMEM, "out of memory");
    free(name);
    free(what);
    return rc;
}

static int start_file(struct store *s, struct store_item *l, struct sm_error *err)
{
    const char *hex = hex_of(l->digest);
    l->temp = io_format("%s/%s%s", s->tmp, hex, kinds[l->kind].temp);
    l->path = io_format("%s/%s%s", s->folders[l->kind], hex, kinds[l->kind].suffix);
    if (!l->temp || !l->path) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    if (unlink(l->temp) && errno != ENOENT) {
        return store_fail(s->path, "cleaning up", err);
    }
    l->fd = open(l->temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    return l->fd < 0 ? store_fail(s->path, "adding to it", err) : SM_OK;
}

int store_item_begin(struct store *s, enum store_kind kind, const char *digest,
                     struct store_item *l, struct sm_error *err)
{
    *l = (struct store_item){.fd = -1, .lock_fd = -1, .store = s, .kind = kind};
    memcpy(l->digest, digest, sizeof l->digest);
    int rc = take_lock(s, l, err);
    if (!rc) {
        struct store_held found;
        rc = store_hold(s, kind, digest, &found, err);
        store_release(&found);
        if (rc == SM_OK) {
            store_item_abort(l);
            l->present = true;
            return SM_OK;
        }
        rc = rc == SM_ENOTFOUND ? SM_OK : rc;
    }
    if (!rc) {
        store_lock_sign(l->lock_fd);
        store_sweep(s);
        rc = start_file(s, l, err);
    }
    if (rc) {
        store_item_abort(l);
    }
    return rc;
}

void store_item_progress(struct store_item *l)
{
    uint64_t now = clock_ns();
    if (now - l->touched_ns > TOUCH_NS) {
        l->touched_ns = now;
        futimens(l->lock_fd, NULL);
    }
}

static void tick(void *opaque)
{
    store_item_progress(opaque);
}

/* Into place, under a shared lock: from its first moment on gc leaves it alone. */
static int publish(struct store_item *l, struct sm_error *err)
{
    if (fsync(l->fd)) {
        return err_sys(err, "cannot write %s to disk", l->path);
    }
    if (flock_retry(l->fd, LOCK_SH)) {
        return err_sys(err, "cannot lock %s", l->path);
    }
    if (rename(l->temp, l->path)) {
        return err_sys(err, "cannot put %s into place", l->path);
    }
    free(l->temp);
    l->temp = NULL;
    return store_sync_folder(l->store->folders[l->kind])
               ? err_sys(err, "cannot sync the folder of %s", l->path)
               : SM_OK;
}

int store_item_commit(struct store_item *l, struct store_held *out, struct sm_error *err)
{
    int rc = l->kind == STORE_LAYER ? seal_put(l->fd, tick, l, err) : SM_OK;
    if (out) {
        *out = (struct store_held)STORE_HELD_NONE;
    }
    rc = rc ? rc : publish(l, err);
    if (!rc && out) {
        rc = store_hold(l->store, l->kind, l->digest, out, err);
    }
    store_item_abort(l);
    return rc;
}

void store_item_abort(struct store_item *l)
{
    if (!l->store) {
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
    *l = (struct store_item){.fd = -1, .lock_fd = -1};
}

int store_put_blob(struct store *s, const char *digest, const void *data, size_t len,
                   struct store_held *out, struct sm_error *err)
{
    for (;;) {
        struct store_item l = {0};
        int rc = store_hold(s, STORE_BLOB, digest, out, err);
        if (rc != SM_ENOTFOUND || (rc = store_item_begin(s, STORE_BLOB, digest, &l, err))) {
            return rc;
        }
        if (l.present) {
            continue; /* made, and perhaps collected, meanwhile */
        }
        if (io_write_full(l.fd, data, len)) {
            rc = err_sys(err, "store %s: cannot add a document", s->path);
        }
        rc = rc ? rc : store_item_commit(&l, out, err);
        store_item_abort(&l);
        return rc;
    }
}

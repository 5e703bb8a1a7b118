/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store's folders and its version. An item's life is in store_item.c.
 */
#include "image/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "image/store_impl.h"

#define STORE_VERSION 1
#define VERSION_PREFIX "supermachine-store "

int store_default_path(char **out, struct sm_error *err)
{
    const char *home = getenv("SUPERMACHINE_HOME");
    if (home && home[0]) {
        *out = strdup(home);
    } else if ((home = getenv("XDG_DATA_HOME")) && home[0] == '/') {
        *out = io_format("%s/supermachine", home);
    } else if ((home = getenv("HOME")) && home[0]) {
        *out = io_format("%s/.local/share/supermachine", home);
    } else {
        *out = NULL;
        return err_set(err, SM_EINVAL,
                       "cannot tell where the store is: set SUPERMACHINE_HOME or HOME");
    }
    return *out ? SM_OK : err_set(err, SM_ENOMEM, "out of memory");
}

int store_fail(const char *path, const char *what, struct sm_error *err)
{
    if (errno == EROFS || errno == EACCES || errno == EPERM) {
        return err_sys(err, "the store %s is not writable (%s)", path, what);
    }
    return err_sys(err, "store %s: %s", path, what);
}

/* The number in the version file; 0 when there is no such file. */
static int read_version(const char *path, const char *file, long *version, struct sm_error *err)
{
    struct buf text = {0};
    *version = 0;
    if (access(file, F_OK) && errno == ENOENT) {
        return SM_OK;
    }
    int rc = io_slurp(file, 4096, &text, err);
    if (!rc && buf_append(&text, "", 1)) {
        rc = err_set(err, SM_ENOMEM, "out of memory");
    }
    if (!rc) {
        const char *s = (const char *)text.data;
        size_t n = strlen(VERSION_PREFIX);
        char *end = NULL;
        if (strncmp(s, VERSION_PREFIX, n) == 0) {
            *version = strtol(s + n, &end, 10);
        }
        if (!end || *end != '\n' || *version < 1) {
            rc = err_set(err, SM_ECORRUPT,
                         "%s is not a supermachine store: its file \"version\" makes no sense",
                         path);
        }
    }
    buf_fini(&text);
    return rc;
}

static int check_version(const char *path, struct sm_error *err)
{
    char *file = io_format("%s/version", path);
    if (!file) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    long version;
    int rc = read_version(path, file, &version, err);
    if (!rc && version > STORE_VERSION) {
        rc = err_set(err, SM_EUNSUPPORTED,
                     "the store %s has format %ld, made by a newer supermachine; this one knows "
                     "up to %d: update it, or set SUPERMACHINE_HOME to another folder",
                     path, version, STORE_VERSION);
    }
    if (!rc && version == 0) {
        struct io_atomic a;
        rc = io_atomic_begin(&a, file, 0600, NULL);
        if (rc) {
            rc = store_fail(path, "creating it", err);
        } else if (dprintf(a.fd, VERSION_PREFIX "%d\n", STORE_VERSION) < 0) {
            rc = store_fail(path, "creating it", err);
            io_atomic_abort(&a);
        } else {
            rc = io_atomic_commit(&a, err);
        }
    }
    free(file);
    return rc;
}

static int make_folder(const char *store, const char *path, struct sm_error *err)
{
    struct stat st;
    if (mkdir(path, 0700) && errno != EEXIST) {
        int why = errno;
        if (stat(path, &st)) { /* else it is there, and only this file system cannot be written */
            errno = why;
            return store_fail(store, "creating its folders", err);
        }
    }
    /* A folder that somebody else may write into could plant layers. */
    if (stat(path, &st) || !S_ISDIR(st.st_mode)) {
        return err_set(err, SM_EIO, "%s is not a folder", path);
    }
    if (st.st_mode & 077 && chmod(path, 0700) && errno != EROFS) {
        return store_fail(store, "making its folders private", err);
    }
    return SM_OK;
}

static int make_folders(struct store *s, struct sm_error *err)
{
    char *layers = io_format("%s/layers", s->path), *blobs = io_format("%s/blobs", s->path);
    s->folders[STORE_LAYER] = io_format("%s/layers/sha256", s->path);
    s->folders[STORE_BLOB] = io_format("%s/blobs/sha256", s->path);
    s->images = io_format("%s/images", s->path);
    s->locks = io_format("%s/locks", s->path);
    s->tmp = io_format("%s/tmp", s->path);
    s->snapshots = io_format("%s/snapshots", s->path);
    s->digests = io_format("%s/digests", s->path);
    s->volumes = io_format("%s/volumes", s->path);
    const char *const all[] = {layers,     s->folders[STORE_LAYER],
                               blobs,      s->folders[STORE_BLOB],
                               s->images,  s->locks,
                               s->tmp,     s->snapshots,
                               s->digests, s->volumes};
    int rc = SM_OK;
    for (size_t i = 0; i < sizeof all / sizeof all[0] && !rc; i++) {
        rc = all[i] ? make_folder(s->path, all[i], err) : err_set(err, SM_ENOMEM, "out of memory");
    }
    free(layers);
    free(blobs);
    return rc;
}

int store_open(const char *path, struct store **out, struct sm_error *err)
{
    *out = NULL;
    if (!path[0]) {
        return err_set(err, SM_EINVAL, "the path of the store is empty");
    }
    struct stat st;
    if (stat(path, &st)) {
        int rc = io_mkdirs(path, 0700, NULL);
        if (rc || stat(path, &st)) {
            return err_sys(err, "cannot create the store %s", path);
        }
    }
    if (!S_ISDIR(st.st_mode)) {
        return err_set(err, SM_EIO, "the store %s is not a folder", path);
    }
    if (st.st_uid != geteuid()) {
        return err_set(err, SM_EIO,
                       "the store %s belongs to user %u: run as that user, or set "
                       "SUPERMACHINE_HOME to another folder",
                       path, (unsigned)st.st_uid);
    }
    struct store *s = calloc(1, sizeof *s);
    /* Absolute, so that the paths handed out survive a change of the working directory. */
    if (!s || !(s->path = realpath(path, NULL))) {
        free(s);
        return err_sys(err, "cannot open the store %s", path);
    }
    s->patience_ms = 120000;
    int rc = check_version(s->path, err);
    if (!rc) {
        rc = make_folders(s, err);
    }
    if (rc) {
        store_close(s);
        return rc;
    }
    *out = s;
    return SM_OK;
}

void store_close(struct store *s)
{
    if (s) {
        free(s->path);
        for (int i = 0; i < STORE_KINDS; i++) {
            free(s->folders[i]);
        }
        free(s->images);
        free(s->locks);
        free(s->tmp);
        free(s->snapshots);
        free(s->digests);
        free(s->volumes);
        free(s);
    }
}

const char *store_folder(const struct store *s, enum store_kind kind)
{
    return s->folders[kind];
}

const char *store_path(const struct store *s)
{
    return s->path;
}

void store_set_patience(struct store *s, unsigned ms)
{
    s->patience_ms = ms;
}

int store_temp_file(struct store *s, int *fd, struct sm_error *err)
{
    *fd = open(s->tmp, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (*fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
        /* This file system has no unnamed files: make a named one and drop its name. */
        char *name = io_format("%s/spool.XXXXXX", s->tmp);
        if (!name) {
            return err_set(err, SM_ENOMEM, "out of memory");
        }
        *fd = mkostemp(name, O_CLOEXEC);
        if (*fd >= 0) {
            unlink(name);
        }
        free(name);
    }
    return *fd < 0 ? store_fail(s->path, "creating a temporary file", err) : SM_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "image/catalog.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/io.h"
#include "base/json_doc.h"
#include "image/store_impl.h"

#define RECORD_MAX 16384
#define SUFFIX ".json"

static char *path_of(struct store *s, const char *name)
{
    char digest[DIGEST_STR_SIZE];
    hash_bytes(name, strlen(name), digest);
    return io_format("%s/%s" SUFFIX, s->images, digest + strlen("sha256:"));
}

int catalog_lock(struct store *s, int *lock_fd, struct sm_error *err)
{
    int rc = SM_OK;
    char *path = io_format("%s/images", s->locks);
    *lock_fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
    if (!path) {
        rc = err_set(err, SM_ENOMEM, "out of memory");
    } else if (*lock_fd < 0) {
        rc = store_fail(s->path, "locking its list of images", err);
    }
    while (!rc && flock(*lock_fd, LOCK_EX)) {
        if (errno != EINTR) {
            rc = err_sys(err, "store %s: cannot lock its list of images", s->path);
        }
    }
    if (rc && *lock_fd >= 0) {
        close(*lock_fd);
        *lock_fd = -1;
    }
    free(path);
    return rc;
}

static char *to_text(const struct catalog_record *r, struct sm_error *err)
{
    json_t *doc =
        json_pack("{s:s, s:{s:s, s:s, s:I}, s:s, s:I}", "name", r->name, "manifest", "mediaType",
                  r->media_type, "digest", r->manifest, "size", (json_int_t)r->manifest_bytes,
                  "config", r->config, "added", (json_int_t)r->added_s);
    char *text = doc ? json_dumps(doc, JSON_INDENT(1)) : NULL;
    json_decref(doc);
    if (!text) {
        err_set(err, SM_ENOMEM, "out of memory");
    }
    return text;
}

/* With the lock held: only its holder touches this one file in tmp/. */
static int write_record(struct store *s, const char *path, const char *text, struct sm_error *err)
{
    char *temp = io_format("%s/image", s->tmp);
    if (!temp) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    int rc = SM_OK;
    int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || io_write_full(fd, text, strlen(text)) || fsync(fd) || rename(temp, path)) {
        rc = store_fail(s->path, "naming an image", err);
        unlink(temp);
    } else if (store_sync_folder(s->images)) {
        rc = store_fail(s->path, "naming an image", err);
    }
    if (fd >= 0) {
        close(fd);
    }
    free(temp);
    return rc;
}

int catalog_put(struct store *s, const struct catalog_record *r, struct sm_error *err)
{
    int lock;
    char *path = path_of(s, r->name);
    char *text = path ? to_text(r, err) : NULL;
    int rc = path ? text ? SM_OK : SM_ENOMEM : err_set(err, SM_ENOMEM, "out of memory");
    rc = rc ? rc : catalog_lock(s, &lock, err);
    if (!rc) {
        rc = write_record(s, path, text, err);
        close(lock);
    }
    free(path);
    free(text);
    return rc;
}

static int from_json(const json_t *doc, const char *what, struct catalog_record *out,
                     struct sm_error *err)
{
    json_t *m;
    const char *name, *media, *manifest = NULL, *config;
    int rc;
    if ((rc = json_doc_string(doc, "name", what, &name, err)) ||
        (rc = json_doc_string(doc, "config", what, &config, err)) ||
        (rc = json_doc_object(doc, "manifest", what, &m, err)) ||
        (rc = json_doc_string(m, "mediaType", what, &media, err)) ||
        (rc = json_doc_string(m, "digest", what, &manifest, err))) {
        return rc;
    }
    json_int_t size = json_integer_value(json_object_get(m, "size"));
    if (!name || strlen(name) >= sizeof out->name || !config || !digest_valid(config) ||
        !manifest || !digest_valid(manifest) || !media || strlen(media) >= sizeof out->media_type ||
        size <= 0) {
        return err_set(err, SM_ECORRUPT, "%s is not a record of an image", what);
    }
    strcpy(out->name, name);
    strcpy(out->config, config);
    strcpy(out->manifest, manifest);
    strcpy(out->media_type, media);
    out->manifest_bytes = (uint64_t)size;
    out->added_s = json_integer_value(json_object_get(doc, "added"));
    return SM_OK;
}

static int read_record(const char *path, struct catalog_record *out, struct sm_error *err)
{
    struct buf text = {0};
    json_t *doc = NULL;
    *out = (struct catalog_record){0};
    int rc = io_slurp(path, RECORD_MAX, &text, err);
    rc = rc ? rc : json_doc_parse(text.data, text.len, path, &doc, err);
    rc = rc ? rc : from_json(doc, path, out, err);
    json_decref(doc);
    buf_fini(&text);
    return rc == SM_EINVAL ? SM_ECORRUPT : rc; /* too large */
}

int catalog_get(struct store *s, const char *name, struct catalog_record *out, struct sm_error *err)
{
    char *path = path_of(s, name);
    if (!path) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    int rc = access(path, F_OK) && errno == ENOENT
                 ? err_set(err, SM_ENOTFOUND, "the store has no image %s", name)
                 : read_record(path, out, err);
    if (!rc && strcmp(out->name, name) != 0) {
        rc = err_set(err, SM_ECORRUPT, "%s is the record of another image, %s", path, out->name);
    }
    free(path);
    return rc;
}

int catalog_remove(struct store *s, const char *name, struct sm_error *err)
{
    int lock;
    char *path = path_of(s, name);
    if (!path) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    int rc = catalog_lock(s, &lock, err);
    if (!rc) {
        if (unlink(path)) {
            rc = errno == ENOENT ? err_set(err, SM_ENOTFOUND, "the store has no image %s", name)
                                 : store_fail(s->path, "removing an image", err);
        } else if (store_sync_folder(s->images)) {
            rc = store_fail(s->path, "removing an image", err);
        }
        close(lock);
    }
    free(path);
    return rc;
}

static bool is_record(const char *file)
{
    size_t n = strlen(file), suffix = strlen(SUFFIX);
    return n == HASH_HEX_LEN + suffix && strcmp(file + HASH_HEX_LEN, SUFFIX) == 0;
}

int catalog_each(struct store *s, int (*each)(void *opaque, const struct catalog_record *record),
                 int (*broken)(void *opaque, const char *path, const struct sm_error *why),
                 void *opaque, struct sm_error *err)
{
    struct dirent *e;
    int rc = SM_OK;
    DIR *d = opendir(s->images);
    if (!d) {
        return err_sys(err, "cannot list the images of the store %s", s->path);
    }
    while (!rc && (e = readdir(d))) {
        struct catalog_record r;
        struct sm_error why = {0};
        if (!is_record(e->d_name)) {
            continue;
        }
        char *path = io_format("%s/%s", s->images, e->d_name);
        if (!path) {
            rc = err_set(err, SM_ENOMEM, "out of memory");
        } else if ((rc = read_record(path, &r, &why)) == SM_OK) {
            rc = each(opaque, &r);
        } else if (rc == SM_ENOTFOUND) { /* removed meanwhile */
            rc = SM_OK;
        } else {
            rc = broken ? broken(opaque, path, &why) : SM_OK;
        }
        free(path);
    }
    closedir(d);
    return rc;
}

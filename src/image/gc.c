/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why nothing is lost: with the catalog's lock held no name appears. An item that no name reaches
 * is removed only under an exclusive lock on its file, so nobody holds it then; whoever opened it
 * just before gets the lock afterwards, sees that the file has no name any more, and makes it
 * again.
 *
 * A snapshot is needed as long as a name reaches the config of the image that it was made from; the
 * layers that it needs are that image's.
 */
#include "image/gc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/json_doc.h"
#include "image/reach_set.h"
#include "image/store_impl.h"
#include "image/store_snapshot.h"

#define MANIFEST_MAX (1u << 20)

struct mark {
    struct store *store;
    struct reach_set *set;
};

static int mark_image(void *opaque, const struct catalog_record *record)
{
    struct mark *m = opaque;
    /* A damaged image keeps what its documents still name; `verify` speaks of the rest. */
    int rc = reach_set_image(m->set, m->store, record, NULL);
    return rc == SM_ENOMEM ? rc : SM_OK;
}

/* Everything that names reach. */
static int mark_all(struct store *store, struct reach_set *set, struct sm_error *err)
{
    struct mark m = {store, set};
    int rc = catalog_each(store, mark_image, NULL, &m, err);
    reach_set_sort(set);
    return rc == SM_ENOMEM ? err_set(err, rc, "out of memory") : rc;
}

static void remove_item(int folder, const char *file, enum store_kind kind, struct gc_report *out)
{
    struct stat st;
    int fd = openat(folder, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        return;
    }
    if (flock(fd, LOCK_EX | LOCK_NB)) {
        out->held++;
    } else if (fstat(fd, &st) == 0 && st.st_nlink > 0 && unlinkat(folder, file, 0) == 0) {
        out->bytes += (uint64_t)st.st_blocks * 512;
        *(kind == STORE_LAYER ? &out->layers : &out->blobs) += 1;
    }
    close(fd);
}

/* Remove items of one kind that are not in keep, and, when only is given, are in it. */
static int sweep_kind(struct store *store, enum store_kind kind, const struct reach_set *keep,
                      const struct reach_set *only, struct gc_report *out, struct sm_error *err)
{
    struct dirent *e;
    char digest[DIGEST_STR_SIZE];
    const char *suffix = store_suffix(kind);
    DIR *d = opendir(store_folder(store, kind));
    if (!d) {
        return err_sys(err, "cannot list the store %s", store_path(store));
    }
    while ((e = readdir(d))) {
        if (digest_of_file_name(e->d_name, suffix, digest) && !reach_set_has(keep, kind, digest) &&
            (!only || reach_set_has(only, kind, digest))) {
            remove_item(dirfd(d), e->d_name, kind, out);
        }
    }
    closedir(d);
    return SM_OK;
}

struct snapshot_sweep {
    struct store *store;
    const struct reach_set *keep, *only;
    struct gc_report *report;
};

/* Digest of the config of the image that the snapshot in this folder was made from; false when that
 * cannot be told. */
static bool snapshot_image(const char *path, char digest[DIGEST_STR_SIZE])
{
    struct buf text = {0};
    json_t *doc = NULL;
    bool known = false;
    char *file = io_format("%s/manifest.json", path);
    if (file && io_slurp(file, MANIFEST_MAX, &text, NULL) == SM_OK &&
        json_doc_parse(text.data, text.len, file, &doc, NULL) == SM_OK) {
        const char *found =
            json_string_value(json_object_get(json_object_get(doc, "document"), "image_digest"));
        known = found && digest_valid(found);
        if (known) {
            strcpy(digest, found);
        }
    }
    json_decref(doc);
    buf_fini(&text);
    free(file);
    return known;
}

static int sweep_snapshot(void *opaque, const char *key, const char *path)
{
    struct snapshot_sweep *w = opaque;
    char digest[DIGEST_STR_SIZE];
    uint64_t bytes;
    bool known = snapshot_image(path, digest);
    if ((known && reach_set_has(w->keep, STORE_BLOB, digest)) ||
        (w->only && !(known && reach_set_has(w->only, STORE_BLOB, digest)))) {
        return SM_OK;
    }
    if (store_remove_snapshot(w->store, key, &bytes)) {
        w->report->snapshots++;
        w->report->bytes += bytes;
    } else {
        w->report->held++;
    }
    return SM_OK;
}

/* Lock files that nobody has locked: takers look whether theirs still has a name. So do we: another
 * may have cleared away what we opened, and the name be that of a new one, which is held. */
static void sweep_locks(struct store *store)
{
    struct dirent *e;
    struct stat st;
    DIR *d = opendir(store->locks);
    while (d && (e = readdir(d))) {
        const char *dash = strchr(e->d_name, '-');
        if (!dash || strlen(dash + 1) != HASH_HEX_LEN) {
            continue;
        }
        int fd = openat(dirfd(d), e->d_name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &st) == 0 &&
            st.st_nlink > 0) {
            unlinkat(dirfd(d), e->d_name, 0);
        }
        if (fd >= 0) {
            close(fd);
        }
    }
    if (d) {
        closedir(d);
    }
}

/* With the catalog's lock held. */
static int collect(struct store *store, const struct reach_set *only, struct gc_report *out,
                   struct sm_error *err)
{
    struct reach_set keep = {0};
    int rc = mark_all(store, &keep, err);
    for (int k = 0; k < STORE_KINDS && !rc; k++) {
        rc = sweep_kind(store, (enum store_kind)k, &keep, only, out, err);
    }
    if (!rc) {
        struct snapshot_sweep w = {store, &keep, only, out};
        rc = store_each_snapshot(store, sweep_snapshot, &w, err);
    }
    reach_set_fini(&keep);
    return rc;
}

int gc_collect(struct store *store, struct gc_report *out, struct sm_error *err)
{
    int lock;
    *out = (struct gc_report){0};
    int rc = catalog_lock(store, &lock, err);
    if (!rc) {
        rc = collect(store, NULL, out, err);
        close(lock);
        store_sweep(store);
        store_forget_digests(store);
        sweep_locks(store);
    }
    return rc;
}

int gc_remove_image(struct store *store, const char *name, struct gc_report *out,
                    struct sm_error *err)
{
    struct catalog_record record;
    struct reach_set reached = {0};
    int lock;
    *out = (struct gc_report){0};
    int rc = catalog_get(store, name, &record, err);
    if (rc == SM_OK) {
        reach_set_image(&reached, store, &record, NULL);
        reach_set_sort(&reached);
    }
    if (rc == SM_OK || rc == SM_ECORRUPT) { /* a broken record is removed, too */
        rc = catalog_remove(store, name, err);
    }
    rc = rc ? rc : catalog_lock(store, &lock, err);
    if (!rc) {
        rc = collect(store, &reached, out, err);
        close(lock);
    }
    reach_set_fini(&reached);
    return rc;
}

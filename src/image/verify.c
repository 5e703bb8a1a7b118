/* SPDX-License-Identifier: Apache-2.0 */
/*
 * First every item by itself: blobs against their names, layers against their seals. Then every
 * image: is all of it there? Items that a gc removes meanwhile are no problem.
 */
#include "image/verify.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/pull.h"
#include "image/reach_set.h"
#include "image/seal.h"
#include "image/store_impl.h"

struct verify {
    struct store *store;
    const struct verify_options *options;
    struct verify_report *report;
    struct sm_error *err;
};

static void tell(struct verify *v, const char *what, const char *why, bool repaired)
{
    v->report->problems++;
    v->report->repaired += repaired;
    if (v->options->problem) {
        v->options->problem(v->options->opaque, what, why, repaired);
    }
}

static int check_blob(const struct store_held *held, const char *digest, struct sm_error *err)
{
    char actual[DIGEST_STR_SIZE];
    if (hash_file(held->fd, UINT64_MAX, NULL, NULL, actual) < 0) {
        return err_sys(err, "cannot read it");
    }
    return strcmp(actual, digest) == 0
               ? SM_OK
               : err_set(err, SM_ECORRUPT, "it does not match its digest: its content is %s",
                         actual);
}

static int check_item(struct verify *v, enum store_kind kind, const char *digest, const char *path)
{
    struct store_held held;
    struct sm_error why = {0};
    int rc = store_hold(v->store, kind, digest, &held, &why);
    if (rc == SM_ENOTFOUND) {
        return SM_OK;
    }
    if (!rc) {
        v->report->bytes += held.size_bytes;
        rc = kind == STORE_LAYER ? seal_check(held.fd, &why) : check_blob(&held, digest, &why);
    }
    store_release(&held);
    if (rc == SM_ENOMEM) {
        return err_set(v->err, rc, "out of memory");
    }
    if (rc) { /* unreadable is as bad as wrong; who uses it keeps what it has */
        bool removed = v->options->repair && (unlink(path) == 0 || rmdir(path) == 0);
        tell(v, path, why.text, removed);
    }
    return SM_OK;
}

static int check_kind(struct verify *v, enum store_kind kind, uint64_t *count)
{
    const char *folder = store_folder(v->store, kind), *suffix = store_suffix(kind);
    struct dirent *e;
    int rc = SM_OK;
    DIR *d = opendir(folder);
    if (!d) {
        return err_sys(v->err, "cannot list %s", folder);
    }
    while (!rc && (e = readdir(d))) {
        char digest[DIGEST_STR_SIZE], path[PATH_MAX];
        if (e->d_name[0] == '.') {
            continue;
        }
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (!digest_of_file_name(e->d_name, suffix, digest)) {
            tell(v, path, "it does not belong here", v->options->repair && unlink(path) == 0);
            continue;
        }
        ++*count;
        rc = check_item(v, kind, digest, path);
    }
    closedir(d);
    return rc;
}

/* All of it there? Items that are were checked before. */
static int find_all(struct verify *v, const struct catalog_record *record, struct sm_error *why)
{
    struct reach_set set = {0};
    int rc = reach_set_image(&set, v->store, record, why);
    for (int k = 0; k < STORE_KINDS; k++) {
        for (size_t i = 0; i < set.kinds[k].n && !rc; i++) {
            struct store_held held;
            rc = store_hold(v->store, (enum store_kind)k, set.kinds[k].digests[i], &held, why);
            store_release(&held);
        }
    }
    reach_set_fini(&set);
    return rc;
}

/* Missing layers from the store's own blobs; what they cannot give, from the registry: the very
 * manifest that the name had. */
static int repair_image(struct verify *v, const struct catalog_record *record, struct sm_error *why)
{
    struct name name;
    int rc = name_parse(record->name, &name, why);
    for (int from_registry = 0; !rc && from_registry < 2; from_registry++) {
        struct image_options pull = v->options->pull;
        struct image *image = calloc(1, sizeof *image);
        pull.pinned = record->manifest;
        if (!image) {
            return err_set(why, SM_ENOMEM, "out of memory");
        }
        int got = from_registry ? pull_image(v->store, &name, &pull, image, why)
                                : pull_recall(v->store, &name, image, why);
        image_free(image);
        if (from_registry || (!got && find_all(v, record, why) == SM_OK)) {
            return got;
        }
    }
    return rc;
}

static int check_image(void *opaque, const struct catalog_record *record)
{
    struct verify *v = opaque;
    struct sm_error why = {0}, failed = {0};
    v->report->images++;
    if (find_all(v, record, &why)) {
        bool repaired = v->options->repair && repair_image(v, record, &failed) == SM_OK;
        tell(v, record->name, failed.code && !repaired ? failed.text : why.text, repaired);
    }
    return SM_OK;
}

static int broken_record(void *opaque, const char *path, const struct sm_error *why)
{
    struct verify *v = opaque;
    v->report->images++;
    tell(v, path, why->text, v->options->repair && unlink(path) == 0);
    return SM_OK;
}

int verify_store(struct store *store, const struct verify_options *options,
                 struct verify_report *out, struct sm_error *err)
{
    struct verify v = {store, options, out, err};
    *out = (struct verify_report){0};
    int rc = check_kind(&v, STORE_BLOB, &out->blobs);
    rc = rc ? rc : check_kind(&v, STORE_LAYER, &out->layers);
    return rc ? rc : catalog_each(store, check_image, broken_record, &v, err);
}

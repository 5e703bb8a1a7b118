/* SPDX-License-Identifier: Apache-2.0 */
/*
 * First an image's blobs enter the store, each under its digest; from there on it is opened as one
 * that was pulled is, and gets its names when all of it is there.
 */
#include "image/load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/io.h"
#include "image/load_parts.h"
#include "image/pull.h"

#define MAX_IMAGES 1000 /* of one archive */

static void loading_fini(struct loading *l)
{
    for (size_t i = 0; i < l->n_held; i++) {
        store_release(&l->held[i]);
    }
    free(l->held);
    string_list_fini(&l->names);
    buf_fini(&l->text);
}

/* The blobs of an OCI manifest, which is in l->text. */
static int take_blobs(struct loading *l, const struct manifest *m, struct sm_error *err)
{
    int rc = SM_OK;
    for (size_t i = 0; i <= m->n && !rc; i++) {
        const struct descriptor *d = i < m->n ? &m->items[i] : &m->config;
        char entry[sizeof "blobs/sha256/" + HASH_HEX_LEN];
        snprintf(entry, sizeof entry, "blobs/sha256/%s", d->digest + strlen("sha256:"));
        rc = loading_blob(l, entry, d, err);
    }
    return rc;
}

static int load_oci_image(struct loading *l, const char *name, struct sm_error *err)
{
    struct manifest m;
    int rc = layout_manifest(l->src, name, &m, &l->text, err);
    if (rc) {
        return rc;
    }
    l->docker_type = m.media_type && strcmp(m.media_type, MEDIA_DOCKER_MANIFEST) == 0;
    rc = take_blobs(l, &m, err);
    manifest_fini(&m);
    return rc;
}

/* What the archive calls an image, as a full name. A tag alone, as skopeo and umoci write it, does
 * not say of what. */
static int full_name(const char *text, struct name *out, struct sm_error *err)
{
    if (!strpbrk(text, ":/@")) {
        return err_set(err, SM_EINVAL,
                       "the image is only called \"%.128s\" there: say what its name is (--name)",
                       text);
    }
    return name_parse(text, out, err);
}

static int add_name(struct loading *l, const struct name *name, struct catalog_record *r,
                    const struct load_options *o, struct sm_error *err)
{
    if (name->digest[0] && strcmp(name->digest, r->manifest) != 0) {
        return err_set(err, SM_ECORRUPT, "the image %s is called %s there", r->manifest,
                       name->digest);
    }
    name_format(name, r->name);
    r->added_s = (int64_t)time(NULL);
    int rc = catalog_put(l->store, r, err);
    if (!rc && o->loaded) {
        o->loaded(o->opaque, r);
    }
    return rc;
}

/* Before any work is done for the image: can it be named? */
static int check_names(const struct loading *l, const struct load_options *o, struct sm_error *err)
{
    struct name name;
    int rc = SM_OK;
    if (!o->name && l->names.n == 0) {
        return err_set(err, SM_EINVAL, "the image has no name there: give it one (--name)");
    }
    for (size_t i = 0; i < l->names.n && !o->name && !rc; i++) {
        rc = full_name(l->names.items[i], &name, err);
    }
    return rc;
}

static int name_all(struct loading *l, struct catalog_record *r, const struct load_options *o,
                    struct sm_error *err)
{
    struct name name;
    int rc = SM_OK;
    if (o->name) {
        return add_name(l, o->name, r, o, err);
    }
    for (size_t i = 0; i < l->names.n && !rc; i++) {
        rc = full_name(l->names.items[i], &name, err);
        rc = rc ? rc : add_name(l, &name, r, o, err);
    }
    return rc;
}

/* Its blobs are there: check and convert them, then name it. */
static int finish(struct loading *l, const struct load_options *o, struct sm_error *err)
{
    struct catalog_record r = {.manifest_bytes = l->text.len};
    struct store_held held = STORE_HELD_NONE;
    struct image *image = calloc(1, sizeof *image);
    hash_bytes(l->text.data, l->text.len, r.manifest);
    strcpy(r.media_type, l->docker_type ? MEDIA_DOCKER_MANIFEST : MEDIA_OCI_MANIFEST);
    int rc = image ? store_put_blob(l->store, r.manifest, l->text.data, l->text.len, &held, err)
                   : err_set(err, SM_ENOMEM, "out of memory");
    rc = rc ? rc : pull_recall_record(l->store, &r, image, err);
    if (!rc) {
        memcpy(r.config, image->config_digest, sizeof r.config);
        rc = name_all(l, &r, o, err);
    }
    store_release(&held);
    image_free(image);
    return rc;
}

static int one_image_named(size_t n, const struct load_options *o, const struct source *src,
                           struct sm_error *err)
{
    if (n > MAX_IMAGES) {
        return err_set(err, SM_EUNSUPPORTED, "%.300s holds more than %d images", src->label,
                       MAX_IMAGES);
    }
    return o->name && n > 1
               ? err_set(err, SM_EINVAL, "%.300s holds %zu images: they cannot have one name",
                         src->label, n)
               : SM_OK;
}

static int load_layout(struct store *store, struct source *src, const struct load_options *o,
                       struct sm_error *err)
{
    struct string_list names = {0};
    size_t nameless, n;
    int rc = layout_names(src, &names, &nameless, err);
    n = names.n + (nameless > 0);
    if (!rc && n == 0) {
        rc = err_set(err, SM_ECORRUPT, "%.300s holds no image", src->label);
    } else if (!rc && nameless && names.n) {
        rc = err_set(err, SM_EINVAL, "%.300s holds an image without a name among others",
                     src->label);
    }
    rc = rc ? rc : one_image_named(n, o, src, err);
    for (size_t i = 0; i < n && !rc; i++) {
        struct loading l = {.store = store, .src = src};
        const char *name = names.n ? names.items[i] : NULL;
        rc = name && string_list_add(&l.names, name) ? err_set(err, SM_ENOMEM, "out of memory")
                                                     : check_names(&l, o, err);
        rc = rc ? rc : load_oci_image(&l, name, err);
        rc = rc ? rc : finish(&l, o, err);
        rc = rc && name ? err_wrap(err, rc, "image %.150s", name) : rc;
        loading_fini(&l);
    }
    string_list_fini(&names);
    return rc;
}

static int load_docker(struct store *store, struct source *src, const struct load_options *o,
                       struct sm_error *err)
{
    json_t *list, *image;
    size_t i;
    int rc = docker_archive_list(src, &list, err);
    if (rc == SM_ENOTFOUND) {
        return err_set(err, SM_EINVAL,
                       "%.300s holds no images: it has neither index.json nor manifest.json",
                       src->label);
    }
    rc = rc ? rc : one_image_named(json_array_size(list), o, src, err);
    json_array_foreach(list, i, image)
    {
        struct loading l = {.store = store, .src = src};
        rc = rc ? rc : load_docker_names(&l, image, err);
        rc = rc ? rc : check_names(&l, o, err);
        rc = rc ? rc : load_docker_image(&l, image, err);
        rc = rc ? rc : finish(&l, o, err);
        loading_fini(&l);
    }
    json_decref(list);
    return rc;
}

int load_images(struct store *store, const char *path, const struct load_options *o,
                struct sm_error *err)
{
    struct stat st;
    struct source *src = NULL;
    struct stream *marker;
    int rc = stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? source_dir_open(path, &src, err)
                                                         : source_tar_open(path, store, &src, err);
    if (!rc) {
        rc = source_open_entry(src, "oci-layout", &marker, err);
        if (rc == SM_OK) {
            marker->close(marker);
            rc = load_layout(store, src, o, err);
        } else if (rc == SM_ENOTFOUND) {
            rc = load_docker(store, src, o, err);
        }
    }
    source_free(src);
    return rc && err && !strstr(err->text, path) ? err_wrap(err, rc, "%.200s", path) : rc;
}

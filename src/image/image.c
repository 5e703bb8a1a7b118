/* SPDX-License-Identifier: Apache-2.0 */
/* A reference into an image: choose the source and the resolver, then bring in the layers. */
#include "image/image.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "image/bring_in.h"
#include "image/plan.h"
#include "image/pull.h"
#include "image/ref.h"

/* For what is no reference but the path of something: say how to write it. */
static int hint(const char *text, int rc, struct sm_error *err)
{
    struct stat st;
    if ((rc != SM_ENOTFOUND && rc != SM_EINVAL && rc != SM_EIO) || stat(text, &st)) {
        return rc;
    }
    rc = SM_ENOTFOUND;
    if (S_ISDIR(st.st_mode)) {
        char *marker = io_format("%s/oci-layout", text);
        bool layout = marker && stat(marker, &st) == 0;
        free(marker);
        return layout ? err_set(err, rc,
                                "no such image: %.150s (a folder of that name is an OCI "
                                "layout; did you mean oci:%.150s?)",
                                text, text)
                      : err_set(err, rc,
                                "no such image: %.150s (a folder of that name exists, but "
                                "it is not an OCI layout)",
                                text);
    }
    return err_set(err, rc,
                   "no such image: %.150s (a file of that name exists; did you mean "
                   "docker-archive:%.150s?)",
                   text, text);
}

static int resolve_layout(const char *path, const char *tag, struct source **src, struct plan *plan,
                          struct sm_error *err)
{
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode)) {
        return err_set(err, SM_EINVAL,
                       "%.150s is a file, not an OCI layout; did you mean docker-archive:%.150s?",
                       path, path);
    }
    int rc = source_dir_open(path, src, err);
    return rc ? rc : layout_resolve(*src, tag, plan, err);
}

static int resolve(struct store *store, const struct ref *ref, const struct image_options *o,
                   struct source **src, struct plan *plan, struct sm_error *err)
{
    int rc;
    char *path;
    switch (ref->kind) {
    case REF_OCI_LAYOUT:
        return resolve_layout(ref->path, ref->name, src, plan, err);
    case REF_DOCKER_ARCHIVE:
        rc = source_tar_open(ref->path, store, src, err);
        return rc ? rc : docker_archive_resolve(*src, ref->name, plan, err);
    case REF_BUILTIN:
        if (!o || !o->builtin_dir) {
            return err_set(err, SM_ENOTFOUND, "the built-in image %s is not installed", ref->name);
        }
        path = io_format("%s/%s", o->builtin_dir, ref->name);
        if (!path) {
            return err_set(err, SM_ENOMEM, "out of memory");
        }
        rc = resolve_layout(path, NULL, src, plan, err);
        free(path);
        return rc ? err_wrap(err, rc, "built-in image %s", ref->name) : SM_OK;
    case REF_NAME:
        break;
    }
    return err_set(err, SM_EINVAL, "unknown kind of image reference");
}

/* What has its documents and layers on this host. */
static int open_local(struct store *store, const struct ref *ref,
                      const struct image_options *options, struct image *image,
                      struct sm_error *err)
{
    struct source *src = NULL;
    struct plan plan = {0};
    int rc = resolve(store, ref, options, &src, &plan, err);
    rc = rc ? rc : bring_in(store, src, &plan, image, NULL, NULL, NULL, err);
    plan_fini(&plan);
    source_free(src);
    return rc;
}

/* The store's own, else the registry's. */
static int open_name(struct store *store, const char *text, const struct image_options *options,
                     struct image **image, struct sm_error *err)
{
    struct name name;
    int rc = name_parse(text, &name, err);
    if (rc) {
        return rc;
    }
    if (!options || !options->fresh) {
        rc = pull_recall(store, &name, *image, err);
        if (rc != SM_ENOTFOUND && rc != SM_ECORRUPT) {
            return rc;
        }
        /* Not there, or damaged: then pulling repairs it. */
        image_free(*image);
        *image = calloc(1, sizeof **image);
        if (!*image) {
            return err_set(err, SM_ENOMEM, "out of memory");
        }
    }
    return pull_image(store, &name, options, *image, err);
}

int image_open(struct store *store, const char *text, const struct image_options *options,
               struct image **out, struct sm_error *err)
{
    struct ref ref;
    *out = NULL;
    int rc = ref_parse(text, &ref, err);
    if (rc) {
        return hint(text, rc, err);
    }
    struct image *image = calloc(1, sizeof *image);
    if (!image) {
        rc = err_set(err, SM_ENOMEM, "out of memory");
    } else if (ref.kind == REF_NAME) {
        rc = open_name(store, text, options, &image, err);
        rc = rc ? hint(text, err_wrap(err, rc, "image %.150s", text), err) : SM_OK;
    } else {
        rc = open_local(store, &ref, options, image, err);
        if (rc && err && ref.path && !strstr(err->text, ref.path)) {
            err_wrap(err, rc, "image %.150s", text);
        }
    }
    ref_fini(&ref);
    if (rc) {
        image_free(image);
        return rc;
    }
    *out = image;
    return SM_OK;
}

void image_free(struct image *image)
{
    if (image) {
        for (size_t i = 0; i < image->n_layers; i++) {
            store_release(&image->layers[i].held);
        }
        free(image->layers);
        config_fini(&image->config);
        free(image);
    }
}

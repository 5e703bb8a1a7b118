// SPDX-License-Identifier: Apache-2.0
/* What the store has: sm_store_images, _remove, _gc, _save, _load, sm_image_inspect. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/err.h"
#include "image/gc.h"
#include "image/inspect.h"
#include "image/load.h"
#include "image/save.h"

struct listing {
    struct store *store;
    int (*each)(void *opaque, const struct sm_image_info *info);
    void *opaque;
    struct sm_error *err;
};

static int list_one(void *opaque, const struct catalog_record *record)
{
    struct listing *l = opaque;
    struct sm_image_info info;
    int rc = inspect_sizes(l->store, record, &info, l->err);
    return rc ? rc : l->each(l->opaque, &info);
}

SM_API int sm_store_images(sm_store *store,
                           int (*each)(void *opaque, const struct sm_image_info *info),
                           void *opaque, struct sm_error *err)
{
    struct listing l = {store->store, each, opaque, err};
    return catalog_each(store->store, list_one, NULL, &l, err);
}

static void report(const struct gc_report *from, struct sm_freed *to)
{
    if (to)
        *to = (struct sm_freed){.blobs = from->blobs,
                                .layers = from->layers,
                                .snapshots = from->snapshots,
                                .bytes = from->bytes,
                                .in_use = from->held};
}

/* A reference to the key of its record. */
static int key_of(const char *ref, char key[NAME_TEXT_MAX], struct sm_error *err)
{
    struct name name;
    int rc = name_parse(ref, &name, err);
    if (rc == 0)
        name_format(&name, key);
    return rc;
}

SM_API int sm_store_remove(sm_store *store, const char *ref, struct sm_freed *freed,
                           struct sm_error *err)
{
    char key[NAME_TEXT_MAX];
    struct gc_report r = {0};
    int rc = key_of(ref, key, err);
    rc = rc ? rc : gc_remove_image(store->store, key, &r, err);
    report(&r, freed);
    return rc;
}

SM_API int sm_store_gc(sm_store *store, struct sm_freed *freed, struct sm_error *err)
{
    struct gc_report r = {0};
    int rc = gc_collect(store->store, &r, err);
    report(&r, freed);
    return rc;
}

SM_API int sm_image_inspect(sm_store *store, const char *ref, char **json, struct sm_error *err)
{
    char key[NAME_TEXT_MAX];
    *json = NULL;
    int rc = key_of(ref, key, err);
    return rc ? rc : inspect_image(store->store, key, json, err);
}

static int parse_names(const char *const *refs, struct name **out, size_t *n, struct sm_error *err)
{
    int rc = 0;
    *n = 0;
    while (refs[*n])
        ++*n;
    *out = calloc(*n + 1, sizeof **out);
    if (!*out)
        return err_set(err, SM_ENOMEM, "out of memory");
    if (*n == 0)
        rc = err_set(err, SM_EINVAL, "no image is named");
    for (size_t i = 0; i < *n && !rc; i++)
        rc = name_parse(refs[i], &(*out)[i], err);
    return rc;
}

static int open_sink(const char *path, const struct sm_save_config *c, struct sink **out,
                     struct sm_error *err)
{
    *out = NULL;
    if (c->format > SM_FORMAT_OCI_DIR)
        return err_set(err, SM_EINVAL, "unknown image format %u", c->format);
    if (!path && (c->format == SM_FORMAT_OCI_DIR || c->fd < 0))
        return err_set(err, SM_EINVAL, "no path is given to save to");
    return c->format == SM_FORMAT_OCI_DIR ? sink_dir_open(path, out, err)
                                          : sink_tar_open(path, c->fd, out, err);
}

SM_API int sm_store_save(sm_store *store, const char *const *refs, const char *path,
                         const struct sm_save_config *given, struct sm_error *err)
{
    static const struct sm_save_config init = SM_SAVE_CONFIG_INIT;
    struct sm_save_config config;
    struct name *names = NULL;
    struct sink *sink = NULL;
    size_t n;
    int rc = config_copy(&config, sizeof config, given ? given : &init, "sm_save_config", err);
    rc = rc ? rc : parse_names(refs, &names, &n, err);
    rc = rc ? rc : open_sink(path, &config, &sink, err);
    if (rc == 0) {
        struct save_options options = {.docker = config.format == SM_FORMAT_DOCKER_ARCHIVE,
                                       .progress = config.progress,
                                       .opaque = config.opaque};
        rc = save_images(store->store, names, n, sink, &options, err);
    }
    sink_free(sink);
    free(names);
    return rc;
}

static void pass_loaded(void *opaque, const struct catalog_record *r)
{
    const struct sm_load_config *c = opaque;
    c->loaded(c->opaque, r->name, r->manifest);
}

SM_API int sm_store_load(sm_store *store, const char *path, const struct sm_load_config *given,
                         struct sm_error *err)
{
    struct sm_load_config config;
    struct name name;
    int rc = config_copy(&config, sizeof config, given, "sm_load_config", err);
    if (rc == 0 && config.name)
        rc = name_parse(config.name, &name, err);
    if (rc)
        return rc;
    struct load_options options = {.name = config.name ? &name : NULL,
                                   .loaded = config.loaded ? pass_loaded : NULL,
                                   .opaque = &config};
    return load_images(store->store, path, &options, err);
}

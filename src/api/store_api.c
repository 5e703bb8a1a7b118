// SPDX-License-Identifier: Apache-2.0
/* What the store has: sm_store_images, _remove, _gc, _verify, sm_image_inspect. */
#include <string.h>

#include "api/api.h"
#include "base/err.h"
#include "image/gc.h"
#include "image/inspect.h"
#include "image/verify.h"

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

static void pass_problem(void *opaque, const char *what, const char *why, bool repaired)
{
    const struct sm_verify_config *c = opaque;
    c->problem(c->opaque, what, why, repaired);
}

SM_API int sm_store_verify(sm_store *store, const struct sm_verify_config *given,
                           struct sm_verified *out, struct sm_error *err)
{
    struct sm_verify_config config;
    struct verify_report r;
    memset(out, 0, sizeof *out);
    int rc = config_copy(&config, sizeof config, given, "sm_verify_config", err);
    if (rc)
        return rc;
    struct verify_options options = {.repair = config.repair != 0,
                                     .pull.insecure = config.insecure,
                                     .problem = config.problem ? pass_problem : NULL,
                                     .opaque = &config};
    rc = verify_store(store->store, &options, &r, err);
    if (rc == 0)
        *out = (struct sm_verified){r.images, r.blobs, r.layers, r.bytes, r.problems, r.repaired};
    return rc;
}

SM_API int sm_image_inspect(sm_store *store, const char *ref, char **json, struct sm_error *err)
{
    char key[NAME_TEXT_MAX];
    *json = NULL;
    int rc = key_of(ref, key, err);
    return rc ? rc : inspect_image(store->store, key, json, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `docker save`'s manifest.json names files, not digests: what it names is hashed, and an OCI
 * manifest written for it. The same archive gives the same manifest each time.
 */
#include <stdlib.h>
#include <string.h>

#include "base/json_doc.h"
#include "image/load_parts.h"

#define OCI "application/vnd.oci.image."

static const char *const layer_types[] = {
    [LAYER_TAR] = OCI "layer.v1.tar",
    [LAYER_TAR_GZIP] = OCI "layer.v1.tar+gzip",
    [LAYER_TAR_ZSTD] = OCI "layer.v1.tar+zstd",
};

static json_t *descriptor(const char *type, const struct descriptor *d)
{
    return json_pack("{s:s, s:s, s:I}", "mediaType", type, "digest", d->digest, "size",
                     (json_int_t)d->size_bytes);
}

static int take_layer(struct loading *l, const struct plan *plan, size_t i, json_t *layers,
                      struct sm_error *err)
{
    struct descriptor d = {0};
    enum layer_codec codec;
    const struct plan_layer *from = &plan->layers[i];
    int rc = loading_measure(l, from->entry, &d, &codec, err);
    if (!rc && from->digest[0] && strcmp(from->digest, d.digest) != 0) {
        rc = err_set(err, SM_ECORRUPT, "layer %s does not match its digest: its content is %s",
                     from->digest, d.digest);
    }
    if (!rc && codec == LAYER_TAR && strcmp(plan->config.diff_ids[i], d.digest) != 0) {
        rc = err_set(err, SM_ECORRUPT,
                     "layer %.150s does not match its diff id in the config: %s instead of %s",
                     from->entry, d.digest, plan->config.diff_ids[i]);
    }
    rc = rc ? rc : loading_blob(l, from->entry, &d, err);
    if (!rc && json_array_append_new(layers, descriptor(layer_types[codec], &d))) {
        rc = err_set(err, SM_ENOMEM, "out of memory");
    }
    return rc;
}

static int take_config(struct loading *l, const char *entry, const struct plan *plan, json_t **out,
                       struct sm_error *err)
{
    struct descriptor d = {0};
    enum layer_codec codec;
    int rc = loading_measure(l, entry, &d, &codec, err);
    if (!rc && strcmp(d.digest, plan->config_digest) != 0) {
        rc = err_set(err, SM_EIO, "%.200s changes while it is read", l->src->label);
    }
    rc = rc ? rc : loading_blob(l, entry, &d, err);
    if (!rc && !(*out = descriptor(OCI "config.v1+json", &d))) {
        rc = err_set(err, SM_ENOMEM, "out of memory");
    }
    return rc;
}

int load_docker_names(struct loading *l, const json_t *image, struct sm_error *err)
{
    json_t *tags, *tag;
    size_t i;
    int rc = json_doc_array(image, "RepoTags", "manifest.json", &tags, err);
    json_array_foreach(tags, i, tag)
    {
        if (!rc && !json_is_string(tag)) {
            rc = err_set(err, SM_ECORRUPT, "manifest.json: RepoTags[%zu] is not a string", i);
        }
        if (!rc && string_list_add(&l->names, json_string_value(tag))) {
            rc = err_set(err, SM_ENOMEM, "out of memory");
        }
    }
    return rc;
}

/* The manifest's text. Takes both over. */
static int compose(struct loading *l, json_t *config, json_t *layers, struct sm_error *err)
{
    json_t *doc = json_pack("{s:i, s:s, s:o, s:o}", "schemaVersion", 2, "mediaType",
                            MEDIA_OCI_MANIFEST, "config", config, "layers", layers);
    char *text = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
    l->text.len = 0;
    int rc = text && buf_append(&l->text, text, strlen(text)) == 0
                 ? SM_OK
                 : err_set(err, SM_ENOMEM, "out of memory");
    free(text);
    json_decref(doc);
    return rc;
}

int load_docker_image(struct loading *l, const json_t *image, struct sm_error *err)
{
    struct plan plan;
    json_t *config = NULL, *layers = json_array();
    int rc = docker_archive_plan(l->src, image, &plan, err);
    if (rc) {
        json_decref(layers);
        return rc;
    }
    rc = take_config(l, json_string_value(json_object_get(image, "Config")), &plan, &config, err);
    for (size_t i = 0; i < plan.n_layers && !rc; i++) {
        rc = take_layer(l, &plan, i, layers, err);
    }
    if (!rc) {
        rc = compose(l, config, layers, err);
    } else {
        json_decref(config);
        json_decref(layers);
    }
    plan_fini(&plan);
    return rc;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a docker-save archive to a plan. Its manifest.json carries no digests; what is trusted is
 * the config's own (checked when its name is one) and the diff ids in it, which cover every byte of
 * every layer. Docker since 25 names blobs by digest: then that is checked too.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/json_doc.h"
#include "image/plan.h"
#include "image/ref.h"

#define WHAT "manifest.json"
#define BLOBS "blobs/sha256/"

static bool names_image(const json_t *image, const char *name)
{
    const json_t *tags = json_object_get(image, "RepoTags");
    size_t i;
    json_t *tag;
    json_array_foreach(tags, i, tag)
    {
        if (json_is_string(tag) && ref_name_equal(json_string_value(tag), name)) {
            return true;
        }
    }
    return false;
}

static int not_chosen(const struct source *src, const json_t *list, const char *name,
                      struct sm_error *err)
{
    char names[200] = "";
    size_t used = 0, i, j;
    json_t *image, *tag;
    json_array_foreach(list, i, image)
    {
        json_array_foreach(json_object_get(image, "RepoTags"), j, tag)
        {
            const char *s = json_string_value(tag);
            if (s && used + strlen(s) + 3 < sizeof names) {
                used += (size_t)snprintf(names + used, sizeof names - used, "%s%s",
                                         used ? ", " : "", s);
            }
        }
    }
    return name ? err_set(err, SM_ENOTFOUND, "%.150s has no image %.80s; it has: %s", src->label,
                          name, names[0] ? names : "(no named images)")
                : err_set(err, SM_EINVAL, "%.150s holds several images, name one of: %s",
                          src->label, names[0] ? names : "(none has a name)");
}

static int choose(const struct source *src, const json_t *list, const char *name, json_t **out,
                  struct sm_error *err)
{
    size_t i, n = 0;
    json_t *image;
    json_array_foreach(list, i, image)
    {
        if (!name || names_image(image, name)) {
            *out = image;
            n++;
        }
    }
    return n == 1 ? SM_OK : not_chosen(src, list, name, err);
}

/* The digest that a name like "<hex>", "<hex>.json" or "blobs/sha256/<hex>" claims; "" for none. */
static void claimed_digest(const char *name, char out[DIGEST_STR_SIZE])
{
    const char *slash = strrchr(name, '/');
    const char *base = slash ? slash + 1 : name;
    if (!digest_of_file_name(base, "", out) && !digest_of_file_name(base, ".json", out)) {
        out[0] = '\0';
    }
}

static int read_config(struct source *src, const json_t *image, struct plan *out,
                       struct sm_error *err)
{
    const char *name;
    char claim[DIGEST_STR_SIZE];
    struct buf text = {0};
    int rc = json_doc_string(image, "Config", WHAT, &name, err);
    if (rc || !name) {
        return rc ? rc : err_set(err, SM_ECORRUPT, WHAT ": an image has no Config");
    }
    rc = source_read_entry(src, name, JSON_DOC_MAX_BYTES, &text, err);
    if (!rc) {
        claimed_digest(name, claim);
        hash_bytes(text.data, text.len, out->config_digest);
        if (claim[0] && strcmp(claim, out->config_digest) != 0) {
            rc = err_set(err, SM_ECORRUPT, "config %s does not match its digest: its content is %s",
                         claim, out->config_digest);
        }
    }
    if (!rc) {
        rc = config_parse(text.data, text.len, "the image's config", &out->config, err);
    }
    buf_fini(&text);
    return rc;
}

static int read_layers(const json_t *image, struct plan *out, struct sm_error *err)
{
    json_t *layers;
    int rc = json_doc_array(image, "Layers", WHAT, &layers, err);
    if (rc || !layers) {
        return rc ? rc : err_set(err, SM_ECORRUPT, WHAT ": an image has no Layers");
    }
    size_t n = json_array_size(layers);
    if (n > MANIFEST_MAX_LAYERS) {
        return err_set(err, SM_EUNSUPPORTED, "the image has %zu layers; the limit is %d", n,
                       MANIFEST_MAX_LAYERS);
    }
    out->layers = calloc(n + 1, sizeof *out->layers);
    if (!out->layers) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_array_get(layers, i));
        if (!name) {
            return err_set(err, SM_ECORRUPT, WHAT ": Layers[%zu] is not a string", i);
        }
        struct plan_layer *l = &out->layers[i];
        out->n_layers = i + 1;
        l->entry = strdup(name);
        if (!l->entry) {
            return err_set(err, SM_ENOMEM, "out of memory");
        }
        if (strncmp(name, BLOBS, strlen(BLOBS)) == 0) {
            claimed_digest(name, l->digest);
        }
    }
    return SM_OK;
}

static int resolve_oci(struct source *src, const char *name, struct plan *out, struct sm_error *err)
{
    struct stream *marker;
    int rc = source_open_entry(src, "oci-layout", &marker, err);
    if (rc == SM_ENOTFOUND) {
        return err_set(err, SM_EINVAL,
                       "%.300s is not a docker-save archive: it has neither " WHAT
                       " nor an OCI layout",
                       src->label);
    }
    if (rc) {
        return rc;
    }
    marker->close(marker);
    return layout_resolve(src, name, out, err);
}

int docker_archive_list(struct source *src, json_t **list, struct sm_error *err)
{
    struct buf text = {0};
    size_t i;
    json_t *image;
    *list = NULL;
    int rc = source_read_entry(src, WHAT, JSON_DOC_MAX_BYTES, &text, err);
    rc = rc ? rc : json_doc_parse(text.data, text.len, WHAT, list, err);
    if (!rc && (!json_is_array(*list) || json_array_size(*list) == 0)) {
        rc = err_set(err, SM_ECORRUPT, "%.300s: " WHAT " lists no image", src->label);
    }
    json_array_foreach(*list, i, image)
    {
        if (!rc && !json_is_object(image)) {
            rc = err_set(err, SM_ECORRUPT, WHAT ": entry %zu is not an object", i);
        }
    }
    buf_fini(&text);
    if (rc) {
        json_decref(*list);
        *list = NULL;
    }
    return rc;
}

int docker_archive_plan(struct source *src, const json_t *image, struct plan *out,
                        struct sm_error *err)
{
    *out = (struct plan){0};
    int rc = read_config(src, image, out, err);
    rc = rc ? rc : read_layers(image, out, err);
    rc = rc ? rc : plan_check(out, err);
    if (rc) {
        plan_fini(out);
    }
    return rc;
}

int docker_archive_resolve(struct source *src, const char *name, struct plan *out,
                           struct sm_error *err)
{
    json_t *list, *image = NULL;
    *out = (struct plan){0};
    int rc = docker_archive_list(src, &list, err);
    if (rc == SM_ENOTFOUND) {
        return resolve_oci(src, name, out, err);
    }
    rc = rc ? rc : choose(src, list, name, &image, err);
    rc = rc ? rc : docker_archive_plan(src, image, out, err);
    json_decref(list);
    return rc;
}

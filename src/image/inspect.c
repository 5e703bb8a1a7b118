/* SPDX-License-Identifier: Apache-2.0 */
#include "image/inspect.h"

#include <string.h>
#include <sys/stat.h>

#include "base/json_doc.h"
#include "image/plan.h"
#include "image/reach_set.h"
#include "image/source.h"

int inspect_sizes(struct store *store, const struct catalog_record *record,
                  struct sm_image_info *out, struct sm_error *err)
{
    struct reach_set set = {0};
    *out = (struct sm_image_info){.name = record->name,
                                  .digest = record->manifest,
                                  .id = record->config,
                                  .added_s = record->added_s};
    int rc = reach_set_image(&set, store, record, NULL);
    out->complete = rc == SM_OK;
    out->layers = (uint32_t)set.kinds[STORE_LAYER].n;
    for (int k = 0; k < STORE_KINDS; k++) {
        for (size_t i = 0; i < set.kinds[k].n; i++) {
            struct store_held held;
            struct stat st;
            if (store_hold(store, (enum store_kind)k, set.kinds[k].digests[i], &held, NULL) ||
                fstat(held.fd, &st)) {
                out->complete = 0;
            } else if (k == STORE_LAYER) {
                out->layer_bytes += (uint64_t)st.st_blocks * 512;
            } else {
                out->download_bytes += held.size_bytes;
            }
            store_release(&held);
        }
    }
    reach_set_fini(&set);
    return rc == SM_ENOMEM ? err_set(err, rc, "out of memory") : SM_OK;
}

/* A blob's document; NULL when it cannot be had. */
static int read_json(struct source *src, const char *digest, const char *what, json_t **out,
                     struct sm_error *err)
{
    char name[sizeof "blobs/sha256/" + HASH_HEX_LEN] = "blobs/sha256/", actual[DIGEST_STR_SIZE];
    struct buf text = {0};
    strcat(name, digest + strlen("sha256:"));
    int rc = source_read_entry(src, name, JSON_DOC_MAX_BYTES, &text, err);
    if (!rc) {
        hash_bytes(text.data, text.len, actual);
        rc = strcmp(actual, digest) == 0
                 ? json_doc_parse(text.data, text.len, what, out, err)
                 : err_set(err, SM_ECORRUPT, "%s does not match its digest", what);
    }
    buf_fini(&text);
    return rc;
}

static json_t *layer_list(const json_t *manifest, const json_t *config)
{
    json_t *list = json_array(), *layer;
    const json_t *diff_ids = json_object_get(json_object_get(config, "rootfs"), "diff_ids");
    size_t i;
    json_array_foreach(json_object_get(manifest, "layers"), i, layer)
    {
        json_array_append_new(list, json_pack("{s:O?, s:O?, s:O?, s:O?}", "digest",
                                              json_object_get(layer, "digest"), "size",
                                              json_object_get(layer, "size"), "media_type",
                                              json_object_get(layer, "mediaType"), "diff_id",
                                              json_array_get(diff_ids, i)));
    }
    return list;
}

int inspect_image(struct store *store, const char *name, char **json, struct sm_error *err)
{
    struct catalog_record record;
    struct source *src = NULL;
    json_t *manifest = NULL, *config = NULL;
    *json = NULL;
    int rc = catalog_get(store, name, &record, err);
    rc = rc ? rc : source_dir_open(store_path(store), &src, err);
    rc = rc ? rc : read_json(src, record.manifest, "the image's manifest", &manifest, err);
    rc = rc ? rc : read_json(src, record.config, "the image's config", &config, err);
    if (!rc) {
        json_t *doc = json_pack("{s:s, s:s, s:s, s:I, s:s, s:o, s:O}", "name", record.name, "id",
                                record.config, "digest", record.manifest, "added",
                                (json_int_t)record.added_s, "media_type", record.media_type,
                                "layers", layer_list(manifest, config), "config", config);
        *json = doc ? json_dumps(doc, JSON_INDENT(2)) : NULL;
        json_decref(doc);
        rc = *json ? SM_OK : err_set(err, SM_ENOMEM, "out of memory");
    }
    json_decref(manifest);
    json_decref(config);
    source_free(src);
    return rc;
}

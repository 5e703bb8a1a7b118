/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OCI image-spec image-layout.md and annotations.md; names as containerd and Docker write them: the
 * full one in io.containerd.image.name, its tag in org.opencontainers.image.ref.name.
 */
#include "image/save_doc.h"

#include <stdio.h>
#include <string.h>

#include "base/json_doc.h"

#define OCI "application/vnd.oci.image."

/* What OCI calls a Docker media type; NULL when it has no such. */
static const char *oci_type(const char *type)
{
    switch (media_of(type)) {
    case MEDIA_MANIFEST:
        return MEDIA_OCI_MANIFEST;
    case MEDIA_CONFIG:
        return OCI "config.v1+json";
    case MEDIA_LAYER_TAR:
        return media_is_foreign(type) ? OCI "layer.nondistributable.v1.tar" : OCI "layer.v1.tar";
    case MEDIA_LAYER_GZIP:
        return media_is_foreign(type) ? OCI "layer.nondistributable.v1.tar+gzip"
                                      : OCI "layer.v1.tar+gzip";
    case MEDIA_LAYER_ZSTD:
        return media_is_foreign(type) ? OCI "layer.nondistributable.v1.tar+zstd"
                                      : OCI "layer.v1.tar+zstd";
    default:
        return NULL;
    }
}

static int convert_type(json_t *object, struct sm_error *err)
{
    const char *said = json_string_value(json_object_get(object, "mediaType"));
    const char *type = oci_type(said);
    if (!type) {
        return err_set(err, SM_EUNSUPPORTED, "the image's manifest has the media type %.100s",
                       said ? said : "(none)");
    }
    return json_object_set_new(object, "mediaType", json_string(type))
               ? err_set(err, SM_ENOMEM, "out of memory")
               : SM_OK;
}

int save_doc_to_oci(struct buf *text, struct sm_error *err)
{
    json_t *doc, *layer;
    size_t i;
    int rc = json_doc_parse(text->data, text->len, "the image's manifest", &doc, err);
    if (rc) {
        return rc;
    }
    rc = convert_type(doc, err);
    rc = rc ? rc : convert_type(json_object_get(doc, "config"), err);
    json_array_foreach(json_object_get(doc, "layers"), i, layer)
    {
        rc = rc ? rc : convert_type(layer, err);
    }
    char *out = rc ? NULL : json_dumps(doc, JSON_COMPACT);
    if (!rc) {
        text->len = 0;
        rc = out && buf_append(text, out, strlen(out)) == 0
                 ? SM_OK
                 : err_set(err, SM_ENOMEM, "out of memory");
    }
    free(out);
    json_decref(doc);
    return rc;
}

/* The name by which tools choose an image of a layout: the tag, where that tells them apart. */
static const char *ref_name(const struct saved_image *images, size_t n, size_t at)
{
    const char *tag = images[at].name.tag;
    for (size_t i = 0; i < n; i++) {
        if (i != at && strcmp(images[i].name.tag, tag) == 0) {
            return images[at].record.name;
        }
    }
    return tag[0] ? tag : images[at].record.name;
}

char *save_doc_index(const struct saved_image *images, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        const struct saved_image *m = &images[i];
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:I, s:{s:s, s:s}}", "mediaType", m->media_type, "digest",
                            m->digest, "size", (json_int_t)m->size_bytes, "annotations",
                            "io.containerd.image.name", m->record.name,
                            "org.opencontainers.image.ref.name", ref_name(images, n, i)));
    }
    json_t *doc = json_pack("{s:i, s:s, s:o}", "schemaVersion", 2, "mediaType", OCI "index.v1+json",
                            "manifests", list);
    char *text = doc && json_array_size(list) == n ? json_dumps(doc, JSON_COMPACT) : NULL;
    json_decref(doc);
    return text;
}

static json_t *blob_name(const char *digest)
{
    return json_sprintf("blobs/sha256/%s", digest + strlen("sha256:"));
}

/* Every name of the same image that has a tag. */
static json_t *tags_of(const struct saved_image *images, size_t n, const char *digest)
{
    json_t *tags = json_array();
    for (size_t i = 0; i < n; i++) {
        if (strcmp(images[i].digest, digest) == 0 && !images[i].name.digest[0]) {
            json_array_append_new(tags, json_string(images[i].record.name));
        }
    }
    return tags;
}

static bool seen_before(const struct saved_image *images, size_t at)
{
    for (size_t i = 0; i < at; i++) {
        if (strcmp(images[i].digest, images[at].digest) == 0) {
            return true;
        }
    }
    return false;
}

char *save_doc_docker(const struct saved_image *images, size_t n)
{
    json_t *doc = json_array();
    size_t expected = 0;
    for (size_t i = 0; i < n; i++) {
        if (seen_before(images, i)) {
            continue;
        }
        const struct manifest *m = &images[i].manifest;
        json_t *layers = json_array();
        for (size_t j = 0; j < m->n; j++) {
            json_array_append_new(layers, blob_name(m->items[j].digest));
        }
        expected++;
        json_array_append_new(
            doc, json_pack("{s:o, s:o, s:o}", "Config", blob_name(m->config.digest), "RepoTags",
                           tags_of(images, n, images[i].digest), "Layers", layers));
    }
    char *text = json_array_size(doc) == expected ? json_dumps(doc, JSON_COMPACT) : NULL;
    json_decref(doc);
    return text;
}

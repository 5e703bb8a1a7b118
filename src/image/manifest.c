/* SPDX-License-Identifier: Apache-2.0 */
/* Manifest and index documents into descriptors; every digest and size is checked here, once. */
#include "image/manifest.h"

#include <stdlib.h>
#include <string.h>

#include "base/json_doc.h"

#define OCI "application/vnd.oci.image."
#define DOCKER "application/vnd.docker."

static const struct {
    const char *type;
    enum media media;
    bool foreign;
} media_types[] = {
    {OCI "index.v1+json", MEDIA_INDEX, false},
    {DOCKER "distribution.manifest.list.v2+json", MEDIA_INDEX, false},
    {MEDIA_OCI_MANIFEST, MEDIA_MANIFEST, false},
    {MEDIA_DOCKER_MANIFEST, MEDIA_MANIFEST, false},
    {DOCKER "distribution.manifest.v1+json", MEDIA_SCHEMA1, false},
    {DOCKER "distribution.manifest.v1+prettyjws", MEDIA_SCHEMA1, false},
    {OCI "config.v1+json", MEDIA_CONFIG, false},
    {DOCKER "container.image.v1+json", MEDIA_CONFIG, false},
    {OCI "layer.v1.tar", MEDIA_LAYER_TAR, false},
    {OCI "layer.v1.tar+gzip", MEDIA_LAYER_GZIP, false},
    {OCI "layer.v1.tar+zstd", MEDIA_LAYER_ZSTD, false},
    {OCI "layer.nondistributable.v1.tar", MEDIA_LAYER_TAR, true},
    {OCI "layer.nondistributable.v1.tar+gzip", MEDIA_LAYER_GZIP, true},
    {OCI "layer.nondistributable.v1.tar+zstd", MEDIA_LAYER_ZSTD, true},
    {DOCKER "image.rootfs.diff.tar", MEDIA_LAYER_TAR, false},
    {DOCKER "image.rootfs.diff.tar.gzip", MEDIA_LAYER_GZIP, false},
    {DOCKER "image.rootfs.diff.tar.zstd", MEDIA_LAYER_ZSTD, false},
    {DOCKER "image.rootfs.foreign.diff.tar", MEDIA_LAYER_TAR, true},
    {DOCKER "image.rootfs.foreign.diff.tar.gzip", MEDIA_LAYER_GZIP, true},
    {DOCKER "image.rootfs.foreign.diff.tar.zstd", MEDIA_LAYER_ZSTD, true},
};

enum media media_of(const char *type)
{
    for (size_t i = 0; type && i < sizeof media_types / sizeof media_types[0]; i++) {
        if (strcmp(type, media_types[i].type) == 0) {
            return media_types[i].media;
        }
    }
    return MEDIA_UNKNOWN;
}

bool media_is_foreign(const char *type)
{
    for (size_t i = 0; type && i < sizeof media_types / sizeof media_types[0]; i++) {
        if (strcmp(type, media_types[i].type) == 0) {
            return media_types[i].foreign;
        }
    }
    return false;
}

static int copy_string(const json_t *obj, const char *key, const char *what, char **out,
                       struct sm_error *err)
{
    const char *s;
    int rc = json_doc_string(obj, key, what, &s, err);
    if (rc || !s) {
        return rc;
    }
    *out = strdup(s);
    return *out ? SM_OK : err_set(err, SM_ENOMEM, "out of memory");
}

static int read_digest(const json_t *obj, const char *what, char out[DIGEST_STR_SIZE],
                       struct sm_error *err)
{
    const char *s;
    int rc = json_doc_string(obj, "digest", what, &s, err);
    if (rc) {
        return rc;
    }
    if (!s) {
        return err_set(err, SM_ECORRUPT, "%s: a descriptor has no digest", what);
    }
    if (!digest_valid(s)) {
        if (strncmp(s, "sha512:", 7) == 0) {
            return err_set(err, SM_EUNSUPPORTED, "%s: sha512 digests are not supported: %.150s",
                           what, s);
        }
        return err_set(err, SM_ECORRUPT, "%s: not a sha256 digest: \"%.100s\"", what, s);
    }
    memcpy(out, s, DIGEST_STR_SIZE);
    return SM_OK;
}

static int read_platform(const json_t *obj, const char *what, struct descriptor *d,
                         struct sm_error *err)
{
    json_t *p;
    int rc = json_doc_object(obj, "platform", what, &p, err);
    if (rc || !p) {
        return rc;
    }
    if ((rc = copy_string(p, "os", what, &d->os, err)) ||
        (rc = copy_string(p, "architecture", what, &d->architecture, err))) {
        return rc;
    }
    return copy_string(p, "variant", what, &d->variant, err);
}

static int read_annotations(const json_t *obj, const char *what, struct descriptor *d,
                            struct sm_error *err)
{
    json_t *a;
    const char *type;
    int rc = json_doc_object(obj, "annotations", what, &a, err);
    if (rc || !a) {
        return rc;
    }
    if ((rc = copy_string(a, "org.opencontainers.image.ref.name", what, &d->ref_name, err)) ||
        (rc = copy_string(a, "io.containerd.image.name", what, &d->image_name, err)) ||
        (rc = json_doc_string(a, "vnd.docker.reference.type", what, &type, err))) {
        return rc;
    }
    d->attestation = type && strcmp(type, "attestation-manifest") == 0;
    return SM_OK;
}

/* d is zeroed; the caller frees what was filled in, also after an error. */
static int read_descriptor(const json_t *obj, const char *what, struct descriptor *d,
                           struct sm_error *err)
{
    if (!json_is_object(obj)) {
        return err_set(err, SM_ECORRUPT, "%s: a descriptor is not an object", what);
    }
    const json_t *size = json_object_get(obj, "size");
    if (!json_is_integer(size) || json_integer_value(size) < 0) {
        return err_set(err, SM_ECORRUPT, "%s: a descriptor has no valid size", what);
    }
    d->size_bytes = (uint64_t)json_integer_value(size);
    int rc;
    if ((rc = copy_string(obj, "mediaType", what, &d->media_type, err)) ||
        (rc = read_digest(obj, what, d->digest, err)) || (rc = read_platform(obj, what, d, err))) {
        return rc;
    }
    return read_annotations(obj, what, d, err);
}

static int read_items(const json_t *array, const char *what, struct manifest *out,
                      struct sm_error *err)
{
    size_t n = json_array_size(array);
    size_t limit = out->kind == MEDIA_INDEX ? MANIFEST_MAX_ENTRIES : MANIFEST_MAX_LAYERS;
    if (n > limit) {
        return err_set(err, SM_EUNSUPPORTED, "%s has %zu %s; the limit is %zu", what, n,
                       out->kind == MEDIA_INDEX ? "entries" : "layers", limit);
    }
    out->items = calloc(n + 1, sizeof *out->items);
    if (!out->items) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < n; i++) {
        out->n = i + 1;
        int rc = read_descriptor(json_array_get(array, i), what, &out->items[i], err);
        if (rc) {
            return rc;
        }
    }
    return SM_OK;
}

/* Which kind the document is, when its own words, its members and the claim about it agree. */
static int classify(const json_t *doc, const char *claim, const char *what, enum media *kind,
                    struct sm_error *err)
{
    const char *own;
    int rc = json_doc_string(doc, "mediaType", what, &own, err);
    if (rc) {
        return rc;
    }
    bool index = json_object_get(doc, "manifests") != NULL;
    bool image = json_object_get(doc, "layers") || json_object_get(doc, "config");
    bool schema1 = json_object_get(doc, "fsLayers") || json_object_get(doc, "signatures");
    json_int_t version = json_integer_value(json_object_get(doc, "schemaVersion"));
    if (media_of(own) == MEDIA_SCHEMA1 || media_of(claim) == MEDIA_SCHEMA1 || version == 1) {
        return err_set(err, SM_EUNSUPPORTED,
                       "%s is a Docker schema 1 manifest, which is not supported: save the image "
                       "again with a current tool",
                       what);
    }
    if (version != 2) {
        return err_set(err, SM_ECORRUPT, "%s is not a manifest: its schemaVersion is not 2", what);
    }
    if (index + image + schema1 != 1 || schema1) {
        return err_set(err, SM_ECORRUPT, "%s is %s", what,
                       index || image || schema1
                           ? "ambiguous: it could be read as two kinds of document"
                           : "neither a manifest nor an index");
    }
    if (own && claim && strcmp(own, claim) != 0) {
        return err_set(err, SM_ECORRUPT, "%s says it is %.100s but is referred to as %.100s", what,
                       own, claim);
    }
    *kind = index ? MEDIA_INDEX : MEDIA_MANIFEST;
    const char *said = own ? own : claim;
    if (said && media_of(said) == MEDIA_UNKNOWN) {
        return err_set(err, SM_EUNSUPPORTED, "%s has the unknown media type %.100s", what, said);
    }
    if (said && media_of(said) != *kind) {
        return err_set(err, SM_ECORRUPT, "%s is called %.100s but holds %s", what, said,
                       index ? "an index" : "a manifest");
    }
    return SM_OK;
}

int manifest_parse(const void *data, size_t len, const char *media_type, const char *what,
                   struct manifest *out, struct sm_error *err)
{
    json_t *doc, *array;
    *out = (struct manifest){0};
    int rc = json_doc_parse(data, len, what, &doc, err);
    if (rc) {
        return rc;
    }
    if (!json_is_object(doc)) {
        rc = err_set(err, SM_ECORRUPT, "%s is not a JSON object", what);
    } else if (!(rc = classify(doc, media_type, what, &out->kind, err))) {
        const char *key = out->kind == MEDIA_INDEX ? "manifests" : "layers";
        rc = json_doc_array(doc, key, what, &array, err);
        if (!rc && !array) {
            rc = err_set(err, SM_ECORRUPT, "%s has no \"%s\"", what, key);
        }
        if (!rc) {
            rc = read_items(array, what, out, err);
        }
        rc = rc ? rc : copy_string(doc, "mediaType", what, &out->media_type, err);
        if (!rc && out->kind == MEDIA_MANIFEST) {
            rc = read_descriptor(json_object_get(doc, "config"), what, &out->config, err);
        }
    }
    json_decref(doc);
    if (rc) {
        manifest_fini(out);
    }
    return rc;
}

static void descriptor_fini(struct descriptor *d)
{
    free(d->media_type);
    free(d->os);
    free(d->architecture);
    free(d->variant);
    free(d->ref_name);
    free(d->image_name);
}

void manifest_fini(struct manifest *m)
{
    free(m->media_type);
    descriptor_fini(&m->config);
    for (size_t i = 0; i < m->n; i++) {
        descriptor_fini(&m->items[i]);
    }
    free(m->items);
    *m = (struct manifest){0};
}

// SPDX-License-Identifier: Apache-2.0
/* The manifest of a snapshot: from and to JSON. */
#include <stdlib.h>
#include <string.h>

#include "base/json_doc.h"
#include "host/disk.h"
#include "vm/snapshot.h"

#define WHAT "the snapshot's manifest"

static json_t *layer_list(const struct snapshot *s)
{
    json_t *list = json_array();
    for (unsigned i = 0; list && i < s->n_layers; i++)
        json_array_append_new(list, json_string(s->layer_ids[i]));
    return list;
}

static json_t *disk_list(const struct snapshot *s)
{
    json_t *list = json_array();
    for (unsigned i = 0; list && i < s->n_disks; i++) {
        const struct snapshot_disk *d = &s->disks[i];
        json_t *one = json_pack("{s:I, s:b, s:s}", "bytes", (json_int_t)d->bytes, "read_only",
                                d->read_only, "digest", d->digest);
        if (json_array_append_new(list, one) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

int snapshot_manifest_build(const struct snapshot *s, char **text, struct sm_error *err)
{
    json_t *doc =
        json_pack("{s:i, s:I, s:i, s:s, s:s, s:o, s:i, s:s, s:O}", "format",
                  s->n_disks          ? SNAPSHOT_FORMAT_DISKS
                  : s->base_digest[0] ? SNAPSHOT_FORMAT_BASE
                                      : SNAPSHOT_FORMAT,
                  "memory", (json_int_t)s->memory_bytes, "vcpus", (int)s->vcpus, "cpu_model",
                  s->cpu_model, "cpu_vendor", s->cpu_vendor, "layers", layer_list(s), "volumes",
                  (int)s->n_volumes, "ram_digest", s->ram_digest, "document", s->document);
    if (doc && ((s->base_digest[0] &&
                 json_object_set_new(doc, "base_digest", json_string(s->base_digest)) != 0) ||
                (s->n_disks && json_object_set_new(doc, "disks", disk_list(s)) != 0))) {
        json_decref(doc);
        doc = NULL;
    }
    *text = doc ? json_dumps(doc, JSON_INDENT(1)) : NULL;
    json_decref(doc);
    return *text ? 0 : err_set(err, SM_ENOMEM, "out of memory");
}

static int bad(struct sm_error *err, const char *key)
{
    return err_set(err, SM_ECORRUPT, WHAT ": %s is missing or makes no sense", key);
}

static int take_number(const json_t *doc, const char *key, int64_t min, int64_t max, int64_t *out,
                       struct sm_error *err)
{
    const json_t *v = json_object_get(doc, key);
    *out = json_integer_value(v);
    return json_is_integer(v) && *out >= min && *out <= max ? 0 : bad(err, key);
}

static int take_text(const json_t *doc, const char *key, char *out, size_t size,
                     struct sm_error *err)
{
    const char *text;
    int rc = json_doc_string(doc, key, WHAT, &text, err);
    if (rc)
        return rc;
    if (!text || strlen(text) >= size)
        return bad(err, key);
    strcpy(out, text);
    return 0;
}

static int take_layers(const json_t *doc, struct snapshot *s, struct sm_error *err)
{
    json_t *list;
    int rc = json_doc_array(doc, "layers", WHAT, &list, err);
    if (rc)
        return rc;
    size_t n = json_array_size(list);
    if (!list || n > VM_MAX_LAYERS)
        return bad(err, "layers");
    s->layer_ids = calloc(n + 1, sizeof *s->layer_ids);
    if (!s->layer_ids)
        return err_set(err, SM_ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) {
        const char *id = json_string_value(json_array_get(list, i));
        if (!id || !digest_valid(id))
            return bad(err, "layers");
        strcpy(s->layer_ids[i], id);
    }
    s->n_layers = (unsigned)n;
    return 0;
}

static int take_digest(const json_t *doc, const char *key, char out[DIGEST_STR_SIZE],
                       struct sm_error *err)
{
    int rc = take_text(doc, key, out, DIGEST_STR_SIZE, err);
    return rc || digest_valid(out) ? rc : bad(err, key);
}

static int take_disk(const json_t *doc, struct snapshot_disk *d, struct sm_error *err)
{
    const json_t *read_only = json_object_get(doc, "read_only");
    int64_t bytes;
    int rc = take_number(doc, "bytes", 1, INT64_MAX, &bytes, err);
    if (!rc && bytes % DISK_SECTOR)
        rc = bad(err, "bytes");
    if (!rc && !json_is_boolean(read_only))
        rc = bad(err, "read_only");
    rc = rc ? rc : take_digest(doc, "digest", d->digest, err);
    d->bytes = rc ? 0 : (uint64_t)bytes;
    d->read_only = json_is_true(read_only);
    return rc;
}

static int take_disks(const json_t *doc, struct snapshot *s, struct sm_error *err)
{
    json_t *list;
    int rc = json_doc_array(doc, "disks", WHAT, &list, err);
    if (rc)
        return rc;
    size_t n = json_array_size(list);
    if (!list || n < 1 || n > VM_MAX_VOLUMES)
        return bad(err, "disks");
    for (size_t i = 0; i < n && !rc; i++) {
        const json_t *one = json_array_get(list, i);
        rc = json_is_object(one) ? take_disk(one, &s->disks[i], err) : bad(err, "disks");
    }
    s->n_disks = rc ? 0 : (unsigned)n;
    return rc;
}

/* And what only one of the formats has. */
static int take_format(const json_t *doc, struct snapshot *s, struct sm_error *err)
{
    int64_t format;
    int rc = take_number(doc, "format", 1, INT32_MAX, &format, err);
    if (!rc && format > SNAPSHOT_FORMAT_DISKS)
        rc =
            err_set(err, SM_EUNSUPPORTED,
                    "the snapshot has format version %d; this version reads 1 to %d: bake it again",
                    (int)format, SNAPSHOT_FORMAT_DISKS);
    if (!rc && (format == SNAPSHOT_FORMAT_BASE ||
                (format == SNAPSHOT_FORMAT_DISKS && json_object_get(doc, "base_digest"))))
        rc = take_digest(doc, "base_digest", s->base_digest, err);
    if (!rc && format == SNAPSHOT_FORMAT_DISKS)
        rc = take_disks(doc, s, err);
    return rc;
}

static int take_all(const json_t *doc, struct snapshot *s, struct sm_error *err)
{
    int64_t memory = 0, vcpus = 0, volumes = 0;
    json_t *document;
    int rc = take_format(doc, s, err);
    rc = rc ? rc : take_number(doc, "memory", 0, INT64_MAX, &memory, err);
    rc = rc ? rc : take_number(doc, "vcpus", 1, ENGINE_MAX_VCPUS, &vcpus, err);
    rc = rc ? rc : take_text(doc, "cpu_model", s->cpu_model, sizeof s->cpu_model, err);
    rc = rc ? rc : take_text(doc, "cpu_vendor", s->cpu_vendor, sizeof s->cpu_vendor, err);
    rc = rc ? rc : take_digest(doc, "ram_digest", s->ram_digest, err);
    rc = rc ? rc : take_layers(doc, s, err);
    if (!rc && json_object_get(doc, "volumes"))
        rc = take_number(doc, "volumes", 0, s->n_disks ? 0 : VM_MAX_VOLUMES, &volumes, err);
    rc = rc ? rc : json_doc_object(doc, "document", WHAT, &document, err);
    if (rc)
        return rc;
    if (!document)
        return bad(err, "document");
    s->memory_bytes = (uint64_t)memory;
    s->vcpus = (unsigned)vcpus;
    s->n_volumes = (unsigned)volumes;
    s->document = json_incref(document);
    return 0;
}

int snapshot_manifest_parse(const void *text, size_t len, struct snapshot *s, struct sm_error *err)
{
    json_t *doc;
    int rc = json_doc_parse(text, len, WHAT, &doc, err);
    if (rc)
        return rc;
    rc = json_is_object(doc) ? take_all(doc, s, err)
                             : err_set(err, SM_ECORRUPT, WHAT " is not an object");
    json_decref(doc);
    return rc;
}

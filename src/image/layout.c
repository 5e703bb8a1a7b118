/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From an OCI layout to a plan: oci-layout, index.json, nested indexes, manifest, config. Each blob
 * is checked against the size and digest of the descriptor that led to it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/json_doc.h"
#include "image/plan.h"
#include "image/platform.h"
#include "image/ref.h"

#define MAX_INDEX_DEPTH 4
#define WHAT_SIZE 160

static int check_marker(struct source *src, struct sm_error *err)
{
    struct buf text = {0};
    json_t *doc = NULL;
    const char *version = NULL;
    int rc = source_read_entry(src, "oci-layout", 4096, &text, err);
    if (rc == SM_ENOTFOUND) {
        rc = err_set(err, SM_EINVAL, "%.300s is not an OCI layout: it has no file oci-layout",
                     src->label);
    }
    if (!rc && !(rc = json_doc_parse(text.data, text.len, "oci-layout", &doc, err))) {
        rc = json_doc_string(doc, "imageLayoutVersion", "oci-layout", &version, err);
        if (!rc && (!version || strncmp(version, "1.", 2) != 0)) {
            rc = err_set(err, SM_EUNSUPPORTED, "%.300s: unknown OCI layout version %.20s",
                         src->label, version ? version : "(none)");
        }
    }
    json_decref(doc);
    buf_fini(&text);
    return rc;
}

static int read_index_json(struct source *src, struct manifest *out, struct sm_error *err)
{
    struct buf text = {0};
    int rc = source_read_entry(src, "index.json", JSON_DOC_MAX_BYTES, &text, err);
    if (!rc) {
        rc = manifest_parse(text.data, text.len, NULL, "index.json", out, err);
    }
    if (!rc && out->kind != MEDIA_INDEX) {
        manifest_fini(out);
        rc = err_set(err, SM_ECORRUPT, "%.300s: index.json is not an index", src->label);
    }
    buf_fini(&text);
    return rc;
}

static bool has_name(const struct descriptor *d, const char *tag)
{
    if (d->ref_name && strcmp(d->ref_name, tag) == 0) {
        return true;
    }
    return (d->image_name && ref_name_equal(d->image_name, tag)) ||
           (d->ref_name && strchr(d->ref_name, '/') && ref_name_equal(d->ref_name, tag));
}

static const char *name_of(const struct descriptor *d)
{
    return d->ref_name ? d->ref_name : d->image_name;
}

static int no_such_tag(const struct source *src, const struct manifest *index, const char *tag,
                       struct sm_error *err)
{
    char names[200] = "";
    size_t used = 0;
    for (size_t i = 0; i < index->n; i++) {
        const char *name = name_of(&index->items[i]);
        if (name && used + strlen(name) + 6 < sizeof names) {
            used +=
                (size_t)snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", name);
        } else if (name) {
            snprintf(names + used, sizeof names - used, ", ...");
            break;
        }
    }
    if (tag) {
        return err_set(err, SM_ENOTFOUND, "%.150s has no image %.80s; it has: %s", src->label, tag,
                       names[0] ? names : "(no named images)");
    }
    return err_set(err, SM_EINVAL, "%.150s holds several images, name one of: %s", src->label,
                   names[0] ? names : "(none has a name)");
}

/* Without a tag: does every image go by the same name (or none)? */
static bool one_name(const struct manifest *index)
{
    const struct descriptor *first = NULL;
    for (size_t i = 0; i < index->n; i++) {
        const struct descriptor *d = &index->items[i];
        if (d->attestation) {
            continue;
        }
        if (!first) {
            first = d;
        } else if (strcmp(name_of(first) ? name_of(first) : "", name_of(d) ? name_of(d) : "")) {
            return false;
        }
    }
    return true;
}

/* Choose from index.json (by_name) or from a nested index (by platform only). */
static int choose(struct source *src, const struct manifest *index, bool by_name, const char *tag,
                  const char *what, const struct descriptor **out, struct sm_error *err)
{
    const struct descriptor **fit = calloc(index->n + 1, sizeof *fit);
    size_t n = 0, chosen = 0;
    if (!fit) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    const char *wanted = by_name && !tag && !one_name(index) ? "latest" : tag;
    for (size_t i = 0; i < index->n; i++) {
        if (!by_name || !wanted || has_name(&index->items[i], wanted)) {
            fit[n++] = &index->items[i];
        }
    }
    int rc;
    if (n == 0 && index->n > 0) {
        rc = no_such_tag(src, index, tag, err);
    } else if (!(rc = platform_select(fit, n, what, &chosen, err))) {
        *out = fit[chosen];
    }
    free(fit);
    return rc;
}

/* Follow descriptors from index.json to a manifest. */
int layout_manifest(struct source *src, const char *tag, struct manifest *at, struct buf *text,
                    struct sm_error *err)
{
    char what[WHAT_SIZE] = "index.json";
    *at = (struct manifest){0};
    int rc = check_marker(src, err);
    rc = rc ? rc : read_index_json(src, at, err);
    for (int depth = 0; !rc && at->kind == MEDIA_INDEX; depth++) {
        const struct descriptor *next = NULL;
        struct manifest found = {0};
        if (depth >= MAX_INDEX_DEPTH) {
            rc = err_set(err, SM_ECORRUPT, "%.200s: indexes are nested deeper than %d levels",
                         src->label, MAX_INDEX_DEPTH);
            break;
        }
        text->len = 0;
        rc = choose(src, at, depth == 0, depth == 0 ? tag : NULL, what, &next, err);
        if (!rc) {
            snprintf(what, sizeof what, "%s %s",
                     media_of(next->media_type) == MEDIA_INDEX ? "index" : "manifest",
                     next->digest);
            rc = source_read_blob(src, next, what, text, err);
        }
        if (!rc) {
            rc = manifest_parse(text->data, text->len, next->media_type, what, &found, err);
        }
        if (!rc) {
            manifest_fini(at);
            *at = found;
        }
    }
    if (rc) {
        manifest_fini(at);
    }
    return rc;
}

int layout_resolve(struct source *src, const char *tag, struct plan *out, struct sm_error *err)
{
    struct manifest m;
    struct buf text = {0};
    *out = (struct plan){0};
    int rc = layout_manifest(src, tag, &m, &text, err);
    if (!rc) {
        rc = plan_read(src, &m, out, err);
        manifest_fini(&m);
    }
    buf_fini(&text);
    if (rc) {
        plan_fini(out);
    }
    return rc;
}

static bool has_string(const struct string_list *list, const char *s)
{
    for (size_t i = 0; i < list->n; i++) {
        if (strcmp(list->items[i], s) == 0) {
            return true;
        }
    }
    return false;
}

int layout_names(struct source *src, struct string_list *names, size_t *nameless,
                 struct sm_error *err)
{
    struct manifest index = {0};
    *nameless = 0;
    int rc = check_marker(src, err);
    rc = rc ? rc : read_index_json(src, &index, err);
    for (size_t i = 0; !rc && i < index.n; i++) {
        const struct descriptor *d = &index.items[i];
        const char *name = d->image_name ? d->image_name : d->ref_name;
        if (d->attestation) {
            continue;
        }
        if (!name) {
            (*nameless)++;
        } else if (!has_string(names, name) && string_list_add(names, name)) {
            rc = err_set(err, SM_ENOMEM, "out of memory");
        }
    }
    manifest_fini(&index);
    return rc;
}

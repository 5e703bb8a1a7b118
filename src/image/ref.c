/* SPDX-License-Identifier: Apache-2.0 */
/* Image references: a scheme, a path up to the next ':', and an optional name. */
#include "image/ref.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "image/name.h"

#define REF_NAME_MAX 512

#define FORMS "busybox, NAME[:TAG|@DIGEST], oci:DIR[:TAG], docker-archive:FILE[:NAME]"

static const char *after_prefix(const char *text, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(text, prefix, n) == 0 ? text + n : NULL;
}

static int split_path(const char *text, const char *rest, struct ref *out, struct sm_error *err)
{
    const char *colon = strchr(rest, ':');
    size_t path_len = colon ? (size_t)(colon - rest) : strlen(rest);
    if (path_len == 0 || path_len >= PATH_MAX) {
        return err_set(err, SM_EINVAL, "image %.200s: the path is %s", text,
                       path_len ? "too long" : "missing");
    }
    if (colon && (colon[1] == '\0' || strlen(colon + 1) > REF_NAME_MAX)) {
        return err_set(err, SM_EINVAL, "image %.200s: the name after the last ':' is %s", text,
                       colon[1] ? "too long" : "missing");
    }
    out->path = strndup(rest, path_len);
    out->name = colon ? strdup(colon + 1) : NULL;
    if (!out->path || (colon && !out->name)) {
        ref_fini(out);
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    return SM_OK;
}

int ref_parse(const char *text, struct ref *out, struct sm_error *err)
{
    *out = (struct ref){0};
    const char *rest;
    if (text[0] == '\0') {
        return err_set(err, SM_EINVAL, "the image name is empty; use one of: " FORMS);
    }
    if ((rest = after_prefix(text, "oci:"))) {
        out->kind = REF_OCI_LAYOUT;
        return split_path(text, rest, out, err);
    }
    if ((rest = after_prefix(text, "docker-archive:"))) {
        out->kind = REF_DOCKER_ARCHIVE;
        return split_path(text, rest, out, err);
    }
    if (after_prefix(text, "snapshot:")) {
        return err_set(err, SM_EUNSUPPORTED, "image %.200s: snapshots cannot be run yet", text);
    }
    if (strcmp(text, "busybox") == 0 || strcmp(text, "busybox:latest") == 0) {
        out->kind = REF_BUILTIN;
        out->name = strdup("busybox");
        return out->name ? SM_OK : err_set(err, SM_ENOMEM, "out of memory");
    }
    struct name parsed;
    int rc = name_parse(text, &parsed, err);
    if (rc) {
        return rc;
    }
    out->kind = REF_NAME;
    out->name = strdup(text);
    return out->name ? SM_OK : err_set(err, SM_ENOMEM, "out of memory");
}

void ref_fini(struct ref *ref)
{
    free(ref->path);
    free(ref->name);
    *ref = (struct ref){0};
}

/* The part of a docker name that carries meaning, without the default registry and namespace. */
static const char *short_name(const char *name)
{
    static const char *const defaults[] = {"docker.io/library/", "index.docker.io/library/",
                                           "docker.io/", "index.docker.io/"};
    for (size_t i = 0; i < sizeof defaults / sizeof defaults[0]; i++) {
        const char *rest = after_prefix(name, defaults[i]);
        if (rest) {
            return rest;
        }
    }
    return name;
}

static bool has_tag(const char *name)
{
    const char *slash = strrchr(name, '/');
    return strpbrk(slash ? slash : name, ":@") != NULL;
}

bool ref_name_equal(const char *a, const char *b)
{
    a = short_name(a);
    b = short_name(b);
    bool tag_a = has_tag(a), tag_b = has_tag(b);
    if (tag_a == tag_b) {
        return strcmp(a, b) == 0;
    }
    const char *bare = tag_a ? b : a, *full = tag_a ? a : b;
    const char *tail = after_prefix(full, bare);
    return tail && strcmp(tail, ":latest") == 0;
}

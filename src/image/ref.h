/* SPDX-License-Identifier: Apache-2.0 */
/* What the user wrote to name an image, taken apart. Pure text work; touches no file. */
#ifndef SM_IMAGE_REF_H
#define SM_IMAGE_REF_H

#include <stdbool.h>

#include "base/err.h"

enum ref_kind {
    REF_OCI_LAYOUT,     /* oci:DIR[:TAG] */
    REF_DOCKER_ARCHIVE, /* docker-archive:FILE[:NAME] */
    REF_BUILTIN,        /* busybox */
    REF_NAME,           /* [HOST/]PATH[:TAG][@DIGEST]: in the store, or at a registry */
};

struct ref {
    enum ref_kind kind;
    char *path; /* owned; NULL for REF_BUILTIN and REF_NAME */
    char *name; /* owned; TAG or NAME, or the built-in image's name; NULL when not given. Of
                   REF_NAME the text as it was: name.h takes it apart */
};

/*
 * Parse text. The first ':' after the scheme ends the path (as in skopeo), so a path with a ':'
 * cannot be named. SM_EINVAL for an empty or over-long part and for what is neither a form above
 * nor a name, SM_EUNSUPPORTED for a scheme that is known but not there yet. On success the caller
 * calls ref_fini.
 */
int ref_parse(const char *text, struct ref *out, struct sm_error *err);
void ref_fini(struct ref *ref); /* a zeroed one is fine */

/* True when two docker names mean the same: "foo" is "docker.io/library/foo:latest". */
bool ref_name_equal(const char *a, const char *b);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Image manifests and indexes, OCI and Docker schema 2 (OCI image-spec manifest.md, image-index.md,
 * descriptor.md, media-types.md). Parsing only: no file is touched and nothing is looked up.
 */
#ifndef SM_IMAGE_MANIFEST_H
#define SM_IMAGE_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"

#define MEDIA_OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define MEDIA_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define MANIFEST_MAX_LAYERS 64
#define MANIFEST_MAX_ENTRIES 16384 /* of an index */

enum media {
    MEDIA_UNKNOWN,
    MEDIA_INDEX,
    MEDIA_MANIFEST,
    MEDIA_SCHEMA1, /* Docker's old manifest: known, and refused */
    MEDIA_CONFIG,
    MEDIA_LAYER_TAR,
    MEDIA_LAYER_GZIP,
    MEDIA_LAYER_ZSTD,
};

enum media media_of(const char *media_type);   /* NULL is MEDIA_UNKNOWN */
bool media_is_foreign(const char *media_type); /* a layer that its image need not contain */

/* A reference to a blob. Strings are owned; NULL where the document does not have them. */
struct descriptor {
    char *media_type;
    char digest[DIGEST_STR_SIZE]; /* always valid */
    uint64_t size_bytes;
    char *os, *architecture, *variant; /* platform; index entries only */
    char *ref_name;                    /* org.opencontainers.image.ref.name */
    char *image_name;                  /* io.containerd.image.name */
    bool attestation;                  /* metadata about another entry, not an image */
};

struct manifest {
    enum media kind;          /* MEDIA_INDEX or MEDIA_MANIFEST */
    char *media_type;         /* owned; what the document calls itself, or NULL */
    struct descriptor config; /* of a manifest */
    size_t n;
    struct descriptor *items; /* owned; an index's entries, or a manifest's layers lowest first */
};

/*
 * Parse a manifest or index. media_type is what the reference to it claims, or NULL; what names the
 * document in errors. A document that could be read as both kinds, or as another kind than was
 * claimed, is refused (CVE-2021-41190). SM_ECORRUPT for a broken document, SM_EUNSUPPORTED for a
 * Docker schema 1 manifest, an unknown digest algorithm, or too many layers.
 * manifest_fini on success only.
 */
int manifest_parse(const void *data, size_t len, const char *media_type, const char *what,
                   struct manifest *out, struct sm_error *err);
void manifest_fini(struct manifest *m); /* a zeroed or half-filled one is fine */

#endif

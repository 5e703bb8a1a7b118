/* SPDX-License-Identifier: Apache-2.0 */
/* What resolving a reference ends in, before any layer is read: the config and where each layer is.
 */
#ifndef SM_IMAGE_PLAN_H
#define SM_IMAGE_PLAN_H

#include <jansson.h>
#include <stdbool.h>

#include "image/config.h"
#include "image/layer.h"
#include "image/manifest.h"
#include "image/source.h"

struct plan_layer {
    char *entry;                  /* owned: its name in the source */
    char digest[DIGEST_STR_SIZE]; /* of the bytes as stored; "" when nothing claims one */
    uint64_t size_bytes;          /* of the bytes as stored; only with a digest from a manifest */
    bool size_known;
    bool codec_known; /* else it is seen from the first bytes */
    bool foreign;     /* the image may lawfully lack it */
    enum layer_codec codec;
};

struct plan {
    char config_digest[DIGEST_STR_SIZE];
    struct image_config config;
    size_t n_layers;           /* equal to config.n_diff_ids, at least 1 */
    struct plan_layer *layers; /* owned; lowest first */
};

void plan_fini(struct plan *plan); /* a zeroed or half-filled one is fine */

/* The last step of both resolvers: n layers, as many as the config says, and for our platform. */
int plan_check(const struct plan *plan, struct sm_error *err);

/* From a manifest: read its config from src, and check both against each other. plan_fini in any
 * case. */
int plan_read(struct source *src, const struct manifest *m, struct plan *out, struct sm_error *err);

/*
 * An OCI layout (image-spec image-layout.md). tag may be NULL: the only image, or the one called
 * "latest". SM_EINVAL when src is no layout, SM_ENOTFOUND with the tags there are, and all that
 * reading its documents can give. plan_fini on success only.
 */
int layout_resolve(struct source *src, const char *tag, struct plan *out, struct sm_error *err);

/* The same up to the manifest, whose bytes are left in text (emptied first). manifest_fini on
 * success only. */
int layout_manifest(struct source *src, const char *tag, struct manifest *out, struct buf *text,
                    struct sm_error *err);
/* The names in index.json, each once, appended to names; and how many images have none. */
int layout_names(struct source *src, struct string_list *names, size_t *nameless,
                 struct sm_error *err);

/* What `docker save` writes (manifest.json), of old and of new Docker; also an OCI layout in a tar.
 * name may be NULL: the only image. Otherwise as layout_resolve. */
int docker_archive_resolve(struct source *src, const char *name, struct plan *out,
                           struct sm_error *err);
/* The images that manifest.json lists, an array; the caller json_decref()s it. SM_ENOTFOUND: there
 * is no manifest.json. */
int docker_archive_list(struct source *src, json_t **list, struct sm_error *err);
/* One of them. plan_fini on success only. */
int docker_archive_plan(struct source *src, const json_t *image, struct plan *out,
                        struct sm_error *err);

#endif

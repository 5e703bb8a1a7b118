/* SPDX-License-Identifier: Apache-2.0 */
#include "image/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "image/platform.h"

#define WHAT_SIZE 160

void plan_fini(struct plan *plan)
{
    for (size_t i = 0; i < plan->n_layers; i++) {
        free(plan->layers[i].entry);
    }
    free(plan->layers);
    config_fini(&plan->config);
    *plan = (struct plan){0};
}

int plan_check(const struct plan *plan, struct sm_error *err)
{
    int rc = platform_check(&plan->config, err);
    if (rc) {
        return rc;
    }
    if (plan->n_layers != plan->config.n_diff_ids) {
        return err_set(err, SM_ECORRUPT,
                       "the manifest lists %zu layers but config %s lists %zu diff_ids",
                       plan->n_layers, plan->config_digest, plan->config.n_diff_ids);
    }
    if (plan->n_layers == 0) {
        return err_set(err, SM_EUNSUPPORTED, "the image has no layers: there is nothing to run");
    }
    return SM_OK;
}

static int take_layers(const struct manifest *m, struct plan *out, struct sm_error *err)
{
    out->layers = calloc(m->n + 1, sizeof *out->layers);
    if (!out->layers) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < m->n; i++) {
        const struct descriptor *d = &m->items[i];
        struct plan_layer *l = &out->layers[i];
        out->n_layers = i + 1;
        l->entry = io_format("blobs/sha256/%s", d->digest + strlen("sha256:"));
        if (!l->entry) {
            return err_set(err, SM_ENOMEM, "out of memory");
        }
        memcpy(l->digest, d->digest, sizeof l->digest);
        l->size_bytes = d->size_bytes;
        l->size_known = l->codec_known = true;
        l->foreign = media_is_foreign(d->media_type);
        switch (media_of(d->media_type)) {
        case MEDIA_LAYER_TAR:
            l->codec = LAYER_TAR;
            break;
        case MEDIA_LAYER_GZIP:
            l->codec = LAYER_TAR_GZIP;
            break;
        case MEDIA_LAYER_ZSTD:
            l->codec = LAYER_TAR_ZSTD;
            break;
        default:
            return err_set(err, SM_EUNSUPPORTED, "layer %s has the unknown media type %.200s",
                           d->digest, d->media_type ? d->media_type : "(none)");
        }
    }
    return SM_OK;
}

int plan_read(struct source *src, const struct manifest *m, struct plan *out, struct sm_error *err)
{
    char what[WHAT_SIZE];
    struct buf text = {0};
    snprintf(what, sizeof what, "config %s", m->config.digest);
    if (media_of(m->config.media_type) != MEDIA_CONFIG) {
        return err_set(err, SM_EUNSUPPORTED,
                       "%s has the unknown media type %.200s: this is not a container image", what,
                       m->config.media_type ? m->config.media_type : "(none)");
    }
    int rc = source_read_blob(src, &m->config, what, &text, err);
    if (!rc) {
        rc = config_parse(text.data, text.len, what, &out->config, err);
    }
    buf_fini(&text);
    if (!rc) {
        memcpy(out->config_digest, m->config.digest, sizeof out->config_digest);
        rc = take_layers(m, out, err);
    }
    return rc ? rc : plan_check(out, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "image/platform.h"

#include <stdio.h>
#include <string.h>

#define OS "linux"
#define ARCHITECTURE "amd64"
#define ARCHITECTURE32 "386" /* its programs run on the same processor and kernel */

static bool same(const char *a, const char *b)
{
    return a && strcmp(a, b) == 0;
}

static bool is_ours(const struct descriptor *d)
{
    const char *v = d->variant;
    return same(d->os, OS) && same(d->architecture, ARCHITECTURE) &&
           (!v || v[0] == '\0' || same(v, "v1") || same(v, "v2"));
}

static bool is_ours32(const struct descriptor *d)
{
    return same(d->os, OS) && same(d->architecture, ARCHITECTURE32);
}

static bool is_image(const struct descriptor *d)
{
    enum media media = media_of(d->media_type);
    return !d->attestation && !same(d->os, "unknown") &&
           (media == MEDIA_MANIFEST || media == MEDIA_INDEX || !d->media_type);
}

static int none_fits(const struct descriptor *const *entries, size_t n, const char *what,
                     struct sm_error *err)
{
    char found[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        const struct descriptor *d = entries[i];
        char one[96];
        if (!is_image(d)) {
            continue;
        }
        snprintf(one, sizeof one, "%.20s/%.20s%s%.20s", d->os ? d->os : "?",
                 d->architecture ? d->architecture : "?", d->variant && d->variant[0] ? "/" : "",
                 d->variant ? d->variant : "");
        if (strstr(found, one) || used + strlen(one) + 3 > sizeof found) {
            continue;
        }
        used += (size_t)snprintf(found + used, sizeof found - used, "%s%s", used ? ", " : "", one);
    }
    if (used) {
        return err_set(err, SM_EUNSUPPORTED,
                       "%s has no image for " OS "/" ARCHITECTURE " or " OS "/" ARCHITECTURE32
                       ", only for %s",
                       what, found);
    }
    for (size_t i = 0; i < n; i++) {
        enum media media = media_of(entries[i]->media_type);
        if (media == MEDIA_SCHEMA1) {
            return err_set(err, SM_EUNSUPPORTED,
                           "%s holds only a Docker schema 1 manifest, which is not supported",
                           what);
        }
        if (entries[i]->media_type && media != MEDIA_MANIFEST && media != MEDIA_INDEX) {
            return err_set(err, SM_EUNSUPPORTED,
                           "%s holds no image, only the unknown media type %.100s", what,
                           entries[i]->media_type);
        }
    }
    return err_set(err, SM_ENOTFOUND, "%s holds no image", what);
}

int platform_select(const struct descriptor *const *entries, size_t n, const char *what,
                    size_t *chosen, struct sm_error *err)
{
    size_t bare = n, ours32 = n;
    bool ambiguous = false;
    for (size_t i = 0; i < n; i++) {
        if (!is_image(entries[i])) {
            continue;
        }
        if (is_ours(entries[i])) {
            *chosen = i;
            return SM_OK;
        }
        if (is_ours32(entries[i]) && ours32 == n) {
            ours32 = i;
        }
        if (!entries[i]->os && !entries[i]->architecture) {
            ambiguous |= bare < n && strcmp(entries[bare]->digest, entries[i]->digest) != 0;
            bare = bare < n ? bare : i;
        }
    }
    if (ours32 < n) {
        *chosen = ours32;
        return SM_OK;
    }
    if (ambiguous) {
        return err_set(err, SM_EINVAL,
                       "%s holds several images under one name and does not say which is for "
                       "which platform",
                       what);
    }
    if (bare == n) {
        return none_fits(entries, n, what, err);
    }
    *chosen = bare;
    return SM_OK;
}

int platform_check(const struct image_config *config, struct sm_error *err)
{
    if (strcmp(config->os, OS) == 0 && (strcmp(config->architecture, ARCHITECTURE) == 0 ||
                                        strcmp(config->architecture, ARCHITECTURE32) == 0)) {
        return SM_OK;
    }
    return err_set(err, SM_EUNSUPPORTED,
                   "the image is for %.30s/%.30s; this machine runs " OS "/" ARCHITECTURE " and " OS
                   "/" ARCHITECTURE32,
                   config->os, config->architecture);
}

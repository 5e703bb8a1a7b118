/* SPDX-License-Identifier: Apache-2.0 */
/* Which of an index's images is for the machine that we emulate: linux/amd64, x86-64-v2,
 * or linux/386. */
#ifndef SM_IMAGE_PLATFORM_H
#define SM_IMAGE_PLATFORM_H

#include "image/config.h"
#include "image/manifest.h"

/*
 * Choose among n entries. The first linux/amd64 one (variant none, v1 or v2) wins; else the first
 * linux/386 one; else the one that names no platform, if all of those are the same blob.
 * Attestations are never chosen. *chosen is an index into entries. SM_EUNSUPPORTED names the
 * platforms there are; SM_EINVAL when the choice is ambiguous. what names the document in errors.
 */
int platform_select(const struct descriptor *const *entries, size_t n, const char *what,
                    size_t *chosen, struct sm_error *err);

/* SM_OK when the config's image can run here, else SM_EUNSUPPORTED naming what it is for. */
int platform_check(const struct image_config *config, struct sm_error *err);

#endif

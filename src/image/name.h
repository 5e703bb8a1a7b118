/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image's name at a registry, as Docker reads it (distribution's reference grammar): HOST/PATH
 * with a tag, a digest, or both. "debian" is docker.io/library/debian:latest. Pure text work.
 */
#ifndef SM_IMAGE_NAME_H
#define SM_IMAGE_NAME_H

#include "base/err.h"
#include "base/hash.h"

#define NAME_PATH_MAX 255 /* HOST/PATH */
#define NAME_TAG_MAX 128
#define NAME_TEXT_MAX (NAME_PATH_MAX + 1 + NAME_TAG_MAX + 1 + DIGEST_STR_SIZE) /* with its NUL */

struct name {
    char host[NAME_PATH_MAX + 1]; /* "docker.io", "localhost:5000", "[::1]:5000" */
    char path[NAME_PATH_MAX + 1]; /* "library/debian" */
    char tag[NAME_TAG_MAX + 1];   /* "" only with a digest */
    char digest[DIGEST_STR_SIZE]; /* "" when not given; wins over the tag */
};

/*
 * Parse and normalise. SM_EINVAL with the rule that text breaks; SM_EUNSUPPORTED for a digest that
 * is not sha256. What comes out is safe to put into a URL.
 */
int name_parse(const char *text, struct name *out, struct sm_error *err);

/* The one way to write it, which is also its key in the store: HOST/PATH:TAG or HOST/PATH@DIGEST.
 */
void name_format(const struct name *name, char out[NAME_TEXT_MAX]);

#endif

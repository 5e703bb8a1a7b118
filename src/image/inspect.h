/* SPDX-License-Identifier: Apache-2.0 */
/* What the store knows of its images, for people and programs. */
#ifndef SM_IMAGE_INSPECT_H
#define SM_IMAGE_INSPECT_H

#include "image/catalog.h"

/* Sizes of an image, and whether all of it is there. Reads its documents, and no layer. */
int inspect_sizes(struct store *store, const struct catalog_record *record,
                  struct sm_image_info *out, struct sm_error *err);

/* As sm_image_inspect; name as name_format writes it. The caller frees *json. */
int inspect_image(struct store *store, const char *name, char **json, struct sm_error *err);

#endif

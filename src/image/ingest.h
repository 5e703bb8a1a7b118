/* SPDX-License-Identifier: Apache-2.0 */
/* One layer from its source into the store, verified. */
#ifndef SM_IMAGE_INGEST_H
#define SM_IMAGE_INGEST_H

#include "image/image.h"
#include "image/plan.h"

/*
 * Make sure the store has the layer diff_id, converting it from src when it does not, and hold it
 * in out. The stored bytes must have the size and digest that the plan claims, and their
 * uncompressed form must have diff_id; otherwise SM_ECORRUPT and nothing is kept.
 */
int ingest_layer(struct store *store, struct source *src, const struct plan_layer *layer,
                 const char *diff_id, struct image_layer *out, struct sm_error *err);

#endif

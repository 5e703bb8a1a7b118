/* SPDX-License-Identifier: Apache-2.0 */
/* All layers of a plan into the store, several at a time. */
#ifndef SM_IMAGE_BRING_IN_H
#define SM_IMAGE_BRING_IN_H

#include <stdatomic.h>

#include "image/image.h"
#include "image/plan.h"

#define BRING_IN_THREADS 4

/*
 * Fill image from plan: its layers held, its config taken out of plan. after (may be NULL) is
 * called for each layer once it is there, on the layer's thread. Stops early after the first error,
 * which is returned. SM_EINTR when cancel (may be NULL) is set by somebody else.
 */
int bring_in(struct store *store, struct source *src, struct plan *plan, struct image *image,
             int (*after)(void *opaque, size_t layer, struct sm_error *err), void *opaque,
             atomic_bool *cancel, struct sm_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A registry as a source (source.h): blobs come from the store when it has them, else they are
 * downloaded into the store, and can be read while they arrive. What enters the store has the size
 * and digest that it is known by. Several threads may read different blobs at once.
 */
#ifndef SM_IMAGE_SOURCE_REGISTRY_H
#define SM_IMAGE_SOURCE_REGISTRY_H

#include "image/progress.h"
#include "image/registry.h"
#include "image/source.h"

/* All are borrowed. The source holds every blob that was opened through it until it is freed. */
int source_registry_new(struct store *store, struct registry *registry,
                        const struct http_options *http, struct progress *progress,
                        struct source **out, struct sm_error *err);

/* The sizes of blobs are in descriptors: tell, before opening them. Not while others read. */
int source_registry_expect(struct source *src, const struct descriptor *d, struct sm_error *err);

/* Make sure that the store has this blob, and hold it. */
int source_registry_ensure(struct source *src, const char *digest, struct sm_error *err);

#endif

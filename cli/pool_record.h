/* SPDX-License-Identifier: Apache-2.0 */
/* The record of a pool, by its image: there is one pool of an image in a store. */
#ifndef CLI_POOL_RECORD_H
#define CLI_POOL_RECORD_H

#include "record.h"

/* What a pool's image is called: its full name, or what was asked for, with an absolute path.
 * Freed with free(); NULL when out of memory. */
char *pool_image_ref(const char *ref);

/* Make it and own it; what a killed owner left is removed. 0, or EXIT_OURS after a message. */
int pool_record_create(struct record *r, const char *store, const char *image);

/* Somebody else's, by any name of its image. 0, or EXIT_OURS after a message of command's. */
int pool_record_open(struct record *r, const char *command, sm_store *store, const char *ref);

/* Say in command's name why the pool of image cannot be reached: error is connect's. EXIT_OURS. */
int pool_record_unreachable(const struct record *r, const char *command, const char *image,
                            int error);

#endif

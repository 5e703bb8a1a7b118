/* SPDX-License-Identifier: Apache-2.0 */
/* A set of items of the store: what an image reaches, what is to be looked at. */
#ifndef SM_IMAGE_REACH_SET_H
#define SM_IMAGE_REACH_SET_H

#include "image/catalog.h"

struct reach_set {
    struct reach_list {
        size_t n, cap;
        char (*digests)[DIGEST_STR_SIZE]; /* owned; sorted by reach_set_sort */
    } kinds[STORE_KINDS];
};

void reach_set_fini(struct reach_set *set); /* a zeroed one is fine */
/* After the last reach_set_image, before reach_set_has. */
void reach_set_sort(struct reach_set *set);
bool reach_set_has(const struct reach_set *set, enum store_kind kind, const char *digest);

/*
 * Add all that an image is made of: manifest, config, blobs, layers. What its documents cannot
 * tell, because they are missing or damaged, is left out, and is the result: SM_ENOTFOUND,
 * SM_ECORRUPT.
 */
int reach_set_image(struct reach_set *set, struct store *store, const struct catalog_record *record,
                    struct sm_error *err);

#endif

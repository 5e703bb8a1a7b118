/* SPDX-License-Identifier: Apache-2.0 */
/* Is all that the store has what it should be? Reads every byte. */
#ifndef SM_IMAGE_VERIFY_H
#define SM_IMAGE_VERIFY_H

#include "image/image.h"

struct verify_options {
    bool repair; /* remove what is damaged; make it again, from blobs or from its registry */
    struct image_options pull; /* how */
    /* Called for each problem: what it is about (a digest or name), what is wrong, and whether it
     * was repaired. May be NULL. */
    void (*problem)(void *opaque, const char *what, const char *why, bool repaired);
    void *opaque;
};

struct verify_report {
    uint64_t images, blobs, layers, bytes; /* looked at */
    uint64_t problems, repaired;
};

/* SM_OK also when there are problems: out says so. Errors only when it could not be found out. */
int verify_store(struct store *store, const struct verify_options *options,
                 struct verify_report *out, struct sm_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* How far a pull is: written by its threads, read by the one that waits for them. */
#ifndef SM_IMAGE_PROGRESS_H
#define SM_IMAGE_PROGRESS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/hash.h"
#include "supermachine.h"

struct progress {
    pthread_mutex_t lock;
    pthread_cond_t over;         /* signalled when done; clock_cond_init() */
    int done;                    /* under lock */
    size_t n;                    /* under lock; 0 until the layers are known, then fixed */
    struct progress_item *items; /* owned */
    atomic_bool cancel;          /* everybody is to stop */
};

struct progress_item {
    char digest[DIGEST_STR_SIZE];
    uint64_t size_bytes;
    _Atomic uint64_t done_bytes;
    _Atomic int state; /* enum sm_layer_state */
};

#endif

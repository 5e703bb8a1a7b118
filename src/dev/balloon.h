/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-balloon (VIRTIO 1.2 section 5.5), for free page reporting: the guest's kernel names memory
 * that it has not used for two seconds, and the host has it back at once. What the guest finds
 * there later is zeros, or in RAM that came from a file, the file's bytes.
 *
 * The balloon itself is never to grow (num_pages is 0); pages that a driver puts into it all the
 * same are given back, too. VIRTIO_BALLOON_F_PAGE_POISON is not offered, so a guest that wants to
 * find what it left in its free pages reports none (5.5.6.7).
 *
 * The reporting queue has number 4 (section 5.5.2), but Linux before 6.11, as do other drivers,
 * counts only the queues that are there: 2. Both are it.
 */
#ifndef SM_DEV_BALLOON_H
#define SM_DEV_BALLOON_H

#include "base/err.h"
#include "dev/virtio.h"

#define BALLOON_F_REPORTING (1ull << 5)
#define BALLOON_INFLATE_MAX 1024 /* page numbers of one request that are looked at */

struct balloon;

/* Before loop_start(), or from any thread without the lock. */
int balloon_new(const struct virtio_env *env, struct balloon **out, struct sm_error *err);
void balloon_free(struct balloon *b); /* NULL is fine */
struct virtio *balloon_virtio(struct balloon *b);

#endif

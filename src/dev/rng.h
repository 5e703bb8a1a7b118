/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-rng (VIRTIO 1.2 section 5.4): the host's getrandom(2). A request gets at most
 * RNG_REQUEST_MAX bytes; the device gives at most RNG_QUOTA bytes per RNG_PERIOD_MS and the rest
 * waits, so that a guest cannot spend the I/O thread's time.
 */
#ifndef SM_DEV_RNG_H
#define SM_DEV_RNG_H

#include "base/err.h"
#include "dev/virtio.h"

#define RNG_REQUEST_MAX (64u << 10)
#define RNG_QUOTA (256u << 10)
#define RNG_PERIOD_MS 10

struct rng;

/* Before loop_start(), or from any thread without the lock. */
int rng_new(const struct virtio_env *env, struct rng **out, struct sm_error *err);
void rng_free(struct rng *r); /* NULL is fine */
struct virtio *rng_virtio(struct rng *r);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-fs (VIRTIO 1.2 section 5.11) over a host/share.h: a queue of high priority and one of
 * requests, no notifications, no DAX window.
 *
 * Requests run on a thread of the device's own, one at a time, without the loop's lock, so that a
 * slow file system of the host's holds up nobody else. The chain in work is touched neither before
 * it is taken nor after the device was reset: a reset waits for it.
 */
#ifndef SM_DEV_FS_H
#define SM_DEV_FS_H

#include "base/err.h"
#include "dev/virtio.h"
#include "host/share.h"

#define FS_TAG_LEN 36u

struct fs;

/* Takes the share over, which no one else uses from now on; on error, too. Before loop_start(), or
 * from any thread without the lock. tag: what the guest mounts; up to 36 bytes, copied. */
int fs_new(const struct virtio_env *env, struct share *share, const char *tag, struct fs **out,
           struct sm_error *err);
void fs_free(struct fs *f); /* stops the thread first; NULL is fine */
struct virtio *fs_virtio(struct fs *f);

/* Start the thread, which calls on_start first (NULL: nothing). */
int fs_start(struct fs *f, void (*on_start)(void *opaque), void *opaque, struct sm_error *err);
/* Stop and join it; idempotent. Without the loop's lock. */
void fs_stop(struct fs *f);

/* Handle one request on the caller's thread, while there is no other: for tests and fuzzing.
 * Whether there was one. */
bool fs_turn(struct fs *f);

/*
 * The walk (hw/state.h) besides the transport's; object: struct fs. Only a device whose file system
 * was never mounted can be saved: what the guest knows of files is not in the state. Otherwise
 * loading refuses what was saved.
 */
#define FS_STATE_VERSION 1u
void fs_walk(struct state *s, void *object);

#endif

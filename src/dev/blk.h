/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk (VIRTIO 1.2 section 5.2) over a host/disk.h: read, write, flush, get id, discard and
 * write zeroes. One queue. Requests run on the I/O thread, each to its end within the callback that
 * took it, so none is in flight when the loop's lock is held.
 *
 * A request that breaks the rules or leaves the disk gets VIRTIO_BLK_S_IOERR, one of an unknown
 * type UNSUPP, and changes nothing; one without room for a status byte is returned unanswered. What
 * the host cannot do is IOERR too, and told once to on_error. A driver that does not accept FLUSH
 * has each write made durable before it is answered (5.2.6.2).
 *
 * A read-only disk is refused writing by its descriptor, by host/disk.h and here; the feature bit
 * only spares the driver the attempt. Discard and write zeroes need the driver to have accepted
 * their features.
 */
#ifndef SM_DEV_BLK_H
#define SM_DEV_BLK_H

#include "base/err.h"
#include "dev/virtio.h"
#include "host/disk.h"

#define BLK_ID_LEN 20u
#define BLK_SEGMENT_MAX (128u << 10) /* bytes of a data descriptor that the driver is told */
#define BLK_DATA_MAX (16u << 20)     /* bytes of one request's data; more is IOERR */
#define BLK_RANGES_MAX 16u           /* of one discard or write zeroes */
#define BLK_DISCARD_MAX (8u << 20)   /* sectors of a range */
#define BLK_ZEROES_MAX (64u << 10)   /* the same; little, for the host may have to write them */

struct blk;

struct blk_config {
    struct disk disk; /* taken, but for its files, if blk_new() succeeds */
    const char *id;   /* what GET_ID says: up to 20 bytes; copied */
    /* Told of the first failure of the host's, on the I/O thread with the loop's lock held; or
     * NULL.
     */
    void (*on_error)(void *opaque, const char *text);
    void *opaque;     /* borrowed */
    const char *name; /* of the disk, for on_error; copied */
};

/* Before loop_start(), or from any thread without the lock. */
int blk_new(const struct virtio_env *env, const struct blk_config *config, struct blk **out,
            struct sm_error *err);
void blk_free(struct blk *b); /* NULL is fine; does not close the files */
struct virtio *blk_virtio(struct blk *b);

/* Write all that is on the disk into the empty file `to` (disk_copy), with the loop's lock held.
 * SM_EIO, SM_ENOSPC: err names the disk. */
int blk_copy(const struct blk *b, int to, struct sm_error *err);

/* The walk (hw/state.h) besides the transport's; object: struct blk. */
#define BLK_STATE_VERSION 1u
void blk_walk(struct state *s, void *object);

#endif

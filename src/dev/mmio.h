/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio-mmio transport, version 2 (VIRTIO 1.2 section 4.2): a 4 KiB register window.
 * Control registers take aligned 32-bit accesses; any other access to them reads 0 and writes
 * nothing. The configuration space (0x100) takes any width and reads 0 past its end.
 * Register accesses may come from any vCPU thread; they take the loop's lock.
 */
#ifndef SM_DEV_MMIO_H
#define SM_DEV_MMIO_H

#include "base/err.h"
#include "dev/virtio.h"
#include "hw/bus.h"

#define MMIO_WINDOW 0x1000u
#define MMIO_QUEUE_NOTIFY 0x050u /* where a kick is written, for an engine's ioeventfd */

struct mmio;

/* v is borrowed and must outlive the window. */
int mmio_new(struct virtio *v, struct mmio **out, struct sm_error *err);
void mmio_free(struct mmio *m);

/* Show the window at addr. m must outlive the bus's use. */
int mmio_attach(struct mmio *m, struct bus *bus, uint64_t addr, struct sm_error *err);

/* The walk (hw/state.h) of the transport and the struct virtio behind it; object: struct mmio. With
 * the loop's lock held, or before loop_start(). */
#define MMIO_STATE_VERSION 1u
void mmio_walk(struct state *s, void *object);

/*
 * The eventfd behind a queue's kick: writing it equals a guest write of `queue` to QueueNotify.
 * Borrowed. -1 if there is no such queue.
 */
int mmio_kick_fd(const struct mmio *m, unsigned queue);

#endif

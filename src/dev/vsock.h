/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock (VIRTIO 1.2 section 5.10): stream sockets between guest and host. On the host each
 * stream is one end of an AF_UNIX socket pair.
 *
 * Bytes to the guest go from the socket straight into guest buffers; the device holds none. Bytes
 * from the guest go straight into the socket, and wait in a backlog of at most the credit
 * advertised for the stream when the host is slow. So a slow reader on either side blocks only its
 * own writer. shutdown(2) of one direction, on either side, is seen as end of file on the other,
 * after all bytes. close(2) on the host after writing loses nothing: what was written is delivered
 * first.
 *
 * Limits: VSOCK_MAX_STREAMS streams (more: SM_EINVAL on the host, RST to the guest); backlogs of
 * all streams together at most VSOCK_BACKLOG_BYTES + VSOCK_MAX_STREAMS * VSOCK_BACKLOG_MIN.
 *
 * Threads: all functions may be called from any thread, except from on_accept (the lock is held
 * there).
 */
#ifndef SM_DEV_VSOCK_H
#define SM_DEV_VSOCK_H

#include <stdint.h>

#include "base/err.h"
#include "dev/virtio.h"

#define VSOCK_HOST_CID 2u
#define VSOCK_GUEST_CID 3u
#define VSOCK_MAX_STREAMS 1024u
#define VSOCK_MAX_LISTENERS 64u
#define VSOCK_BACKLOG_MAX (256u << 10) /* one stream */
#define VSOCK_BACKLOG_MIN (8u << 10)
#define VSOCK_BACKLOG_BYTES (8u << 20)

struct vsock;

/* guest_cid is above 2 and not 0xffffffff. Before loop_start(), or from any thread without the
 * lock. */
int vsock_new(const struct virtio_env *env, uint32_t guest_cid, struct vsock **out,
              struct sm_error *err);
/* Closes every stream. The transport must be gone, or no vCPU running. NULL is fine. */
void vsock_free(struct vsock *d);
struct virtio *vsock_virtio(struct vsock *d); /* for mmio_new() */

/*
 * Open a stream to a port in the guest. Returns at once with a connected, blocking, close-on-exec
 * AF_UNIX stream socket in *fd, which the caller owns. The guest is asked as soon as its driver
 * is up; what is written before it answers is kept. If it refuses, or resets, *fd sees end of file
 * on reading and EPIPE on writing.
 */
int vsock_connect(struct vsock *d, uint32_t guest_port, int *fd, struct sm_error *err);

/* Called on the I/O thread with its lock held: must not block, nor call this device. Owns fd. */
typedef void vsock_accept_fn(void *opaque, int fd);

/* Accept the guest's connections to host_port. A port has one listener; SM_EINVAL otherwise. */
int vsock_listen(struct vsock *d, uint32_t host_port, vsock_accept_fn *on_accept, void *opaque,
                 struct sm_error *err);
/* Stop accepting; existing streams live on. on_accept is not called after this returns. */
void vsock_unlisten(struct vsock *d, uint32_t host_port);

/* Streams that either side still knows of. Any thread, without the lock. */
unsigned vsock_streams(struct vsock *d);

/*
 * The walk (hw/state.h) besides the transport's, and after it; object: struct vsock. With the
 * loop's lock held, or before loop_start(). Streams do not survive: of each only the name is saved,
 * and the guest that loads it gets a RST for it, before any packet of a new stream. (The transport
 * reset event would do that for all at once, but the guest handles events and packets in any order,
 * and could reset a new stream too.) Listeners on both sides live on.
 */
#define VSOCK_STATE_VERSION 1u
void vsock_walk(struct state *s, void *object);

#endif

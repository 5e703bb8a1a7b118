/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-pmem (VIRTIO 1.2 section 5.19): tells the guest where a window of host memory is, and
 * flushes it. The window itself is shown by mem_add_window(), by the VM, with the same start and
 * size.
 *
 * Flush: 0 (success) for a window without a backing descriptor (a read-only or private mapping has
 * nothing to make durable), else the result of fdatasync. An unknown request gets -1; a request
 * without room for the answer is returned with nothing written. The flush runs on the I/O thread.
 */
#ifndef SM_DEV_PMEM_H
#define SM_DEV_PMEM_H

#include "base/err.h"
#include "dev/virtio.h"

struct pmem;

struct pmem_config {
    gpa_t start;   /* of the window; page-aligned */
    uint64_t size; /* bytes, whole pages */
    int fd;        /* borrowed: the file behind a writable shared mapping, or -1 */
};

/* Before loop_start(), or from any thread without the lock. */
int pmem_new(const struct virtio_env *env, const struct pmem_config *config, struct pmem **out,
             struct sm_error *err);
void pmem_free(struct pmem *p); /* NULL is fine */
struct virtio *pmem_virtio(struct pmem *p);

/* The walk (hw/state.h) besides the transport's; object: struct pmem. */
#define PMEM_STATE_VERSION 1u
void pmem_walk(struct state *s, void *object);

#endif

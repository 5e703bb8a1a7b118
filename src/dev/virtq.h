/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A split virtqueue, device side (VIRTIO 1.2 section 2.7).
 *
 * The driver's choices (size, ring addresses) are plain fields until virtq_start(), which checks
 * them and keeps host pointers and a private copy of the size; nothing the driver writes later
 * moves a bound. Every guest-written field is read once, into a local. A ring or chain that breaks
 * the rules makes the queue broken: it yields nothing more until the device is reset.
 *
 * Limits: VIRTQ_MAX_SIZE entries; a chain is at most as many descriptors as the queue has entries
 * and less than 4 GiB; each buffer lies inside one region of RAM (never a pmem window, never MMIO).
 * Indirect descriptors are not offered, so they are refused.
 *
 * Threads: virtqueues belong to the I/O thread; all calls need the loop's lock.
 */
#ifndef SM_DEV_VIRTQ_H
#define SM_DEV_VIRTQ_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "hw/mem.h"
#include "hw/state.h"

#define VIRTQ_MAX_SIZE 256

struct virtq {
    /* What the driver asked for; no effect after virtq_start(). */
    uint32_t want_size;
    gpa_t desc_gpa, avail_gpa, used_gpa;
    bool ready;

    /* Latched by virtq_start(). */
    bool live;   /* started and not broken */
    bool broken; /* the driver broke the rules */
    bool event_idx;
    uint16_t size;
    struct mem *mem;              /* borrowed */
    const volatile uint8_t *desc; /* in guest RAM */
    const volatile uint8_t *avail;
    volatile uint8_t *used;
    gpa_t used_at;

    /* Private: the guest cannot reach these. */
    uint16_t next_avail; /* entries taken from the available ring */
    uint16_t next_used;  /* entries put into the used ring */
    uint16_t signalled;  /* next_used at the last interrupt decision */
};

/* One request: iov[0, n_out) is readable, iov[n_out, n_out + n_in) is writable by the device. */
struct virtq_chain {
    uint16_t head;
    unsigned n_out, n_in;
    uint32_t out_bytes, in_bytes;
    struct iovec iov[VIRTQ_MAX_SIZE];
    gpa_t gpa[VIRTQ_MAX_SIZE];
};

/* Back to the state after power on. */
void virtq_reset(struct virtq *q);

/* The walk of a queue (hw/state.h). A live one is live again after virtq_resume(). */
void virtq_walk(struct state *s, struct virtq *q);
/* After a load: check and latch the geometry as virtq_start() does, at the loaded indices. */
int virtq_resume(struct virtq *q, struct mem *mem, bool event_idx);

/* Check and latch the geometry. 0, or -1 (and broken) when it is unusable. */
int virtq_start(struct virtq *q, struct mem *mem, bool event_idx);

/*
 * Take the next available chain: 1 and *c is filled, 0 if there is none, -1 if the queue is (now)
 * not live. On 0 the driver has been asked to notify about the next one.
 */
int virtq_pop(struct virtq *q, struct virtq_chain *c);

/* Put the chain taken by the latest virtq_pop() back, as if it had not been taken. */
void virtq_unpop(struct virtq *q);

/* Complete a chain whose first `written` device-writable bytes were filled (<= in_bytes). */
void virtq_push(struct virtq *q, const struct virtq_chain *c, uint32_t written);

/* Whether the driver wants an interrupt for what was pushed since the last call. */
bool virtq_should_interrupt(struct virtq *q);

/*
 * Copy len bytes out of the readable part at offset, or into the writable part. Return the bytes
 * copied, less than len where the part ends.
 */
uint32_t virtq_chain_read(const struct virtq_chain *c, uint32_t offset, void *out, uint32_t len);
uint32_t virtq_chain_write(const struct virtq_chain *c, uint32_t offset, const void *data,
                           uint32_t len);

/*
 * Describe at most len bytes from offset of the readable (or writable) part in out, which has room
 * for VIRTQ_MAX_SIZE entries. Returns the number of entries.
 */
unsigned virtq_chain_slice(const struct virtq_chain *c, bool writable, uint32_t offset,
                           uint32_t len, struct iovec *out);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's side of virtio-mmio for tests and fuzzing: fake RAM with a hole, an interrupt line, a
 * driver that follows the rules, and the raw parts for one that does not. The loop has no thread:
 * fake_run() does its work on the caller's.
 */
#ifndef SM_DEV_FAKE_DRIVER_H
#define SM_DEV_FAKE_DRIVER_H

#include "dev/mmio.h"
#include "hw/bus.h"

#define FAKE_RAM (16u << 20)
#define FAKE_MMIO 0xd0000000ull
#define FAKE_WINDOW 0x200000000ull /* a pmem-like window of FAKE_WINDOW_BYTES */
#define FAKE_WINDOW_BYTES (64u << 10)
#define FAKE_QUEUE_AT(q) (0x10000ull * ((q) + 1))
#define FAKE_AVAIL 0x2000u
#define FAKE_USED 0x4000u
#define FAKE_BUFFERS 0x100000ull /* RAM from here on is the test's */

#define FAKE_NEXT 1u
#define FAKE_WRITE 2u
#define FAKE_INDIRECT 4u

struct fake_queue {
    uint16_t size;
    uint16_t avail, used; /* next to offer, next to look at */
};

struct fake_driver {
    struct mem *mem;
    struct loop *loop;
    struct bus bus;
    struct mmio *mmio;
    void *window;
    int level;      /* of the interrupt line */
    unsigned edges; /* times it rose */
    uint64_t wrote; /* bytes reported by mem_wrote() */
    struct fake_queue queues[VIRTIO_MAX_QUEUES];
};

struct fake_desc {
    gpa_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
};

/* abort() on host errors: these are tests. */
void fake_init(struct fake_driver *f);
void fake_fini(struct fake_driver *f); /* after the device */
struct virtio_env fake_env(struct fake_driver *f);
void fake_attach(struct fake_driver *f, struct virtio *v);
void fake_detach(struct fake_driver *f); /* before the device is freed */

uint32_t fake_read(struct fake_driver *f, uint64_t reg);
void fake_write(struct fake_driver *f, uint64_t reg, uint32_t value);
void fake_run(struct fake_driver *f); /* until nothing is due */

/* Reset, negotiate, set up n queues of the size (with features accepted), DRIVER_OK. Returns
 * status. */
uint32_t fake_start(struct fake_driver *f, unsigned n_queues, uint16_t size, uint64_t features);
void fake_negotiate(struct fake_driver *f, uint64_t features); /* up to FEATURES_OK */
void fake_set_queue(struct fake_driver *f, unsigned q, uint16_t size, gpa_t at, uint32_t ready);

void fake_put_desc(struct fake_driver *f, unsigned q, uint16_t index, struct fake_desc d);
void fake_put_avail(struct fake_driver *f, unsigned q, uint16_t head); /* and publish */
/* A chain from descriptor `first` on; flags NEXT and next are filled in. */
void fake_offer(struct fake_driver *f, unsigned q, uint16_t first, const struct fake_desc *d,
                unsigned n);
void fake_kick(struct fake_driver *f, unsigned q); /* and run */
uint16_t fake_used_index(struct fake_driver *f, unsigned q);
/* Next used element: true if there is one. */
bool fake_used(struct fake_driver *f, unsigned q, uint32_t *head, uint32_t *len);

#endif

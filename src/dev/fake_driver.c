/* SPDX-License-Identifier: Apache-2.0 */
/* A guest's virtio-mmio driver for tests, and the machine around it. */
#include "dev/fake_driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/le.h"

static void must(int rc, const struct sm_error *err)
{
    if (rc == 0)
        return;
    fprintf(stderr, "fake driver: %s\n", err->text);
    abort();
}

static void set_line(void *opaque, unsigned line, int level)
{
    struct fake_driver *f = opaque;

    (void)line;
    if (level && !f->level)
        f->edges++;
    f->level = level;
}

static void wrote(void *opaque, gpa_t gpa, uint64_t len)
{
    struct fake_driver *f = opaque;

    if (mem_ptr(f->mem, gpa, len) == NULL)
        abort(); /* a device claims to have written what is not memory */
    f->wrote += len;
}

void fake_init(struct fake_driver *f)
{
    struct sm_error err;

    memset(f, 0, sizeof *f);
    must(mem_new(FAKE_RAM, &f->mem, &err), &err);
    f->window = mmap(NULL, FAKE_WINDOW_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (f->window == MAP_FAILED)
        abort();
    must(mem_add_window(f->mem, FAKE_WINDOW, FAKE_WINDOW_BYTES, f->window, true, &err), &err);
    f->mem->on_write = wrote;
    f->mem->on_write_opaque = f;
    must(loop_new(&f->loop, &err), &err);
}

void fake_fini(struct fake_driver *f)
{
    loop_free(f->loop);
    mem_free(f->mem);
    munmap(f->window, FAKE_WINDOW_BYTES);
}

struct virtio_env fake_env(struct fake_driver *f)
{
    return (struct virtio_env){f->mem, f->loop, {set_line, f, 5}};
}

void fake_attach(struct fake_driver *f, struct virtio *v)
{
    struct sm_error err;

    must(mmio_new(v, &f->mmio, &err), &err);
    must(mmio_attach(f->mmio, &f->bus, FAKE_MMIO, &err), &err);
}

void fake_detach(struct fake_driver *f)
{
    mmio_free(f->mmio);
    f->mmio = NULL;
    f->bus.n_ranges = 0;
}

uint32_t fake_read(struct fake_driver *f, uint64_t reg)
{
    return (uint32_t)bus_read(&f->bus, FAKE_MMIO + reg, 4);
}

void fake_write(struct fake_driver *f, uint64_t reg, uint32_t value)
{
    bus_write(&f->bus, FAKE_MMIO + reg, 4, value);
}

void fake_run(struct fake_driver *f)
{
    while (loop_poll(f->loop, 0) > 0)
        ;
}

void fake_set_queue(struct fake_driver *f, unsigned q, uint16_t size, gpa_t at, uint32_t ready)
{
    fake_write(f, 0x030, q);
    fake_write(f, 0x038, size);
    fake_write(f, 0x080, (uint32_t)at);
    fake_write(f, 0x084, (uint32_t)(at >> 32));
    fake_write(f, 0x090, (uint32_t)(at + FAKE_AVAIL));
    fake_write(f, 0x094, (uint32_t)((at + FAKE_AVAIL) >> 32));
    fake_write(f, 0x0a0, (uint32_t)(at + FAKE_USED));
    fake_write(f, 0x0a4, (uint32_t)((at + FAKE_USED) >> 32));
    fake_write(f, 0x044, ready);
    f->queues[q] = (struct fake_queue){.size = size};
}

void fake_negotiate(struct fake_driver *f, uint64_t features)
{
    fake_write(f, 0x070, 0);
    fake_write(f, 0x070, 1);
    fake_write(f, 0x070, 3);
    fake_write(f, 0x024, 0);
    fake_write(f, 0x020, (uint32_t)features);
    fake_write(f, 0x024, 1);
    fake_write(f, 0x020, (uint32_t)(features >> 32));
    fake_write(f, 0x070, 0xb);
}

uint32_t fake_start(struct fake_driver *f, unsigned n_queues, uint16_t size, uint64_t features)
{
    fake_negotiate(f, features | VIRTIO_F_VERSION_1);
    for (unsigned q = 0; q < n_queues; q++) {
        memset(mem_ptr_write(f->mem, FAKE_QUEUE_AT(q), 0x8000), 0, 0x8000);
        fake_set_queue(f, q, size, FAKE_QUEUE_AT(q), 1);
    }
    fake_write(f, 0x070, 0xf);
    fake_run(f);
    return fake_read(f, 0x070);
}

void fake_put_desc(struct fake_driver *f, unsigned q, uint16_t index, struct fake_desc d)
{
    uint8_t *p = mem_ptr_write(f->mem, FAKE_QUEUE_AT(q) + 16u * index, 16);

    le64_put(p, d.addr);
    le32_put(p + 8, d.len);
    le16_put(p + 12, d.flags);
    le16_put(p + 14, d.next);
}

void fake_put_avail(struct fake_driver *f, unsigned q, uint16_t head)
{
    struct fake_queue *fq = &f->queues[q];
    uint8_t *p = mem_ptr_write(f->mem, FAKE_QUEUE_AT(q) + FAKE_AVAIL, 6 + 2u * fq->size);

    le16_put(p + 4 + 2 * (fq->avail % fq->size), head);
    __atomic_store_n((uint16_t *)(p + 2), ++fq->avail, __ATOMIC_RELEASE);
}

void fake_offer(struct fake_driver *f, unsigned q, uint16_t first, const struct fake_desc *d,
                unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct fake_desc one = d[i];

        one.next = (uint16_t)((first + i + 1) % f->queues[q].size);
        if (i + 1 < n)
            one.flags |= FAKE_NEXT;
        fake_put_desc(f, q, (uint16_t)((first + i) % f->queues[q].size), one);
    }
    fake_put_avail(f, q, first);
}

void fake_kick(struct fake_driver *f, unsigned q)
{
    fake_write(f, 0x050, q);
    fake_run(f);
}

uint16_t fake_used_index(struct fake_driver *f, unsigned q)
{
    const uint8_t *p = mem_ptr(f->mem, FAKE_QUEUE_AT(q) + FAKE_USED, 4);

    return __atomic_load_n((const uint16_t *)(p + 2), __ATOMIC_ACQUIRE);
}

bool fake_used(struct fake_driver *f, unsigned q, uint32_t *head, uint32_t *len)
{
    struct fake_queue *fq = &f->queues[q];
    const uint8_t *p;

    if (fake_used_index(f, q) == fq->used)
        return false;
    p = mem_ptr(f->mem, FAKE_QUEUE_AT(q) + FAKE_USED + 4 + 8u * (fq->used % fq->size), 8);
    *head = le32_get(p);
    *len = le32_get(p + 4);
    fq->used++;
    return true;
}

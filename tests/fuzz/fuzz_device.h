/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the device harnesses share: a cursor over the input, and one guest action per opcode: mostly
 * well-formed rings with a hostile touch, so that the fuzzer gets past the first check, and raw
 * register and memory writes for the rest. An input that ran out reads as zeroes.
 */
#ifndef SM_TESTS_FUZZ_DEVICE_H
#define SM_TESTS_FUZZ_DEVICE_H

#include <stdlib.h>
#include <string.h>

#include "dev/fake_driver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz_input {
    const uint8_t *data;
    size_t left;
};

static inline uint64_t fuzz_take(struct fuzz_input *in, unsigned bytes)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < bytes && in->left != 0; i++, in->left--)
        v |= (uint64_t)*in->data++ << (8 * i);
    return v;
}

static inline uint8_t fuzz_u8(struct fuzz_input *in)
{
    return (uint8_t)fuzz_take(in, 1);
}

static inline uint16_t fuzz_u16(struct fuzz_input *in)
{
    return (uint16_t)fuzz_take(in, 2);
}

static inline uint32_t fuzz_u32(struct fuzz_input *in)
{
    return (uint32_t)fuzz_take(in, 4);
}

/* An address: usually a buffer, else a place that asks for trouble. */
static inline gpa_t fuzz_gpa(struct fuzz_input *in)
{
    uint8_t kind = fuzz_u8(in);

    switch (kind & 7) {
    case 0:
        return FAKE_QUEUE_AT(kind >> 6) + fuzz_u16(in);
    case 1:
        return FAKE_RAM - (fuzz_u16(in) & 0x1fff);
    case 2:
        return FAKE_WINDOW + (fuzz_u16(in) & 0x1ff0);
    case 3:
        return FAKE_MMIO + fuzz_u8(in);
    case 4:
        return fuzz_take(in, 8);
    default:
        return FAKE_BUFFERS + (gpa_t)fuzz_u16(in) * 16;
    }
}

static inline uint32_t fuzz_len(struct fuzz_input *in)
{
    uint8_t kind = fuzz_u8(in);

    return kind < 128 ? kind : kind < 200 ? fuzz_u16(in) : kind < 250 ? 44 : fuzz_u32(in);
}

static inline void fuzz_chain(struct fake_driver *f, struct fuzz_input *in, unsigned q)
{
    struct fake_desc d[4];
    uint8_t shape = fuzz_u8(in);
    unsigned n = 1 + (shape & 3);

    for (unsigned i = 0; i < n; i++)
        d[i] =
            (struct fake_desc){fuzz_gpa(in), fuzz_len(in), shape >> (4 + i) & 1 ? FAKE_WRITE : 0};
    fake_offer(f, q, fuzz_u8(in) % f->queues[q].size, d, n);
}

/* One thing that a guest can do to a device with n queues. */
static inline void fuzz_device_op(struct fake_driver *f, struct fuzz_input *in, unsigned n_queues)
{
    uint8_t op = fuzz_u8(in);
    unsigned q = (op >> 4) % n_queues;
    uint8_t *p;

    switch (op & 15) {
    case 0:
        fake_write(f, (uint64_t)fuzz_u8(in) * 4, fuzz_u32(in));
        break;
    case 1:
        bus_write(&f->bus, FAKE_MMIO + (fuzz_u16(in) & 0xfff), 1u << (op >> 6), fuzz_take(in, 8));
        break;
    case 2:
        bus_read(&f->bus, FAKE_MMIO + (fuzz_u16(in) & 0xfff), 1u << (op >> 6));
        break;
    case 3: /* any descriptor */
        fake_put_desc(f, q, fuzz_u8(in),
                      (struct fake_desc){fuzz_gpa(in), fuzz_len(in), fuzz_u16(in), fuzz_u16(in)});
        break;
    case 4: /* any entry */
        fake_put_avail(f, q, fuzz_u16(in));
        break;
    case 5: /* any byte of the rings */
        p = mem_ptr_write(f->mem, FAKE_QUEUE_AT(q) + (fuzz_u16(in) & 0x7fff), 1);
        *p = fuzz_u8(in);
        break;
    case 6:
        fake_write(f, 0x64, 3);
        break;
    case 7:
        fake_write(f, 0x50, fuzz_u8(in));
        break;
    case 8:
        fake_run(f);
        break;
    case 9:
        if (fuzz_u8(in) < 32)
            fake_start(f, n_queues, (uint16_t)(1u << (op >> 4) % 10),
                       fuzz_u8(in) & 1 ? VIRTIO_F_EVENT_IDX : 0);
        break;
    default:
        fuzz_chain(f, in, q);
        if (op & 1)
            fake_kick(f, q);
        break;
    }
}

/* What must hold between any two actions. */
static inline void fuzz_device_check(const struct fake_driver *f, const struct virtio *v)
{
    if (f->level != (v->isr != 0))
        abort(); /* the line is InterruptStatus, nothing else */
    if (v->isr & ~3u)
        abort();
    for (unsigned i = 0; i < v->ops->n_queues; i++)
        if (v->queues[i].live && (!(v->status & VIRTIO_S_DRIVER_OK) || v->queues[i].size == 0 ||
                                  v->queues[i].size > VIRTQ_MAX_SIZE))
            abort();
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueues (VIRTIO 1.2 section 2.7). Guest memory changes under us while another vCPU runs:
 * loads are volatile and happen once, and only the local copies are checked and used.
 */
#include "dev/virtq.h"

#include <assert.h>
#include <string.h>

#define DESC_BYTES 16u
#define DESC_F_NEXT 1u
#define DESC_F_WRITE 2u
#define DESC_F_INDIRECT 4u
#define AVAIL_F_NO_INTERRUPT 1u

/* Layout, sections 2.7.6 and 2.7.8: flags, idx, ring[size], event. */
#define RING_FLAGS 0u
#define RING_IDX 2u
#define RING_ENTRIES 4u
#define USED_ELEM_BYTES 8u

struct desc {
    gpa_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
};

static uint16_t load16(const volatile uint8_t *p)
{
    return *(const volatile uint16_t *)p;
}

static void store16(struct virtq *q, uint32_t offset, uint16_t value)
{
    *(volatile uint16_t *)(q->used + offset) = value;
    mem_wrote(q->mem, q->used_at + offset, 2);
}

static struct desc load_desc(const struct virtq *q, uint16_t index)
{
    const volatile uint64_t *p = (const volatile uint64_t *)(q->desc + (size_t)index * DESC_BYTES);
    uint64_t addr = p[0], rest = p[1];

    return (struct desc){addr, (uint32_t)rest, (uint16_t)(rest >> 32), (uint16_t)(rest >> 48)};
}

static uint32_t avail_bytes(uint32_t size)
{
    return RING_ENTRIES + 2 * size + 2;
}

static uint32_t used_bytes(uint32_t size)
{
    return RING_ENTRIES + USED_ELEM_BYTES * size + 2;
}

void virtq_reset(struct virtq *q)
{
    memset(q, 0, sizeof *q);
}

/* A host pointer to [gpa, gpa+len) if all of it is one piece of RAM; windows are not for DMA. */
static uint8_t *ram(const struct mem *m, gpa_t gpa, uint64_t len)
{
    const struct mem_region *r = mem_find(m, gpa);

    if (r == NULL || !r->ram || len == 0 || len > r->len - (gpa - r->gpa))
        return NULL;
    return r->hva + (gpa - r->gpa);
}

static bool overlap(gpa_t a, uint32_t a_len, gpa_t b, uint32_t b_len)
{
    return a < b ? b - a < a_len : a - b < b_len;
}

static int fail(struct virtq *q)
{
    q->live = false;
    q->broken = true;
    return -1;
}

int virtq_start(struct virtq *q, struct mem *mem, bool event_idx)
{
    uint32_t size = q->want_size;
    gpa_t desc = q->desc_gpa, avail = q->avail_gpa, used = q->used_gpa;

    q->mem = mem;
    if (size == 0 || size > VIRTQ_MAX_SIZE || (size & (size - 1)) != 0)
        return fail(q);
    /* 2.7: the alignment of each part; our loads and stores rely on it. */
    if (desc % 16 != 0 || avail % 2 != 0 || used % 4 != 0)
        return fail(q);
    q->desc = ram(mem, desc, DESC_BYTES * size);
    q->avail = ram(mem, avail, avail_bytes(size));
    q->used = ram(mem, used, used_bytes(size));
    if (q->desc == NULL || q->avail == NULL || q->used == NULL ||
        overlap(desc, DESC_BYTES * size, avail, avail_bytes(size)) ||
        overlap(desc, DESC_BYTES * size, used, used_bytes(size)) ||
        overlap(avail, avail_bytes(size), used, used_bytes(size)))
        return fail(q);
    q->size = (uint16_t)size;
    q->used_at = used;
    q->event_idx = event_idx;
    q->next_avail = q->next_used = q->signalled = 0;
    q->broken = false;
    q->live = true;
    return 0;
}

void virtq_walk(struct state *s, struct virtq *q)
{
    state_u32(s, &q->want_size);
    state_u64(s, &q->desc_gpa);
    state_u64(s, &q->avail_gpa);
    state_u64(s, &q->used_gpa);
    state_bool(s, &q->ready);
    state_bool(s, &q->live);
    state_bool(s, &q->broken);
    state_u16(s, &q->next_avail);
    state_u16(s, &q->next_used);
    state_u16(s, &q->signalled);
}

int virtq_resume(struct virtq *q, struct mem *mem, bool event_idx)
{
    /* Any index is safe: they are used modulo the size, and waiting() checks the distance. */
    uint16_t next_avail = q->next_avail, next_used = q->next_used, signalled = q->signalled;

    if (!q->ready || q->broken || virtq_start(q, mem, event_idx) != 0)
        return -1;
    q->next_avail = next_avail;
    q->next_used = next_used;
    q->signalled = signalled;
    return 0;
}

/* How many chains wait. -1 if the index is impossible. */
static int waiting(const struct virtq *q)
{
    uint16_t n = (uint16_t)(load16(q->avail + RING_IDX) - q->next_avail);

    return n > q->size ? -1 : n;
}

static int add_buffer(const struct virtq *q, struct virtq_chain *c, const struct desc *d)
{
    unsigned at = c->n_out + c->n_in;
    uint32_t *total = d->flags & DESC_F_WRITE ? &c->in_bytes : &c->out_bytes;
    uint8_t *hva = ram(q->mem, d->addr, d->len);

    if (hva == NULL || d->len > UINT32_MAX - *total)
        return -1;
    if (d->flags & DESC_F_WRITE)
        c->n_in++;
    else if (c->n_in != 0)
        return -1; /* 2.7.4.2: writable descriptors come after all readable ones */
    else
        c->n_out++;
    *total += d->len;
    c->iov[at] = (struct iovec){hva, d->len};
    c->gpa[at] = d->addr;
    return 0;
}

static int walk(const struct virtq *q, uint16_t head, struct virtq_chain *c)
{
    uint16_t index = head;

    c->head = head;
    c->n_out = c->n_in = 0;
    c->out_bytes = c->in_bytes = 0;
    /* A chain longer than the queue has a loop in it. */
    for (unsigned n = 0; n < q->size; n++) {
        struct desc d;

        if (index >= q->size)
            return -1;
        d = load_desc(q, index);
        if (d.flags & DESC_F_INDIRECT || add_buffer(q, c, &d) != 0)
            return -1;
        if (!(d.flags & DESC_F_NEXT))
            return 0;
        index = d.next;
    }
    return -1;
}

int virtq_pop(struct virtq *q, struct virtq_chain *c)
{
    uint16_t head;
    int n;

    if (!q->live)
        return -1;
    n = waiting(q);
    if (n == 0 && q->event_idx) {
        /* Ask for a notification (avail_event, 2.7.10), then look again: the driver may have added
         * a chain before it could see the request. */
        store16(q, RING_ENTRIES + USED_ELEM_BYTES * q->size, q->next_avail);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        n = waiting(q);
    }
    if (n < 0)
        return fail(q);
    if (n == 0)
        return 0;
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    head = load16(q->avail + RING_ENTRIES + 2 * (q->next_avail & (q->size - 1u)));
    if (walk(q, head, c) != 0)
        return fail(q);
    q->next_avail++;
    return 1;
}

void virtq_unpop(struct virtq *q)
{
    q->next_avail--;
}

void virtq_push(struct virtq *q, const struct virtq_chain *c, uint32_t written)
{
    uint32_t slot = RING_ENTRIES + USED_ELEM_BYTES * (q->next_used & (q->size - 1u));
    uint32_t left = written;

    assert(written <= c->in_bytes);
    if (!q->live)
        return;
    for (unsigned i = c->n_out; left != 0; i++) {
        uint32_t n = left < c->iov[i].iov_len ? left : (uint32_t)c->iov[i].iov_len;

        mem_wrote(q->mem, c->gpa[i], n);
        left -= n;
    }
    *(volatile uint32_t *)(q->used + slot) = c->head;
    *(volatile uint32_t *)(q->used + slot + 4) = written;
    mem_wrote(q->mem, q->used_at + slot, USED_ELEM_BYTES);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    store16(q, RING_IDX, ++q->next_used);
}

bool virtq_should_interrupt(struct virtq *q)
{
    uint16_t before = q->signalled, now = q->next_used, event;

    if (!q->live || now == before)
        return false;
    q->signalled = now;
    /* The driver's suppression is read after it can see our index, or a wake-up could be lost. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!q->event_idx)
        return !(load16(q->avail + RING_FLAGS) & AVAIL_F_NO_INTERRUPT);
    event = load16(q->avail + RING_ENTRIES + 2 * q->size);
    return (uint16_t)(now - event - 1) < (uint16_t)(now - before); /* 2.7.10 */
}

unsigned virtq_chain_slice(const struct virtq_chain *c, bool writable, uint32_t offset,
                           uint32_t len, struct iovec *out)
{
    const struct iovec *iov = c->iov + (writable ? c->n_out : 0);
    unsigned n = writable ? c->n_in : c->n_out, made = 0;

    for (unsigned i = 0; i < n && len != 0; i++) {
        uint32_t here = (uint32_t)iov[i].iov_len, use;

        if (offset >= here) {
            offset -= here;
            continue;
        }
        use = here - offset < len ? here - offset : len;
        out[made++] = (struct iovec){(uint8_t *)iov[i].iov_base + offset, use};
        offset = 0;
        len -= use;
    }
    return made;
}

uint32_t virtq_chain_read(const struct virtq_chain *c, uint32_t offset, void *out, uint32_t len)
{
    struct iovec iov[VIRTQ_MAX_SIZE];
    unsigned n = virtq_chain_slice(c, false, offset, len, iov);
    uint32_t done = 0;

    for (unsigned i = 0; i < n; i++) {
        memcpy((uint8_t *)out + done, iov[i].iov_base, iov[i].iov_len);
        done += (uint32_t)iov[i].iov_len;
    }
    return done;
}

uint32_t virtq_chain_write(const struct virtq_chain *c, uint32_t offset, const void *data,
                           uint32_t len)
{
    struct iovec iov[VIRTQ_MAX_SIZE];
    unsigned n = virtq_chain_slice(c, true, offset, len, iov);
    uint32_t done = 0;

    for (unsigned i = 0; i < n; i++) {
        memcpy(iov[i].iov_base, (const uint8_t *)data + done, iov[i].iov_len);
        done += (uint32_t)iov[i].iov_len;
    }
    return done;
}

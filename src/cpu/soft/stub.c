// SPDX-License-Identifier: Apache-2.0
#include "cpu/soft/stub_priv.h"

#include <sys/mman.h>

#include "cpu/soft/hostcall.h"

static uint32_t hash_bytes(const uint8_t *p, unsigned len)
{
    uint32_t h = 2166136261u; /* FNV-1a */
    for (unsigned i = 0; i < len; i++) {
        h = (h ^ p[i]) * 16777619u;
    }
    return h ^ (h >> 15);
}

static int same_bytes(const uint8_t *a, const uint8_t *b, unsigned len)
{
    for (unsigned i = 0; i < len; i++) {
        if (a[i] != b[i]) {
            return 0;
        }
    }
    return 1;
}

void stub_reset(struct stub_area *a)
{
    for (uint32_t i = 0; a->n_used != 0 && i < a->n_slots; i++) {
        if (a->index[i].len != 0) {
            a->index[i].len = 0;
        }
    }
    a->n_used = 0;
    a->used = 0;
}

void stub_trim(struct stub_area *a)
{
    host_discard(a->rw + a->used, a->rw + a->size, MADV_REMOVE);
    if (a->n_used == 0) {
        host_discard(a->index, a->index + a->n_slots, MADV_DONTNEED);
    }
}

const void *stub_add(struct stub_area *a, const void *bytes, unsigned len)
{
    const uint8_t *p = bytes;
    if (len == 0 || len > STUB_MAX_LEN) {
        return NULL;
    }
    uint32_t h = hash_bytes(p, len);
    uint32_t i = h & (a->n_slots - 1);
    for (; a->index[i].len != 0; i = (i + 1) & (a->n_slots - 1)) {
        const struct stub_slot *s = &a->index[i];
        size_t off = (size_t)s->off * STUB_ALIGN;
        if (s->hash == h && s->len == len && same_bytes(a->rw + off, p, len)) {
            return a->rx + off;
        }
    }
    size_t need = (len + STUB_ALIGN - 1u) & ~(size_t)(STUB_ALIGN - 1);
    if (need > a->size - a->used || a->n_used >= a->n_slots - a->n_slots / 4) {
        return NULL;
    }
    uint8_t *to = a->rw + a->used;
    for (unsigned k = 0; k < need; k++) {
        to[k] = k < len ? p[k] : 0xcc; /* INT3 */
    }
    a->index[i] =
        (struct stub_slot){.hash = h, .off = (a->used / STUB_ALIGN) & 0xffffff, .len = len & 0xff};
    a->n_used++;
    const void *at = a->rx + a->used;
    a->used += need;
    return at;
}

uint8_t *stub_room(const struct stub_area *a, const uint8_t **run, size_t *len)
{
    *run = a->rx + a->used;
    *len = a->size - a->used;
    return a->rw + a->used;
}

void stub_take(struct stub_area *a, size_t len)
{
    len = (len + STUB_ALIGN - 1u) & ~(size_t)(STUB_ALIGN - 1);
    a->used = len < a->size - a->used ? a->used + len : a->size;
}

size_t stub_used(const struct stub_area *a)
{
    return a->used;
}

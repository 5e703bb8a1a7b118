/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stub area's parts, shared by stub.c (inside run slices) and stub_map.c (creation, uses libc).
 */
#ifndef SM_SOFT_STUB_PRIV_H
#define SM_SOFT_STUB_PRIV_H

#include "cpu/soft/stub.h"

#define STUB_ALIGN 16

/* An index slot; len 0 means empty. 24 bits of 16-byte units reach 256 MiB. */
struct stub_slot {
    uint32_t hash;
    uint32_t off : 24; /* in units of STUB_ALIGN */
    uint32_t len : 8;
};
_Static_assert(STUB_MAX_LEN < 256, "fits stub_slot.len");

struct stub_area {
    uint8_t *rw;       /* owned mapping */
    const uint8_t *rx; /* owned mapping of the same memory */
    size_t size, used;
    struct stub_slot *index; /* owned mapping: open addressing, n_slots is a power of two */
    uint32_t n_slots, n_used;
};

#endif

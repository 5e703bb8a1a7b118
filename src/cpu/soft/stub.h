/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory for generated code that is never writable and executable at one address: one memfd is
 * mapped twice, read-write and read-execute. Bump allocated and thrown away as a whole. Identical
 * contents are stored once, so that a stub costs memory per distinct instruction and not per place
 * in the guest.
 *
 * Threads: none of it locks; the owner serialises stub_add and stub_reset. Stored contents never
 * change before stub_reset, so any thread may execute or read them.
 */
#ifndef SM_SOFT_STUB_H
#define SM_SOFT_STUB_H

#include <stddef.h>
#include <stdint.h>

#include "supermachine.h"

#define STUB_MAX_LEN 160

struct stub_area;

/* A new area of size bytes (rounded up to a page, at most 256 MiB). Returns 0 or an error. */
int stub_area_new(struct stub_area **out, size_t size, struct sm_error *err);
void stub_area_free(struct stub_area *a); /* NULL is fine */

/* Forget everything: no address given out before may be used again. */
void stub_reset(struct stub_area *a);

/* Give memory that nothing is in back to the host. Callable inside a run slice. */
void stub_trim(struct stub_area *a);

/*
 * The executable address of a copy of len bytes (1 to STUB_MAX_LEN), 16-byte aligned and the same
 * for the same bytes; NULL when the area is full. Callable inside a run slice.
 */
const void *stub_add(struct stub_area *a, const void *bytes, unsigned len);

/*
 * Code written in place: stub_room() tells where the free part of the area is writable, where
 * executable and how long it is; stub_take() makes its first len bytes used. Not shared with equal
 * ones, so better in an area of their own.
 */
uint8_t *stub_room(const struct stub_area *a, const uint8_t **run, size_t *len);
void stub_take(struct stub_area *a, size_t len);

/* Bytes in use. */
size_t stub_used(const struct stub_area *a);

#endif

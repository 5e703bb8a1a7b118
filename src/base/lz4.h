/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The "legacy" LZ4 frame, which is what kernels are compressed with, as a stream. Ours and not
 * liblz4's because that one unpacks a whole block at a time, which is 8 MiB here: this one keeps
 * 64 KiB and writes where the caller wants the bytes.
 *
 * Spec: LZ4 doc/lz4_Block_format.md and doc/lz4_Frame_format.md, "Legacy frame". Input is taken as
 * hostile.
 */
#ifndef SM_BASE_LZ4_H
#define SM_BASE_LZ4_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lz4;

struct lz4 *lz4_new(void); /* NULL when out of memory */
void lz4_free(struct lz4 *z);

/* Unpack from *in to *out, advancing both and their lengths, until one is used up. NULL, or what is
 * wrong with the input (then only lz4_free is allowed). */
const char *lz4_step(struct lz4 *z, const uint8_t **in, size_t *in_len, uint8_t **out,
                     size_t *out_len);

/* May the input end here? It may between blocks. */
bool lz4_at_boundary(const struct lz4 *z);

#endif

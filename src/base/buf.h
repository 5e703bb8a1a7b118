/* SPDX-License-Identifier: Apache-2.0 */
/* A growable byte buffer. Zero-initialise it to start; single owner, no locking. */
#ifndef SM_BASE_BUF_H
#define SM_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

struct buf {
    uint8_t *data; /* owned */
    size_t len;
    size_t cap;
};

void buf_fini(struct buf *b); /* frees the bytes; b is empty and usable again */

/* All return 0, or -1 when out of memory (b unchanged). */
int buf_reserve(struct buf *b, size_t extra);
int buf_append(struct buf *b, const void *data, size_t len);
int buf_fill(struct buf *b, uint8_t byte, size_t len);
int buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif

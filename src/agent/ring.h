/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of one stream that were received and not yet passed on: a ring of PROTO_WINDOW bytes,
 * allocated at first use. Shared by the host's client and the guest's agent. Zero-initialise it to
 * start.
 */
#ifndef SM_AGENT_RING_H
#define SM_AGENT_RING_H

#include <stddef.h>
#include <stdint.h>

struct ring {
    uint8_t *data; /* owned; NULL until the first put */
    size_t start, len;
};

void ring_fini(struct ring *r); /* frees; r is empty and usable again */
/* 0, or -1 when it does not fit or memory is out (r unchanged). */
int ring_put(struct ring *r, const void *data, size_t len);
/* The longest contiguous run at the head; *len 0 when empty. */
const uint8_t *ring_head(const struct ring *r, size_t *len);
void ring_drop(struct ring *r, size_t len); /* len <= what ring_head reported */

#endif

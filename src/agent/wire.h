/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One end of a connection: frames in, frames out, never blocking, bounded both ways. Used by the
 * host's client and by the guest's agent; not thread-safe per object.
 */
#ifndef SM_AGENT_WIRE_H
#define SM_AGENT_WIRE_H

#include "agent/codec.h"

/* Room for one full DATA frame, and for the small frames that may have to follow it. */
#define WIRE_RESERVE (2u * CODEC_ERROR)
#define WIRE_OUT_SIZE (PROTO_HEADER_SIZE + PROTO_PAYLOAD_MAX + WIRE_RESERVE)

struct wire {
    int fd; /* borrowed: a stream socket */
    size_t out_start, out_end;
    struct codec_reader in;
    uint8_t out[WIRE_OUT_SIZE];
};

void wire_init(struct wire *w, int fd, enum codec_peer peer);

/* Receive once. 1: bytes came; 0: nothing now; -1: the peer is gone. */
int wire_fill(struct wire *w);
/* Send what it takes. 0, or -1: the peer is gone. */
int wire_flush(struct wire *w);
/* Bytes that can be queued (after moving what is queued to the front). */
size_t wire_room(struct wire *w);
/* Where wire_room() bytes can be built, then wire_added(). */
uint8_t *wire_tail(struct wire *w);
void wire_added(struct wire *w, size_t len);
size_t wire_queued(const struct wire *w);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The byte streams of a session: process <-> wire, under credit. Only session.c calls this. */
#ifndef SM_GUEST_STREAM_H
#define SM_GUEST_STREAM_H

#include "session.h"

/* A DATA, EOF or CREDIT frame. 0, or -1: the host broke the protocol (or memory is out). */
int stream_frame(struct session *s, const struct codec_frame *f);

/* src of s can be read or written: move what can be moved. */
void stream_ready(struct session *s, struct source *src, uint32_t events);

/* The process is gone: from now on take only what its output still holds. */
void stream_drain(struct session *s);

/* Queue what is due (EOF, CREDIT, EXIT), flush, and set what to wait for. 0, or -1: the host is
 * gone. */
int stream_pump(struct session *s);

void stream_close(struct session *s); /* every descriptor of the process; idempotent */

#endif

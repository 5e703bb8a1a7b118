/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our end of a byte stream to somebody on the host: a non-blocking socket with a bounded backlog of
 * bytes that were accepted and wait for a slow reader. Never raises SIGPIPE. One thread at a time.
 */
#ifndef SM_HOST_STREAM_H
#define SM_HOST_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/err.h"

struct stream {
    int fd;          /* owned; -1 when closed */
    uint8_t *ring;   /* owned; allocated when first needed */
    size_t capacity; /* most bytes the backlog can hold */
    size_t at, len;  /* the backlog: ring[at], len bytes, wrapping */
    bool end_write;  /* shut down writing once the backlog is out */
};

enum stream_result {
    STREAM_AGAIN = -1, /* nothing now */
    STREAM_GONE = -2,  /* the other side is closed, or failed */
    STREAM_FULL = -3,  /* the backlog would exceed its capacity, or no memory for it */
};

/* A connected pair: our end in *s, the peer's (blocking, close-on-exec; the caller's) in *peer. */
int stream_pair(struct stream *s, size_t capacity, int *peer, struct sm_error *err);
void stream_fini(struct stream *s); /* a zeroed struct with fd -1 is fine */

/* Bytes read (0 at end of file), or STREAM_AGAIN or STREAM_GONE. iov_count <= IOV_MAX. */
ssize_t stream_read(struct stream *s, const struct iovec *iov, unsigned iov_count);

/*
 * Take all of the bytes: write what the socket takes, keep the rest. 0, STREAM_GONE, or STREAM_FULL
 * (nothing was kept; the stream is no longer in order and must be closed).
 */
int stream_write(struct stream *s, const struct iovec *iov, unsigned iov_count);

/* Write backlog. 0 (some may be left) or STREAM_GONE. */
int stream_flush(struct stream *s);

static inline size_t stream_backlog(const struct stream *s)
{
    return s->len;
}
/* Forget the backlog: nobody will read it. */
void stream_discard(struct stream *s);

void stream_shut_read(struct stream *s);  /* the peer's writes fail from now on */
void stream_shut_write(struct stream *s); /* the peer sees end of file, after the backlog */

/* Whether the peer has closed both directions. */
bool stream_hung_up(const struct stream *s);
/* Whether bytes wait to be read. */
bool stream_has_input(const struct stream *s);

#endif

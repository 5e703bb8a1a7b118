/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Encoding and checking of agent/proto.h frames; the same code in the host and in the guest. Treats
 * every input as hostile: no allocation by a claimed length, no read past what was received. Uses
 * nothing of the project and no I/O. Not thread-safe per object.
 */
#ifndef SM_AGENT_CODEC_H
#define SM_AGENT_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/proto.h"

enum codec_peer { CODEC_HOST, CODEC_GUEST }; /* who sent the bytes */

struct codec_frame {
    uint8_t type;
    uint8_t stream;
    uint16_t flags;
    uint32_t length;
    const uint8_t *payload; /* borrowed from the reader, until its next call */
};

/* Check a header: type known and allowed from this peer, length, stream and flags right for it. 0
 * or -1. */
int codec_header_parse(const uint8_t header[PROTO_HEADER_SIZE], enum codec_peer from,
                       struct codec_frame *out);
void codec_header_build(uint8_t out[PROTO_HEADER_SIZE], enum proto_type type, unsigned stream,
                        unsigned flags, uint32_t length);

/* Cuts a byte stream into frames. A fixed buffer: big enough for one frame and the start of the
 * next. */
#define CODEC_READER_SIZE (2u * (PROTO_HEADER_SIZE + PROTO_PAYLOAD_MAX))
struct codec_reader {
    enum codec_peer from;
    size_t start, end;
    uint8_t data[CODEC_READER_SIZE];
};
void codec_reader_init(struct codec_reader *r, enum codec_peer from);
/* Where to receive more: *len > 0 whenever the last codec_reader_next returned 0. */
uint8_t *codec_reader_space(struct codec_reader *r, size_t *len);
void codec_reader_added(struct codec_reader *r, size_t len);
/* 1: *frame is next; 0: more bytes are needed; -1: the peer broke the protocol. */
int codec_reader_next(struct codec_reader *r, struct codec_frame *frame);

/* Whole small frames into out (CODEC_SMALL bytes of room, codec_error: CODEC_ERROR); return their
 * size. */
#define CODEC_SMALL (PROTO_HEADER_SIZE + PROTO_EXIT_SIZE)
#define CODEC_ERROR (PROTO_HEADER_SIZE + 8u + PROTO_TEXT_MAX)
struct codec_exit {
    uint32_t code, signal;
    bool core;
    uint64_t wall_ns, user_ns, system_ns, peak_rss_bytes;
};
size_t codec_hello_build(uint8_t *out);
size_t codec_empty_build(uint8_t *out, enum proto_type type, unsigned stream);
size_t codec_u32_build(uint8_t *out, enum proto_type type, unsigned stream, uint32_t value);
size_t codec_signal_build(uint8_t *out, uint32_t signal, uint32_t flags);
size_t codec_resize_build(uint8_t *out, uint16_t rows, uint16_t cols);
size_t codec_connect_build(uint8_t *out, uint16_t port);
size_t codec_exit_build(uint8_t *out, const struct codec_exit *x);
/* A text longer than PROTO_TEXT_MAX is cut. */
size_t codec_error_build(uint8_t *out, enum proto_error class, uint32_t os_errno, const char *text);

/* Payloads of frames that codec_reader_next accepted. 0, or -1 when a value is out of range. */
int codec_hello_parse(const struct codec_frame *f, uint32_t *version);
int codec_u32_parse(const struct codec_frame *f, uint32_t *value);
int codec_credit_parse(const struct codec_frame *f, uint32_t *bytes); /* 1..PROTO_WINDOW */
int codec_signal_parse(const struct codec_frame *f, uint32_t *signal, uint32_t *flags);
int codec_resize_parse(const struct codec_frame *f, uint16_t *rows, uint16_t *cols);
int codec_connect_parse(const struct codec_frame *f, uint16_t *port);
int codec_exit_parse(const struct codec_frame *f, struct codec_exit *x);
/* text gets a NUL and has control characters replaced by '?'. */
int codec_error_parse(const struct codec_frame *f, enum proto_error *class, uint32_t *os_errno,
                      char text[PROTO_TEXT_MAX + 1]);

struct codec_file {
    const char *path; /* borrowed */
    uint32_t mode;    /* at most PROTO_MODE_MAX */
    uint32_t length;
    const uint8_t *data; /* borrowed */
};

/* The joined payload of EXEC. The arrays are owned when it was parsed, all strings and bytes
 * borrowed from the blob. */
struct codec_exec {
    uint32_t flags;
    uint16_t rows, cols;
    uint16_t n_chain, n_files;
    char **argv; /* NULL-terminated; so is env, and each of chain */
    char **env;
    const char *cwd, *user;
    char ***chain; /* commands after the first */
    struct codec_file *files;
};
/* blob must outlive *out. 0, or -1: malformed, or out of memory. */
int codec_exec_parse(char *blob, size_t len, struct codec_exec *out);
void codec_exec_fini(struct codec_exec *x);
/* env, cwd and user may be NULL. *blob is for free(). 0; -1: too big for PROTO_EXEC_MAX, too many
 * items, no argv; -2: out of memory. */
int codec_exec_build(const struct codec_exec *x, uint8_t **blob, size_t *len);

/* Stream 2 of READ, whole. 0, or -1: not one octal number up to PROTO_MODE_MAX and a newline. */
int codec_mode_parse(const char *text, size_t len, uint32_t *mode);

/* Walking SETUP. 1: an item; 0: the end; -1: malformed. Start with *at = 0. Lengths are checked per
 * key. */
struct codec_item {
    enum proto_item key;
    const uint8_t *data; /* borrowed */
    uint32_t length;
};
int codec_item_next(const uint8_t *data, size_t len, size_t *at, struct codec_item *item);
/* Appends an item at out + *at when it fits cap; 0 or -1. */
int codec_item_put(uint8_t *out, size_t cap, size_t *at, enum proto_item key, const void *data,
                   size_t len);
/* Walking a VOLUMES item in the same way; *path is borrowed, flags are PROTO_VOLUME_*. */
int codec_volume_next(const struct codec_item *item, size_t *at, const char **path,
                      unsigned *flags);
/* Appends one; 0, or -1: it does not fit, or its path is none. */
int codec_volume_put(uint8_t *out, size_t cap, size_t *at, const char *path, unsigned flags);
uint64_t codec_u64(const uint8_t *p);
void codec_u64_put(uint8_t *p, uint64_t v);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a frame may look like is one table: type -> who may send it, payload length, streams. Checks
 * of a header need nothing but its 8 bytes, so a bad length is refused before anything is buffered
 * for it.
 */
#include "agent/codec.h"

#include <string.h>

#include "agent/bytes.h"

#define FROM_HOST (1u << CODEC_HOST)
#define FROM_GUEST (1u << CODEC_GUEST)

struct frame_rule {
    uint8_t from;         /* FROM_* */
    uint8_t host_streams; /* bit n: the host may name stream n */
    uint8_t guest_streams;
    uint32_t min, max; /* payload bytes */
};

static const struct frame_rule rules[PROTO_TYPES] = {
    [PROTO_HELLO] = {FROM_HOST | FROM_GUEST, 1, 1, 8, 8},
    [PROTO_EXEC] = {FROM_HOST, 1, 0, 1, PROTO_PAYLOAD_MAX},
    [PROTO_STARTED] = {FROM_GUEST, 0, 1, 4, 4},
    [PROTO_DATA] = {FROM_HOST | FROM_GUEST, 1, 6, 1, PROTO_PAYLOAD_MAX},
    [PROTO_EOF] = {FROM_HOST | FROM_GUEST, 7, 7, 0, 0},
    [PROTO_CREDIT] = {FROM_HOST | FROM_GUEST, 6, 1, 4, 4},
    [PROTO_SIGNAL] = {FROM_HOST, 1, 0, 8, 8},
    [PROTO_RESIZE] = {FROM_HOST, 1, 0, 4, 4},
    [PROTO_EXIT] = {FROM_GUEST, 0, 1, PROTO_EXIT_SIZE, PROTO_EXIT_SIZE},
    [PROTO_ERROR] = {FROM_GUEST, 0, 1, 8, 8 + PROTO_TEXT_MAX},
    [PROTO_SETUP] = {FROM_HOST, 1, 0, 0, PROTO_PAYLOAD_MAX},
    [PROTO_SHUTDOWN] = {FROM_HOST, 1, 0, 4, 4},
    [PROTO_PING] = {FROM_HOST, 1, 0, 0, 0},
    [PROTO_OK] = {FROM_GUEST, 0, 1, 0, 0},
    [PROTO_BAKE] = {FROM_HOST, 1, 0, 0, 0},
    [PROTO_CONNECT] = {FROM_HOST, 1, 0, 4, 4},
};

uint64_t codec_u64(const uint8_t *p)
{
    return get32(p) | (uint64_t)get32(p + 4) << 32;
}

void codec_u64_put(uint8_t *p, uint64_t v)
{
    put32(p, (uint32_t)v);
    put32(p + 4, (uint32_t)(v >> 32));
}

int codec_header_parse(const uint8_t header[PROTO_HEADER_SIZE], enum codec_peer from,
                       struct codec_frame *out)
{
    const struct frame_rule *rule;

    out->length = get32(header);
    out->type = header[4];
    out->stream = header[5];
    out->flags = get16(header + 6);
    out->payload = NULL;
    if (out->type == 0 || out->type >= PROTO_TYPES || out->stream >= PROTO_STREAMS)
        return -1;
    rule = &rules[out->type];
    if (!(rule->from & 1u << from) || out->length < rule->min || out->length > rule->max)
        return -1;
    if (!((from == CODEC_HOST ? rule->host_streams : rule->guest_streams) & 1u << out->stream))
        return -1;
    if (out->flags & ~(out->type == PROTO_EXEC ? PROTO_MORE : 0u))
        return -1;
    return 0;
}

void codec_header_build(uint8_t out[PROTO_HEADER_SIZE], enum proto_type type, unsigned stream,
                        unsigned flags, uint32_t length)
{
    put32(out, length);
    out[4] = (uint8_t)type;
    out[5] = (uint8_t)stream;
    put16(out + 6, flags);
}

void codec_reader_init(struct codec_reader *r, enum codec_peer from)
{
    r->from = from;
    r->start = r->end = 0;
}

uint8_t *codec_reader_space(struct codec_reader *r, size_t *len)
{
    /* Move the rest to the front only when a whole frame might not fit behind it. */
    if (r->start == r->end) {
        r->start = r->end = 0;
    } else if (sizeof r->data - r->start < PROTO_HEADER_SIZE + PROTO_PAYLOAD_MAX) {
        memmove(r->data, r->data + r->start, r->end - r->start);
        r->end -= r->start;
        r->start = 0;
    }
    *len = sizeof r->data - r->end;
    return r->data + r->end;
}

void codec_reader_added(struct codec_reader *r, size_t len)
{
    r->end += len;
}

int codec_reader_next(struct codec_reader *r, struct codec_frame *frame)
{
    size_t have = r->end - r->start;

    if (have < PROTO_HEADER_SIZE)
        return 0;
    if (codec_header_parse(r->data + r->start, r->from, frame) < 0)
        return -1;
    if (have - PROTO_HEADER_SIZE < frame->length)
        return 0;
    frame->payload = r->data + r->start + PROTO_HEADER_SIZE;
    r->start += PROTO_HEADER_SIZE + frame->length;
    return 1;
}

size_t codec_hello_build(uint8_t *out)
{
    codec_header_build(out, PROTO_HELLO, 0, 0, 8);
    put32(out + 8, PROTO_MAGIC);
    put32(out + 12, PROTO_VERSION);
    return 16;
}

size_t codec_empty_build(uint8_t *out, enum proto_type type, unsigned stream)
{
    codec_header_build(out, type, stream, 0, 0);
    return PROTO_HEADER_SIZE;
}

size_t codec_u32_build(uint8_t *out, enum proto_type type, unsigned stream, uint32_t value)
{
    codec_header_build(out, type, stream, 0, 4);
    put32(out + 8, value);
    return 12;
}

size_t codec_signal_build(uint8_t *out, uint32_t signal, uint32_t flags)
{
    codec_header_build(out, PROTO_SIGNAL, 0, 0, 8);
    put32(out + 8, signal);
    put32(out + 12, flags);
    return 16;
}

size_t codec_resize_build(uint8_t *out, uint16_t rows, uint16_t cols)
{
    codec_header_build(out, PROTO_RESIZE, 0, 0, 4);
    put16(out + 8, rows);
    put16(out + 10, cols);
    return 12;
}

size_t codec_connect_build(uint8_t *out, uint16_t port)
{
    codec_header_build(out, PROTO_CONNECT, 0, 0, 4);
    put16(out + 8, port);
    put16(out + 10, 0);
    return 12;
}

size_t codec_exit_build(uint8_t *out, const struct codec_exit *x)
{
    uint8_t *p = out + PROTO_HEADER_SIZE;

    codec_header_build(out, PROTO_EXIT, 0, 0, PROTO_EXIT_SIZE);
    put32(p, x->code);
    put32(p + 4, x->signal);
    put32(p + 8, x->core ? PROTO_EXIT_CORE : 0);
    put32(p + 12, 0);
    codec_u64_put(p + 16, x->wall_ns);
    codec_u64_put(p + 24, x->user_ns);
    codec_u64_put(p + 32, x->system_ns);
    codec_u64_put(p + 40, x->peak_rss_bytes);
    return PROTO_HEADER_SIZE + PROTO_EXIT_SIZE;
}

size_t codec_error_build(uint8_t *out, enum proto_error class, uint32_t os_errno, const char *text)
{
    size_t len = strlen(text);

    if (len > PROTO_TEXT_MAX)
        len = PROTO_TEXT_MAX;
    codec_header_build(out, PROTO_ERROR, 0, 0, (uint32_t)(8 + len));
    put32(out + 8, class);
    put32(out + 12, os_errno);
    memcpy(out + 16, text, len);
    return 16 + len;
}

int codec_hello_parse(const struct codec_frame *f, uint32_t *version)
{
    if (get32(f->payload) != PROTO_MAGIC)
        return -1;
    *version = get32(f->payload + 4);
    return 0;
}

int codec_u32_parse(const struct codec_frame *f, uint32_t *value)
{
    *value = get32(f->payload);
    return 0;
}

int codec_credit_parse(const struct codec_frame *f, uint32_t *bytes)
{
    *bytes = get32(f->payload);
    return *bytes == 0 || *bytes > PROTO_WINDOW ? -1 : 0;
}

int codec_signal_parse(const struct codec_frame *f, uint32_t *signal, uint32_t *flags)
{
    *signal = get32(f->payload);
    *flags = get32(f->payload + 4);
    return *signal < 1 || *signal > 64 || *flags & ~PROTO_SIGNAL_ALL ? -1 : 0;
}

int codec_resize_parse(const struct codec_frame *f, uint16_t *rows, uint16_t *cols)
{
    *rows = get16(f->payload);
    *cols = get16(f->payload + 2);
    return 0;
}

int codec_connect_parse(const struct codec_frame *f, uint16_t *port)
{
    *port = get16(f->payload);
    return *port == 0 || get16(f->payload + 2) != 0 ? -1 : 0;
}

int codec_exit_parse(const struct codec_frame *f, struct codec_exit *x)
{
    const uint8_t *p = f->payload;

    x->code = get32(p);
    x->signal = get32(p + 4);
    x->core = get32(p + 8) & PROTO_EXIT_CORE;
    x->wall_ns = codec_u64(p + 16);
    x->user_ns = codec_u64(p + 24);
    x->system_ns = codec_u64(p + 32);
    x->peak_rss_bytes = codec_u64(p + 40);
    if (x->code > 255 || x->signal > 64 || get32(p + 8) & ~PROTO_EXIT_CORE || get32(p + 12))
        return -1;
    return x->signal && x->code != 128 + x->signal ? -1 : 0;
}

int codec_error_parse(const struct codec_frame *f, enum proto_error *class, uint32_t *os_errno,
                      char text[PROTO_TEXT_MAX + 1])
{
    size_t len = f->length - 8;
    uint32_t c = get32(f->payload);

    if (c == 0 || c >= PROTO_ERR_END)
        return -1;
    *class = (enum proto_error)c;
    *os_errno = get32(f->payload + 4);
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = f->payload[8 + i];
        text[i] = byte < 0x20 || byte == 0x7f ? '?' : (char)byte;
    }
    text[len] = 0;
    return 0;
}

static bool item_length_ok(uint32_t key, uint32_t length)
{
    switch (key) {
    case PROTO_ITEM_HOSTNAME:
        return length > 0 && length <= PROTO_HOSTNAME_MAX;
    case PROTO_ITEM_CLOCK:
        return length == 8;
    case PROTO_ITEM_MACHINE_ID:
        return length == PROTO_MACHINE_ID_LEN;
    case PROTO_ITEM_ENTROPY:
        return length > 0 && length <= PROTO_ENTROPY_MAX;
    default:
        return key > 0 && key < PROTO_ITEM_END;
    }
}

int codec_item_next(const uint8_t *data, size_t len, size_t *at, struct codec_item *item)
{
    uint32_t key, length;

    if (*at == len)
        return 0;
    if (len - *at < PROTO_ITEM_SIZE)
        return -1;
    key = get16(data + *at);
    length = get32(data + *at + 4);
    if (get16(data + *at + 2) != 0 || length > len - *at - PROTO_ITEM_SIZE ||
        !item_length_ok(key, length))
        return -1;
    item->key = (enum proto_item)key;
    item->length = length;
    item->data = data + *at + PROTO_ITEM_SIZE;
    *at += PROTO_ITEM_SIZE + length;
    return 1;
}

int codec_item_put(uint8_t *out, size_t cap, size_t *at, enum proto_item key, const void *data,
                   size_t len)
{
    if (len > PROTO_PAYLOAD_MAX || cap - *at < PROTO_ITEM_SIZE ||
        len > cap - *at - PROTO_ITEM_SIZE || !item_length_ok(key, (uint32_t)len))
        return -1;
    put16(out + *at, key);
    put16(out + *at + 2, 0);
    put32(out + *at + 4, (uint32_t)len);
    memcpy(out + *at + PROTO_ITEM_SIZE, data, len);
    *at += PROTO_ITEM_SIZE + len;
    return 0;
}

int codec_volume_next(const struct codec_item *item, size_t *at, const char **path, unsigned *flags)
{
    const uint8_t *p = item->data + *at;
    size_t left = item->length - *at;
    const uint8_t *end;

    if (left == 0)
        return 0;
    end = memchr(p + 1, 0, left - 1);
    if (p[0] & ~PROTO_VOLUME_FLAGS || !end || p[1] != '/' ||
        (size_t)(end - p - 1) > PROTO_VOLUME_PATH_MAX)
        return -1;
    *flags = p[0];
    *path = (const char *)p + 1;
    *at += (size_t)(end - p) + 1;
    return 1;
}

int codec_volume_put(uint8_t *out, size_t cap, size_t *at, const char *path, unsigned flags)
{
    size_t len = strlen(path) + 1;

    if (path[0] != '/' || len - 1 > PROTO_VOLUME_PATH_MAX || cap - *at < len + 1)
        return -1;
    out[*at] = (uint8_t)flags;
    memcpy(out + *at + 1, path, len);
    *at += len + 1;
    return 0;
}

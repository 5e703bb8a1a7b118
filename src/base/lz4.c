/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A block is a row of sequences: a token (4 bits literal length, 4 bits match length), the rest of
 * the first length, literals, a 16-bit distance, the rest of the second length. The last sequence
 * ends after its literals. State between any two bytes is in struct lz4; sequences that lie whole
 * in input and output, which is nearly all, are done without it (quick()).
 */
#include "base/lz4.h"

#include <stdlib.h>
#include <string.h>
#include <sys/param.h>

#include "base/le.h"

#define MAGIC 0x184c2102u
#define BLOCK_OUT_MAX (8u << 20)
#define BLOCK_IN_MAX (BLOCK_OUT_MAX + BLOCK_OUT_MAX / 255 + 16)
#define WINDOW 65536u
#define MATCH_MIN 4
#define QUICK_ROOM 64 /* a quick sequence takes at most 17 bytes and writes below 14 + 32 */

enum lz4_state {
    AT_HEADER,
    AT_TOKEN,
    AT_LITERAL_LENGTH,
    AT_LITERALS,
    AT_DISTANCE,
    AT_MATCH_LENGTH,
    AT_MATCH
};

struct lz4 {
    enum lz4_state state;
    uint8_t head[4];   /* AT_HEADER: magic or block size; AT_DISTANCE: the distance */
    unsigned head_len; /* bytes of it that are there */
    bool seen_magic;
    uint32_t block_in;  /* compressed bytes of the block still to come */
    uint32_t block_out; /* bytes that it has given so far */
    uint32_t literals, match, distance;
    size_t produced;        /* bytes that this call has written before its current position */
    uint8_t window[WINDOW]; /* the end of what the calls before gave; its last byte is the newest */
};

struct span {
    const uint8_t *in;
    size_t in_len;
    uint8_t *out;
    size_t out_len;
};

struct lz4 *lz4_new(void)
{
    return calloc(1, sizeof(struct lz4));
}

void lz4_free(struct lz4 *z)
{
    free(z);
}

bool lz4_at_boundary(const struct lz4 *z)
{
    return z->state == AT_HEADER && z->head_len == 0 && z->seen_magic;
}

static void took(struct lz4 *z, struct span *s, size_t n)
{
    s->in += n;
    s->in_len -= n;
    z->block_in -= (uint32_t)n;
}

static void gave(struct lz4 *z, struct span *s, size_t n)
{
    s->out += n;
    s->out_len -= n;
    z->produced += n;
    z->block_out += (uint32_t)n;
}

/* Gather n bytes of a number. True when they are there. */
static bool gather(struct lz4 *z, struct span *s, unsigned n)
{
    while (z->head_len < n && s->in_len > 0) {
        z->head[z->head_len++] = *s->in++;
        s->in_len--;
    }
    if (z->head_len < n)
        return false;
    z->head_len = 0;
    return true;
}

static const char *read_header(struct lz4 *z, struct span *s)
{
    if (!gather(z, s, 4))
        return NULL;
    uint32_t word = le32_get(z->head);
    if (word == MAGIC) { /* another frame may follow the first */
        z->seen_magic = true;
        return NULL;
    }
    if (!z->seen_magic)
        return "no magic number";
    if (word == 0 || word > BLOCK_IN_MAX)
        return "impossible block size";
    z->block_in = word;
    z->block_out = 0;
    z->state = AT_TOKEN;
    return NULL;
}

/* Sequences with short lengths, far from the end of everything and from overlapping themselves. */
static void quick(struct lz4 *z, struct span *s)
{
    while (s->in_len >= QUICK_ROOM && s->out_len >= QUICK_ROOM && z->block_in >= QUICK_ROOM &&
           z->block_out <= BLOCK_OUT_MAX - QUICK_ROOM) {
        unsigned literals = s->in[0] >> 4, match = s->in[0] & 15;
        if (literals == 15 || match == 15)
            return;
        unsigned distance = le16_get(s->in + 1 + literals);
        size_t back = MIN(z->produced, (size_t)z->block_out) + literals;
        if (distance < 16 || distance > back)
            return;
        memcpy(s->out, s->in + 1, 16);
        uint8_t *to = s->out + literals;
        memcpy(to, to - distance, 16);
        memcpy(to + 16, to + 16 - distance, 16);
        took(z, s, 1 + literals + 2);
        gave(z, s, literals + match + MATCH_MIN);
    }
}

/* Add the 255s of a length and the byte that ends them. True when it is complete. */
static bool add_length(struct lz4 *z, struct span *s, uint32_t *length)
{
    while (s->in_len > 0 && z->block_in > 0) {
        uint8_t byte = *s->in;
        took(z, s, 1);
        *length += byte; /* below 2^32: a block has few enough bytes */
        if (byte != 255)
            return true;
    }
    return false;
}

static const char *copy_literals(struct lz4 *z, struct span *s)
{
    if (z->literals > z->block_in || z->literals > BLOCK_OUT_MAX - z->block_out)
        return "literals beyond the end of a block";
    size_t n = MIN(MIN((size_t)z->literals, s->in_len), s->out_len);
    memcpy(s->out, s->in, n);
    took(z, s, n);
    gave(z, s, n);
    z->literals -= (uint32_t)n;
    if (z->literals == 0)
        z->state = z->block_in ? AT_DISTANCE : AT_HEADER;
    return NULL;
}

static const char *read_distance(struct lz4 *z, struct span *s)
{
    size_t before = s->in_len;
    if (z->block_in + z->head_len < 2)
        return "a block that ends in a distance";
    bool complete = gather(z, s, 2);
    z->block_in -= (uint32_t)(before - s->in_len);
    if (!complete)
        return NULL;
    z->distance = le16_get(z->head);
    if (z->distance == 0 || z->distance > z->block_out)
        return "a distance beyond the start of a block";
    z->state = z->match == 15 ? AT_MATCH_LENGTH : AT_MATCH;
    z->match += MATCH_MIN;
    return NULL;
}

static const char *copy_match(struct lz4 *z, struct span *s)
{
    if (z->match > BLOCK_OUT_MAX - z->block_out)
        return "a match beyond the end of a block";
    size_t n = MIN((size_t)z->match, s->out_len);
    z->match -= (uint32_t)n;
    if (z->distance > z->produced) { /* from what an earlier call gave */
        size_t back = z->distance - z->produced, old = MIN(n, back);
        memcpy(s->out, z->window + WINDOW - back, old);
        gave(z, s, old);
        n -= old;
    }
    /* A match may overlap itself, which repeats it: what is already there may be copied whole. */
    for (size_t have = z->distance, part; n > 0; have += part) {
        part = MIN(n, have);
        memcpy(s->out, s->out - have, part);
        gave(z, s, part);
        n -= part;
    }
    if (z->match == 0) {
        if (z->block_in == 0)
            return "a block that ends in a match";
        z->state = AT_TOKEN;
    }
    return NULL;
}

static const char *one_state(struct lz4 *z, struct span *s)
{
    switch (z->state) {
    case AT_HEADER:
        return read_header(z, s);
    case AT_TOKEN:
        quick(z, s);
        if (s->in_len == 0)
            return NULL;
        z->literals = *s->in >> 4;
        z->match = *s->in & 15;
        took(z, s, 1);
        z->state = z->literals == 15 ? AT_LITERAL_LENGTH : AT_LITERALS;
        return NULL;
    case AT_LITERAL_LENGTH:
        if (add_length(z, s, &z->literals))
            z->state = AT_LITERALS;
        else if (z->block_in == 0)
            return "a block that ends in a length";
        return NULL;
    case AT_LITERALS:
        return copy_literals(z, s);
    case AT_DISTANCE:
        return read_distance(z, s);
    case AT_MATCH_LENGTH:
        if (add_length(z, s, &z->match))
            z->state = AT_MATCH;
        else if (z->block_in == 0)
            return "a block that ends in a length";
        return NULL;
    case AT_MATCH:
        return copy_match(z, s);
    }
    return NULL;
}

/* Keep the end of what this call gave. */
static void remember(struct lz4 *z, const uint8_t *end)
{
    size_t n = MIN(z->produced, (size_t)WINDOW);
    memmove(z->window, z->window + n, WINDOW - n);
    memcpy(z->window + WINDOW - n, end - n, n);
}

const char *lz4_step(struct lz4 *z, const uint8_t **in, size_t *in_len, uint8_t **out,
                     size_t *out_len)
{
    struct span s = {*in, *in_len, *out, *out_len};
    const char *why = NULL;
    z->produced = 0;
    while (!why && s.out_len > 0 && (s.in_len > 0 || z->state == AT_MATCH))
        why = one_state(z, &s);
    remember(z, s.out);
    *in = s.in;
    *in_len = s.in_len;
    *out = s.out;
    *out_len = s.out_len;
    return why;
}

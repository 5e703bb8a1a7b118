/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers as tar writes them: octal, base-256, PAX decimals and times. Pure functions. */
#include "image/tarball_parts.h"

static int base256(const uint8_t *p, size_t len, int64_t *out)
{
    /* Two's complement, big-endian, after the marker bit. */
    int64_t v = (p[0] & 0x7f) - ((p[0] & 0x40) ? 0x80 : 0);
    for (size_t i = 1; i < len; i++) {
        if (v > (INT64_MAX >> 8) || v < (INT64_MIN >> 8)) {
            return -1;
        }
        v = v * 256 + p[i];
    }
    *out = v;
    return 0;
}

int tarball_number(const uint8_t *p, size_t len, int64_t *out)
{
    if (p[0] & 0x80) {
        return base256(p, len, out);
    }
    size_t i = 0;
    int64_t v = 0;
    while (i < len && p[i] == ' ') {
        i++;
    }
    for (; i < len && p[i] >= '0' && p[i] <= '7'; i++) {
        v = v * 8 + (p[i] - '0'); /* at most 12 digits: 36 bits */
    }
    for (; i < len; i++) {
        if (p[i] != ' ' && p[i] != 0) {
            return -1;
        }
    }
    *out = v;
    return 0;
}

int tarball_decimal(const char *p, uint64_t *out)
{
    uint64_t v = 0;
    if (!*p) {
        return -1;
    }
    for (; *p; p++) {
        if (*p < '0' || *p > '9' || __builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v)) {
            return -1;
        }
    }
    *out = v;
    return 0;
}

int tarball_time(const char *p, int64_t *sec, uint32_t *nsec)
{
    bool negative = *p == '-';
    int64_t s = 0;
    uint32_t n = 0, scale = 100000000;
    p += negative;
    if (*p < '0' || *p > '9') {
        return -1;
    }
    for (; *p >= '0' && *p <= '9'; p++) {
        if (__builtin_mul_overflow(s, 10, &s) || __builtin_add_overflow(s, *p - '0', &s)) {
            return -1;
        }
    }
    if (*p == '.') {
        for (p++; *p >= '0' && *p <= '9'; p++) {
            n += scale * (uint32_t)(*p - '0');
            scale /= 10; /* digits past the ninth count nothing */
        }
    }
    if (*p) {
        return -1;
    }
    if (negative) {
        s = n ? -s - 1 : -s;
        n = n ? 1000000000 - n : 0;
    }
    *sec = s;
    *nsec = n;
    return 0;
}

bool tarball_checksum_ok(const uint8_t block[TAR_BLOCK])
{
    /* Old writers summed signed chars; every reader takes both. */
    int64_t want, sum = 0, signed_sum = 0;
    for (int i = 0; i < TAR_BLOCK; i++) {
        uint8_t c = i >= 148 && i < 156 ? ' ' : block[i];
        sum += c;
        signed_sum += (int8_t)c;
    }
    return (block[148] & 0x80) == 0 && tarball_number(block + 148, 8, &want) == 0 &&
           (want == sum || want == signed_sum);
}

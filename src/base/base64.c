/* SPDX-License-Identifier: Apache-2.0 */
#include "base/base64.h"

#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int base64_encode(const void *data, size_t len, struct buf *out)
{
    const uint8_t *p = data;
    if (len > SIZE_MAX / 4 || buf_reserve(out, (len + 2) / 3 * 4 + 1)) {
        return -1;
    }
    uint8_t *to = out->data + out->len;
    for (size_t i = 0; i < len; i += 3) {
        size_t n = len - i < 3 ? len - i : 3;
        uint32_t v =
            (uint32_t)p[i] << 16 | (n > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (n > 2 ? p[i + 2] : 0u);
        for (size_t k = 0; k < 4; k++) {
            *to++ = k <= n ? (uint8_t)digits[v >> (18 - 6 * k) & 63] : '=';
        }
    }
    *to = 0;
    out->len = (size_t)(to - out->data);
    return 0;
}

int base64_decode(const char *text, struct buf *out)
{
    size_t len = strlen(text), start = out->len;
    while (len > 0 && text[len - 1] == '=' && strlen(text) - len < 2) {
        len--;
    }
    if (len % 4 == 1 || buf_reserve(out, len / 4 * 3 + 4)) {
        return -1;
    }
    uint32_t v = 0;
    for (size_t i = 0; i < len; i++) {
        const char *d = memchr(digits, text[i], 64);
        if (!d) {
            out->len = start;
            return -1;
        }
        v = v << 6 | (uint32_t)(d - digits);
        if (i % 4 > 0) {
            out->data[out->len++] = (uint8_t)(v >> (6 - 2 * (i % 4)));
        }
    }
    out->data[out->len] = 0;
    return 0;
}

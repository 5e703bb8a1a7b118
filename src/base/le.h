/* SPDX-License-Identifier: Apache-2.0 */
/* Unaligned little-endian loads and stores. */
#ifndef SM_BASE_LE_H
#define SM_BASE_LE_H

#include <stdint.h>
#include <string.h>

static inline uint16_t le16_get(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline uint32_t le32_get(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline uint64_t le64_get(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void le16_put(void *p, uint16_t v)
{
    memcpy(p, &v, sizeof v);
}
static inline void le32_put(void *p, uint32_t v)
{
    memcpy(p, &v, sizeof v);
}
static inline void le64_put(void *p, uint64_t v)
{
    memcpy(p, &v, sizeof v);
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the host is x86-64");

#endif

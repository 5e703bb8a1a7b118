// SPDX-License-Identifier: Apache-2.0
#include "vm/aml.h"

#include <string.h>

#include "base/le.h"

void aml_bytes(struct aml *a, const void *data, size_t len)
{
    if (buf_append(&a->b, data, len) != 0)
        a->failed = true;
}

static void byte(struct aml *a, uint8_t value)
{
    aml_bytes(a, &value, 1);
}

void aml_nameseg(struct aml *a, const char *name)
{
    aml_bytes(a, name, strlen(name));
}

void aml_integer(struct aml *a, uint64_t value)
{
    uint8_t raw[8];
    le64_put(raw, value);
    if (value <= 1) { /* ZeroOp, OneOp */
        byte(a, (uint8_t)value);
    } else if (value <= 0xff) {
        byte(a, 0x0a);
        aml_bytes(a, raw, 1);
    } else if (value <= 0xffff) {
        byte(a, 0x0b);
        aml_bytes(a, raw, 2);
    } else if (value <= 0xffffffff) {
        byte(a, 0x0c);
        aml_bytes(a, raw, 4);
    } else {
        byte(a, 0x0e);
        aml_bytes(a, raw, 8);
    }
}

void aml_string(struct aml *a, const char *text)
{
    byte(a, 0x0d);
    aml_bytes(a, text, strlen(text) + 1);
}

size_t aml_begin(struct aml *a, enum aml_op op)
{
    if (op > 0xff)
        byte(a, (uint8_t)(op >> 8));
    byte(a, (uint8_t)op);
    return a->b.len;
}

void aml_end(struct aml *a, size_t mark)
{
    if (a->failed)
        return;
    /* PkgLength counts itself: 1 byte up to 63, else a lead byte with the low 4 bits and the rest.
     */
    uint32_t body = (uint32_t)(a->b.len - mark);
    uint8_t raw[4];
    unsigned n = body + 1 < 0x40 ? 1 : body + 2 < 0x1000 ? 2 : body + 3 < 0x100000 ? 3 : 4;
    uint32_t total = body + n;
    if (n == 1) {
        raw[0] = (uint8_t)total;
    } else {
        raw[0] = (uint8_t)((n - 1) << 6 | (total & 0xf));
        for (unsigned i = 1; i < n; i++)
            raw[i] = (uint8_t)(total >> (4 + 8 * (i - 1)));
    }
    aml_bytes(a, raw, n);
    if (a->failed)
        return;
    memmove(a->b.data + mark + n, a->b.data + mark, body);
    memcpy(a->b.data + mark, raw, n);
}

void aml_name(struct aml *a, const char *name)
{
    byte(a, AML_NAME);
    aml_nameseg(a, name);
}

void aml_crs_memory32(struct aml_crs *c, uint32_t addr, uint32_t len)
{
    uint8_t d[12] = {0x86, 9, 0, 1 /* read-write */};
    le32_put(d + 4, addr);
    le32_put(d + 8, len);
    aml_bytes(&c->body, d, sizeof d);
}

void aml_crs_io(struct aml_crs *c, uint16_t port, uint8_t len)
{
    uint8_t d[8] = {0x47, 1 /* decodes 16 bits */, 0, 0, 0, 0, 0 /* alignment */, len};
    le16_put(d + 2, port);
    le16_put(d + 4, port);
    aml_bytes(&c->body, d, sizeof d);
}

void aml_crs_irq(struct aml_crs *c, uint32_t gsi, bool edge, bool shared)
{
    uint8_t d[9] = {0x89, 6, 0, (uint8_t)(1 /* consumer */ | edge << 1 | shared << 3), 1};
    le32_put(d + 5, gsi);
    aml_bytes(&c->body, d, sizeof d);
}

void aml_crs_end(struct aml *a, struct aml_crs *c)
{
    static const uint8_t end_tag[2] = {0x79, 0}; /* checksum 0: not checked */
    aml_bytes(&c->body, end_tag, sizeof end_tag);
    aml_name(a, "_CRS");
    size_t mark = aml_begin(a, AML_BUFFER);
    aml_integer(a, c->body.b.len);
    aml_bytes(a, c->body.b.data, c->body.b.len);
    aml_end(a, mark);
    a->failed |= c->body.failed;
    buf_fini(&c->body.b);
}

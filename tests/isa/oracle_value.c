// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "oracle_gen.h"

uint64_t gen_rnd(struct gen *g)
{
    g->state += 0x9e3779b97f4a7c15ull; /* splitmix64 */
    uint64_t z = g->state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

unsigned gen_pick(struct gen *g, unsigned n)
{
    return (unsigned)((gen_rnd(g) >> 32) * n >> 32);
}

uint64_t gen_int(struct gen *g)
{
    static const uint64_t edges[] = {
        0,
        1,
        2,
        0x7f,
        0x80,
        0xff,
        0x100,
        0x7fff,
        0x8000,
        0xffff,
        0x10000,
        0x7fffffff,
        0x80000000,
        0xffffffff,
        0x100000000,
        INT64_MAX,
        1ull << 63,
        ~0ull,
        ~1ull,
        ~0x7full,
        ~0x7fffull,
        ~0x7fffffffull,
        0x5555555555555555,
        0xaaaaaaaaaaaaaaaa,
    };
    uint64_t v = gen_rnd(g);
    switch (gen_pick(g, 8)) {
    case 0:
    case 1:
        return edges[gen_pick(g, sizeof edges / sizeof *edges)];
    case 2:
        return gen_pick(g, 70);
    case 3:
        return 1ull << gen_pick(g, 64);
    case 4:
        return v >> gen_pick(g, 64);
    case 5:
        return (uint64_t)((int64_t)v >> gen_pick(g, 64));
    default:
        return v;
    }
}

/* clang-format off */
static const uint64_t doubles[] = {
    0, 1ull << 63, 0x3ff0000000000000 /* 1 */, 0xbff8000000000000 /* -1.5 */, 1 /* denormal */,
    0x800fffffffffffff, 0x0010000000000000 /* smallest normal */, 0x7fefffffffffffff /* largest */,
    0x7ff0000000000000 /* inf */, 0xfff0000000000000, 0x7ff8000000000000 /* qnan */,
    0x7ff4000000000000 /* snan */, 0x41e0000000000000 /* 2^31 */, 0x43e0000000000000 /* 2^63 */,
    0x3fe0000000000000 /* .5 */, 0x4008000000000000 /* 3 */, 0x0018000000000000,
};
static const uint32_t floats[] = {
    0, 0x80000000, 0x3f800000, 0xbfc00000, 0x00000001, 0x807fffff, 0x00800000, 0x7f7fffff,
    0x7f800000, 0xff800000, 0x7fc00000, 0x7fa00000, 0x4f000000, 0x5f000000, 0x3f000000, 0x40400000,
};
static const uint64_t extended[][2] = {
    {0, 0}, {1ull << 63, 0x3fff} /* 1 */, {0xc000000000000000, 0xbfff}, {1ull << 63, 0x7fff} /* inf */,
    {0xc000000000000000, 0x7fff} /* qnan */, {0xa000000000000000, 0x7fff} /* snan */, {1, 0},
    {1ull << 63, 1} /* smallest normal */, {~0ull, 0x7ffe} /* largest */,
    {0x4000000000000000, 0x3fff} /* unnormal */, {0xc90fdaa22168c235, 0x4000} /* pi */,
    {1ull << 63, 0x403e} /* 2^63 */, {1ull << 63, 0x3ffe} /* .5 */,
    {0xfffffffffffff800, 0x43fe} /* largest double */, {0x1234567890123456, 0} /* digits */,
};
/* clang-format on */

void gen_value(struct gen *g, uint8_t *p)
{
    uint64_t v[2];
    unsigned k;
    switch (gen_pick(g, 5)) {
    case 0:
        v[0] = doubles[gen_pick(g, sizeof doubles / 8)];
        v[1] = doubles[gen_pick(g, sizeof doubles / 8)];
        break;
    case 1:
        for (unsigned i = 0; i < 2; i++) {
            v[i] = floats[gen_pick(g, sizeof floats / 4)] |
                   (uint64_t)floats[gen_pick(g, sizeof floats / 4)] << 32;
        }
        break;
    case 2:
        k = gen_pick(g, sizeof extended / 16);
        memcpy(v, extended[k], 16);
        break;
    default:
        v[0] = gen_int(g);
        v[1] = gen_int(g);
        break;
    }
    memcpy(p, v, 16);
}

void gen_fx(struct gen *g, uint8_t *fx)
{
    memset(fx, 0, 512);
    for (unsigned i = 0; i < 24; i++) {
        gen_value(g, fx + 32 + 16 * i);
    }
    uint16_t fcw = (uint16_t)(0x7f | gen_pick(g, 4) << 8 | gen_pick(g, 4) << 10);
    if (gen_pick(g, 4) == 0) {
        fcw = (uint16_t)((fcw & ~0x3f) | gen_pick(g, 64));
    }
    uint16_t fsw = (uint16_t)(gen_pick(g, 8) << 11 | (gen_rnd(g) & 0x4700));
    if (gen_pick(g, 4) == 0) {
        fsw |= gen_pick(g, 128);
        fsw |= (fsw & ~fcw & 0x3f) != 0 ? 0x8080 : 0;
    }
    uint32_t mxcsr = 0x1f80 | (gen_rnd(g) & 0xe07f);
    if (gen_pick(g, 3) == 0) {
        mxcsr = gen_rnd(g) & 0xffff;
    }
    memcpy(fx + 0, &fcw, 2);
    memcpy(fx + 2, &fsw, 2);
    fx[4] = gen_pick(g, 3) == 0 ? (uint8_t)gen_rnd(g) : gen_pick(g, 2) ? 0xff : 0;
    memcpy(fx + 24, &mxcsr, 4);
    memcpy(fx + 28, "\xff\xff", 2);
    for (unsigned i = 0; i < 8; i++) { /* the upper bytes of each slot are reserved */
        memset(fx + 32 + 16 * i + 10, 0, 6);
    }
}

/* Inside the writable pages. */
static uint64_t interior(struct gen *g, unsigned size)
{
    unsigned align = gen_pick(g, 2) ? 0 : size >= 16 ? 15 : size > 1 ? size - 1 : 0;
    if (gen_pick(g, 5) == 0) {
        return (OC_DATA3 + OC_PAGE + gen_pick(g, OC_PAGE - size)) & ~(uint64_t)align;
    }
    return (OC_DATA + gen_pick(g, 2 * OC_PAGE - size)) & ~(uint64_t)align;
}

static uint64_t nowhere(struct gen *g, unsigned size)
{
    switch (gen_pick(g, 5)) {
    case 0:
        return gen_rnd(g); /* hardly ever canonical */
    case 1:
        return 0x800000000000ull - gen_pick(g, size + 8);
    case 2:
        return 0xffff800000000000ull - gen_pick(g, size + 8);
    case 3:
        return 0ull - gen_pick(g, size + 8);
    default:
        return OC_CODE - 0x100000 + gen_pick(g, 0x200000);
    }
}

uint64_t gen_target(struct gen *g, unsigned size)
{
    unsigned k = gen_pick(g, size + 1);
    static const uint64_t starts[] = {OC_DATA, OC_DATA2, OC_DATA3};
    switch (gen_pick(g, g->sequence ? 80 : 20)) {
    case 0:
    case 1:
    case 2:
        return OC_DATA + OC_PAGE - k;
    case 3:
    case 4:
        return starts[gen_pick(g, 3)] + 2 * OC_PAGE - k;
    case 5:
        return starts[gen_pick(g, 3)] - k;
    case 6:
        return starts[1 + gen_pick(g, 2)] + OC_PAGE - k; /* between R and RW */
    case 7:
        return OC_DATA2 + OC_PAGE + gen_pick(g, OC_PAGE);
    case 8:
        return gen_pick(g, 4) ? interior(g, size) : nowhere(g, size);
    case 9:
        return gen_pick(g, 3)
                   ? interior(g, size)
                   : (OC_CODE + gen_pick(g, OC_CODE_BYTES)) & ~(uint64_t)(gen_pick(g, 2) * 15);
    case 10:
        return ((OC_DATA + OC_PAGE) & ~15ull) - (k & 1 ? 16 : size);
    default:
        return interior(g, size);
    }
}

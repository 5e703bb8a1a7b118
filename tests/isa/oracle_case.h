/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the two sides of the instruction oracle share: the address space that a case runs in, the
 * case itself, and its outcome. The host side (oracle_host.c) is another process; both structures
 * lie in memory shared with it.
 *
 * The test memory is OC_PAGES pages at fixed user addresses with unmapped pages between. Both sides
 * see the same bytes at another place as one flat image, which they patch before a case and
 * compare with the pristine image after it.
 */
#ifndef SM_ORACLE_CASE_H
#define SM_ORACLE_CASE_H

#include <stddef.h>
#include <stdint.h>

#define OC_PAGE 4096u
#define OC_PAGES 9u
#define OC_IMAGE (OC_PAGES * OC_PAGE)
#define OC_CODE 0x10000000ull /* 2 pages RWX; flat pages 0, 1; filled with INT3 */
#define OC_CODE_BYTES (2 * OC_PAGE)
#define OC_DATA 0x10010000ull  /* 2 pages RW; flat 2, 3 */
#define OC_DATA2 0x10013000ull /* a page RW and a page R; flat 4, 5 */
#define OC_DATA3 0x10016000ull /* a page R and a page RW; flat 6, 7 */
#define OC_END 0x10018000ull
#define OC_COUNT 0x10020000ull /* a page RW that no operand is aimed at, for loops; flat 8 */
/* Segment bases: one odd, one that makes effective addresses negative. */
#define OC_FS_BASE 0x5a5a1235ull
#define OC_GS_BASE 0x7f0000001008ull
/* Selectors of Linux, which the soft side copies. */
#define OC_CS 0x33
#define OC_SS 0x2b

#define OC_MAX_INSNS 10
#define OC_MAX_PATCHES 8
#define OC_CODE_MAX 160
#define OC_POOL 1152
#define OC_FX 416  /* bytes of an FXSAVE image that count */
#define OC_YMM 256 /* upper halves of the YMM registers */
#define OC_DIFFS 128
#define OC_BATCH 1024

struct oc_patch {
    uint64_t va; /* parts outside the test memory are left out */
    uint16_t len, at;
};

struct oc_case {
    uint64_t gpr[16], rip, rflags; /* TF set: one instruction; else up to the INT3 after the code */
    uint8_t fx[512] __attribute__((aligned(64)));
    uint8_t ymm[OC_YMM]; /* 0 in model v2 */
    uint8_t n_patches;   /* the first is the code */
    struct oc_patch patch[OC_MAX_PATCHES];
    uint8_t pool[OC_POOL];

    /* for the comparison only */
    uint8_t n_insns;
    uint8_t insn_len[OC_MAX_INSNS];
    uint16_t undefined; /* IF_* after the last instruction */
    uint16_t ever_undefined;
};

struct oc_result {
    uint64_t gpr[16], rip, rflags;
    uint64_t trap, err, cr2; /* vector, as Linux reports it; err and cr2 where the vector has one */
    uint8_t fx[OC_FX];
    uint8_t ymm[OC_YMM];
    uint64_t mem_hash; /* of the 8-byte words that differ from the pristine image */
    uint32_t n_diffs;
    struct {
        uint32_t off;
        uint64_t value;
    } diff[OC_DIFFS]; /* the first of them */
};

/* The shared memory. */
struct oc_shared {
    uint32_t avx;     /* the cases have YMM state */
    uint32_t first;   /* case to start with */
    uint32_t n;       /* cases in the batch */
    uint32_t running; /* the one that the host is at */
    uint8_t pristine[OC_IMAGE];
    struct oc_case cases[OC_BATCH];
    struct oc_result results[OC_BATCH]; /* of the host */
};

/* Offset of a user address in the flat image, or -1. */
static inline int64_t oc_flat(uint64_t va)
{
    if (va - OC_CODE < OC_CODE_BYTES) {
        return (int64_t)(va - OC_CODE);
    }
    static const uint64_t starts[3] = {OC_DATA, OC_DATA2, OC_DATA3};
    for (unsigned i = 0; i < 3; i++) {
        if (va - starts[i] < 2 * OC_PAGE) {
            return (int64_t)(va - starts[i] + (i + 1) * 2 * OC_PAGE);
        }
    }
    return va - OC_COUNT < OC_PAGE ? (int64_t)(va - OC_COUNT + 8 * OC_PAGE) : -1;
}

/* Bring the image into the state that a case starts with. */
void oc_apply(const struct oc_case *c, uint8_t *image);
/* Note in *r what differs from the pristine image, and put it back. */
void oc_collect(uint8_t *image, const uint8_t *pristine, struct oc_result *r);

#endif

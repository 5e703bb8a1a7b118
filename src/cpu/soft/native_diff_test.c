// SPDX-License-Identifier: Apache-2.0
/*
 * The native executor against the host CPU: every x87, MMX and SSE row of the decode table with
 * random operands and FP state, compared with the same instruction run directly (native_oracle.c).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cpu/soft/native_fixture.h"

#define ROUNDS 120 /* tries per row; SM_NATIVE_ROUNDS overrides */
#define MAX_ROWS 1200

struct row {
    unsigned map, opcode, prefix;
    int sub;
    const struct insn_desc *desc;
    unsigned ran, faulted;
};

struct fixture {
    struct native_fixture base;
    uint64_t seed;
    unsigned n_rows;
    struct row rows[MAX_ROWS];
};

static uint64_t rnd(struct fixture *f)
{
    f->seed ^= f->seed << 13; /* xorshift64 */
    f->seed ^= f->seed >> 7;
    f->seed ^= f->seed << 17;
    return f->seed * 0x2545f4914f6cdd1dull;
}

static unsigned pick(struct fixture *f, unsigned n)
{
    return (unsigned)((rnd(f) >> 33) % n);
}

static void add_row(void *opaque, unsigned map, unsigned opcode, unsigned prefix, int sub,
                    const struct insn_desc *desc)
{
    struct fixture *f = opaque;
    if (desc->id < I_FXSAVE || desc->id > I_MASKMOV ||
        (INSN_MODEL_V2 & INSN_FEATURE(desc->feature)) == 0) {
        return; /* tests/isa/oracle runs what v3 adds */
    }
    assert_in_range(f->n_rows, 0, MAX_ROWS - 1);
    f->rows[f->n_rows++] = (struct row){map, opcode, prefix, sub, desc, 0, 0};
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    assert_int_equal(native_fixture_init(&f->base), 0);
    f->seed = 0x9e3779b97f4a7c15;
    insn_table_walk(false, add_row, f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    native_fixture_fini(&f->base);
    free(f);
    return 0;
}

/* ---- random machine states ---- */

static const uint64_t doubles[] = {
    0,
    0x8000000000000000,
    0x3ff0000000000000, /* 1 */
    0xbff8000000000000, /* -1.5 */
    0x0000000000000001, /* denormal */
    0x800fffffffffffff,
    0x0010000000000000, /* smallest normal */
    0x7fefffffffffffff, /* largest */
    0x7ff0000000000000, /* inf */
    0xfff0000000000000,
    0x7ff8000000000000, /* qnan */
    0x7ff4000000000000, /* snan */
    0x41e0000000000000, /* 2^31 */
    0x43e0000000000000, /* 2^63 */
    0x3fe0000000000000, /* .5 */
    0x4008000000000000, /* 3 */
    0x0018000000000000, /* 1.5 * smallest */
};
static const uint32_t floats[] = {
    0,          0x80000000, 0x3f800000, 0xbfc00000, 0x00000001, 0x807fffff, 0x00800000, 0x7f7fffff,
    0x7f800000, 0xff800000, 0x7fc00000, 0x7fa00000, 0x4f000000, 0x5f000000, 0x3f000000, 0x40400000,
};
static const uint64_t extended[][2] = {
    {0, 0},
    {0x8000000000000000, 0x3fff}, /* 1 */
    {0xc000000000000000, 0xbfff}, /* -1.5 */
    {0x8000000000000000, 0x7fff}, /* inf */
    {0xc000000000000000, 0x7fff}, /* qnan */
    {0xa000000000000000, 0x7fff}, /* snan */
    {0x0000000000000001, 0x0000}, /* denormal */
    {0x8000000000000000, 0x0001}, /* smallest normal */
    {0xffffffffffffffff, 0x7ffe}, /* largest */
    {0x4000000000000000, 0x3fff}, /* unnormal */
    {0xc90fdaa22168c235, 0x4000}, /* pi */
    {0x8000000000000000, 0x403e}, /* 2^63 */
    {0x8000000000000000, 0x3ffe}, /* .5 */
    {0xfffffffffffff800, 0x43fe}, /* largest double */
    {0x1234567890123456, 0x0000}, /* decimal digits */
};

static void random_value(struct fixture *f, uint8_t *p)
{
    uint64_t v[2] = {rnd(f), rnd(f)};
    switch (pick(f, 4)) {
    case 0:
        v[0] = doubles[pick(f, sizeof(doubles) / 8)];
        v[1] = doubles[pick(f, sizeof(doubles) / 8)];
        break;
    case 1:
        for (unsigned i = 0; i < 2; i++) {
            v[i] = floats[pick(f, sizeof(floats) / 4)] |
                   (uint64_t)floats[pick(f, sizeof(floats) / 4)] << 32;
        }
        break;
    case 2:
        v[0] = extended[pick(f, sizeof(extended) / 16)][0];
        v[1] = extended[pick(f, sizeof(extended) / 16)][1];
        break;
    default:
        break;
    }
    memcpy(p, v, 16);
}

static void random_fx(struct fixture *f, uint8_t *fx)
{
    memset(fx, 0, 512);
    for (unsigned i = 0; i < 24; i++) {
        random_value(f, fx + 32 + 16 * i);
    }
    uint16_t fcw = 0x40 | (pick(f, 4) << 8) | (pick(f, 4) << 10) | 0x3f;
    if (pick(f, 4) == 0) {
        fcw = (uint16_t)((fcw & ~0x3f) | pick(f, 64));
    }
    uint16_t fsw = (uint16_t)(pick(f, 8) << 11 | (rnd(f) & 0x4700));
    if (pick(f, 4) == 0) {
        fsw |= pick(f, 128);
        fsw |= (fsw & ~fcw & 0x3f) != 0 ? 0x8080 : 0;
    }
    uint32_t mxcsr = 0x1f80 | (rnd(f) & 0xe07f);
    if (pick(f, 3) == 0) {
        mxcsr = rnd(f) & 0xffff;
    }
    uint8_t ftw = pick(f, 3) == 0 ? (uint8_t)rnd(f) : pick(f, 2) ? 0xff : 0;
    memcpy(fx + 0, &fcw, 2);
    memcpy(fx + 2, &fsw, 2);
    fx[4] = ftw;
    memcpy(fx + 24, &mxcsr, 4);
    const uint32_t mask = 0xffff;
    memcpy(fx + 28, &mask, 4);
    for (unsigned i = 0; i < 8; i++) { /* the upper bytes of each slot are reserved */
        memset(fx + 32 + 16 * i + 10, 0, 6);
    }
}

/* Random encoding of a row, or 0 when the bytes came out as something else. */
static unsigned random_insn(struct fixture *f, const struct row *r, uint8_t out[16],
                            struct insn *insn)
{
    uint8_t b[32];
    unsigned n = 0;
    if (pick(f, 8) == 0) {
        b[n++] = 0x67;
    }
    if (r->prefix == 0 && pick(f, 8) == 0) {
        b[n++] = 0x66; /* size of FNSAVE images; ignored by x87 */
    }
    if (r->prefix > 0x66 && pick(f, 8) == 0) {
        b[n++] = 0x66; /* F2 and F3 win */
    }
    if (r->prefix != 0) {
        b[n++] = (uint8_t)r->prefix;
    }
    if (pick(f, 2) == 0) {
        b[n++] = (uint8_t)(0x40 | pick(f, 16));
    }
    if (r->map >= 1 && r->map <= 3) {
        b[n++] = 0x0f;
    }
    if (r->map == 2 || r->map == 3) {
        b[n++] = r->map == 2 ? 0x38 : 0x3a;
    }
    b[n++] = (uint8_t)r->opcode;
    uint8_t modrm = (uint8_t)rnd(f);
    if (r->sub >= 0xc0) {
        modrm = (uint8_t)r->sub;
    } else if (r->sub >= 0 && r->map == 4) {
        modrm = (uint8_t)((pick(f, 3) << 6) | (unsigned)r->sub | pick(f, 8));
    } else if (r->sub >= 0) {
        modrm = (uint8_t)((modrm & 0xc7) | (unsigned)r->sub << 3);
    } else if (pick(f, 3) == 0) {
        modrm |= 0xc0;
    }
    b[n++] = modrm;
    while (n < sizeof(b)) {
        b[n++] = (uint8_t)rnd(f);
    }
    if (insn_decode(b, sizeof(b), insn) != INSN_OK || insn->desc != r->desc) {
        return 0;
    }
    memcpy(out, insn->bytes, insn->len);
    return insn->len;
}

/* Where the operand goes: often near page borders. */
static uint64_t random_target(struct fixture *f, unsigned size)
{
    uint64_t lo = f->base.d->lo;
    switch (pick(f, 8)) {
    case 0:
        return lo + 4096 - pick(f, size + 1);
    case 1:
        return lo + ORACLE_DATA_BYTES - pick(f, size + 1);
    case 2:
        return lo - pick(f, size + 1);
    case 3:
        return lo + ORACLE_DATA_BYTES - size;
    case 4:
        return lo + pick(f, ORACLE_DATA_BYTES - 600);
    default:
        return lo + (pick(f, ORACLE_DATA_BYTES - 600) & ~15u);
    }
}

/* Choose registers (or the displacement) so that the operand lies at the target. False: cannot. */
static bool aim(struct fixture *f, struct insn *insn, uint8_t *bytes, struct oracle_regs *regs,
                uint64_t *ea)
{
    uint64_t target = random_target(f, insn->mem_size);
    if (insn->desc->id == I_MASKMOV) {
        if (insn->addr32) {
            return false;
        }
        regs->gpr[R_DI] = *ea = target;
        return insn->seg == INSN_NO_SEG;
    }
    if (!insn->is_mem) {
        return true;
    }
    if (insn->seg != INSN_NO_SEG || insn->addr32) {
        return false; /* the host's segment bases and low addresses are not ours */
    }
    *ea = target;
    uint64_t index = insn->index == INSN_NO_REG ? 0 : regs->gpr[insn->index] << insn->scale;
    if (insn->base == INSN_REG_RIP) {
        int64_t disp = (int64_t)(target - (uint64_t)(uintptr_t)f->base.oracle.insn_at - insn->len);
        int32_t disp32 = (int32_t)disp;
        memcpy(bytes + insn->disp_off, &disp32, 4);
        return insn_decode(bytes, insn->len, insn) == INSN_OK;
    }
    if (insn->base == INSN_NO_REG) {
        if (insn->index == INSN_NO_REG) {
            return false;
        }
        uint64_t left = target - (uint64_t)(int64_t)insn->disp;
        regs->gpr[insn->index] = left >> insn->scale;
        *ea = (regs->gpr[insn->index] << insn->scale) + (uint64_t)(int64_t)insn->disp;
        return true;
    }
    if (insn->base == insn->index) {
        return false;
    }
    regs->gpr[insn->base] = target - index - (uint64_t)(int64_t)insn->disp;
    return true;
}

/* ---- comparison ---- */

static uint16_t to_flags(uint64_t rflags)
{
    return (uint16_t)(((rflags >> 11) & 1) | ((rflags & 0xd5) | 2) << 8);
}

static void fail_case(const struct fixture *f, const struct row *r, const struct insn *insn,
                      const char *what, uint64_t got, uint64_t want)
{
    char hex[64] = "";
    for (unsigned i = 0; i < insn->len; i++) {
        snprintf(hex + 3 * i, 4, "%02x ", insn->bytes[i]);
    }
    fail_msg("%s [%s]: %s: got %llx, host %llx (seed %llx)", r->desc->name, hex, what,
             (unsigned long long)got, (unsigned long long)want, (unsigned long long)f->seed);
}

/* What the guest must not see, out of a memory image that the host wrote. */
static void scrub_memory(const struct insn *insn, uint8_t *image, unsigned room)
{
    uint8_t all[512] = {0};
    memcpy(all, image, room < 512 ? room : 512);
    switch (insn->desc->id) {
    case I_FXSAVE:
        memset(all + 6, 0, 18);
        memcpy(all + 28, "\xff\xff\0\0", 4);
        break;
    case I_FNSTENV:
    case I_FNSAVE:
        memset(all + (insn->opsize == 2 ? 6 : 12), 0, insn->opsize == 2 ? 8 : 14);
        break;
    default:
        return;
    }
    memcpy(image, all, room < 512 ? room : 512);
}

static void compare(struct fixture *f, const struct row *r, const struct insn *insn, bool ok,
                    const struct oracle_regs *host)
{
    const struct native_double *d = f->base.d;
    int vector = ok ? -1 : d->cpu.exc_vector;
    if (vector == V_MF && host->vector != V_MF && strcmp(r->desc->name, "cvtpi2ps") == 0 &&
        insn->is_mem) {
        return; /* AMD does not look at pending x87 exceptions here; Intel does, and so do we */
    }
    if (vector != host->vector) {
        fail_case(f, r, insn, "vector", (uint64_t)vector, (uint64_t)host->vector);
    }
    /* Microcode touches state images in an order of its own: only the page is architectural. */
    unsigned ignored = insn->desc->id <= I_FNCLEX ? 12 : 0;
    if (vector == V_PF && d->cpu.cr2 >> ignored != host->cr2 >> ignored) {
        fail_case(f, r, insn, "cr2", d->cpu.cr2, host->cr2);
    }
    if (!ok && d->cpu.insn_rip != (uint64_t)(uintptr_t)f->base.oracle.insn_at) {
        fail_case(f, r, insn, "rip", d->cpu.insn_rip, (uint64_t)(uintptr_t)f->base.oracle.insn_at);
    }
    if (ok && d->rip_after != host->next_rip) {
        fail_case(f, r, insn, "next rip", d->rip_after, host->next_rip);
    }
    for (unsigned i = 0; i < 16; i++) {
        if (d->cpu.gpr[i] != host->gpr[i]) {
            fail_case(f, r, insn, "gpr", d->cpu.gpr[i], host->gpr[i]);
        }
    }
    if (d->cpu.flags != to_flags(host->rflags)) {
        fail_case(f, r, insn, "flags", d->cpu.flags, to_flags(host->rflags));
    }
    for (unsigned i = 0; i < 416; i++) {
        bool pointers = i >= 6 && i < 24;
        uint8_t want = pointers ? 0 : i == 28 || i == 29 ? 0xff : i == 30 ? 0 : host->fx[i];
        /* Whether the change to MMX state precedes #XM is the processor's business. */
        /* DPPS and DPPD stop at the step that traps; a masked run reports all steps. */
        if (i == 24 && vector == V_XM && strncmp(r->desc->name, "dpp", 3) == 0) {
            continue;
        }
        /* Is a result that trapped for its exponent inexact too? The processor rounds it as if the
         * exponent had no limits, a masked run cannot. */
        if (i == 24 && vector == V_XM && ((d->cpu.fx[24] ^ want) & ~0x20) == 0 &&
            (want & 0x18) != 0) {
            continue;
        }
        bool mmx_xm = vector == V_XM && insn->desc->id == I_MMX && i < 160 && (i < 6 || i >= 32);
        if (d->cpu.fx[i] != want && !mmx_xm) {
            char what[32];
            snprintf(what, sizeof(what), "fx[%u]", i);
            fail_case(f, r, insn, what, d->cpu.fx[i], want);
        }
    }
}

/* Images that FXRSTOR, FLDENV and LDMXCSR read: plausible ones, else almost all of them fault. */
static void random_memory(struct fixture *f, const struct insn *insn, uint64_t ea)
{
    for (unsigned i = 0; i < ORACLE_DATA_BYTES; i += 16) {
        random_value(f, f->base.oracle.data + i);
    }
    uint8_t fx[512];
    random_fx(f, fx);
    uint64_t off = ea - f->base.d->lo;
    if (insn->desc->id == I_FXRSTOR && off <= ORACLE_DATA_BYTES - 512) {
        memcpy(f->base.oracle.data + off, fx, 512);
    } else if (insn->desc->id == I_LDMXCSR && off <= ORACLE_DATA_BYTES - 4) {
        memcpy(f->base.oracle.data + off, fx + 24, 4);
    }
    if (insn->desc->id == I_FXRSTOR || insn->desc->id == I_LDMXCSR) {
        uint64_t at = off + (insn->desc->id == I_FXRSTOR ? 24 : 0);
        if (at <= ORACLE_DATA_BYTES - 4) { /* bit 17 is valid on AMD hosts, never in the guest */
            f->base.oracle.data[at + 2] &= (uint8_t)~2u;
        }
    }
}

static bool run_case(struct fixture *f, struct row *r)
{
    uint8_t bytes[16];
    uint8_t before[ORACLE_DATA_BYTES], after[ORACLE_DATA_BYTES];
    struct insn insn;
    struct oracle_regs regs;
    uint64_t ea = 0;
    unsigned len = random_insn(f, r, bytes, &insn);
    if (len == 0) {
        return false;
    }
    for (unsigned i = 0; i < 16; i++) {
        regs.gpr[i] = pick(f, 3) == 0 ? pick(f, 40) : rnd(f);
    }
    regs.rflags = rnd(f);
    random_fx(f, regs.fx);
    if (!aim(f, &insn, bytes, &regs, &ea)) {
        return false;
    }
    random_memory(f, &insn, ea);
    memcpy(before, f->base.oracle.data, sizeof(before));

    struct native_double *d = f->base.d;
    double_tlb(d, pick(f, 2) == 0);
    d->bounce = pick(f, 2) == 0;
    memcpy(d->cpu.gpr, regs.gpr, sizeof(regs.gpr));
    d->cpu.flags = to_flags(regs.rflags);
    memcpy(d->cpu.fx, regs.fx, 512);

    oracle_run(&f->base.oracle, bytes, len, &regs);
    memcpy(after, f->base.oracle.data, sizeof(after));
    uint64_t off = ea - d->lo;
    if (off < ORACLE_DATA_BYTES && regs.vector == -1) {
        scrub_memory(&insn, after + off, (unsigned)(ORACLE_DATA_BYTES - off));
    }
    memcpy(f->base.oracle.data, before, sizeof(before));
    if (insn.desc->id == I_MASKMOV && regs.vector == V_PF) {
        return true; /* AMD faults for bytes that the mask excludes, too: tested on its own */
    }
    bool ok = double_step(d, &insn, (uint64_t)(uintptr_t)f->base.oracle.insn_at);
    compare(f, r, &insn, ok, &regs);
    for (unsigned i = 0; i < ORACLE_DATA_BYTES; i++) {
        if (f->base.oracle.data[i] != after[i]) {
            fail_case(f, r, &insn, "memory", f->base.oracle.data[i], after[i]);
        }
    }
    r->ran++;
    r->faulted += !ok;
    return true;
}

static void every_row_matches_the_host(void **state)
{
    struct fixture *f = *state;
    const char *env = getenv("SM_NATIVE_ROUNDS");
    unsigned rounds = env != NULL ? (unsigned)atoi(env) : ROUNDS;
    unsigned ran = 0, faulted = 0;
    oracle_arm();
    if (getenv("SM_NATIVE_SEED") != NULL) {
        f->seed = strtoull(getenv("SM_NATIVE_SEED"), NULL, 16);
    }
    for (unsigned k = 0; k < f->n_rows; k++) {
        for (unsigned i = 0; i < rounds; i++) {
            run_case(f, &f->rows[k]);
        }
        if (f->rows[k].ran == 0) {
            fail_msg("%s (map %u opcode %02x): no case ran", f->rows[k].desc->name, f->rows[k].map,
                     f->rows[k].opcode);
        }
        ran += f->rows[k].ran;
        faulted += f->rows[k].faulted;
    }
    print_message("%u rows, %u instructions, %u of them faulted\n", f->n_rows, ran, faulted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_row_matches_the_host, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

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

#include "cpu/soft/fpstate.h"
#include "cpu/soft/native_double.h"
#include "cpu/soft/native_oracle.h"
#include "cpu/soft/stub.h"

#define ROUNDS 120 /* tries per row; SM_NATIVE_ROUNDS overrides */
#define MAX_ROWS 1200

struct row {
    unsigned map, opcode, prefix;
    int sub;
    const struct insn_desc *desc;
    unsigned ran, faulted;
};

struct fixture {
    struct oracle oracle;
    struct native_double *d;
    struct stub_area *stubs;
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
    if (desc->id < I_FXSAVE || desc->id > I_MASKMOV) {
        return;
    }
    assert_in_range(f->n_rows, 0, MAX_ROWS - 1);
    f->rows[f->n_rows++] = (struct row){map, opcode, prefix, sub, desc, 0, 0};
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    assert_int_equal(oracle_init(&f->oracle), 0);
    assert_int_equal(stub_area_new(&f->stubs, 1 << 20, NULL), 0);
    f->d = aligned_alloc(64, (sizeof(*f->d) + 63) & ~(size_t)63);
    assert_non_null(f->d);
    memset(f->d, 0, sizeof(*f->d));
    f->d->stubs = f->stubs;
    f->d->lo = (uint64_t)(uintptr_t)f->oracle.data;
    f->d->hi = f->d->lo + ORACLE_DATA_BYTES;
    double_tlb(f->d, true);
    soft_fp_init(&f->d->cpu);
    f->d->cpu.cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
    f->seed = 0x9e3779b97f4a7c15;
    insn_table_walk(add_row, f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    oracle_fini(&f->oracle);
    stub_area_free(f->stubs);
    free(f->d);
    free(f);
    return 0;
}

/* ---- random machine states
 * -------------------------------------------------------------------------- */

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
    uint64_t lo = f->d->lo;
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
        int64_t disp = (int64_t)(target - (uint64_t)(uintptr_t)f->oracle.insn_at - insn->len);
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

/* ---- comparison
 * --------------------------------------------------------------------------------------- */

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
    const struct native_double *d = f->d;
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
    if (!ok && d->cpu.insn_rip != (uint64_t)(uintptr_t)f->oracle.insn_at) {
        fail_case(f, r, insn, "rip", d->cpu.insn_rip, (uint64_t)(uintptr_t)f->oracle.insn_at);
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
        random_value(f, f->oracle.data + i);
    }
    uint8_t fx[512];
    random_fx(f, fx);
    uint64_t off = ea - f->d->lo;
    if (insn->desc->id == I_FXRSTOR && off <= ORACLE_DATA_BYTES - 512) {
        memcpy(f->oracle.data + off, fx, 512);
    } else if (insn->desc->id == I_LDMXCSR && off <= ORACLE_DATA_BYTES - 4) {
        memcpy(f->oracle.data + off, fx + 24, 4);
    }
    if (insn->desc->id == I_FXRSTOR || insn->desc->id == I_LDMXCSR) {
        uint64_t at = off + (insn->desc->id == I_FXRSTOR ? 24 : 0);
        if (at <= ORACLE_DATA_BYTES - 4) { /* bit 17 is valid on AMD hosts, never in the guest */
            f->oracle.data[at + 2] &= (uint8_t)~2u;
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
    memcpy(before, f->oracle.data, sizeof(before));

    struct native_double *d = f->d;
    double_tlb(d, pick(f, 2) == 0);
    d->bounce = pick(f, 2) == 0;
    memcpy(d->cpu.gpr, regs.gpr, sizeof(regs.gpr));
    d->cpu.flags = to_flags(regs.rflags);
    memcpy(d->cpu.fx, regs.fx, 512);

    oracle_run(&f->oracle, bytes, len, &regs);
    memcpy(after, f->oracle.data, sizeof(after));
    uint64_t off = ea - d->lo;
    if (off < ORACLE_DATA_BYTES && regs.vector == -1) {
        scrub_memory(&insn, after + off, (unsigned)(ORACLE_DATA_BYTES - off));
    }
    memcpy(f->oracle.data, before, sizeof(before));
    if (insn.desc->id == I_MASKMOV && regs.vector == V_PF) {
        return true; /* AMD faults for bytes that the mask excludes, too: tested on its own */
    }
    bool ok = double_step(d, &insn, (uint64_t)(uintptr_t)f->oracle.insn_at);
    compare(f, r, &insn, ok, &regs);
    for (unsigned i = 0; i < ORACLE_DATA_BYTES; i++) {
        if (f->oracle.data[i] != after[i]) {
            fail_case(f, r, &insn, "memory", f->oracle.data[i], after[i]);
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

/* ---- directed tests
 * ---------------------------------------------------------------------------------- */

static struct native_double *fresh(struct fixture *f)
{
    struct native_double *d = f->d;
    memset(d->cpu.gpr, 0, sizeof(d->cpu.gpr));
    memset(d->cpu.seg_base, 0, sizeof(d->cpu.seg_base));
    d->cpu.cr0 = CR0_PE | CR0_MP | CR0_NE;
    d->cpu.cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
    d->cpu.flags = 0x200;
    d->bounce = false;
    d->read_only = 0;
    double_tlb(d, true);
    soft_fp_init(&d->cpu);
    memset(f->oracle.data, 0, ORACLE_DATA_BYTES);
    return d;
}

static bool step(struct native_double *d, const char *hex)
{
    uint8_t bytes[16];
    unsigned n = 0;
    for (; hex[2 * n] != 0; n++) {
        unsigned v;
        sscanf(hex + 2 * n, "%2x", &v);
        bytes[n] = (uint8_t)v;
    }
    struct insn insn;
    assert_int_equal(insn_decode(bytes, n, &insn), INSN_OK);
    return double_step(d, &insn, 0x400000);
}

static uint64_t *xmm(struct native_double *d, unsigned i)
{
    return (uint64_t *)(d->cpu.fx + 160 + 16 * i);
}

static int step_vector(struct native_double *d, const char *hex)
{
    return step(d, hex) ? -1 : d->cpu.exc_vector;
}

static void control_registers_forbid(void **state)
{
    enum { N, NM = V_NM, UD = V_UD };
    static const struct {
        const char *hex;
        int em, ts, no_osfxsr, ts_no_mp;
    } cases[] = {
        {"d9e8", NM, NM, -1, NM},         /* fld1 */
        {"dbe3", NM, NM, -1, NM},         /* fninit */
        {"dfe0", NM, NM, -1, NM},         /* fnstsw ax */
        {"9b", -1, NM, -1, -1},           /* fwait */
        {"0f77", UD, NM, -1, NM},         /* emms */
        {"0ffcc1", UD, NM, -1, NM},       /* paddb mm0, mm1 */
        {"0f58c1", UD, NM, UD, NM},       /* addps */
        {"660ffcc1", UD, NM, UD, NM},     /* paddb xmm0, xmm1 */
        {"f30fd6c1", UD, NM, UD, NM},     /* movq2dq */
        {"0f2ac1", UD, NM, UD, NM},       /* cvtpi2ps */
        {"0fae18", UD, NM, UD, NM},       /* stmxcsr [rax] */
        {"0fae00", NM, NM, -1, NM},       /* fxsave [rax] */
        {"0fae08", NM, NM, -1, NM},       /* fxrstor [rax] */
        {"660f3a62c100", UD, NM, UD, NM}, /* pcmpistrm */
    };
    struct fixture *f = *state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct native_double *d = fresh(f);
        d->cpu.gpr[R_AX] = d->lo;
        assert_int_equal(step_vector(d, cases[i].hex), -1);
        d->cpu.cr0 |= CR0_EM;
        assert_int_equal(step_vector(d, cases[i].hex), cases[i].em);
        d->cpu.cr0 = CR0_PE | CR0_NE | CR0_MP | CR0_TS;
        assert_int_equal(step_vector(d, cases[i].hex), cases[i].ts);
        d->cpu.cr0 = CR0_PE | CR0_NE | CR0_TS;
        assert_int_equal(step_vector(d, cases[i].hex), cases[i].ts_no_mp);
        d->cpu.cr0 = CR0_PE | CR0_NE;
        d->cpu.cr4 = 0;
        assert_int_equal(step_vector(d, cases[i].hex), cases[i].no_osfxsr);
    }
}

static void simd_exception_without_osxmmexcpt_is_ud(void **state)
{
    struct native_double *d = fresh(*state);
    uint32_t mxcsr = 0x1d80; /* division by zero unmasked */
    memcpy(d->cpu.fx + 24, &mxcsr, 4);
    xmm(d, 0)[0] = 0x3f800000;
    d->cpu.cr4 &= ~(uint64_t)CR4_OSXMMEXCPT;
    assert_int_equal(step_vector(d, "f30f5ec1"), V_UD); /* divss xmm0, xmm1 */
    assert_int_equal(d->cpu.insn_rip, 0x400000);
    d->cpu.cr4 |= CR4_OSXMMEXCPT;
    memcpy(d->cpu.fx + 24, &mxcsr, 4);
    assert_int_equal(step_vector(d, "f30f5ec1"), V_XM);
    memcpy(&mxcsr, d->cpu.fx + 24, 4);
    assert_int_equal(mxcsr, 0x1d84);
    assert_int_equal(xmm(d, 0)[0], 0x3f800000);
}

static void segments_and_short_addresses(void **state)
{
    struct fixture *f = *state;
    struct native_double *d = fresh(f);
    memcpy(f->oracle.data + 32, "0123456789abcdef", 16);
    d->cpu.seg_base[SEG_GS] = d->lo;
    d->cpu.gpr[R_AX] = 16;
    assert_true(step(d, "65660f6f5010")); /* movdqa xmm2, gs:[rax+16] */
    assert_memory_equal(xmm(d, 2), "0123456789abcdef", 16);
    d->cpu.seg_base[SEG_FS] = d->lo;
    d->cpu.gpr[R_AX] = 0x5555555500000000 - 16;
    assert_true(step(d, "6467f30f7e5830")); /* movq xmm3, fs:[eax+48] */
    assert_memory_equal(xmm(d, 3), "01234567\0\0\0\0\0\0\0\0", 16);
    d->cpu.gpr[R_AX] = 0xffffffff00000000 + 64;
    assert_true(step(d, "6467660f7f10")); /* movdqa fs:[eax], xmm2 */
    assert_memory_equal(f->oracle.data + 64, "0123456789abcdef", 16);
    d->cpu.gpr[R_AX] = 8;
    assert_int_equal(step_vector(d, "6467660f7f10"), V_GP); /* misaligned */
    assert_int_equal(step_vector(d, "6467660f6f10"), V_GP);
    d->cpu.gpr[R_DI] = 0x7700000000 + 128;
    memset(xmm(d, 1), 0x80, 16);
    assert_true(step(d, "6467660ff7d1")); /* maskmovdqu fs:[edi], xmm2, xmm1 */
    assert_memory_equal(f->oracle.data + 128, "0123456789abcdef", 16);
}

static void masked_stores_touch_selected_bytes_only(void **state)
{
    struct fixture *f = *state;
    struct native_double *d = fresh(f);
    memcpy(xmm(d, 0), "0123456789abcdef", 16);
    memcpy(xmm(d, 1), "\xff\0\x80\x7f\0\0\0\0\0\0\0\0\0\0\0\0", 16);
    d->cpu.gpr[R_DI] = d->hi - 3; /* only three bytes exist */
    assert_true(step(d, "660ff7c1"));
    assert_memory_equal(f->oracle.data + ORACLE_DATA_BYTES - 3, "0\0002", 3);
    xmm(d, 1)[0] |= 0x80000000;
    memset(f->oracle.data, 0, ORACLE_DATA_BYTES);
    assert_int_equal(step_vector(d, "660ff7c1"), V_PF);
    assert_int_equal(d->cpu.cr2, d->hi);
    assert_int_equal(f->oracle.data[ORACLE_DATA_BYTES - 3], 0); /* nothing written */
    d->read_only = d->lo + 4096;
    double_tlb(d, true);
    d->cpu.gpr[R_DI] = d->lo + 4096 - 2;
    assert_int_equal(step_vector(d, "660ff7c1"), V_PF);
    assert_int_equal(d->cpu.cr2, d->lo + 4096);
    assert_int_equal(f->oracle.data[4096 - 2], 0);
    xmm(d, 1)[0] = 0;
    assert_true(step(d, "660ff7c1")); /* no byte selected, no fault */
}

static void modes_follow_control_words(void **state)
{
    struct fixture *f = *state;
    struct native_double *d = fresh(f);
    assert_int_equal(soft_fp_mode_bits(&d->cpu), 0);
    d->cpu.gpr[R_AX] = d->lo;
    memcpy(f->oracle.data, "\x80\x1d\0\0", 4);
    unsigned updates = d->mode_updates;
    assert_true(step(d, "0fae10")); /* ldmxcsr [rax] */
    assert_int_equal(d->mode_updates, updates + 1);
    assert_int_equal(d->cpu.mode, MODE_SSE_TRAP);
    assert_int_equal(d->rip_after, 0x400003);
    assert_true(step(d, "0fae5808")); /* stmxcsr [rax+8] */
    assert_memory_equal(f->oracle.data + 8, "\x80\x1d\0\0", 4);
    memcpy(f->oracle.data, "\x80\x1f\x02\0", 4); /* bit 17: AMD's MM, reserved in our model */
    assert_int_equal(step_vector(d, "0fae10"), V_GP);
    assert_int_equal(soft_fp_mode_bits(&d->cpu), MODE_SSE_TRAP);
    assert_true(step(d, "0fae4010")); /* fxsave [rax+16] */
    f->oracle.data[16 + 24 + 2] = 2;
    assert_int_equal(step_vector(d, "0fae4810"), V_GP); /* fxrstor [rax+16] */
    f->oracle.data[16 + 24 + 2] = 0;
    assert_int_equal(step_vector(d, "0fae4811"), V_GP); /* misaligned */
    memcpy(f->oracle.data, "\x80\x1f\0\0", 4);
    assert_true(step(d, "0fae10"));
    assert_int_equal(d->cpu.mode, 0);
    memcpy(f->oracle.data, "\x7b\x03", 2); /* division by zero unmasked */
    assert_true(step(d, "d928"));          /* fldcw [rax] */
    assert_int_equal(d->cpu.mode, MODE_X87_TRAP);
    assert_true(step(d, "d9ee")); /* fldz */
    assert_true(step(d, "d8f0")); /* fdiv st0, st0: invalid, masked */
    assert_true(step(d, "d9ee")); /* fldz */
    assert_true(step(d, "d9e8")); /* fld1 */
    assert_true(step(d, "d8f1")); /* fdiv st0, st1: raises, noticed later */
    assert_true(step(d, "dfe0")); /* fnstsw does not wait */
    assert_int_equal(step_vector(d, "9b"), V_MF);
    assert_int_equal(step_vector(d, "0ffcc1"), V_MF); /* paddb mm0, mm1 */
    assert_true(step(d, "dbe2"));                     /* fnclex */
    assert_true(step(d, "9b"));
    assert_true(step(d, "dbe3")); /* fninit */
    assert_int_equal(d->cpu.mode, 0);
}

/* Code and data addresses that x87 recorded while running must not show in any image. */
static void host_addresses_stay_hidden(void **state)
{
    static const char *const saves[] = {"0fae00", "480fae00", "d930", "66d930", "dd30", "66dd30"};
    struct fixture *f = *state;
    for (unsigned i = 0; i < sizeof(saves) / sizeof(saves[0]); i++) {
        struct native_double *d = fresh(f);
        d->cpu.fx[0] = 0x7e; /* invalid operation unmasked, so that AMD saves the pointers */
        d->cpu.gpr[R_AX] = d->lo;
        assert_true(step(d, "d8801e000000")); /* fadd dword [rax+30]: stack underflow */
        for (unsigned k = 6; k < 24; k++) {
            assert_int_equal(d->cpu.fx[k], 0);
        }
        assert_true(step(d, saves[i]));
        uint64_t host = d->lo >> 24; /* bits that any host address of ours has */
        for (unsigned k = 0; k < 120; k++) {
            uint64_t v;
            memcpy(&v, f->oracle.data + k, 8);
            assert_int_not_equal(v >> 24, host);
        }
        bool env = saves[i][0] != '0' && saves[i][0] != '4';
        unsigned from = !env ? 6 : saves[i][0] == '6' ? 6 : 12;
        unsigned to = !env ? 24 : saves[i][0] == '6' ? 14 : 26;
        for (unsigned k = from; k < to; k++) {
            assert_int_equal(f->oracle.data[k], 0);
        }
    }
}

static void operations_chain(void **state)
{
    struct fixture *f = *state;
    struct native_double *d = fresh(f);
    static const char *const code[3] = {"660f6f00", "660ffec0", "660f7f4010"};
    memcpy(f->oracle.data, "\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0", 16);
    d->cpu.gpr[R_AX] = d->lo; /* movdqa xmm0, [rax]; paddd xmm0, xmm0; movdqa [rax+16], xmm0 */
    unsigned off = 0;
    d->block.rip = 0x400000;
    for (unsigned i = 0; i < 3; i++) {
        uint8_t b[16] = {0};
        struct insn insn;
        unsigned n = (unsigned)strlen(code[i]) / 2, v;
        for (unsigned k = 0; k < n; k++) {
            sscanf(code[i] + 2 * k, "%2x", &v);
            b[k] = (uint8_t)v;
        }
        assert_int_equal(insn_decode(b, n, &insn), INSN_OK);
        assert_int_equal(native_lift(&d->cpu, &insn, 0, &d->ops[i]), 0);
        d->ops[i].off = (uint16_t)off;
        d->ops[i].len = insn.len;
        off += insn.len;
    }
    d->ops[3].handler = double_end();
    d->ops[3].off = (uint16_t)off;
    assert_true(double_run(d));
    assert_int_equal(d->rip_after, 0x400000 + off);
    assert_memory_equal(f->oracle.data + 16, "\2\0\0\0\4\0\0\0\6\0\0\0\x8\0\0\0", 16);
}

/* A store into the running block's own code makes the operation after it leave the block. */
static void stores_that_drop_the_block_leave_it(void **state)
{
    struct fixture *f = *state;
    struct native_double *d = fresh(f);
    double_tlb(d, false);
    d->bounce = d->drop = true;
    d->cpu.gpr[R_AX] = d->lo;
    xmm(d, 1)[0] = 77;
    assert_true(step(d, "0f2908")); /* movaps [rax], xmm1 */
    assert_int_equal(d->rip_after, 0x400003);
    assert_int_equal(d->cpu.rip, 0x400003); /* by the replaced operation */
    assert_int_equal(f->oracle.data[0], 77);
    d->cpu.cr4 = 0;               /* x87 goes through native_checked now */
    assert_true(step(d, "d918")); /* fstp dword [rax] */
    assert_int_equal(d->cpu.rip, 0x400002);
    d->drop = false;
    assert_true(step(d, "d918"));
    assert_int_equal(d->cpu.rip, 0);
    assert_int_equal(d->rip_after, 0x400002);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(every_row_matches_the_host),
        T(control_registers_forbid),
        T(simd_exception_without_osxmmexcpt_is_ud),
        T(segments_and_short_addresses),
        T(masked_stores_touch_selected_bytes_only),
        T(modes_follow_control_words),
        T(host_addresses_stay_hidden),
        T(operations_chain),
        T(stores_that_drop_the_block_leave_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

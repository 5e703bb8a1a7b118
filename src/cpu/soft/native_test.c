// SPDX-License-Identifier: Apache-2.0
/* The native executor where the host CPU cannot be asked: modes, control registers, segments,
 * images. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cpu/soft/fpstate.h"
#include "cpu/soft/native_fixture.h"

static int setup(void **state)
{
    struct native_fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    assert_int_equal(native_fixture_init(f), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    native_fixture_fini(*state);
    free(*state);
    return 0;
}

static struct native_double *fresh(struct native_fixture *f)
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
    struct native_fixture *f = *state;
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
    struct native_fixture *f = *state;
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
    struct native_fixture *f = *state;
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
    struct native_fixture *f = *state;
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
    struct native_fixture *f = *state;
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
    struct native_fixture *f = *state;
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
    struct native_fixture *f = *state;
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

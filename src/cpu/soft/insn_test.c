/* SPDX-License-Identifier: Apache-2.0 */
/* The decoder's rules one by one; tests/isa/decode_zydis compares it with another decoder
 * wholesale. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "cpu/soft/insn.h"

#define BYTES(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})
#define DEC(in, ...) insn_decode(BYTES(__VA_ARGS__), in)
#define OK(in, ...) assert_int_equal(DEC(in, __VA_ARGS__), INSN_OK)
#define UD(...) assert_int_equal(DEC(&(struct insn){0}, __VA_ARGS__), INSN_UD)

static void test_prefixes(void **state)
{
    struct insn in;
    OK(&in, 0x66, 0x89, 0xd8);
    assert_int_equal(in.opsize, 2);
    OK(&in, 0x66, 0x48, 0x89, 0xd8); /* REX.W wins over 66 */
    assert_int_equal(in.opsize, 8);
    OK(&in, 0x48, 0x66, 0x89, 0xd8); /* REX not right before the opcode: ignored */
    assert_int_equal(in.opsize, 2);
    assert_int_equal(in.rex, 0);
    assert_false(in.has_rex);
    OK(&in, 0x4f, 0x41, 0x89, 0xd8); /* the last REX counts */
    assert_int_equal(in.rex, 0x41);
    assert_int_equal(in.opsize, 4);
    assert_int_equal(in.rm, 8);
    OK(&in, 0xf2, 0xf3, 0xa4); /* the last of F2, F3 wins */
    assert_int_equal(in.rep, REP_REPE);
    OK(&in, 0xf3, 0xf2, 0xa6);
    assert_int_equal(in.rep, REP_REPNE);
    OK(&in, 0xf3, 0xf2, 0x0f, 0x10, 0xc1); /* MOVSD, not MOVSS */
    assert_int_equal(in.desc->mem_size, 8);
    assert_int_equal(in.rep, 0);
    OK(&in, 0xf2, 0x66, 0x0f, 0x58, 0xc1); /* ADDSD, not ADDPD */
    assert_string_equal(in.desc->name, "addsd");
    OK(&in, 0x66, 0xf2, 0x0f, 0x38, 0xf1, 0xc1); /* CRC32 with 16-bit source */
    assert_int_equal(in.desc->id, I_CRC32);
    assert_int_equal(in.opsize, 2);
    OK(&in, 0xf3, 0xc3); /* REP RET */
    assert_int_equal(in.desc->id, I_RET);
    OK(&in, 0x67, 0x8b, 0x00);
    assert_true(in.addr32);
    OK(&in, 0x8b, 0x00);
    assert_false(in.addr32);
}

static void test_segments(void **state)
{
    struct insn in;
    OK(&in, 0x64, 0x8b, 0x00);
    assert_int_equal(in.seg, 4);
    OK(&in, 0x64, 0x65, 0x8b, 0x00);
    assert_int_equal(in.seg, 5);
    OK(&in, 0x64, 0x3e, 0x2e, 0x26, 0x36, 0x8b, 0x00); /* the others do not even cancel it */
    assert_int_equal(in.seg, 4);
    OK(&in, 0x3e, 0x8b, 0x00);
    assert_int_equal(in.seg, INSN_NO_SEG);
    OK(&in, 0x0f, 0xa0);
    assert_int_equal(in.desc->id, I_PUSH_SREG);
    assert_int_equal(in.reg, 4);
    OK(&in, 0x0f, 0xa9);
    assert_int_equal(in.desc->id, I_POP_SREG);
    assert_int_equal(in.reg, 5);
}

/* Base, index, scale and displacement for every ModRM and SIB byte and REX, from the rules anew. */
static void test_memory_forms(void **state)
{
    for (unsigned n = 0; n < 0x100 * 0x100 * 8; n++) {
        unsigned modrm = n & 0xff, sib = n >> 8 & 0xff, rex = n >> 16;
        unsigned mod = modrm >> 6, rm = modrm & 7, b = (rex & 1) * 8, x = (rex & 2) * 4;
        uint8_t code[16] = {(uint8_t)(0x40 | rex), 0x8b, (uint8_t)modrm};
        unsigned at = 3, base = INSN_NO_REG, index = INSN_NO_REG,
                 disp_size = mod == 1   ? 1
                             : mod == 2 ? 4
                                        : 0;
        struct insn in;
        if (mod == 3) {
            continue;
        }
        if (rm == 4) {
            code[at++] = (uint8_t)sib;
            if ((sib >> 3 & 7) + x != 4) {
                index = (sib >> 3 & 7) + x;
            }
            if ((sib & 7) == 5 && mod == 0) {
                disp_size = 4;
            } else {
                base = (sib & 7) + b;
            }
        } else if (rm == 5 && mod == 0) {
            base = INSN_REG_RIP;
            disp_size = 4;
        } else {
            base = rm + b;
        }
        memcpy(code + at, "\xfe\xdc\xba\x98", 4);
        assert_int_equal(insn_decode(code, sizeof(code), &in), INSN_OK);
        assert_true(in.is_mem);
        assert_int_equal(in.base, base);
        assert_int_equal(in.index, index);
        assert_int_equal(in.scale, index == INSN_NO_REG ? 0 : sib >> 6);
        assert_int_equal(in.disp_size, disp_size);
        assert_int_equal(in.disp_off, disp_size == 0 ? 0 : at);
        assert_int_equal(in.disp, disp_size == 1 ? -2 : disp_size == 4 ? (int32_t)0x98badcfe : 0);
        assert_int_equal(in.len, at + disp_size);
        assert_int_equal(in.reg, (modrm >> 3 & 7) + (rex & 4) * 2);
    }
}

static void test_immediates(void **state)
{
    struct insn in;
    OK(&in, 0x48, 0x81, 0xc0, 0xff, 0xff, 0xff, 0xff);
    assert_int_equal(in.imm, -1);
    assert_int_equal(in.imm_off, 3);
    assert_int_equal(in.imm_size, 4);
    OK(&in, 0x66, 0x81, 0xc0, 0x00, 0x80);
    assert_int_equal(in.imm, -32768);
    OK(&in, 0x83, 0xc0, 0x80);
    assert_int_equal(in.imm, -128);
    OK(&in, 0xc1, 0xe0, 0x80); /* shift counts do not sign-extend */
    assert_int_equal(in.imm, 128);
    OK(&in, 0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 0x88);
    assert_true((uint64_t)in.imm == UINT64_C(0x8807060504030201));
    assert_int_equal(in.len, 10);
    OK(&in, 0x41, 0xb8, 1, 2, 3, 0x84);
    assert_int_equal(in.rm, 8);
    assert_int_equal(in.imm, (int32_t)0x84030201);
    OK(&in, 0xc8, 0x34, 0x92, 0x81);
    assert_int_equal(in.imm, 0x9234);
    assert_int_equal(in.imm2, 0x81);
    assert_int_equal(in.len, 4);
    OK(&in, 0xc2, 0xf8, 0xff);
    assert_int_equal(in.imm, 0xfff8);
    OK(&in, 0xcd, 0x80);
    assert_int_equal(in.imm, 0x80);
    OK(&in, 0xe4, 0xf0);
    assert_int_equal(in.imm, 0xf0);
    OK(&in, 0x68, 0, 0, 0, 0x80); /* PUSH imm32 */
    assert_int_equal(in.opsize, 8);
    assert_int_equal(in.imm, INT32_MIN);
    OK(&in, 0x66, 0x68, 0, 0x80);
    assert_int_equal(in.opsize, 2);
    assert_int_equal(in.len, 4);
    OK(&in, 0xa1, 1, 2, 3, 4, 5, 6, 7, 0x88);
    assert_true(in.disp64 == UINT64_C(0x8807060504030201));
    assert_int_equal(in.imm_size, 0);
    OK(&in, 0x67, 0x64, 0x48, 0xa3, 1, 2, 3, 0x84);
    assert_true(in.disp64 == 0x84030201u);
    assert_int_equal(in.seg, 4);
    assert_int_equal(in.opsize, 8);
    assert_int_equal(in.len, 8);
}

static void test_branches(void **state)
{
    struct insn in;
    OK(&in, 0x66, 0xe9, 0xfc, 0xff, 0xff, 0xff); /* Intel: 66 is ignored */
    assert_int_equal(in.len, 6);
    assert_int_equal(in.opsize, 8);
    assert_int_equal(in.imm, -4);
    OK(&in, 0x66, 0x0f, 0x84, 1, 0, 0, 0);
    assert_int_equal(in.len, 7);
    assert_int_equal(in.cond, 4);
    OK(&in, 0x7f, 0x80);
    assert_int_equal(in.cond, 15);
    assert_int_equal(in.imm, -128);
    OK(&in, 0x66, 0xc3);
    assert_int_equal(in.opsize, 8);
    OK(&in, 0x66, 0xff, 0xd0);
    assert_int_equal(in.opsize, 8);
    OK(&in, 0x0f, 0x9c, 0xc0);
    assert_int_equal(in.cond, 12);
    OK(&in, 0x0f, 0x43, 0xc8);
    assert_int_equal(in.cond, 3);
    OK(&in, 0x48, 0xff, 0x28); /* far jump through m16:64 */
    assert_int_equal(in.mem_size, 10);
    OK(&in, 0xff, 0x28);
    assert_int_equal(in.mem_size, 6);
    UD(0xff, 0xe8);
}

static void test_nop_and_pause(void **state)
{
    struct insn in;
    OK(&in, 0x90);
    assert_int_equal(in.desc->id, I_NOP);
    OK(&in, 0xf3, 0x90);
    assert_int_equal(in.desc->id, I_PAUSE);
    OK(&in, 0x41, 0x90);
    assert_int_equal(in.desc->id, I_XCHG);
    assert_int_equal(in.rm, 8);
    OK(&in, 0xf3, 0x41, 0x90);
    assert_int_equal(in.desc->id, I_XCHG);
    OK(&in, 0x48, 0x90);
    assert_int_equal(in.desc->id, I_NOP);
    OK(&in, 0xf3, 0x0f, 0x1e, 0xfa); /* ENDBR64 */
    assert_int_equal(in.desc->id, I_NOP);
    OK(&in, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0);
    assert_int_equal(in.desc->id, I_NOP);
    assert_int_equal(in.desc->attr & (IA_LOAD | IA_STORE), 0);
    assert_int_equal(in.len, 8);
    OK(&in, 0x0f, 0x0d, 0x08);
    assert_int_equal(in.desc->id, I_NOP);
}

static void test_lock(void **state)
{
    static const uint8_t lockable[] = {
        0x00, 0x01, 0x08, 0x09, 0x10, 0x11, 0x18, 0x19,
        0x20, 0x21, 0x28, 0x29, 0x30, 0x31, 0x86, 0x87,
    };
    struct insn in;
    for (unsigned op = 0; op < 0x40; op++) {
        bool allowed = memchr(lockable, (int)op, sizeof(lockable)) != NULL;
        if ((op & 7) < 4) {
            uint8_t mem[] = {0xf0, (uint8_t)op, 0x00}, reg[] = {0xf0, (uint8_t)op, 0xc0};
            assert_int_equal(insn_decode(mem, 3, &in), allowed ? INSN_OK : INSN_UD);
            assert_int_equal(insn_decode(reg, 3, &in), INSN_UD);
        }
    }
    OK(&in, 0xf0, 0x87, 0x00);
    OK(&in, 0xf0, 0x48, 0x0f, 0xb1, 0x0f);
    assert_true(in.lock);
    OK(&in, 0xf0, 0x0f, 0xc1, 0x0f);
    OK(&in, 0xf0, 0x0f, 0xab, 0x0f);
    OK(&in, 0xf0, 0x0f, 0xba, 0x2f, 1);
    OK(&in, 0xf0, 0x0f, 0xc7, 0x0f);
    OK(&in, 0xf0, 0x48, 0x0f, 0xc7, 0x0f);
    OK(&in, 0xf0, 0xff, 0x07);
    OK(&in, 0xf0, 0xf7, 0x1f);
    OK(&in, 0x66, 0xf0, 0x2e, 0x83, 0x07, 1);
    UD(0xf0, 0x83, 0x3f, 1);       /* CMP */
    UD(0xf0, 0x0f, 0xba, 0x27, 1); /* BT */
    UD(0xf0, 0x89, 0x00);
    UD(0xf0, 0x8d, 0x00);
    UD(0xf0, 0xf7, 0x27);
    UD(0xf0, 0xd1, 0x00);
    UD(0xf0, 0x90);
    UD(0xf0, 0xe9, 0, 0, 0, 0);
    UD(0xf0, 0x0f, 0x20, 0xc0); /* AMD would make it CR8 */
    OK(&in, 0x87, 0x00);        /* XCHG with memory locks by itself */
    assert_true(in.lock);
    OK(&in, 0x87, 0xc0);
    assert_false(in.lock);
}

static void test_operand_sizes(void **state)
{
    static const struct {
        uint8_t code[10];
        uint8_t opsize;
        uint16_t mem_size;
    } t[] = {
        {{0x0f, 0xb6, 0x00}, 4, 1},                      /* MOVZX r32, m8 */
        {{0x48, 0x0f, 0xbf, 0x00}, 8, 2},                /* MOVSX r64, m16 */
        {{0x48, 0x63, 0x00}, 8, 4},                      /* MOVSXD */
        {{0x8c, 0x00}, 4, 2},                            /* MOV m16, Sreg */
        {{0x0f, 0x00, 0x00}, 4, 2},                      /* SLDT */
        {{0x0f, 0x01, 0x10}, 0, 10},                     /* LGDT */
        {{0x0f, 0x02, 0x00}, 4, 2},                      /* LAR */
        {{0x0f, 0xc7, 0x08}, 8, 8},                      /* CMPXCHG8B */
        {{0x48, 0x0f, 0xc7, 0x08}, 8, 16},               /* CMPXCHG16B */
        {{0x0f, 0xae, 0x00}, 0, 512},                    /* FXSAVE */
        {{0x0f, 0xae, 0x20}, 0, 832},                    /* XSAVE */
        {{0x0f, 0xae, 0x10}, 4, 4},                      /* LDMXCSR */
        {{0xd8, 0x00}, 0, 4},                            /* FADD m32 */
        {{0xdc, 0x00}, 0, 8},                            /* FADD m64 */
        {{0xdb, 0x28}, 0, 10},                           /* FLD m80 */
        {{0xde, 0x00}, 0, 2},                            /* FIADD m16 */
        {{0xdf, 0x20}, 0, 10},                           /* FBLD */
        {{0xdf, 0x28}, 0, 8},                            /* FILD m64 */
        {{0xd9, 0x28}, 4, 2},                            /* FLDCW */
        {{0xd9, 0x30}, 4, 28},                           /* FNSTENV */
        {{0x66, 0xd9, 0x30}, 2, 14},                     /* FNSTENV, 16-bit form */
        {{0xdd, 0x30}, 4, 108},                          /* FNSAVE */
        {{0x66, 0xdd, 0x20}, 2, 94},                     /* FRSTOR, 16-bit form */
        {{0xf3, 0x0f, 0x10, 0x00}, 0, 4},                /* MOVSS */
        {{0xf2, 0x0f, 0x11, 0x00}, 0, 8},                /* MOVSD */
        {{0x0f, 0x16, 0x00}, 0, 8},                      /* MOVHPS */
        {{0x0f, 0x5a, 0x00}, 0, 8},                      /* CVTPS2PD */
        {{0x66, 0x0f, 0x5a, 0x00}, 0, 16},               /* CVTPD2PS */
        {{0xf3, 0x0f, 0xe6, 0x00}, 0, 8},                /* CVTDQ2PD */
        {{0xf2, 0x48, 0x0f, 0x2a, 0x00}, 8, 8},          /* CVTSI2SD xmm, m64 */
        {{0xf3, 0x0f, 0x2c, 0x00}, 4, 4},                /* CVTTSS2SI r32 */
        {{0xf2, 0x48, 0x0f, 0x2c, 0x00}, 8, 8},          /* CVTTSD2SI r64 */
        {{0x66, 0x0f, 0x38, 0x34, 0x00}, 0, 4},          /* PMOVZXWQ */
        {{0x66, 0x0f, 0x38, 0x32, 0x00}, 0, 2},          /* PMOVZXBQ */
        {{0x66, 0x0f, 0x3a, 0x21, 0x00, 1}, 0, 4},       /* INSERTPS */
        {{0x66, 0x0f, 0xc4, 0x00, 1}, 4, 2},             /* PINSRW */
        {{0x66, 0x0f, 0x3a, 0x14, 0x00, 1}, 4, 1},       /* PEXTRB */
        {{0x66, 0x48, 0x0f, 0x3a, 0x16, 0x00, 1}, 8, 8}, /* PEXTRQ */
        {{0x66, 0x48, 0x0f, 0x6e, 0x00}, 8, 8},          /* MOVQ xmm, m64 */
        {{0x66, 0x0f, 0xd6, 0x00}, 0, 8},                /* MOVQ m64, xmm */
        {{0x0f, 0x60, 0x00}, 0, 4},                      /* PUNPCKLBW mm, m32 */
        {{0x66, 0x0f, 0x60, 0x00}, 0, 16},
        {{0x66, 0xed}, 2, 2}, /* IN AX, DX */
        {{0x48, 0xed}, 4, 4}, /* REX.W does nothing to port I/O */
        {{0x48, 0xa5}, 8, 8}, /* MOVSQ */
        {{0x66, 0x50}, 2, 2}, /* PUSH AX */
        {{0x50}, 8, 8},
    };
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        struct insn in;
        assert_int_equal(insn_decode(t[i].code, sizeof(t[i].code), &in), INSN_OK);
        assert_int_equal(in.opsize, t[i].opsize);
        assert_int_equal(in.mem_size, t[i].mem_size);
    }
}

static void test_register_numbers(void **state)
{
    struct insn in;
    OK(&in, 0x4d, 0x0f, 0xef, 0xff); /* MMX: REX ignored */
    assert_int_equal(in.reg, 7);
    assert_int_equal(in.rm, 7);
    OK(&in, 0x66, 0x45, 0x0f, 0xef, 0xff);
    assert_int_equal(in.reg, 15);
    assert_int_equal(in.rm, 15);
    OK(&in, 0x4d, 0x0f, 0x6e, 0xff); /* MOVQ mm7, r15 */
    assert_int_equal(in.reg, 7);
    assert_int_equal(in.rm, 15);
    OK(&in, 0x45, 0x8e, 0xd8); /* MOV DS, R8W */
    assert_int_equal(in.reg, 3);
    assert_int_equal(in.rm, 8);
    OK(&in, 0x44, 0x0f, 0x20, 0xc0); /* CR8 */
    assert_int_equal(in.reg, 8);
    OK(&in, 0x0f, 0x20, 0x18); /* mod is ignored, no memory operand */
    assert_false(in.is_mem);
    assert_int_equal(in.len, 3);
    OK(&in, 0x41, 0xd8, 0xc1); /* ST(1), not ST(9) */
    assert_int_equal(in.rm, 1);
    OK(&in, 0x40, 0x88, 0xe0);
    assert_true(in.has_rex); /* SPL */
    OK(&in, 0x88, 0xe0);
    assert_false(in.has_rex); /* AH */
    UD(0x8e, 0xc8);           /* MOV CS */
    UD(0x8e, 0xf0);
    UD(0x8c, 0xf8);
    UD(0x0f, 0x20, 0xc8);       /* CR1 */
    UD(0x44, 0x0f, 0x22, 0xd8); /* CR11 */
    UD(0x44, 0x0f, 0x23, 0xc0); /* DR8 */
}

/* Not in the model, or not in 64-bit mode. */
static void test_undefined(void **state)
{
    static const uint8_t one_byte[] = {0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f,
                                       0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61, 0x62,
                                       0x82, 0x9a, 0xce, 0xd4, 0xd5, 0xd6, 0xea};
    struct insn in;
    for (size_t i = 0; i < sizeof(one_byte); i++) {
        assert_int_equal(insn_decode(&one_byte[i], 1, &in), INSN_UD);
    }
    UD(0x8f, 0xe8, 0x78);             /* XOP */
    UD(0x66, 0x0f, 0x01, 0xd0);       /* XGETBV with a prefix */
    UD(0x0f, 0x01, 0xca);             /* CLAC */
    UD(0x0f, 0x01, 0xc8);             /* MONITOR */
    UD(0x0f, 0x01, 0xd8);             /* VMRUN */
    UD(0x66, 0x0f, 0xae, 0x38);       /* CLFLUSHOPT */
    UD(0x66, 0x0f, 0x38, 0x82, 0x00); /* INVPCID */
    UD(0xf3, 0x0f, 0xc7, 0xf8);       /* RDPID */
    UD(0x0f, 0xc7, 0x20);             /* XSAVEC */
    UD(0x66, 0x0f, 0x38, 0xf6, 0xc0); /* ADCX */
    UD(0x0f, 0x38, 0xc8, 0xc0);       /* SHA1NEXTE */
    UD(0x0f, 0x0f, 0xc0, 0x90);       /* 3DNow! */
    UD(0xc7, 0xf8, 0, 0, 0, 0);       /* XBEGIN */
    UD(0x0f, 0xb8, 0xc0);             /* POPCNT without F3 */
    UD(0xf3, 0x0f, 0x14, 0xc0);       /* UNPCKLPS has no F3 form */
    UD(0x0f, 0x13, 0xc0);             /* MOVLPS m64, xmm with a register */
    UD(0x0f, 0x50, 0x00);             /* MOVMSKPS with memory */
    UD(0x8d, 0xc0);                   /* LEA with a register */
    OK(&in, 0x0f, 0x0b);
    assert_int_equal(in.desc->id, I_UD);
    OK(&in, 0xf3, 0x0f, 0xbc, 0xc0);
    assert_int_equal(in.desc->id, I_TZCNT);
    OK(&in, 0xf3, 0x0f, 0xbd, 0xc0);
    assert_int_equal(in.desc->id, I_LZCNT);
    OK(&in, 0xf2, 0x0f, 0xbd, 0xc0);
    assert_int_equal(in.desc->id, I_BSR);
    OK(&in, 0xf3, 0x0f, 0xb8, 0xc0);
    assert_int_equal(in.desc->feature, IFT_POPCNT);
    OK(&in, 0x66, 0x0f, 0x38, 0xf0, 0x00);
    assert_int_equal(in.desc->feature, IFT_MOVBE);
    assert_int_equal(in.opsize, 2);
    OK(&in, 0xf3, 0x48, 0x0f, 0xae, 0xd9);
    assert_int_equal(in.desc->id, I_WRGSBASE);
    assert_int_equal(in.rm, 1);
    OK(&in, 0x0f, 0x01, 0xf8);
    assert_int_equal(in.desc->id, I_SWAPGS);
    OK(&in, 0x0f, 0x01, 0xc1);
    assert_int_equal(in.desc->id, I_VMCALL);
}

static void test_too_long(void **state)
{
    uint8_t code[20];
    struct insn in;
    memset(code, 0x66, sizeof(code));
    assert_int_equal(insn_decode(code, 20, &in), INSN_TOO_LONG);
    assert_int_equal(insn_decode(code, 15, &in), INSN_TOO_LONG);
    assert_int_equal(insn_decode(code, 14, &in), INSN_TRUNCATED);
    code[14] = 0x90; /* 15 bytes: the longest legal instruction */
    assert_int_equal(insn_decode(code, 20, &in), INSN_OK);
    assert_int_equal(in.len, 15);
    code[13] = 0x0f;
    code[14] = 0xaf; /* ModRM would be byte 16 */
    assert_int_equal(insn_decode(code, 20, &in), INSN_TOO_LONG);
    code[10] = 0x81; /* 66 x 10, ADD m16, imm16 with SIB: 15 bytes */
    memcpy(code + 11, "\x04\x24\x34\x12", 4);
    assert_int_equal(insn_decode(code, 20, &in), INSN_OK);
    assert_int_equal(in.len, 15);
    assert_int_equal(in.imm, 0x1234);
    memmove(code + 1, code, 19);
    code[0] = 0x66;
    assert_int_equal(insn_decode(code, 20, &in), INSN_TOO_LONG);
}

/* Cut short anywhere: TRUNCATED, and not one byte read past the end (the next page is not there).
 */
static void test_truncated(void **state)
{
    static const uint8_t codes[][16] = {
        {3, 0x48, 0x89, 0xd8},
        {7, 0x48, 0x8b, 0x05, 1, 2, 3, 4},
        {12, 0x48, 0xc7, 0x84, 0x24, 1, 2, 3, 4, 5, 6, 7, 8},
        {11, 0x67, 0x48, 0x8b, 0x84, 0x88, 1, 2, 3, 4}, /* 9 bytes and two to spare */
        {10, 0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8},
        {9, 0xa1, 1, 2, 3, 4, 5, 6, 7, 8},
        {4, 0xc8, 1, 2, 3},
        {6, 0x66, 0x0f, 0x3a, 0x0f, 0xc1, 7},
        {9, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0}, /* lacks the last byte */
        {15, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x81, 0x04, 0x24, 1, 2},
    };
    uint8_t *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(page, MAP_FAILED);
    assert_int_equal(mprotect(page + 4096, 4096, PROT_NONE), 0);
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        struct insn whole, in;
        memset(&whole, 0, sizeof(whole)); /* the padding is compared too */
        memset(&in, 0, sizeof(in));
        enum insn_error e = insn_decode(codes[i] + 1, codes[i][0], &whole);
        unsigned need = e == INSN_OK ? whole.len : codes[i][0] + 1u;
        for (unsigned n = 0; n <= codes[i][0]; n++) {
            uint8_t *p = page + 4096 - n;
            memcpy(p, codes[i] + 1, n);
            if (n < need) {
                assert_int_equal(insn_decode(p, n, &in), INSN_TRUNCATED);
            } else {
                assert_int_equal(insn_decode(p, n, &in), INSN_OK);
                assert_memory_equal(&in, &whole, sizeof(in));
            }
        }
    }
    munmap(page, 8192);
}

/* What must hold for every row, and decoding its own encoding must find it. */
struct walk_state {
    enum insn_mode mode;
    unsigned rows, found;
    bool seen[I_COUNT];
};

static bool names_mmx(const struct insn_desc *d)
{
    for (unsigned i = 0; i < 3; i++) {
        if (d->op[i] == O_P || d->op[i] == O_Q || d->op[i] == O_N) {
            return true;
        }
    }
    return false;
}

/* L and W by variant; vvvv, and the memory operand's index, are registers of their own. */
static unsigned put_vex(uint8_t *code, unsigned map, unsigned prefix, unsigned variant)
{
    unsigned pp = prefix == 0x66 ? 1 : prefix == 0xf3 ? 2 : prefix == 0xf2 ? 3 : 0;
    code[0] = 0xc4;
    code[1] = (uint8_t)(0xe0 | map);
    code[2] =
        (uint8_t)((variant & 2) << 6 | (variant & 8 ? 0x70u : 0x78u) | (variant & 1) << 2 | pp);
    return 3;
}

static bool decodes_to(enum insn_mode mode, unsigned map, unsigned opcode, unsigned prefix, int sub,
                       unsigned variant, const struct insn_desc *desc)
{
    uint8_t code[32] = {0};
    unsigned n = 0;
    if (mode == INSN_16) {
        code[n++] = 0x67; /* VSIB needs 32-bit addresses */
    }
    if (map >= 5) {
        n += put_vex(code + n, map - 4, prefix, variant);
        prefix = 0;
        variant &= 4;
    }
    if ((variant & 3) == 1) {
        code[n++] = 0x66;
    }
    if (prefix != 0) {
        code[n++] = (uint8_t)prefix;
    }
    if ((variant & 3) >= 2) {
        code[n++] = (variant & 3) == 2 ? 0x48 : 0x41;
    }
    if (map >= 1 && map <= 3) {
        code[n++] = 0x0f;
    }
    if (map == 2 || map == 3) {
        code[n++] = map == 2 ? 0x38 : 0x3a;
    }
    code[n++] = (uint8_t)opcode;
    if (map == 4 || sub >= 0xc0) {
        code[n] = (uint8_t)sub;
    } else {
        code[n] = (uint8_t)((sub < 0 ? 0 : sub) << 3 | ((variant & 4) != 0 ? 0xc0 : 0));
    }
    if (desc->id == I_VGATHER) {
        code[n] = 4;
        code[n + 1] = 2 << 3;
    }
    struct insn in;
    return insn_decode_mode(code, sizeof(code), mode, &in) == INSN_OK && in.desc == desc;
}

static void check_row(void *opaque, unsigned map, unsigned opcode, unsigned prefix, int sub,
                      const struct insn_desc *d)
{
    struct walk_state *w = opaque;
    uint32_t a = d->attr;
    w->rows++;
    w->seen[d->id] = true;
    assert_non_null(d->name);
    assert_true(d->id > I_INVALID && d->id < I_COUNT);
    assert_int_equal(d->flags_undefined & ~d->flags_written, 0);
    assert_int_equal((d->flags_read | d->flags_written) & ~IF_ALL, 0);
    if ((a & IA_BRANCH) != 0) {
        assert_true((a & IA_END) != 0);
    }
    if ((a & IA_LOCK) != 0) {
        assert_int_equal(a & (IA_LOAD | IA_STORE), IA_LOAD | IA_STORE);
    }
    if ((a & IA_ALIGN) != 0) {
        assert_true(d->mem_size == 16 || d->mem_size == 512 || d->size == SZ_X);
    }
    if (d->id == I_MMX || d->id == I_SSE) {
        assert_int_equal(names_mmx(d), d->id == I_MMX);
        assert_true(d->feature >= IFT_MMX && d->feature <= IFT_PCLMUL);
    }
    if (d->id == I_X87) {
        assert_true(d->feature == IFT_X87 || d->feature == IFT_SSE3);
    }
    unsigned found = 0;
    for (unsigned variant = 0; variant < 16 && found == 0; variant++) {
        found = decodes_to(w->mode, map, opcode, prefix, sub, variant, d);
    }
    if (found == 0) {
        fail_msg("map %u opcode %02x prefix %02x sub %d (%s) is never decoded", map, opcode, prefix,
                 sub, d->name);
    }
    w->found += found;
}

/* What must not stand before or in a VEX prefix. Source: SDM vol. 2, 2.3.2-2.3.10. */
static void test_vex(void **state)
{
    struct insn in;
    assert_int_equal(DEC(&in, 0xc5, 0xed, 0xfe, 0xcb), INSN_OK); /* vpaddd ymm1, ymm2, ymm3 */
    assert_string_equal(in.desc->name, "vpaddd");
    assert_int_equal(in.reg, 1);
    assert_int_equal(in.vvvv, 2);
    assert_int_equal(in.rm, 3);
    assert_int_equal(in.vex_l, 1);
    assert_int_equal(in.mem_size, 32);
    assert_false(in.has_rex);
    assert_int_equal(DEC(&in, 0xc4, 0x41, 0x2d, 0xfe, 0xcb), INSN_OK); /* ymm9, ymm10, ymm11 */
    assert_int_equal(in.reg, 9);
    assert_int_equal(in.vvvv, 10);
    assert_int_equal(in.rm, 11);
    static const uint8_t before[] = {0xf0, 0x66, 0xf2, 0xf3, 0x40, 0x48};
    for (unsigned i = 0; i < sizeof(before); i++) {
        assert_int_equal(DEC(&in, before[i], 0xc5, 0xed, 0xfe, 0xcb), INSN_UD);
    }
    assert_int_equal(DEC(&in, 0x64, 0x67, 0xc5, 0xed, 0xfe, 0x0b), INSN_OK); /* FS, 67: fine */
    assert_true(in.addr32);
    assert_int_equal(in.seg, 4);
    assert_int_equal(DEC(&in, 0x48, 0x64, 0xc5, 0xed, 0xfe, 0x0b), INSN_OK); /* REX ignored */
    assert_int_equal(DEC(&in, 0xc4, 0xe0, 0x6d, 0xfe, 0xcb), INSN_UD);       /* map 0 */
    assert_int_equal(DEC(&in, 0xc4, 0xe4, 0x6d, 0xfe, 0xcb), INSN_UD);       /* map 4 */
    assert_int_equal(DEC(&in, 0xc5, 0xf8, 0x28, 0xcb), INSN_OK);             /* vmovaps */
    assert_int_equal(DEC(&in, 0xc5, 0xe8, 0x28, 0xcb), INSN_UD);             /* vvvv is unused */
    assert_int_equal(DEC(&in, 0xc5, 0xe8, 0x12, 0xcb), INSN_OK);             /* vmovhlps */
    assert_int_equal(DEC(&in, 0xc5, 0xec, 0x12, 0xcb), INSN_UD);             /* L1 */
    assert_int_equal(DEC(&in, 0xc4, 0xe3, 0xfd, 0x00, 0xcb, 1), INSN_OK);    /* vpermq */
    assert_int_equal(DEC(&in, 0xc4, 0xe3, 0xf9, 0x00, 0xcb, 1), INSN_UD);    /* L0 */
    assert_int_equal(DEC(&in, 0xc4, 0xe3, 0x7d, 0x00, 0xcb, 1), INSN_UD);    /* W0 */
    assert_int_equal(DEC(&in, 0xc5, 0xee, 0x58, 0xcb), INSN_OK);             /* vaddss: L ignored */
    assert_int_equal(in.vex_l, 0);
}

/* vpgatherdd ymm1, [rax + ymm2 * 4], ymm3: three different registers, and a SIB byte. */
static void test_vsib(void **state)
{
    struct insn in;
    assert_int_equal(DEC(&in, 0xc4, 0xe2, 0x65, 0x90, 0x0c, 0x90), INSN_OK);
    assert_int_equal(in.index, 2);
    assert_int_equal(in.base, 0);
    assert_int_equal(in.scale, 2);
    assert_int_equal(in.vvvv, 3);
    assert_int_equal(DEC(&in, 0xc4, 0xe2, 0x65, 0x90, 0x0c, 0xa0), INSN_OK);
    assert_int_equal(in.index, 4); /* not "none" */
    assert_int_equal(DEC(&in, 0xc4, 0xe2, 0x65, 0x90, 0x08), INSN_UD);
    assert_int_equal(DEC(&in, 0xc4, 0xe2, 0x65, 0x90, 0xcc), INSN_UD);
    assert_int_equal(DEC(&in, 0xc4, 0xe2, 0x65, 0x90, 0x0c, 0x88), INSN_UD); /* index = target */
    assert_int_equal(DEC(&in, 0xc4, 0xe2, 0x75, 0x90, 0x0c, 0x90), INSN_UD); /* mask = target */
    assert_int_equal(DEC(&in, 0xc4, 0xe2, 0x6d, 0x90, 0x0c, 0x90), INSN_UD); /* mask = index */
}

static void test_table(void **state)
{
    struct walk_state w = {0};
    insn_table_walk(false, check_row, &w);
    assert_true(w.rows > 1000);
    for (w.mode = INSN_32; w.mode <= INSN_16; w.mode++) {
        insn_table_walk(true, check_row, &w);
    }
    for (unsigned id = I_INVALID + 1; id < I_COUNT; id++) {
        if (!w.seen[id]) {
            fail_msg("no row has id %u", id);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_segments),
        cmocka_unit_test(test_memory_forms),
        cmocka_unit_test(test_immediates),
        cmocka_unit_test(test_branches),
        cmocka_unit_test(test_nop_and_pause),
        cmocka_unit_test(test_lock),
        cmocka_unit_test(test_operand_sizes),
        cmocka_unit_test(test_register_numbers),
        cmocka_unit_test(test_undefined),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_vex),
        cmocka_unit_test(test_vsib),
        cmocka_unit_test(test_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

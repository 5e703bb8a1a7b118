/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one-byte opcode map and its groups. Source: Intel SDM vol. 2, appendix A and
 * the instruction pages (flags); absent elements are #UD. A form whose flag write depends on a
 * run-time count (shifts, REP compares) counts the flags as read too: the old value may survive.
 */
#include "cpu/soft/insn_node.h"

/* clang-format off */
#define ALL IF_ALL
#define A_LK (IA_LOAD | IA_STORE | IA_LOCK)

/* ADD..CMP: six encodings each, and the group 1 rows. Logic operations leave AF undefined. */
#define ALU(base, nm, id, at, fr, fu)                                                              \
    [base] = ROW(nm, id, E, G, NONE, B, FL(fr, ALL, fu), AT(at)),                                  \
    [base + 1] = ROW(nm, id, E, G, NONE, V, FL(fr, ALL, fu), AT(at)),                              \
    [base + 2] = ROW(nm, id, G, E, NONE, B, FL(fr, ALL, fu), AT(IA_LOAD)),                         \
    [base + 3] = ROW(nm, id, G, E, NONE, V, FL(fr, ALL, fu), AT(IA_LOAD)),                         \
    [base + 4] = ROW(nm, id, ACC, IB, NONE, B, FL(fr, ALL, fu)),                                   \
    [base + 5] = ROW(nm, id, ACC, I, NONE, V, FL(fr, ALL, fu))
#define GRP1_ROW(nm, id, im, sz, at, fr, fu) ROW(nm, id, E, im, NONE, sz, FL(fr, ALL, fu), AT(at))
#define GRP1(im, sz)                                                                               \
    REG(GRP1_ROW("add", I_ADD, im, sz, A_LK, 0, 0), GRP1_ROW("or", I_OR, im, sz, A_LK, 0, IF_AF),  \
        GRP1_ROW("adc", I_ADC, im, sz, A_LK, IF_CF, 0),                                            \
        GRP1_ROW("sbb", I_SBB, im, sz, A_LK, IF_CF, 0),                                            \
        GRP1_ROW("and", I_AND, im, sz, A_LK, 0, IF_AF),                                            \
        GRP1_ROW("sub", I_SUB, im, sz, A_LK, 0, 0),                                                \
        GRP1_ROW("xor", I_XOR, im, sz, A_LK, 0, IF_AF),                                            \
        GRP1_ROW("cmp", I_CMP, im, sz, IA_LOAD, 0, 0))

/* Shifts: by a count that may be 0 the old flags stay; OF is defined for a count of 1 only; CF of SHL
 * and SHR is undefined when the count reaches the operand size, so for 8 and 16 bits only. */
#define ROT_ROW(nm, id, cnt, sz, fr, fu)                                                           \
    ROW(nm, id, E, cnt, NONE, sz, FL(fr, IF_CF | IF_OF, fu), AT(A_RMW))
#define SH_ROW(nm, id, cnt, sz, fr, fu) ROW(nm, id, E, cnt, NONE, sz, FL(fr, ALL, fu), AT(A_RMW))
#define GRP2(cnt, sz, old_r, old_c, old_s, of, cf)                                                 \
    REG(ROT_ROW("rol", I_ROL, cnt, sz, old_r, of), ROT_ROW("ror", I_ROR, cnt, sz, old_r, of),      \
        ROT_ROW("rcl", I_RCL, cnt, sz, old_c, of), ROT_ROW("rcr", I_RCR, cnt, sz, old_c, of),      \
        SH_ROW("shl", I_SHL, cnt, sz, old_s, IF_AF | of | cf),                                     \
        SH_ROW("shr", I_SHR, cnt, sz, old_s, IF_AF | of | cf),                                     \
        SH_ROW("shl", I_SAL, cnt, sz, old_s, IF_AF | of | cf),                                     \
        SH_ROW("sar", I_SAR, cnt, sz, old_s, IF_AF | of))
#define GRP2_N(cnt, sz, cf) GRP2(cnt, sz, IF_CF | IF_OF, IF_CF | IF_OF, ALL, IF_OF, cf)
#define GRP2_NB(cnt) GRP2_N(cnt, B, IF_CF)
#define GRP2_NV(cnt) OPSZ(GRP2_N(cnt, V, IF_CF), GRP2_N(cnt, V, 0), GRP2_N(cnt, V, 0))
#define GRP2_1(sz) GRP2(1, sz, 0, IF_CF, 0, 0, 0)

#define MULFL FL(0, ALL, IF_SF | IF_ZF | IF_AF | IF_PF)
#define GRP3(im, sz)                                                                               \
    REG(ROW("test", I_TEST, E, im, NONE, sz, FL(0, ALL, IF_AF), AT(IA_LOAD)),                      \
        ROW("test", I_TEST, E, im, NONE, sz, FL(0, ALL, IF_AF), AT(IA_LOAD)),                      \
        ROW("not", I_NOT, E, NONE, NONE, sz, AT(A_LK)),                                            \
        ROW("neg", I_NEG, E, NONE, NONE, sz, FL(0, ALL, 0), AT(A_LK)),                             \
        ROW("mul", I_MUL, E, NONE, NONE, sz, MULFL, AT(IA_LOAD)),                                  \
        ROW("imul", I_IMUL1, E, NONE, NONE, sz, MULFL, AT(IA_LOAD)),                               \
        ROW("div", I_DIV, E, NONE, NONE, sz, FL(0, ALL, ALL), AT(IA_LOAD)),                        \
        ROW("idiv", I_IDIV, E, NONE, NONE, sz, FL(0, ALL, ALL), AT(IA_LOAD)))

#define INCDEC FL(0, ALL & ~IF_CF, 0)
#define INC_ROW(sz) ROW("inc", I_INC, E, NONE, NONE, sz, INCDEC, AT(A_LK))
#define DEC_ROW(sz) ROW("dec", I_DEC, E, NONE, NONE, sz, INCDEC, AT(A_LK))
#define FAR_ROW(nm, id, n) ROW(nm, id, M, NONE, NONE, V, MEMSZ(n), AT(IA_LOAD | A_JMP))
#define FAR_ROWS(nm, id) OPSZ(FAR_ROW(nm, id, 4), FAR_ROW(nm, id, 6), FAR_ROW(nm, id, 10))
#define GRP5                                                                                       \
    REG(INC_ROW(V), DEC_ROW(V),                                                                    \
        ROW("call", I_CALL_RM, E, NONE, NONE, F64, AT(IA_LOAD | A_JMP | IA_NO66)),                 \
        FAR_ROWS("call", I_CALL_FAR),                                                              \
        ROW("jmp", I_JMP_RM, E, NONE, NONE, F64, AT(IA_LOAD | A_JMP | IA_NO66)),                   \
        FAR_ROWS("jmp", I_JMP_FAR), ROW("push", I_PUSH, E, NONE, NONE, V64, AT(IA_LOAD)))

#define PUSH_Z ROW("push", I_PUSH, Z, NONE, NONE, V64)
#define POP_Z ROW("pop", I_POP, Z, NONE, NONE, V64)
#define XCHG_Z ROW("xchg", I_XCHG, Z, ACC, NONE, V)
#define MOV_ZB ROW("mov", I_MOV, Z, IB, NONE, B)
#define MOV_ZV ROW("mov", I_MOV, Z, IV, NONE, V)
#define X8(row) row, row, row, row, row, row, row, row
/* XCHG with the accumulator; 90 itself: NOP unless REX.B makes it R8, PAUSE with F3. */
#define NOP90 ROW("nop", I_NOP, NONE, NONE, NONE, NONE)
#define NODE90                                                                                     \
    REXB(REPX(NOP90, NOP90, ROW("pause", I_PAUSE, NONE, NONE, NONE, NONE, AT(IA_END)), NOP90), XCHG_Z)

#define JCC8(cc, fr) ROW("j" cc, I_JCC, J, NONE, NONE, F64, FL(fr, 0, 0), AT(A_JMP | IA_REL8 | IA_NO66))
#define LOOP_ROW(nm, id, fr) ROW(nm, id, J, NONE, NONE, F64, FL(fr, 0, 0), AT(A_JMP | IA_REL8 | IA_NO66))
/* Outside 64-bit mode only. */
#define SREG_ROWS(push, pop) [push] = LEGACY(ROW("push", I_PUSH_SREG, NONE, NONE, NONE, V64)), \
    [pop] = LEGACY(ROW("pop", I_POP_SREG, NONE, NONE, NONE, V64, AT(IA_END)))
#define BCD_ROW(nm, id, r, u) LEGACY(ROW(nm, id, NONE, NONE, NONE, NONE, FL(r, ALL, u)))
#define INC_Z LEGACY(ROW("inc", I_INC, Z, NONE, NONE, V, INCDEC))
#define DEC_Z LEGACY(ROW("dec", I_DEC, Z, NONE, NONE, V, INCDEC))
#define PTR_ROW(nm, id) LEGACY(ROW(nm, id, IV, IW, NONE, V, AT(A_JMP)))
#define LSEG_ROW(nm, id, n) ROW(nm, id, G, M, NONE, V, MEMSZ(n), AT(IA_LOAD | IA_END))
#define LSEG(nm, id) LEGACY(MOD(OPSZ(LSEG_ROW(nm, id, 4), LSEG_ROW(nm, id, 6))))
#define BOUND_ROW(n) ROW("bound", I_BOUND, G, M, NONE, V, MEMSZ(n), AT(IA_LOAD))
#define STR_ROW(nm, id, sz, at) ROW(nm, id, STR, NONE, NONE, sz, AT(IA_REP | (at)))
#define CMPS_ROW(nm, id, sz) ROW(nm, id, STR, NONE, NONE, sz, FL(ALL, ALL, 0), AT(IA_REP | IA_LOAD))
#define IO_ROW(nm, id, a, b, sz) ROW(nm, id, a, b, NONE, sz, AT(IA_IOPL | IA_END))
#define MOV_FROM_S ROW("mov", I_MOV_SREG, E, S, NONE, V, MEMSZ(2), AT(IA_STORE))
#define MOV_TO_S ROW("mov", I_MOV_SREG, S, E, NONE, W, AT(IA_LOAD | IA_END))

const struct insn_node insn_map_1byte[256] = {
    ALU(0x00, "add", I_ADD, A_LK, 0, 0),
    ALU(0x08, "or", I_OR, A_LK, 0, IF_AF),
    ALU(0x10, "adc", I_ADC, A_LK, IF_CF, 0),
    ALU(0x18, "sbb", I_SBB, A_LK, IF_CF, 0),
    ALU(0x20, "and", I_AND, A_LK, 0, IF_AF),
    ALU(0x28, "sub", I_SUB, A_LK, 0, 0),
    ALU(0x30, "xor", I_XOR, A_LK, 0, IF_AF),
    ALU(0x38, "cmp", I_CMP, IA_LOAD, 0, 0),
    SREG_ROWS(0x06, 0x07), SREG_ROWS(0x16, 0x17), SREG_ROWS(0x1e, 0x1f),
    [0x0e] = LEGACY(ROW("push", I_PUSH_SREG, NONE, NONE, NONE, V64)),
    [0x27] = BCD_ROW("daa", I_DAA, IF_AF | IF_CF, IF_OF),
    [0x2f] = BCD_ROW("das", I_DAS, IF_AF | IF_CF, IF_OF),
    [0x37] = BCD_ROW("aaa", I_AAA, IF_AF, IF_OF | IF_SF | IF_ZF | IF_PF),
    [0x3f] = BCD_ROW("aas", I_AAS, IF_AF, IF_OF | IF_SF | IF_ZF | IF_PF),
    [0x40] = X8(INC_Z),
    [0x48] = X8(DEC_Z),
    [0x50] = X8(PUSH_Z),
    [0x58] = X8(POP_Z),
    [0x60] = LEGACY(ROW("pusha", I_PUSHA, NONE, NONE, NONE, V)),
    [0x61] = LEGACY(ROW("popa", I_POPA, NONE, NONE, NONE, V)),
    [0x62] = LEGACY(MOD(OPSZ(BOUND_ROW(4), BOUND_ROW(8)))),
    [0x63] = MODES(OPSZ(ROW("movsxd", I_MOVSXD, G, E, NONE, V, MEMSZ(2), AT(IA_LOAD)),
                        ROW("movsxd", I_MOVSXD, G, E, NONE, V, MEMSZ(4), AT(IA_LOAD)),
                        ROW("movsxd", I_MOVSXD, G, E, NONE, V, MEMSZ(4), AT(IA_LOAD))),
                   ROW("arpl", I_ARPL, E, G, NONE, W, FL(0, IF_ZF, 0), AT(A_RMW))),
    [0x68] = ROW("push", I_PUSH, I, NONE, NONE, V64),
    [0x69] = ROW("imul", I_IMUL3, G, E, I, V, MULFL, AT(IA_LOAD)),
    [0x6a] = ROW("push", I_PUSH, IB, NONE, NONE, V64),
    [0x6b] = ROW("imul", I_IMUL3, G, E, IB, V, MULFL, AT(IA_LOAD)),
    [0x6c] = STR_ROW("ins", I_INS, B, IA_STORE | IA_IOPL | IA_END),
    [0x6d] = STR_ROW("ins", I_INS, Z, IA_STORE | IA_IOPL | IA_END),
    [0x6e] = STR_ROW("outs", I_OUTS, B, IA_LOAD | IA_IOPL | IA_END),
    [0x6f] = STR_ROW("outs", I_OUTS, Z, IA_LOAD | IA_IOPL | IA_END),
    CC_ROWS(0x70, JCC8),
    [0x80] = GRP1(IB, B),
    [0x81] = GRP1(I, V),
    [0x82] = LEGACY(GRP1(IB, B)),
    [0x83] = GRP1(IB, V),
    [0x84] = ROW("test", I_TEST, E, G, NONE, B, FL(0, ALL, IF_AF), AT(IA_LOAD)),
    [0x85] = ROW("test", I_TEST, E, G, NONE, V, FL(0, ALL, IF_AF), AT(IA_LOAD)),
    [0x86] = ROW("xchg", I_XCHG, E, G, NONE, B, AT(A_LK)),
    [0x87] = ROW("xchg", I_XCHG, E, G, NONE, V, AT(A_LK)),
    [0x88] = ROW("mov", I_MOV, E, G, NONE, B, AT(IA_STORE)),
    [0x89] = ROW("mov", I_MOV, E, G, NONE, V, AT(IA_STORE)),
    [0x8a] = ROW("mov", I_MOV, G, E, NONE, B, AT(IA_LOAD)),
    [0x8b] = ROW("mov", I_MOV, G, E, NONE, V, AT(IA_LOAD)),
    [0x8c] = REG(MOV_FROM_S, MOV_FROM_S, MOV_FROM_S, MOV_FROM_S, MOV_FROM_S, MOV_FROM_S),
    [0x8d] = ROW("lea", I_LEA, G, M, NONE, V),
    [0x8e] = REG(MOV_TO_S, UD_NODE, MOV_TO_S, MOV_TO_S, MOV_TO_S, MOV_TO_S),
    [0x8f] = REG(ROW("pop", I_POP, E, NONE, NONE, V64, AT(IA_STORE))),
    [0x90] = NODE90, XCHG_Z, XCHG_Z, XCHG_Z, XCHG_Z, XCHG_Z, XCHG_Z, XCHG_Z,
    [0x98] = OPSZ(ROW("cbw", I_CBW, NONE, NONE, NONE, V), ROW("cwde", I_CBW, NONE, NONE, NONE, V),
                  ROW("cdqe", I_CBW, NONE, NONE, NONE, V)),
    [0x99] = OPSZ(ROW("cwd", I_CWD, NONE, NONE, NONE, V), ROW("cdq", I_CWD, NONE, NONE, NONE, V),
                  ROW("cqo", I_CWD, NONE, NONE, NONE, V)),
    [0x9a] = PTR_ROW("call", I_CALL_FAR),
    [0x9b] = ROW("fwait", I_FWAIT, NONE, NONE, NONE, NONE, FT(X87)),
    [0x9c] = ROW("pushf", I_PUSHF, NONE, NONE, NONE, V64, FL(ALL, 0, 0)),
    [0x9d] = ROW("popf", I_POPF, NONE, NONE, NONE, V64, FL(0, ALL, 0), AT(IA_END)),
    [0x9e] = ROW("sahf", I_SAHF, NONE, NONE, NONE, NONE, FL(0, ALL & ~IF_OF, 0)),
    [0x9f] = ROW("lahf", I_LAHF, NONE, NONE, NONE, NONE, FL(ALL & ~IF_OF, 0, 0)),
    [0xa0] = ROW("mov", I_MOV, ACC, O, NONE, B, AT(IA_LOAD)),
    [0xa1] = ROW("mov", I_MOV, ACC, O, NONE, V, AT(IA_LOAD)),
    [0xa2] = ROW("mov", I_MOV, O, ACC, NONE, B, AT(IA_STORE)),
    [0xa3] = ROW("mov", I_MOV, O, ACC, NONE, V, AT(IA_STORE)),
    [0xa4] = STR_ROW("movs", I_MOVS, B, A_RMW),
    [0xa5] = STR_ROW("movs", I_MOVS, V, A_RMW),
    [0xa6] = CMPS_ROW("cmps", I_CMPS, B),
    [0xa7] = CMPS_ROW("cmps", I_CMPS, V),
    [0xa8] = ROW("test", I_TEST, ACC, IB, NONE, B, FL(0, ALL, IF_AF)),
    [0xa9] = ROW("test", I_TEST, ACC, I, NONE, V, FL(0, ALL, IF_AF)),
    [0xaa] = STR_ROW("stos", I_STOS, B, IA_STORE),
    [0xab] = STR_ROW("stos", I_STOS, V, IA_STORE),
    [0xac] = STR_ROW("lods", I_LODS, B, IA_LOAD),
    [0xad] = STR_ROW("lods", I_LODS, V, IA_LOAD),
    [0xae] = CMPS_ROW("scas", I_SCAS, B),
    [0xaf] = CMPS_ROW("scas", I_SCAS, V),
    [0xb0] = X8(MOV_ZB),
    [0xb8] = X8(MOV_ZV),
    [0xc0] = GRP2_NB(IUB),
    [0xc1] = GRP2_NV(IUB),
    [0xc2] = ROW("ret", I_RET, IW, NONE, NONE, F64, AT(A_JMP | IA_NO66)),
    [0xc3] = ROW("ret", I_RET, NONE, NONE, NONE, F64, AT(A_JMP | IA_NO66)),
    [0xc4] = LSEG("les", I_LES),
    [0xc5] = LSEG("lds", I_LDS),
    [0xc6] = REG(ROW("mov", I_MOV, E, IB, NONE, B, AT(IA_STORE))),
    [0xc7] = REG(ROW("mov", I_MOV, E, I, NONE, V, AT(IA_STORE))),
    [0xc8] = ROW("enter", I_ENTER, IW, IUB, NONE, V64),
    [0xc9] = ROW("leave", I_LEAVE, NONE, NONE, NONE, V64),
    [0xca] = ROW("retf", I_RETF, IW, NONE, NONE, V, AT(A_JMP)),
    [0xcb] = ROW("retf", I_RETF, NONE, NONE, NONE, V, AT(A_JMP)),
    [0xcc] = ROW("int3", I_INT3, NONE, NONE, NONE, NONE, FL(ALL, 0, 0), AT(A_JMP)),
    [0xcd] = ROW("int", I_INT, IUB, NONE, NONE, NONE, FL(ALL, 0, 0), AT(A_JMP)),
    [0xce] = LEGACY(ROW("into", I_INTO, NONE, NONE, NONE, NONE, FL(ALL, 0, 0), AT(A_JMP))),
    [0xcf] = ROW("iret", I_IRET, NONE, NONE, NONE, V, FL(0, ALL, 0), AT(A_JMP)),
    [0xd0] = GRP2_1(B),
    [0xd1] = GRP2_1(V),
    [0xd2] = GRP2_NB(CL),
    [0xd3] = GRP2_NV(CL),
    [0xd4] = LEGACY(ROW("aam", I_AAM, IUB, NONE, NONE, NONE, FL(0, ALL, IF_OF | IF_AF | IF_CF))),
    [0xd5] = LEGACY(ROW("aad", I_AAD, IUB, NONE, NONE, NONE, FL(0, ALL, IF_OF | IF_AF | IF_CF))),
    [0xd6] = LEGACY(ROW("salc", I_SALC, NONE, NONE, NONE, NONE, FL(IF_CF, 0, 0))),
    [0xd7] = ROW("xlat", I_XLAT, NONE, NONE, NONE, B, AT(IA_LOAD)),
    [0xd8] = {.sub = insn_x87[0], .kind = NK_MOD}, {.sub = insn_x87[1], .kind = NK_MOD},
             {.sub = insn_x87[2], .kind = NK_MOD}, {.sub = insn_x87[3], .kind = NK_MOD},
             {.sub = insn_x87[4], .kind = NK_MOD}, {.sub = insn_x87[5], .kind = NK_MOD},
             {.sub = insn_x87[6], .kind = NK_MOD}, {.sub = insn_x87[7], .kind = NK_MOD},
    [0xe0] = LOOP_ROW("loopne", I_LOOPNE, IF_ZF),
    [0xe1] = LOOP_ROW("loope", I_LOOPE, IF_ZF),
    [0xe2] = LOOP_ROW("loop", I_LOOP, 0),
    [0xe3] = LOOP_ROW("jrcxz", I_JRCXZ, 0),
    [0xe4] = IO_ROW("in", I_IN, ACC, IUB, B),
    [0xe5] = IO_ROW("in", I_IN, ACC, IUB, Z),
    [0xe6] = IO_ROW("out", I_OUT, IUB, ACC, B),
    [0xe7] = IO_ROW("out", I_OUT, IUB, ACC, Z),
    [0xe8] = ROW("call", I_CALL, J, NONE, NONE, F64, AT(A_JMP | IA_NO66)),
    [0xe9] = ROW("jmp", I_JMP, J, NONE, NONE, F64, AT(A_JMP | IA_NO66)),
    [0xea] = PTR_ROW("jmp", I_JMP_FAR),
    [0xeb] = ROW("jmp", I_JMP, J, NONE, NONE, F64, AT(A_JMP | IA_REL8 | IA_NO66)),
    [0xec] = IO_ROW("in", I_IN, ACC, DX, B),
    [0xed] = IO_ROW("in", I_IN, ACC, DX, Z),
    [0xee] = IO_ROW("out", I_OUT, DX, ACC, B),
    [0xef] = IO_ROW("out", I_OUT, DX, ACC, Z),
    [0xf1] = ROW("int1", I_INT1, NONE, NONE, NONE, NONE, FL(ALL, 0, 0), AT(A_JMP)),
    [0xf4] = ROW("hlt", I_HLT, NONE, NONE, NONE, NONE, AT(IA_PRIV | IA_END)),
    [0xf5] = ROW("cmc", I_CMC, NONE, NONE, NONE, NONE, FL(IF_CF, IF_CF, 0)),
    [0xf6] = GRP3(IB, B),
    [0xf7] = GRP3(I, V),
    [0xf8] = ROW("clc", I_CLC, NONE, NONE, NONE, NONE, FL(0, IF_CF, 0)),
    [0xf9] = ROW("stc", I_STC, NONE, NONE, NONE, NONE, FL(0, IF_CF, 0)),
    [0xfa] = ROW("cli", I_CLI, NONE, NONE, NONE, NONE, AT(IA_IOPL | IA_END)),
    [0xfb] = ROW("sti", I_STI, NONE, NONE, NONE, NONE, AT(IA_IOPL | IA_END)),
    [0xfc] = ROW("cld", I_CLD, NONE, NONE, NONE, NONE),
    [0xfd] = ROW("std", I_STD, NONE, NONE, NONE, NONE),
    [0xfe] = REG(INC_ROW(B), DEC_ROW(B)),
    [0xff] = GRP5,
};

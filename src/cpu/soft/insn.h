/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One decoded x86-64 instruction and the table row that describes it. The table (insn_table.c) is
 * the single place that knows encodings and attributes; the interpreter, the native-stub generator
 * and the test generators all read it. Rows that exist in 64-bit mode only, or only outside it, are
 * marked so in the table. Source: Intel SDM vol. 2, appendix A (opcode maps).
 */
#ifndef SM_SOFT_INSN_H
#define SM_SOFT_INSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INSN_MAX_LEN 15

/* What CS says of the code: the L and D bits. Real mode and virtual-8086 mode decode as INSN_16. */
enum insn_mode { INSN_64, INSN_32, INSN_16 };

/* clang-format off */
/* What an instruction does. Conditions (Jcc, SETcc, CMOVcc) are in insn.cond. */
enum insn_id {
    I_INVALID, /* #UD */
    /* integer ALU; the first eight in encoding order (opcode bits 3-5, group 1 /r) */
    I_ADD, I_OR, I_ADC, I_SBB, I_AND, I_SUB, I_XOR, I_CMP,
    I_TEST, I_NOT, I_NEG, I_INC, I_DEC,
    /* shifts in encoding order (group 2 /r); /6 is SHL again */
    I_ROL, I_ROR, I_RCL, I_RCR, I_SHL, I_SHR, I_SAL, I_SAR,
    I_SHLD, I_SHRD, I_BT, I_BTS, I_BTR, I_BTC, I_BSF, I_BSR, I_POPCNT, I_BSWAP,
    I_TZCNT, I_LZCNT, /* without BMI1 or LZCNT in the model: BSF, BSR */
    I_ANDN, I_BLSR, I_BLSMSK, I_BLSI, I_BZHI, I_BEXTR, I_PDEP, I_PEXT, I_SHLX, I_SARX, I_SHRX, I_RORX,
    I_MULX,
    I_MUL, I_IMUL1, I_IMUL2, I_IMUL3, I_DIV, I_IDIV,
    I_MOV, I_MOVZX, I_MOVSX, I_MOVSXD, I_LEA, I_XCHG, I_XADD, I_CMPXCHG, I_CMPXCHG8B, I_CMPXCHG16B,
    I_MOVBE, I_MOVNTI, I_CRC32, I_XLAT,
    I_CBW, /* CBW CWDE CDQE by operand size */
    I_CWD, /* CWD CDQ CQO by operand size */
    I_SETCC, I_CMOVCC, I_JCC, I_JMP, I_JMP_RM, I_CALL, I_CALL_RM, I_RET, /* RET imm16: insn.imm */
    I_LOOPNE, I_LOOPE, I_LOOP, I_JRCXZ,
    I_PUSH, I_POP, I_ENTER, I_LEAVE, I_PUSHF, I_POPF, I_LAHF, I_SAHF,
    I_CLC, I_STC, I_CMC, I_CLD, I_STD,
    I_NOP, /* also prefetch, hint NOPs, ENDBR, fences without effect on us */
    I_PAUSE, I_FENCE, I_CLFLUSH, I_UD,
    I_MOVS, I_CMPS, I_STOS, I_LODS, I_SCAS, I_INS, I_OUTS,
    I_IN, I_OUT, /* port: imm8 or DX by operand kinds */
    /* system */
    I_CLI, I_STI, I_HLT, I_INT3, I_INT, I_INT1, I_IRET, I_SYSCALL, I_SYSRET, I_SYSENTER, I_SYSEXIT,
    I_SWAPGS, I_CPUID, I_RDTSC, I_RDTSCP, I_RDPMC, I_RDMSR, I_WRMSR, I_RDRAND, I_RDSEED,
    I_RDFSBASE, I_RDGSBASE, I_WRFSBASE, I_WRGSBASE,
    I_MOV_SREG, /* to or from a segment register, by operand kinds */
    I_MOV_CR, I_MOV_DR, I_CLTS, I_LMSW, I_SMSW,
    I_LGDT, I_SGDT, I_LIDT, I_SIDT, I_LLDT, I_SLDT, I_LTR, I_STR, I_LAR, I_LSL, I_VERR, I_VERW,
    I_INVLPG, I_INVD, I_WBINVD, I_RETF, I_JMP_FAR, I_CALL_FAR,
    I_PUSH_SREG, I_POP_SREG, /* which one: the opcode */
    I_LSS, I_LFS, I_LGS, I_LES, I_LDS,
    /* outside 64-bit mode only */
    I_PUSHA, I_POPA, I_BOUND, I_ARPL, I_INTO, I_DAA, I_DAS, I_AAA, I_AAS, I_AAM, I_AAD, I_SALC,
    I_XGETBV, I_XSETBV,
    I_VMCALL, /* VMCALL and VMMCALL: #UD for now, KVM has no hypercalls in our model */
    /* FPU state */
    I_FXSAVE, I_FXRSTOR, I_XSAVE, I_XSAVEOPT, I_XRSTOR, I_LDMXCSR, I_STMXCSR, I_EMMS, I_FWAIT,
    I_FLDCW, I_FNSTCW, I_FNSTSW_MEM, I_FNSTSW_AX, I_FLDENV, I_FNSTENV, I_FRSTOR, I_FNSAVE, I_FNINIT,
    I_FNCLEX,
    /* every other x87, MMX, SSE and AVX instruction: executed natively (soft/native.h) */
    I_X87, I_MMX, I_SSE, I_AVX,
    I_MASKMOV,  /* MASKMOVQ, MASKMOVDQU: store through DS:RDI */
    I_VMASKMOV, /* VMASKMOVPx, VPMASKMOVx: elements that the mask excludes are not accessed */
    I_VGATHER,
    I_COUNT
};

/* Operand kinds, in Intel's appendix A letters where one exists. */
enum insn_operand {
    O_NONE,
    O_E,    /* GPR or memory, ModRM.rm */
    O_G,    /* GPR, ModRM.reg */
    O_M,    /* memory only, ModRM.rm; register form is #UD */
    O_R,    /* GPR only, ModRM.rm; memory form is #UD (or mod ignored for MOV CR/DR) */
    O_Z,    /* GPR in the opcode's low three bits */
    O_ACC,  /* AL/AX/EAX/RAX */
    O_DX,   /* port number in DX */
    O_CL,   /* shift count in CL */
    O_1,    /* constant 1 */
    O_I,    /* immediate of operand size (at most 32 bits, sign-extended) */
    O_IB,   /* immediate byte, sign-extended */
    O_IUB,  /* immediate byte, zero-extended (shift counts, ports, vectors) */
    O_IW,   /* immediate word, zero-extended */
    O_IV,   /* immediate of full operand size (MOV r64, imm64; with O_IW a far pointer's offset) */
    O_J,    /* relative branch target; insn.imm is the displacement, sign-extended */
    O_O,    /* absolute memory offset (moffs): insn.disp64 */
    O_S,    /* segment register, ModRM.reg */
    O_C,    /* control register, ModRM.reg */
    O_D,    /* debug register, ModRM.reg */
    O_STR,  /* string operand(s) through RSI/RDI */
    O_P,    /* MMX register, ModRM.reg */
    O_Q,    /* MMX register or memory */
    O_N,    /* MMX register, ModRM.rm only */
    O_V,    /* XMM register (VEX: or YMM), ModRM.reg */
    O_W,    /* XMM register or memory */
    O_U,    /* XMM register, ModRM.rm only */
    O_H,    /* XMM or YMM register, VEX.vvvv */
    O_L,    /* XMM or YMM register, immediate byte's high four bits */
    O_VM,   /* memory with a vector register as index (VSIB), ModRM.rm */
    O_B,    /* GPR, VEX.vvvv */
    O_ST,   /* x87 stack operand(s), implied */
};
/* clang-format on */

/* How insn.opsize is found. */
enum insn_size {
    SZ_NONE, /* no integer operand; opsize 0 */
    SZ_B,    /* 1 */
    SZ_W,    /* 2 */
    SZ_D,    /* 4 */
    SZ_Q,    /* 8 */
    SZ_V,    /* 4; 2 with 66; 8 with REX.W */
    SZ_Y,    /* 4; 8 with REX.W (66 ignored) */
    SZ_V64,  /* 8; 2 with 66 (PUSH, POP ...) */
    SZ_F64,  /* 8 always (near branches; 66 ignored as AMD and Intel differ: we follow Intel) */
    SZ_Z,    /* 4; 2 with 66 (REX.W ignored: port I/O) */
    SZ_X,    /* 16; 32 with VEX.L */
    SZ_R,    /* 8 always (control and debug registers) */
    /* Outside 64-bit mode everything with an 8 above, SZ_Q excepted, is 4, or 2 (V, V64, F64, Z) by
     * CS.D and 66. */
};

/* Attributes. */
#define IA_LOCK 0x00000001u   /* LOCK allowed when the destination is memory */
#define IA_LOAD 0x00000002u   /* reads its memory operand, when it has one */
#define IA_STORE 0x00000004u  /* writes its memory operand, when it has one */
#define IA_PRIV 0x00000008u   /* #GP unless CPL 0 */
#define IA_IOPL 0x00000010u   /* sensitive to IOPL or the I/O bitmap */
#define IA_END 0x00000020u    /* ends a block: changes RIP, mode, or interrupt state */
#define IA_BRANCH 0x00000040u /* changes RIP */
#define IA_ALIGN 0x00000080u  /* memory operand (16 or 32 bytes) must be naturally aligned: #GP */
#define IA_EFLAGS                                                                                  \
    0x00000100u /* native instruction that sets EFLAGS (COMISD, PTEST, PCMPxSTRx, FCOMI) */
#define IA_RCX_OUT 0x00000200u   /* native: writes ECX (PCMPxSTRI) */
#define IA_RAXRDX_IN 0x00000400u /* native: reads RAX and RDX (PCMPESTRx) */
#define IA_GREG_DST                                                                                \
    0x00000800u /* native: ModRM.reg is a GPR destination (MOVMSKPS, CVTTSD2SI ...) */
#define IA_GRM_SRC                                                                                 \
    0x00001000u /* native: ModRM.rm is a GPR source in register form (MOVD, CVTSI2SD ...) */
#define IA_GRM_DST                                                                                 \
    0x00002000u /* native: ModRM.rm is a GPR destination in register form (MOVD, PEXTR) */
#define IA_NO66 0x00004000u       /* 66 has no meaning and is ignored */
#define IA_REP 0x00008000u        /* REP/REPE/REPNE allowed */
#define IA_FLAGSRC 0x00010000u    /* FCMOVcc: reads EFLAGS natively */
#define IA_X87_NOWAIT 0x00020000u /* x87 without a check for pending exceptions */
#define IA_FP_ARITH 0x00040000u   /* may raise SIMD FP exceptions (#XM) */
#define IA_REL8 0x00080000u       /* O_J is one byte */
/* What a VEX prefix must say, else #UD; without any, L and W choose or do not matter. */
#define IA_L0 0x00100000u
#define IA_L1 0x00200000u
#define IA_W0 0x00400000u
#define IA_W1 0x00800000u
#define IA_LIG 0x01000000u /* scalar: L has no meaning and is ignored */

/* Arithmetic flags as bits, in EFLAGS positions. */
#define IF_CF 0x001u
#define IF_PF 0x004u
#define IF_AF 0x010u
#define IF_ZF 0x040u
#define IF_SF 0x080u
#define IF_OF 0x800u
#define IF_ALL (IF_CF | IF_PF | IF_AF | IF_ZF | IF_SF | IF_OF)

/* CPUID feature an encoding needs; the decoder reports it, the engine's model decides. */
enum insn_feature {
    IFT_BASE,
    IFT_X87,
    IFT_MMX,
    IFT_SSE,
    IFT_SSE2,
    IFT_SSE3,
    IFT_SSSE3,
    IFT_SSE41,
    IFT_SSE42,
    IFT_AES,
    IFT_PCLMUL,
    IFT_POPCNT,
    IFT_CX16,
    IFT_RDRAND,
    IFT_RDSEED,
    IFT_FSGSBASE,
    IFT_MOVBE,
    IFT_RDTSCP,
    IFT_AVX, /* and AVX2: a model has both or none */
    IFT_FMA,
    IFT_F16C,
    IFT_BMI1,
    IFT_BMI2,
    IFT_LZCNT,
    IFT_XSAVE,
    IFT_XSAVEOPT,
    IFT_COUNT
};

/* What the CPU models have, one bit for each feature. An encoding whose feature is missing is #UD;
 * but TZCNT and LZCNT are then BSF and BSR. */
#define INSN_FEATURE(f) (UINT64_C(1) << (f))
#define INSN_MODEL_V3 (INSN_FEATURE(IFT_COUNT) - 1)
#define INSN_MODEL_V2                                                                              \
    (INSN_MODEL_V3 &                                                                               \
     ~(INSN_FEATURE(IFT_MOVBE) | INSN_FEATURE(IFT_AVX) | INSN_FEATURE(IFT_FMA) |                   \
       INSN_FEATURE(IFT_F16C) | INSN_FEATURE(IFT_BMI1) | INSN_FEATURE(IFT_BMI2) |                  \
       INSN_FEATURE(IFT_LZCNT) | INSN_FEATURE(IFT_XSAVE) | INSN_FEATURE(IFT_XSAVEOPT)))

struct insn_desc {
    const char *name;  /* lower-case mnemonic, for traces and tests */
    uint16_t id;       /* enum insn_id */
    uint8_t op[4];     /* enum insn_operand */
    uint8_t size;      /* enum insn_size */
    uint16_t mem_size; /* bytes of the memory operand where it differs from opsize, else 0 */
    uint8_t feature;   /* enum insn_feature */
    uint16_t flags_read, flags_written,
        flags_undefined; /* IF_*; undefined is a subset of written */
    uint32_t attr;       /* IA_* */
};

#define INSN_NO_REG 0xff
#define INSN_REG_RIP 0xfe /* as base: RIP-relative */
#define INSN_NO_SEG 0xff

enum insn_rep { REP_NONE = 0, REP_REPNE = 0xf2, REP_REPE = 0xf3 };

struct insn {
    const struct insn_desc *desc; /* never NULL after insn_decode returned 0 */
    uint8_t bytes[INSN_MAX_LEN];
    uint8_t len;
    uint8_t opsize; /* bytes, see enum insn_size */
    uint8_t cond;   /* condition code 0-15 of Jcc, SETcc, CMOVcc */
    uint8_t rep;    /* enum insn_rep; only when it is not a mandatory prefix */
    bool lock;      /* LOCK prefix, or XCHG with memory (implied) */
    bool addr32;    /* addresses are truncated to 32 bits: 67 prefix, or not in 64-bit mode */
    bool addr16;    /* to 16 bits (never in 64-bit mode) */
    bool has_rex;   /* SPL BPL SIL DIL instead of AH CH DH BH */
    bool has_modrm;
    bool is_mem;     /* ModRM.rm is memory; base, index, scale, disp are valid */
    uint8_t mode;    /* enum insn_mode it was decoded for */
    uint8_t rex;     /* 0x40-0x4f, or 0; of a VEX prefix: its W, R, X, B in the same form */
    uint8_t vex_map; /* 1 (0F), 2 (0F38), 3 (0F3A); 0: no VEX prefix, and then the others are 0 */
    uint8_t vex_pp;  /* 0 none, 1 66, 2 F3, 3 F2 */
    uint8_t vex_l;   /* 0: 128 bits, 1: 256 bits; 0 where it is ignored */
    uint8_t vvvv;    /* the register it names; 0 where none is */
    uint8_t mod;
    uint8_t reg;   /* ModRM.reg, REX.R applied (also for XMM; ignored bits masked for MMX, Sreg) */
    uint8_t rm;    /* ModRM.rm register number, REX.B applied; O_Z: the register, REX.B applied */
    uint8_t base;  /* 0-15, INSN_NO_REG or INSN_REG_RIP */
    uint8_t index; /* 0-15 or INSN_NO_REG; O_VM: a vector register */
    uint8_t scale; /* log2 */
    uint8_t seg;   /* enum seg_index order of an override that counts (64-bit: FS, GS), else
                      INSN_NO_SEG */
    uint16_t mem_size; /* bytes of the memory operand (desc->mem_size, or opsize) */
    /* where the parts are in bytes[], for re-encoding: opcode_off points at the first opcode byte
     * after legacy prefixes and REX (that is, at the 0F escape or the VEX prefix if there is one)
     */
    uint8_t opcode_off, modrm_off, disp_off, imm_off;
    uint8_t disp_size, imm_size;
    int32_t disp;
    uint64_t disp64; /* O_O: the absolute offset */
    int64_t imm;     /* sign- or zero-extended as the operand kind says */
    int64_t imm2;    /* ENTER's second immediate; a far pointer's selector */
};

enum insn_error {
    INSN_OK = 0,
    INSN_TRUNCATED = 1, /* more bytes are needed than were given (len < 15) */
    INSN_UD = 2,        /* not an instruction: #UD */
    INSN_TOO_LONG = 3,  /* over 15 bytes: #GP */
};

/*
 * Decode one instruction from up to len bytes. Pure: no state, any thread. On INSN_UD, out->len is
 * the number of bytes looked at.
 */
enum insn_error insn_decode_mode(const uint8_t *bytes, size_t len, enum insn_mode mode,
                                 struct insn *out);
static inline enum insn_error insn_decode(const uint8_t *bytes, size_t len, struct insn *out)
{
    return insn_decode_mode(bytes, len, INSN_64, out);
}

/* All rows, for test generators: calls fn for every encoding that the table knows. map is 0 (one
 * byte), 1 (0F), 2 (0F38), 3 (0F3A), 4 (x87, opcode D8-DF with the full ModRM byte in sub), 5 to 7
 * (1 to 3 with a VEX prefix; prefix is then what VEX.pp stands for); prefix is 0, 0x66, 0xf2 or
 * 0xf3 when mandatory; sub is ModRM.reg (0-7) for groups, the whole ModRM byte (0xc0-0xff) where it
 * selects the row (and for all x87 register forms), -1 otherwise. Memory or register form: the
 * operand kinds tell; a group row without a ModRM operand is register form. legacy: the rows of 16-
 * and 32-bit mode instead of 64-bit mode's. */
void insn_table_walk(bool legacy,
                     void (*fn)(void *opaque, unsigned map, unsigned opcode, unsigned prefix,
                                int sub, const struct insn_desc *desc),
                     void *opaque);

#endif

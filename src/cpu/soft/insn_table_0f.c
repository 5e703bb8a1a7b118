/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two-byte (0F) opcode map.
 * Source: Intel SDM vol. 2, appendix A. Not in any CPU model, hence #UD: VMX, SMX, SVM, XSAVEC,
 * XSAVES, MPX, CET, PKU, SGX, MONITOR, CLWB, CLFLUSHOPT, RDPID, 3DNow!.
 */
#include "cpu/soft/insn_node.h"

/* clang-format off */
#include "cpu/soft/insn_table_sse.h"

#define ALL IF_ALL
#define A_LK (IA_LOAD | IA_STORE | IA_LOCK)
#define A_SYS (IA_PRIV | IA_END)

#define PLAIN(nm, id, ...) ROW(nm, id, NONE, NONE, NONE, NONE, __VA_ARGS__)
#define NOP_E ROW("nop", I_NOP, E, NONE, NONE, V)
#define PREFETCH ROW("prefetch", I_NOP, E, NONE, NONE, NONE)
#define JCC32(cc, fr) ROW("j" cc, I_JCC, J, NONE, NONE, F64, FL(fr, 0, 0), AT(A_JMP | IA_NO66))
#define SETCC(cc, fr) ROW("set" cc, I_SETCC, E, NONE, NONE, B, FL(fr, 0, 0), AT(IA_STORE))
#define CMOVCC(cc, fr) ROW("cmov" cc, I_CMOVCC, G, E, NONE, V, FL(fr, 0, 0), AT(IA_LOAD))

#define SEG_SEL(nm, id, at) ROW(nm, id, E, NONE, NONE, W, AT(IA_LOAD | (at)))
#define GRP6                                                                                       \
    REG(ROW("sldt", I_SLDT, E, NONE, NONE, V, MEMSZ(2), AT(IA_STORE)),                             \
        ROW("str", I_STR, E, NONE, NONE, V, MEMSZ(2), AT(IA_STORE)),                               \
        SEG_SEL("lldt", I_LLDT, IA_PRIV), SEG_SEL("ltr", I_LTR, IA_PRIV),                          \
        ROW("verr", I_VERR, E, NONE, NONE, W, FL(0, IF_ZF, 0), AT(IA_LOAD)),                       \
        ROW("verw", I_VERW, E, NONE, NONE, W, FL(0, IF_ZF, 0), AT(IA_LOAD)))

#define DT_ROW(nm, id, at)                                                                         \
    MODES(ROW(nm, id, M, NONE, NONE, NONE, MEMSZ(10), AT(at)),                                     \
          ROW(nm, id, M, NONE, NONE, V, MEMSZ(6), AT(at)))
#define SMSW ROW("smsw", I_SMSW, E, NONE, NONE, V, MEMSZ(2), AT(IA_STORE))
#define LMSW ROW("lmsw", I_LMSW, E, NONE, NONE, W, AT(IA_LOAD | A_SYS))
#define GRP7                                                                                       \
    MOD(REG(DT_ROW("sgdt", I_SGDT, IA_STORE), DT_ROW("sidt", I_SIDT, IA_STORE),                    \
            DT_ROW("lgdt", I_LGDT, IA_LOAD | IA_PRIV), DT_ROW("lidt", I_LIDT, IA_LOAD | IA_PRIV),  \
            SMSW, UD_NODE, LMSW,                                                                   \
            ROW("invlpg", I_INVLPG, M, NONE, NONE, NONE, MEMSZ(1), AT(A_SYS))),                    \
        REG(RM(UD_NODE, PLAIN("vmcall", I_VMCALL, AT(IA_END))), UD_NODE,                           \
            RM(PFX(PLAIN("xgetbv", I_XGETBV, FT(XSAVE))),                                          \
               PFX(PLAIN("xsetbv", I_XSETBV, FT(XSAVE), AT(A_SYS)))),                              \
            RM(UD_NODE, PLAIN("vmmcall", I_VMCALL, AT(IA_END))), SMSW, UD_NODE, LMSW,              \
            RM(ONLY64(PLAIN("swapgs", I_SWAPGS, AT(IA_PRIV))), PLAIN("rdtscp", I_RDTSCP, FT(RDTSCP)))))

#define LAR_ROW(nm, id) ROW(nm, id, G, E, NONE, V, MEMSZ(2), FL(0, IF_ZF, 0), AT(IA_LOAD))
#define LSEG_ROW(nm, id, n) ROW(nm, id, G, M, NONE, V, MEMSZ(n), AT(IA_LOAD | IA_END))
#define LSEG(nm, id) OPSZ(LSEG_ROW(nm, id, 4), LSEG_ROW(nm, id, 6), LSEG_ROW(nm, id, 10))
#define MOV_CTL(nm, id, a, b) ROW(nm, id, a, b, NONE, R, FL(0, ALL, ALL), AT(A_SYS))
/* CR0 2 3 4 and, with REX.R, CR8: the decoder checks REX.R. */
#define MOV_CRS(a, b)                                                                              \
    REG(MOV_CTL("mov", I_MOV_CR, a, b), UD_NODE, MOV_CTL("mov", I_MOV_CR, a, b),                   \
        MOV_CTL("mov", I_MOV_CR, a, b), MOV_CTL("mov", I_MOV_CR, a, b))

#define BITFL FL(0, ALL & ~IF_ZF, ALL & ~(IF_CF | IF_ZF))
#define BIT_ROW(nm, id, src, at) ROW(nm, id, E, src, NONE, V, BITFL, AT(at))
#define GRP8                                                                                       \
    REG(UD_NODE, UD_NODE, UD_NODE, UD_NODE, BIT_ROW("bt", I_BT, IUB, IA_LOAD),                     \
        BIT_ROW("bts", I_BTS, IUB, A_LK), BIT_ROW("btr", I_BTR, IUB, A_LK),                        \
        BIT_ROW("btc", I_BTC, IUB, A_LK))
/* 16 bits: everything is undefined when the count exceeds the operand size. */
#define SHD_ROW(nm, id, cnt, fu) ROW(nm, id, E, G, cnt, V, FL(ALL, ALL, fu), AT(A_RMW))
#define SHD(nm, id, cnt)                                                                           \
    OPSZ(SHD_ROW(nm, id, cnt, ALL), SHD_ROW(nm, id, cnt, IF_AF | IF_OF),                           \
         SHD_ROW(nm, id, cnt, IF_AF | IF_OF))
#define SCAN(nm, id) ROW(nm, id, G, E, NONE, V, FL(0, ALL, ALL & ~IF_ZF), AT(IA_LOAD))
#define COUNT(nm, id, ft) ROW(nm, id, G, E, NONE, V, FL(0, ALL, ALL & ~(IF_CF | IF_ZF)), FT(ft), AT(IA_LOAD))

#define RNDFL FL(0, ALL, 0)
#define CX8 ROW("cmpxchg8b", I_CMPXCHG8B, M, NONE, NONE, Q, FL(0, IF_ZF, 0), AT(A_LK))
#define CX16 ROW("cmpxchg16b", I_CMPXCHG16B, M, NONE, NONE, Q, MEMSZ(16), FL(0, IF_ZF, 0), FT(CX16), AT(A_LK | IA_ALIGN))
#define RND(nm, id, ft) ROW(nm, id, R, NONE, NONE, V, RNDFL, FT(ft))
#define GRP9                                                                                       \
    MOD(REG(UD_NODE, OPSZ(CX8, CX8, CX16)),                                                        \
        REG(UD_NODE, UD_NODE, UD_NODE, UD_NODE, UD_NODE, UD_NODE,                                  \
            PFX(RND("rdrand", I_RDRAND, RDRAND), RND("rdrand", I_RDRAND, RDRAND)),                 \
            PFX(RND("rdseed", I_RDSEED, RDSEED), RND("rdseed", I_RDSEED, RDSEED))))

#define FXROW(nm, id, at) ROW(nm, id, M, NONE, NONE, NONE, MEMSZ(512), FT(SSE), AT(IA_ALIGN | (at)))
#define MXROW(nm, id, at) ROW(nm, id, M, NONE, NONE, D, FT(SSE), AT(at))
#define XSROW(nm, id, ft, at) ROW(nm, id, M, NONE, NONE, NONE, MEMSZ(832), FT(ft), AT(at))
#define NP(...) PFX(__VA_ARGS__)
#define F3(...) PFX(UD_NODE, UD_NODE, __VA_ARGS__)
#define BASE_ROW(nm, id) ONLY64(ROW(nm, id, R, NONE, NONE, Y, FT(FSGSBASE)))
#define GRP15                                                                                      \
    MOD(REG(NP(FXROW("fxsave", I_FXSAVE, IA_STORE)),                                               \
            NP(FXROW("fxrstor", I_FXRSTOR, IA_LOAD | IA_END)),                                     \
            NP(MXROW("ldmxcsr", I_LDMXCSR, IA_LOAD | IA_END)),                                     \
            NP(MXROW("stmxcsr", I_STMXCSR, IA_STORE)),                                             \
            NP(XSROW("xsave", I_XSAVE, XSAVE, A_RMW)),                                             \
            NP(XSROW("xrstor", I_XRSTOR, XSAVE, IA_LOAD | IA_END)),                                \
            NP(XSROW("xsaveopt", I_XSAVEOPT, XSAVEOPT, A_RMW)),                                    \
            NP(ROW("clflush", I_CLFLUSH, M, NONE, NONE, NONE, MEMSZ(1), FT(SSE2), AT(IA_LOAD)))),  \
        REG(F3(BASE_ROW("rdfsbase", I_RDFSBASE)), F3(BASE_ROW("rdgsbase", I_RDGSBASE)),            \
            F3(BASE_ROW("wrfsbase", I_WRFSBASE)), F3(BASE_ROW("wrgsbase", I_WRGSBASE)), UD_NODE,   \
            NP(PLAIN("lfence", I_FENCE, FT(SSE2))), NP(PLAIN("mfence", I_FENCE, FT(SSE2))),        \
            NP(PLAIN("sfence", I_FENCE, FT(SSE)))))

#define FROM_MMX(nm, ft, at) ROW(nm, I_MMX, V, Q, NONE, NONE, MEMSZ(8), FT(ft), AT(IA_LOAD at))
#define TO_MMX(nm, ft, n, at) ROW(nm, I_MMX, P, W, NONE, NONE, MEMSZ(n), FT(ft), AT(IA_LOAD | FP at))
#define FROM_GPR(nm, ft) ROW(nm, I_SSE, V, E, NONE, Y, FT(ft), AT(IA_LOAD | IA_GRM_SRC | FP))
#define VSHX(nm) PFX(UD_NODE, ROW(nm, I_SSE, U, IUB, NONE, NONE, FT(SSE2)))
#define VSH(nm) PFX(ROW(nm, I_MMX, N, IUB, NONE, NONE, FT(MMX)), ROW(nm, I_SSE, U, IUB, NONE, NONE, FT(SSE2)))

#define BSWAP_Z ROW("bswap", I_BSWAP, Z, NONE, NONE, V)
#define X8(row) row, row, row, row, row, row, row, row

const struct insn_node insn_map_0f[256] = {
    [0x00] = GRP6,
    [0x01] = GRP7,
    [0x02] = LAR_ROW("lar", I_LAR),
    [0x03] = LAR_ROW("lsl", I_LSL),
    [0x05] = PLAIN("syscall", I_SYSCALL, FL(ALL, ALL, 0), AT(A_JMP)),
    [0x06] = PLAIN("clts", I_CLTS, AT(A_SYS)),
    [0x07] = ROW("sysret", I_SYSRET, NONE, NONE, NONE, Y, FL(0, ALL, 0), AT(A_JMP | IA_PRIV)),
    [0x08] = PLAIN("invd", I_INVD, AT(IA_PRIV)),
    [0x09] = PLAIN("wbinvd", I_WBINVD, AT(IA_PRIV)),
    [0x0b] = PLAIN("ud2", I_UD, AT(IA_END)),
    [0x0d] = PREFETCH,
    [0x18] = X8(NOP_E),
    [0x20] = MOV_CRS(R, C),
    [0x21] = MOV_CTL("mov", I_MOV_DR, R, D),
    [0x22] = MOV_CRS(C, R),
    [0x23] = MOV_CTL("mov", I_MOV_DR, D, R),
    [0x30] = PLAIN("wrmsr", I_WRMSR, AT(A_SYS)),
    [0x31] = PLAIN("rdtsc", I_RDTSC),
    [0x32] = PLAIN("rdmsr", I_RDMSR, AT(IA_PRIV)),
    [0x33] = PLAIN("rdpmc", I_RDPMC),
    [0x34] = PLAIN("sysenter", I_SYSENTER, AT(A_JMP)),
    [0x35] = ROW("sysexit", I_SYSEXIT, NONE, NONE, NONE, Y, AT(A_JMP | IA_PRIV)),
    CC_ROWS(0x40, CMOVCC),
    CC_ROWS(0x80, JCC32),
    CC_ROWS(0x90, SETCC),
    [0xa0] = ROW("push", I_PUSH_SREG, NONE, NONE, NONE, V64),
    [0xa1] = ROW("pop", I_POP_SREG, NONE, NONE, NONE, V64, AT(IA_END)),
    [0xa2] = PLAIN("cpuid", I_CPUID),
    [0xa3] = BIT_ROW("bt", I_BT, G, IA_LOAD),
    [0xa4] = SHD("shld", I_SHLD, IUB),
    [0xa5] = SHD("shld", I_SHLD, CL),
    [0xa8] = ROW("push", I_PUSH_SREG, NONE, NONE, NONE, V64),
    [0xa9] = ROW("pop", I_POP_SREG, NONE, NONE, NONE, V64, AT(IA_END)),
    [0xab] = BIT_ROW("bts", I_BTS, G, A_LK),
    [0xac] = SHD("shrd", I_SHRD, IUB),
    [0xad] = SHD("shrd", I_SHRD, CL),
    [0xae] = GRP15,
    [0xaf] = ROW("imul", I_IMUL2, G, E, NONE, V, FL(0, ALL, IF_SF | IF_ZF | IF_AF | IF_PF), AT(IA_LOAD)),
    [0xb0] = ROW("cmpxchg", I_CMPXCHG, E, G, NONE, B, FL(0, ALL, 0), AT(A_LK)),
    [0xb1] = ROW("cmpxchg", I_CMPXCHG, E, G, NONE, V, FL(0, ALL, 0), AT(A_LK)),
    [0xb2] = LSEG("lss", I_LSS),
    [0xb3] = BIT_ROW("btr", I_BTR, G, A_LK),
    [0xb4] = LSEG("lfs", I_LFS),
    [0xb5] = LSEG("lgs", I_LGS),
    [0xb6] = ROW("movzx", I_MOVZX, G, E, NONE, V, MEMSZ(1), AT(IA_LOAD)),
    [0xb7] = ROW("movzx", I_MOVZX, G, E, NONE, V, MEMSZ(2), AT(IA_LOAD)),
    [0xb8] = PFX(UD_NODE, UD_NODE, ROW("popcnt", I_POPCNT, G, E, NONE, V, FL(0, ALL, 0), FT(POPCNT), AT(IA_LOAD))),
    [0xb9] = ROW("ud1", I_UD, G, E, NONE, V, AT(IA_END)),
    [0xba] = GRP8,
    [0xbb] = BIT_ROW("btc", I_BTC, G, A_LK),
    [0xbc] = PFX(SCAN("bsf", I_BSF), SCAN("bsf", I_BSF), COUNT("tzcnt", I_TZCNT, BMI1), SCAN("bsf", I_BSF)),
    [0xbd] = PFX(SCAN("bsr", I_BSR), SCAN("bsr", I_BSR), COUNT("lzcnt", I_LZCNT, LZCNT), SCAN("bsr", I_BSR)),
    [0xbe] = ROW("movsx", I_MOVSX, G, E, NONE, V, MEMSZ(1), AT(IA_LOAD)),
    [0xbf] = ROW("movsx", I_MOVSX, G, E, NONE, V, MEMSZ(2), AT(IA_LOAD)),
    [0xc0] = ROW("xadd", I_XADD, E, G, NONE, B, FL(0, ALL, 0), AT(A_LK)),
    [0xc1] = ROW("xadd", I_XADD, E, G, NONE, V, FL(0, ALL, 0), AT(A_LK)),
    [0xc3] = PFX(ROW("movnti", I_MOVNTI, M, G, NONE, Y, FT(SSE2), AT(IA_STORE))),
    [0xc7] = GRP9,
    [0xc8] = X8(BSWAP_Z),
    [0xff] = ROW("ud0", I_UD, G, E, NONE, V, AT(IA_END)),

    /* SSE, SSE2, MMX; columns of PFX: none, 66, F3, F2 */
    [0x10] = PFX(XN("movups", SSE, 16), XN("movupd", SSE2, 16), XN("movss", SSE, 4), XN("movsd", SSE2, 8)),
    [0x11] = PFX(XSN("movups", SSE, 16), XSN("movupd", SSE2, 16), XSN("movss", SSE, 4), XSN("movsd", SSE2, 8)),
    [0x12] = PFX(MOD(XM("movlps", SSE, 8, ), XU("movhlps", SSE)), XM("movlpd", SSE2, 8, ),
                 X("movsldup", SSE3), XN("movddup", SSE3, 8)),
    [0x13] = PFX(XMS("movlps", SSE, 8, ), XMS("movlpd", SSE2, 8, )),
    [0x14] = FPP("unpckl"),
    [0x15] = FPP("unpckh"),
    [0x16] = PFX(MOD(XM("movhps", SSE, 8, ), XU("movlhps", SSE)), XM("movhpd", SSE2, 8, ), X("movshdup", SSE3)),
    [0x17] = PFX(XMS("movhps", SSE, 8, ), XMS("movhpd", SSE2, 8, )),
    [0x28] = PFX(X("movaps", SSE), X("movapd", SSE2)),
    [0x29] = PFX(XS("movaps", SSE), XS("movapd", SSE2)),
    [0x2a] = PFX(FROM_MMX("cvtpi2ps", SSE, | FP), FROM_MMX("cvtpi2pd", SSE2, ), FROM_GPR("cvtsi2ss", SSE),
                 FROM_GPR("cvtsi2sd", SSE2)),
    [0x2b] = PFX(XMS("movntps", SSE, 16, | IA_ALIGN), XMS("movntpd", SSE2, 16, | IA_ALIGN)),
    [0x2c] = PFX(TO_MMX("cvttps2pi", SSE, 8, ), TO_MMX("cvttpd2pi", SSE2, 16, | IA_ALIGN),
                 XTOG("cvttss2si", SSE, 4), XTOG("cvttsd2si", SSE2, 8)),
    [0x2d] = PFX(TO_MMX("cvtps2pi", SSE, 8, ), TO_MMX("cvtpd2pi", SSE2, 16, | IA_ALIGN),
                 XTOG("cvtss2si", SSE, 4), XTOG("cvtsd2si", SSE2, 8)),
    [0x2e] = PFX(XCMP("ucomiss", SSE, 4, | FP), XCMP("ucomisd", SSE2, 8, | FP)),
    [0x2f] = PFX(XCMP("comiss", SSE, 4, | FP), XCMP("comisd", SSE2, 8, | FP)),
    [0x50] = PFX(XMSK("movmskps", SSE), XMSK("movmskpd", SSE2)),
    [0x51] = FPALL("sqrt"),
    [0x52] = PFX(X("rsqrtps", SSE), UD_NODE, XN("rsqrtss", SSE, 4)),
    [0x53] = PFX(X("rcpps", SSE), UD_NODE, XN("rcpss", SSE, 4)),
    [0x54] = FPP("and"),
    [0x55] = FPP("andn"),
    [0x56] = FPP("or"),
    [0x57] = FPP("xor"),
    [0x58] = FPALL("add"),
    [0x59] = FPALL("mul"),
    [0x5a] = PFX(XN("cvtps2pd", SSE2, 8, | FP), X("cvtpd2ps", SSE2, | FP), XN("cvtss2sd", SSE2, 4, | FP),
                 XN("cvtsd2ss", SSE2, 8, | FP)),
    [0x5b] = PFX(X("cvtdq2ps", SSE2, | FP), X("cvtps2dq", SSE2, | FP), X("cvttps2dq", SSE2, | FP)),
    [0x5c] = FPALL("sub"),
    [0x5d] = FPALL("min"),
    [0x5e] = FPALL("div"),
    [0x5f] = FPALL("max"),
    [0x60] = PAIR4("punpcklbw", MMX, SSE2),
    [0x61] = PAIR4("punpcklwd", MMX, SSE2),
    [0x62] = PAIR4("punpckldq", MMX, SSE2),
    [0x63] = PAIR("packsswb", MMX, SSE2),
    [0x64] = PAIR("pcmpgtb", MMX, SSE2),
    [0x65] = PAIR("pcmpgtw", MMX, SSE2),
    [0x66] = PAIR("pcmpgtd", MMX, SSE2),
    [0x67] = PAIR("packuswb", MMX, SSE2),
    [0x68] = PAIR("punpckhbw", MMX, SSE2),
    [0x69] = PAIR("punpckhwd", MMX, SSE2),
    [0x6a] = PAIR("punpckhdq", MMX, SSE2),
    [0x6b] = PAIR("packssdw", MMX, SSE2),
    [0x6c] = PFX(UD_NODE, X("punpcklqdq", SSE2)),
    [0x6d] = PFX(UD_NODE, X("punpckhqdq", SSE2)),
    [0x6e] = PFX(ROW("movd", I_MMX, P, E, NONE, Y, FT(MMX), AT(IA_LOAD | IA_GRM_SRC)),
                 ROW("movd", I_SSE, V, E, NONE, Y, FT(SSE2), AT(IA_LOAD | IA_GRM_SRC))),
    [0x6f] = PFX(MX("movq", MMX), X("movdqa", SSE2), XN("movdqu", SSE2, 16)),
    [0x70] = PFX(MXI("pshufw", SSE), XI("pshufd", SSE2), XI("pshufhw", SSE2), XI("pshuflw", SSE2)),
    [0x71] = REG(UD_NODE, UD_NODE, VSH("psrlw"), UD_NODE, VSH("psraw"), UD_NODE, VSH("psllw")),
    [0x72] = REG(UD_NODE, UD_NODE, VSH("psrld"), UD_NODE, VSH("psrad"), UD_NODE, VSH("pslld")),
    [0x73] = REG(UD_NODE, UD_NODE, VSH("psrlq"), VSHX("psrldq"), UD_NODE, UD_NODE, VSH("psllq"), VSHX("pslldq")),
    [0x74] = PAIR("pcmpeqb", MMX, SSE2),
    [0x75] = PAIR("pcmpeqw", MMX, SSE2),
    [0x76] = PAIR("pcmpeqd", MMX, SSE2),
    [0x77] = PFX(PLAIN("emms", I_EMMS, FT(MMX))),
    [0x7c] = PFX(UD_NODE, X("haddpd", SSE3, | FP), UD_NODE, X("haddps", SSE3, | FP)),
    [0x7d] = PFX(UD_NODE, X("hsubpd", SSE3, | FP), UD_NODE, X("hsubps", SSE3, | FP)),
    [0x7e] = PFX(ROW("movd", I_MMX, E, P, NONE, Y, FT(MMX), AT(IA_STORE | IA_GRM_DST)),
                 ROW("movd", I_SSE, E, V, NONE, Y, FT(SSE2), AT(IA_STORE | IA_GRM_DST)), XN("movq", SSE2, 8)),
    [0x7f] = PFX(ROW("movq", I_MMX, Q, P, NONE, NONE, MEMSZ(8), FT(MMX), AT(IA_STORE)), XS("movdqa", SSE2),
                 XSN("movdqu", SSE2, 16)),
    [0xc2] = PFX(XI("cmpps", SSE, | FP), XI("cmppd", SSE2, | FP), XNI("cmpss", SSE, 4, | FP),
                 XNI("cmpsd", SSE2, 8, | FP)),
    [0xc4] = PFX(ROW("pinsrw", I_MMX, P, E, IUB, D, MEMSZ(2), FT(SSE), AT(IA_LOAD | IA_GRM_SRC)),
                 ROW("pinsrw", I_SSE, V, E, IUB, D, MEMSZ(2), FT(SSE2), AT(IA_LOAD | IA_GRM_SRC))),
    [0xc5] = PFX(ROW("pextrw", I_MMX, G, N, IUB, D, FT(SSE), AT(IA_GREG_DST)),
                 ROW("pextrw", I_SSE, G, U, IUB, D, FT(SSE2), AT(IA_GREG_DST))),
    [0xc6] = PFX(XI("shufps", SSE), XI("shufpd", SSE2)),
    [0xd0] = PFX(UD_NODE, X("addsubpd", SSE3, | FP), UD_NODE, X("addsubps", SSE3, | FP)),
    [0xd1] = PAIR("psrlw", MMX, SSE2),
    [0xd2] = PAIR("psrld", MMX, SSE2),
    [0xd3] = PAIR("psrlq", MMX, SSE2),
    [0xd4] = PAIR("paddq", SSE2, SSE2),
    [0xd5] = PAIR("pmullw", MMX, SSE2),
    [0xd6] = PFX(UD_NODE, XSN("movq", SSE2, 8), ROW("movq2dq", I_MMX, V, N, NONE, NONE, FT(SSE2)),
                 ROW("movdq2q", I_MMX, P, U, NONE, NONE, FT(SSE2))),
    [0xd7] = PFX(ROW("pmovmskb", I_MMX, G, N, NONE, D, FT(SSE), AT(IA_GREG_DST)), XMSK("pmovmskb", SSE2)),
    [0xd8] = PAIR("psubusb", MMX, SSE2),
    [0xd9] = PAIR("psubusw", MMX, SSE2),
    [0xda] = PAIR("pminub", SSE, SSE2),
    [0xdb] = PAIR("pand", MMX, SSE2),
    [0xdc] = PAIR("paddusb", MMX, SSE2),
    [0xdd] = PAIR("paddusw", MMX, SSE2),
    [0xde] = PAIR("pmaxub", SSE, SSE2),
    [0xdf] = PAIR("pandn", MMX, SSE2),
    [0xe0] = PAIR("pavgb", SSE, SSE2),
    [0xe1] = PAIR("psraw", MMX, SSE2),
    [0xe2] = PAIR("psrad", MMX, SSE2),
    [0xe3] = PAIR("pavgw", SSE, SSE2),
    [0xe4] = PAIR("pmulhuw", SSE, SSE2),
    [0xe5] = PAIR("pmulhw", MMX, SSE2),
    [0xe6] = PFX(UD_NODE, X("cvttpd2dq", SSE2, | FP), XN("cvtdq2pd", SSE2, 8), X("cvtpd2dq", SSE2, | FP)),
    [0xe7] = PFX(ROW("movntq", I_MMX, M, P, NONE, NONE, MEMSZ(8), FT(SSE), AT(IA_STORE)),
                 XMS("movntdq", SSE2, 16, | IA_ALIGN)),
    [0xe8] = PAIR("psubsb", MMX, SSE2),
    [0xe9] = PAIR("psubsw", MMX, SSE2),
    [0xea] = PAIR("pminsw", SSE, SSE2),
    [0xeb] = PAIR("por", MMX, SSE2),
    [0xec] = PAIR("paddsb", MMX, SSE2),
    [0xed] = PAIR("paddsw", MMX, SSE2),
    [0xee] = PAIR("pmaxsw", SSE, SSE2),
    [0xef] = PAIR("pxor", MMX, SSE2),
    [0xf0] = PFX(UD_NODE, UD_NODE, UD_NODE, XM("lddqu", SSE3, 16, )),
    [0xf1] = PAIR("psllw", MMX, SSE2),
    [0xf2] = PAIR("pslld", MMX, SSE2),
    [0xf3] = PAIR("psllq", MMX, SSE2),
    [0xf4] = PAIR("pmuludq", SSE2, SSE2),
    [0xf5] = PAIR("pmaddwd", MMX, SSE2),
    [0xf6] = PAIR("psadbw", SSE, SSE2),
    [0xf7] = PFX(ROW("maskmovq", I_MASKMOV, P, N, NONE, NONE, MEMSZ(8), FT(SSE), AT(IA_STORE)),
                 ROW("maskmovdqu", I_MASKMOV, V, U, NONE, NONE, MEMSZ(16), FT(SSE2), AT(IA_STORE))),
    [0xf8] = PAIR("psubb", MMX, SSE2),
    [0xf9] = PAIR("psubw", MMX, SSE2),
    [0xfa] = PAIR("psubd", MMX, SSE2),
    [0xfb] = PAIR("psubq", SSE2, SSE2),
    [0xfc] = PAIR("paddb", MMX, SSE2),
    [0xfd] = PAIR("paddw", MMX, SSE2),
    [0xfe] = PAIR("paddd", MMX, SSE2),
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The x87 opcodes D8-DF: eight memory forms each, and register forms by ModRM.reg and, where it
 * matters, rm. Undocumented aliases that every CPU executes (FCOM2, FXCH4 ...) are rows too.
 * Instructions that may change which exceptions are pending or masked end a block. Source: Intel
 * SDM vol. 2, appendix A.4.
 */
#include "cpu/soft/insn_node.h"

/* clang-format off */
#define F_M(nm, n, at) ROW(nm, I_X87, M, NONE, NONE, NONE, MEMSZ(n), FT(X87), AT(at))
#define F_LD(nm, n) F_M(nm, n, IA_LOAD)
#define F_ST(nm, n) F_M(nm, n, IA_STORE)
#define F_R(nm) ROW(nm, I_X87, ST, NONE, NONE, NONE, FT(X87))
#define F_CTL(nm, id, n, at) ROW(nm, id, M, NONE, NONE, Z, MEMSZ(n), FT(X87), AT(at))
/* size of the state image: 16-bit or 32-bit form */
#define F_ENV(nm, id, n16, n32, at) OPSZ(F_CTL(nm, id, n16, at), F_CTL(nm, id, n32, at), F_CTL(nm, id, n32, at))
#define F_ISTT(n) ROW("fisttp", I_X87, M, NONE, NONE, NONE, MEMSZ(n), FT(SSE3), AT(IA_STORE))
#define F_COMI(nm) ROW(nm, I_X87, ST, NONE, NONE, NONE, FT(X87), FL(0, IF_ALL, 0), AT(IA_EFLAGS))
#define F_CMOV(nm, fr) ROW(nm, I_X87, ST, NONE, NONE, NONE, FT(X87), FL(fr, 0, 0), AT(IA_FLAGSRC))
#define F_PLAIN(nm, id, at) ROW(nm, id, ST, NONE, NONE, NONE, FT(X87), AT(at))
#define A_NW IA_X87_NOWAIT
#define F_NOP87(nm) F_PLAIN(nm, I_X87, A_NW)
#define FSTSW_AX ROW("fnstsw", I_FNSTSW_AX, ACC, NONE, NONE, W, FT(X87), AT(A_NW))

#define ARITH_M(pre, n)                                                                            \
    REG(F_LD(pre "add", n), F_LD(pre "mul", n), F_LD(pre "com", n), F_LD(pre "comp", n),           \
        F_LD(pre "sub", n), F_LD(pre "subr", n), F_LD(pre "div", n), F_LD(pre "divr", n))

const struct insn_node insn_x87[8][2] = {
    /* D8 */
    {ARITH_M("f", 4),
     REG(F_R("fadd"), F_R("fmul"), F_R("fcom"), F_R("fcomp"), F_R("fsub"), F_R("fsubr"), F_R("fdiv"), F_R("fdivr"))},
    /* D9 */
    {REG(F_LD("fld", 4), UD_NODE, F_ST("fst", 4), F_ST("fstp", 4),
         F_ENV("fldenv", I_FLDENV, 14, 28, IA_LOAD | IA_END),
         F_CTL("fldcw", I_FLDCW, 2, IA_LOAD | IA_END),
         F_ENV("fnstenv", I_FNSTENV, 14, 28, IA_STORE | IA_END | A_NW),
         F_CTL("fnstcw", I_FNSTCW, 2, IA_STORE | A_NW)),
     REG(F_R("fld"), F_R("fxch"), RM(F_R("fnop")), F_R("fstp"),
         RM(F_R("fchs"), F_R("fabs"), UD_NODE, UD_NODE, F_R("ftst"), F_R("fxam")),
         RM(F_R("fld1"), F_R("fldl2t"), F_R("fldl2e"), F_R("fldpi"), F_R("fldlg2"), F_R("fldln2"), F_R("fldz")),
         RM(F_R("f2xm1"), F_R("fyl2x"), F_R("fptan"), F_R("fpatan"), F_R("fxtract"), F_R("fprem1"), F_R("fdecstp"), F_R("fincstp")),
         RM(F_R("fprem"), F_R("fyl2xp1"), F_R("fsqrt"), F_R("fsincos"), F_R("frndint"), F_R("fscale"), F_R("fsin"), F_R("fcos")))},
    /* DA */
    {ARITH_M("fi", 4),
     REG(F_CMOV("fcmovb", CC_B), F_CMOV("fcmove", CC_Z), F_CMOV("fcmovbe", CC_BE), F_CMOV("fcmovu", CC_P),
         UD_NODE, RM(UD_NODE, F_R("fucompp")))},
    /* DB */
    {REG(F_LD("fild", 4), F_ISTT(4), F_ST("fist", 4), F_ST("fistp", 4), UD_NODE, F_LD("fld", 10), UD_NODE, F_ST("fstp", 10)),
     REG(F_CMOV("fcmovnb", CC_B), F_CMOV("fcmovne", CC_Z), F_CMOV("fcmovnbe", CC_BE), F_CMOV("fcmovnu", CC_P),
         RM(F_NOP87("fneni"), F_NOP87("fndisi"), F_PLAIN("fnclex", I_FNCLEX, A_NW | IA_END),
            F_PLAIN("fninit", I_FNINIT, A_NW | IA_END), F_NOP87("fnsetpm")),
         F_COMI("fucomi"), F_COMI("fcomi"))},
    /* DC */
    {ARITH_M("f", 8),
     REG(F_R("fadd"), F_R("fmul"), F_R("fcom"), F_R("fcomp"), F_R("fsubr"), F_R("fsub"), F_R("fdivr"), F_R("fdiv"))},
    /* DD */
    {REG(F_LD("fld", 8), F_ISTT(8), F_ST("fst", 8), F_ST("fstp", 8),
         F_ENV("frstor", I_FRSTOR, 94, 108, IA_LOAD | IA_END), UD_NODE,
         F_ENV("fnsave", I_FNSAVE, 94, 108, IA_STORE | IA_END | A_NW),
         F_CTL("fnstsw", I_FNSTSW_MEM, 2, IA_STORE | A_NW)),
     REG(F_R("ffree"), F_R("fxch"), F_R("fst"), F_R("fstp"), F_R("fucom"), F_R("fucomp"))},
    /* DE */
    {ARITH_M("fi", 2),
     REG(F_R("faddp"), F_R("fmulp"), F_R("fcomp"), RM(UD_NODE, F_R("fcompp")), F_R("fsubrp"), F_R("fsubp"), F_R("fdivrp"), F_R("fdivp"))},
    /* DF */
    {REG(F_LD("fild", 2), F_ISTT(2), F_ST("fist", 2), F_ST("fistp", 2), F_LD("fbld", 10), F_LD("fild", 8), F_ST("fbstp", 10), F_ST("fistp", 8)),
     REG(F_R("ffreep"), F_R("fxch"), F_R("fstp"), F_R("fstp"), RM(FSTSW_AX), F_COMI("fucomip"), F_COMI("fcomip"))},
};

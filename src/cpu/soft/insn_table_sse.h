/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Short forms of MMX and SSE rows for insn_table_0f.c and insn_table_0f38.c. An id of I_MMX says
 * that an MMX register is named (so x87 state rules apply); XMM registers may be named too
 * (CVTPI2PS, MOVQ2DQ).
 */
#ifndef SM_SOFT_INSN_TABLE_SSE_H
#define SM_SOFT_INSN_TABLE_SSE_H

#include "cpu/soft/insn_node.h"

/* clang-format off */
#define FP IA_FP_ARITH

/* Loads: xmm, xmm/m. X: 16 bytes aligned; XN: n bytes, any alignment. */
#define X(nm, ft, ...) ROW(nm, I_SSE, V, W, NONE, NONE, MEMSZ(16), FT(ft), AT(IA_LOAD | IA_ALIGN __VA_ARGS__))
#define XI(nm, ft, ...) ROW(nm, I_SSE, V, W, IUB, NONE, MEMSZ(16), FT(ft), AT(IA_LOAD | IA_ALIGN __VA_ARGS__))
#define XN(nm, ft, n, ...) ROW(nm, I_SSE, V, W, NONE, NONE, MEMSZ(n), FT(ft), AT(IA_LOAD __VA_ARGS__))
#define XNI(nm, ft, n, ...) ROW(nm, I_SSE, V, W, IUB, NONE, MEMSZ(n), FT(ft), AT(IA_LOAD __VA_ARGS__))
/* Stores: xmm/m (or m), xmm. */
#define XS(nm, ft) ROW(nm, I_SSE, W, V, NONE, NONE, MEMSZ(16), FT(ft), AT(IA_STORE | IA_ALIGN))
#define XSN(nm, ft, n) ROW(nm, I_SSE, W, V, NONE, NONE, MEMSZ(n), FT(ft), AT(IA_STORE))
#define XM(nm, ft, n, at) ROW(nm, I_SSE, V, M, NONE, NONE, MEMSZ(n), FT(ft), AT(IA_LOAD at))
#define XMS(nm, ft, n, at) ROW(nm, I_SSE, M, V, NONE, NONE, MEMSZ(n), FT(ft), AT(IA_STORE at))
#define XU(nm, ft) ROW(nm, I_SSE, V, U, NONE, NONE, FT(ft))
/* Comparisons into EFLAGS. */
#define XCMP(nm, ft, n, at) ROW(nm, I_SSE, V, W, NONE, NONE, MEMSZ(n), FT(ft), FL(0, IF_ALL, 0), AT(IA_LOAD | IA_EFLAGS at))
/* General register, xmm (/m). Y: 32 or 64 bits by REX.W. */
#define XTOG(nm, ft, n) ROW(nm, I_SSE, G, W, NONE, Y, MEMSZ(n), FT(ft), AT(IA_LOAD | IA_GREG_DST | FP))
#define XMSK(nm, ft) ROW(nm, I_SSE, G, U, NONE, D, FT(ft), AT(IA_GREG_DST))
/* MMX, MMX/m64. */
#define MX(nm, ft) ROW(nm, I_MMX, P, Q, NONE, NONE, MEMSZ(8), FT(ft), AT(IA_LOAD))
#define MXN(nm, ft, n) ROW(nm, I_MMX, P, Q, NONE, NONE, MEMSZ(n), FT(ft), AT(IA_LOAD))
#define MXI(nm, ft) ROW(nm, I_MMX, P, Q, IUB, NONE, MEMSZ(8), FT(ft), AT(IA_LOAD))
/* An MMX instruction and its 66-prefixed SSE form. */
#define PAIR(nm, mft, xft) PFX(MX(nm, mft), X(nm, xft))
#define PAIR4(nm, mft, xft) PFX(MXN(nm, mft, 4), X(nm, xft))
/* The regular floating-point quartets PS, PD, SS, SD. */
#define FPALL(nm) PFX(X(nm "ps", SSE, | FP), X(nm "pd", SSE2, | FP), XN(nm "ss", SSE, 4, | FP), XN(nm "sd", SSE2, 8, | FP))
#define FPP(nm) PFX(X(nm "ps", SSE), X(nm "pd", SSE2))

#endif

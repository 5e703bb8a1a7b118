/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The opcode maps behind a VEX prefix: AVX, AVX2, FMA, F16C, BMI1, BMI2. Source: Intel SDM vol. 2,
 * 2.3, appendix A and the instruction pages. Not in any CPU model, hence #UD: VAES and VPCLMULQDQ
 * with 256 bits, AVX-VNNI, GFNI, the mask instructions of AVX-512, AMX, XOP and FMA4.
 */
#include "cpu/soft/insn_node.h"

/* clang-format off */
#define FP IA_FP_ARITH
#define X66(...) PFX(UD_NODE, __VA_ARGS__)
#define F3(...) PFX(UD_NODE, UD_NODE, __VA_ARGS__)
#define F2(...) PFX(UD_NODE, UD_NODE, UD_NODE, __VA_ARGS__)

/* Operands in the order of the mnemonic. ..A: aligned; ..I: with an immediate; N: the size of the memory operand. The last
 * argument of each adds attributes. */
#define AVX(nm, a, b, c, d, sz, ...) ROW4(nm, I_AVX, a, b, c, d, sz, FT(AVX), __VA_ARGS__)
/* ymm, ymm, ymm/m256 and the same of 128 bits */
#define V3(nm, ...) AVX(nm, V, H, W, NONE, X, AT(IA_LOAD __VA_ARGS__))
#define V3I(nm, ...) AVX(nm, V, H, W, IUB, X, AT(IA_LOAD __VA_ARGS__))
#define V3N(nm, n, ...) AVX(nm, V, H, W, NONE, NONE, MEMSZ(n), AT(IA_LOAD __VA_ARGS__))
#define V3NI(nm, n, ...) AVX(nm, V, H, W, IUB, NONE, MEMSZ(n), AT(IA_LOAD __VA_ARGS__))
/* scalars: the upper elements come from vvvv */
#define VS3(nm, n, ...) V3N(nm, n, | IA_LIG __VA_ARGS__)
#define VS3I(nm, n, ...) V3NI(nm, n, | IA_LIG __VA_ARGS__)
/* ymm, ymm/m256 */
#define V2(nm, ...) AVX(nm, V, W, NONE, NONE, X, AT(IA_LOAD __VA_ARGS__))
#define V2A(nm) V2(nm, | IA_ALIGN)
#define V2I(nm, ...) AVX(nm, V, W, IUB, NONE, X, AT(IA_LOAD __VA_ARGS__))
#define V2N(nm, n, ...) AVX(nm, V, W, NONE, NONE, NONE, MEMSZ(n), AT(IA_LOAD __VA_ARGS__))
#define V2NI(nm, n, ...) AVX(nm, V, W, IUB, NONE, NONE, MEMSZ(n), AT(IA_LOAD __VA_ARGS__))
/* half as much memory, or what part of it n0 and n1 say */
#define V2PART(nm, n0, n1, ...) VEXL(V2N(nm, n0, __VA_ARGS__), V2N(nm, n1, __VA_ARGS__))
/* stores */
#define VST(nm, ...) AVX(nm, W, V, NONE, NONE, X, AT(IA_STORE __VA_ARGS__))
#define VSTM(nm, ...) AVX(nm, M, V, NONE, NONE, X, AT(IA_STORE __VA_ARGS__))
#define VSTN(nm, n, ...) AVX(nm, M, V, NONE, NONE, NONE, MEMSZ(n), AT(IA_STORE __VA_ARGS__))
#define VLDM(nm, ...) AVX(nm, V, M, NONE, NONE, X, AT(IA_LOAD __VA_ARGS__))
#define VLDMN(nm, n, ...) AVX(nm, V, M, NONE, NONE, NONE, MEMSZ(n), AT(IA_LOAD __VA_ARGS__))
/* halves: xmm, xmm, m64 */
#define VHALF(nm) AVX(nm, V, H, M, NONE, NONE, MEMSZ(8), AT(IA_LOAD | IA_L0))
#define VHALF_U(nm) AVX(nm, V, H, U, NONE, NONE, AT(IA_L0))
#define VSCALAR_LD(nm, n) MOD(VLDMN(nm, n, | IA_LIG), AVX(nm, V, H, U, NONE, NONE, AT(IA_LIG)))
#define VSCALAR_ST(nm, n) MOD(VSTN(nm, n, | IA_LIG), AVX(nm, U, H, V, NONE, NONE, AT(IA_LIG)))
/* comparisons into EFLAGS */
#define VCMPF(nm, sz, n, ...) AVX(nm, V, W, NONE, NONE, sz, MEMSZ(n), FL(0, IF_ALL, 0), AT(IA_LOAD | IA_EFLAGS __VA_ARGS__))
/* general registers */
#define VTOG(nm, n) AVX(nm, G, W, NONE, NONE, Y, MEMSZ(n), AT(IA_LOAD | IA_GREG_DST | IA_LIG | FP))
#define VMSK(nm) AVX(nm, G, U, NONE, NONE, D, AT(IA_GREG_DST))
#define VFROMG(nm) AVX(nm, V, H, E, NONE, Y, AT(IA_LOAD | IA_GRM_SRC | IA_LIG | FP))
#define VPEXTR(nm, sz, n, ...) AVX(nm, E, V, IUB, NONE, sz, MEMSZ(n), AT(IA_STORE | IA_GRM_DST | IA_L0 __VA_ARGS__))
#define VPINSR(nm, sz, n, ...) AVX(nm, V, H, E, IUB, sz, MEMSZ(n), AT(IA_LOAD | IA_GRM_SRC | IA_L0 __VA_ARGS__))

#define FPALL(nm) PFX(V3(nm "ps", | FP), V3(nm "pd", | FP), VS3(nm "ss", 4, | FP), VS3(nm "sd", 8, | FP))
#define FPP(nm) PFX(V3(nm "ps"), V3(nm "pd"))
#define FPX(nm) PFX(UD_NODE, V3(nm "pd", | FP), UD_NODE, V3(nm "ps", | FP))
#define P3(nm) X66(V3(nm))
/* shifts by a count in an xmm register */
#define PSHIFT(nm) X66(V3N(nm, 16))
#define PSHIFT_I(nm) X66(AVX(nm, H, U, IUB, NONE, X, AT(0)))

const struct insn_node insn_map_vex0f[256] = {
    [0x10] = PFX(V2("vmovups"), V2("vmovupd"), VSCALAR_LD("vmovss", 4), VSCALAR_LD("vmovsd", 8)),
    [0x11] = PFX(VST("vmovups"), VST("vmovupd"), VSCALAR_ST("vmovss", 4), VSCALAR_ST("vmovsd", 8)),
    [0x12] = PFX(MOD(VHALF("vmovlps"), VHALF_U("vmovhlps")), VHALF("vmovlpd"), V2("vmovsldup"),
                 V2PART("vmovddup", 8, 32)),
    [0x13] = PFX(VSTN("vmovlps", 8, | IA_L0), VSTN("vmovlpd", 8, | IA_L0)),
    [0x14] = FPP("vunpckl"),
    [0x15] = FPP("vunpckh"),
    [0x16] = PFX(MOD(VHALF("vmovhps"), VHALF_U("vmovlhps")), VHALF("vmovhpd"), V2("vmovshdup")),
    [0x17] = PFX(VSTN("vmovhps", 8, | IA_L0), VSTN("vmovhpd", 8, | IA_L0)),
    [0x28] = PFX(V2A("vmovaps"), V2A("vmovapd")),
    [0x29] = PFX(VST("vmovaps", | IA_ALIGN), VST("vmovapd", | IA_ALIGN)),
    [0x2a] = PFX(UD_NODE, UD_NODE, VFROMG("vcvtsi2ss"), VFROMG("vcvtsi2sd")),
    [0x2b] = PFX(VSTM("vmovntps", | IA_ALIGN), VSTM("vmovntpd", | IA_ALIGN)),
    [0x2c] = PFX(UD_NODE, UD_NODE, VTOG("vcvttss2si", 4), VTOG("vcvttsd2si", 8)),
    [0x2d] = PFX(UD_NODE, UD_NODE, VTOG("vcvtss2si", 4), VTOG("vcvtsd2si", 8)),
    [0x2e] = PFX(VCMPF("vucomiss", NONE, 4, | IA_LIG | FP), VCMPF("vucomisd", NONE, 8, | IA_LIG | FP)),
    [0x2f] = PFX(VCMPF("vcomiss", NONE, 4, | IA_LIG | FP), VCMPF("vcomisd", NONE, 8, | IA_LIG | FP)),
    [0x50] = PFX(VMSK("vmovmskps"), VMSK("vmovmskpd")),
    [0x51] = PFX(V2("vsqrtps", | FP), V2("vsqrtpd", | FP), VS3("vsqrtss", 4, | FP), VS3("vsqrtsd", 8, | FP)),
    [0x52] = PFX(V2("vrsqrtps"), UD_NODE, VS3("vrsqrtss", 4)),
    [0x53] = PFX(V2("vrcpps"), UD_NODE, VS3("vrcpss", 4)),
    [0x54] = FPP("vand"),
    [0x55] = FPP("vandn"),
    [0x56] = FPP("vor"),
    [0x57] = FPP("vxor"),
    [0x58] = FPALL("vadd"),
    [0x59] = FPALL("vmul"),
    [0x5a] = PFX(V2PART("vcvtps2pd", 8, 16, | FP), V2("vcvtpd2ps", | FP), VS3("vcvtss2sd", 4, | FP),
                 VS3("vcvtsd2ss", 8, | FP)),
    [0x5b] = PFX(V2("vcvtdq2ps", | FP), V2("vcvtps2dq", | FP), V2("vcvttps2dq", | FP)),
    [0x5c] = FPALL("vsub"),
    [0x5d] = FPALL("vmin"),
    [0x5e] = FPALL("vdiv"),
    [0x5f] = FPALL("vmax"),
    [0x60] = P3("vpunpcklbw"),
    [0x61] = P3("vpunpcklwd"),
    [0x62] = P3("vpunpckldq"),
    [0x63] = P3("vpacksswb"),
    [0x64] = P3("vpcmpgtb"),
    [0x65] = P3("vpcmpgtw"),
    [0x66] = P3("vpcmpgtd"),
    [0x67] = P3("vpackuswb"),
    [0x68] = P3("vpunpckhbw"),
    [0x69] = P3("vpunpckhwd"),
    [0x6a] = P3("vpunpckhdq"),
    [0x6b] = P3("vpackssdw"),
    [0x6c] = P3("vpunpcklqdq"),
    [0x6d] = P3("vpunpckhqdq"),
    [0x6e] = X66(AVX("vmovd", V, E, NONE, NONE, Y, AT(IA_LOAD | IA_GRM_SRC | IA_L0))),
    [0x6f] = PFX(UD_NODE, V2A("vmovdqa"), V2("vmovdqu")),
    [0x70] = PFX(UD_NODE, V2I("vpshufd"), V2I("vpshufhw"), V2I("vpshuflw")),
    [0x71] = REG(UD_NODE, UD_NODE, PSHIFT_I("vpsrlw"), UD_NODE, PSHIFT_I("vpsraw"), UD_NODE, PSHIFT_I("vpsllw")),
    [0x72] = REG(UD_NODE, UD_NODE, PSHIFT_I("vpsrld"), UD_NODE, PSHIFT_I("vpsrad"), UD_NODE, PSHIFT_I("vpslld")),
    [0x73] = REG(UD_NODE, UD_NODE, PSHIFT_I("vpsrlq"), PSHIFT_I("vpsrldq"), UD_NODE, UD_NODE,
                 PSHIFT_I("vpsllq"), PSHIFT_I("vpslldq")),
    [0x74] = P3("vpcmpeqb"),
    [0x75] = P3("vpcmpeqw"),
    [0x76] = P3("vpcmpeqd"),
    [0x77] = PFX(VEXL(AVX("vzeroupper", NONE, NONE, NONE, NONE, NONE, AT(0)),
                      AVX("vzeroall", NONE, NONE, NONE, NONE, NONE, AT(0)))),
    [0x7c] = FPX("vhadd"),
    [0x7d] = FPX("vhsub"),
    [0x7e] = PFX(UD_NODE, AVX("vmovd", E, V, NONE, NONE, Y, AT(IA_STORE | IA_GRM_DST | IA_L0)),
                 V2N("vmovq", 8, | IA_L0)),
    [0x7f] = PFX(UD_NODE, VST("vmovdqa", | IA_ALIGN), VST("vmovdqu")),
    [0xae] = REG(UD_NODE, UD_NODE,
                 PFX(ROW("vldmxcsr", I_LDMXCSR, M, NONE, NONE, D, FT(AVX), AT(IA_LOAD | IA_END | IA_L0))),
                 PFX(ROW("vstmxcsr", I_STMXCSR, M, NONE, NONE, D, FT(AVX), AT(IA_STORE | IA_L0)))),
    [0xc2] = PFX(V3I("vcmpps", | FP), V3I("vcmppd", | FP), VS3I("vcmpss", 4, | FP), VS3I("vcmpsd", 8, | FP)),
    [0xc4] = X66(VPINSR("vpinsrw", D, 2)),
    [0xc5] = X66(AVX("vpextrw", G, U, IUB, NONE, D, AT(IA_GREG_DST | IA_L0))),
    [0xc6] = PFX(V3I("vshufps"), V3I("vshufpd")),
    [0xd0] = FPX("vaddsub"),
    [0xd1] = PSHIFT("vpsrlw"),
    [0xd2] = PSHIFT("vpsrld"),
    [0xd3] = PSHIFT("vpsrlq"),
    [0xd4] = P3("vpaddq"),
    [0xd5] = P3("vpmullw"),
    [0xd6] = X66(AVX("vmovq", W, V, NONE, NONE, NONE, MEMSZ(8), AT(IA_STORE | IA_L0))),
    [0xd7] = X66(VMSK("vpmovmskb")),
    [0xd8] = P3("vpsubusb"),
    [0xd9] = P3("vpsubusw"),
    [0xda] = P3("vpminub"),
    [0xdb] = P3("vpand"),
    [0xdc] = P3("vpaddusb"),
    [0xdd] = P3("vpaddusw"),
    [0xde] = P3("vpmaxub"),
    [0xdf] = P3("vpandn"),
    [0xe0] = P3("vpavgb"),
    [0xe1] = PSHIFT("vpsraw"),
    [0xe2] = PSHIFT("vpsrad"),
    [0xe3] = P3("vpavgw"),
    [0xe4] = P3("vpmulhuw"),
    [0xe5] = P3("vpmulhw"),
    [0xe6] = PFX(UD_NODE, V2("vcvttpd2dq", | FP), V2PART("vcvtdq2pd", 8, 16), V2("vcvtpd2dq", | FP)),
    [0xe7] = X66(VSTM("vmovntdq", | IA_ALIGN)),
    [0xe8] = P3("vpsubsb"),
    [0xe9] = P3("vpsubsw"),
    [0xea] = P3("vpminsw"),
    [0xeb] = P3("vpor"),
    [0xec] = P3("vpaddsb"),
    [0xed] = P3("vpaddsw"),
    [0xee] = P3("vpmaxsw"),
    [0xef] = P3("vpxor"),
    [0xf0] = F2(VLDM("vlddqu")),
    [0xf1] = PSHIFT("vpsllw"),
    [0xf2] = PSHIFT("vpslld"),
    [0xf3] = PSHIFT("vpsllq"),
    [0xf4] = P3("vpmuludq"),
    [0xf5] = P3("vpmaddwd"),
    [0xf6] = P3("vpsadbw"),
    [0xf7] = X66(ROW("vmaskmovdqu", I_MASKMOV, V, U, NONE, NONE, MEMSZ(16), FT(AVX), AT(IA_STORE | IA_L0))),
    [0xf8] = P3("vpsubb"),
    [0xf9] = P3("vpsubw"),
    [0xfa] = P3("vpsubd"),
    [0xfb] = P3("vpsubq"),
    [0xfc] = P3("vpaddb"),
    [0xfd] = P3("vpaddw"),
    [0xfe] = P3("vpaddd"),
};

#define PMOVX(nm, n) X66(V2PART(nm, n, 2 * (n)))
#define VMASK_LD(nm, ...) ROW(nm, I_VMASKMOV, V, H, M, X, FT(AVX), AT(IA_LOAD __VA_ARGS__))
#define VMASK_ST(nm, ...) ROW(nm, I_VMASKMOV, M, H, V, X, FT(AVX), AT(IA_STORE __VA_ARGS__))
#define VGATHER(nm, n) ROW(nm, I_VGATHER, V, VM, H, NONE, MEMSZ(n), FT(AVX), AT(IA_LOAD))
#define VGATHERS(d, q) X66(VEXW(VGATHER(d, 4), VGATHER(q, 8)))
#define VARSHIFT(nm) X66(VEXW(V3(nm "d"), V3(nm "q")))
#define FMA_P(nm, ...) ROW(nm, I_AVX, V, H, W, X, FT(FMA), AT(IA_LOAD | FP __VA_ARGS__))
#define FMA_S(nm, n) ROW(nm, I_AVX, V, H, W, NONE, MEMSZ(n), FT(FMA), AT(IA_LOAD | FP | IA_LIG))
#define FMAP(nm) X66(VEXW(FMA_P(nm "ps"), FMA_P(nm "pd")))
#define FMAS(nm) X66(VEXW(FMA_S(nm "ss", 4), FMA_S(nm "sd", 8)))
#define FMA_ROWS(base, order)                                                                      \
    [base + 6] = FMAP("vfmaddsub" order), [base + 7] = FMAP("vfmsubadd" order),                    \
    [base + 8] = FMAP("vfmadd" order), [base + 9] = FMAS("vfmadd" order),                          \
    [base + 10] = FMAP("vfmsub" order), [base + 11] = FMAS("vfmsub" order),                        \
    [base + 12] = FMAP("vfnmadd" order), [base + 13] = FMAS("vfnmadd" order),                      \
    [base + 14] = FMAP("vfnmsub" order), [base + 15] = FMAS("vfnmsub" order)
#define F16(nm, n, ...) ROW(nm, I_AVX, V, W, NONE, NONE, MEMSZ(n), FT(F16C), AT(IA_LOAD | FP | IA_W0))
/* BMI: CF from the operand, OF clear, SF and ZF from the result; AF and PF undefined */
#define BMIFL FL(0, IF_ALL, IF_AF | IF_PF)
#define BLS(nm, id) PFX(ROW(nm, id, B, E, NONE, Y, BMIFL, FT(BMI1), AT(IA_LOAD | IA_L0)))
#define BMI_SH(nm, id) ROW(nm, id, G, E, B, Y, FT(BMI2), AT(IA_LOAD | IA_L0))
#define BMI_PDP(nm, id) ROW(nm, id, G, B, E, Y, FT(BMI2), AT(IA_LOAD | IA_L0))

const struct insn_node insn_map_vex0f38[256] = {
    [0x00] = P3("vpshufb"),
    [0x01] = P3("vphaddw"),
    [0x02] = P3("vphaddd"),
    [0x03] = P3("vphaddsw"),
    [0x04] = P3("vpmaddubsw"),
    [0x05] = P3("vphsubw"),
    [0x06] = P3("vphsubd"),
    [0x07] = P3("vphsubsw"),
    [0x08] = P3("vpsignb"),
    [0x09] = P3("vpsignw"),
    [0x0a] = P3("vpsignd"),
    [0x0b] = P3("vpmulhrsw"),
    [0x0c] = X66(V3("vpermilps", | IA_W0)),
    [0x0d] = X66(V3("vpermilpd", | IA_W0)),
    [0x0e] = X66(VCMPF("vtestps", X, 0, | IA_W0)),
    [0x0f] = X66(VCMPF("vtestpd", X, 0, | IA_W0)),
    [0x13] = X66(VEXL(F16("vcvtph2ps", 8), F16("vcvtph2ps", 16))),
    [0x16] = X66(V3("vpermps", | IA_L1 | IA_W0)),
    [0x17] = X66(VCMPF("vptest", X, 0, )),
    [0x18] = X66(V2N("vbroadcastss", 4, | IA_W0)),
    [0x19] = X66(V2N("vbroadcastsd", 8, | IA_L1 | IA_W0)),
    [0x1a] = X66(VLDMN("vbroadcastf128", 16, | IA_L1 | IA_W0)),
    [0x1c] = X66(V2("vpabsb")),
    [0x1d] = X66(V2("vpabsw")),
    [0x1e] = X66(V2("vpabsd")),
    [0x20] = PMOVX("vpmovsxbw", 8),
    [0x21] = PMOVX("vpmovsxbd", 4),
    [0x22] = PMOVX("vpmovsxbq", 2),
    [0x23] = PMOVX("vpmovsxwd", 8),
    [0x24] = PMOVX("vpmovsxwq", 4),
    [0x25] = PMOVX("vpmovsxdq", 8),
    [0x28] = P3("vpmuldq"),
    [0x29] = P3("vpcmpeqq"),
    [0x2a] = X66(VLDM("vmovntdqa", | IA_ALIGN)),
    [0x2b] = P3("vpackusdw"),
    [0x2c] = X66(VMASK_LD("vmaskmovps", | IA_W0)),
    [0x2d] = X66(VMASK_LD("vmaskmovpd", | IA_W0)),
    [0x2e] = X66(VMASK_ST("vmaskmovps", | IA_W0)),
    [0x2f] = X66(VMASK_ST("vmaskmovpd", | IA_W0)),
    [0x30] = PMOVX("vpmovzxbw", 8),
    [0x31] = PMOVX("vpmovzxbd", 4),
    [0x32] = PMOVX("vpmovzxbq", 2),
    [0x33] = PMOVX("vpmovzxwd", 8),
    [0x34] = PMOVX("vpmovzxwq", 4),
    [0x35] = PMOVX("vpmovzxdq", 8),
    [0x36] = X66(V3("vpermd", | IA_L1 | IA_W0)),
    [0x37] = P3("vpcmpgtq"),
    [0x38] = P3("vpminsb"),
    [0x39] = P3("vpminsd"),
    [0x3a] = P3("vpminuw"),
    [0x3b] = P3("vpminud"),
    [0x3c] = P3("vpmaxsb"),
    [0x3d] = P3("vpmaxsd"),
    [0x3e] = P3("vpmaxuw"),
    [0x3f] = P3("vpmaxud"),
    [0x40] = P3("vpmulld"),
    [0x41] = X66(V2("vphminposuw", | IA_L0)),
    [0x45] = VARSHIFT("vpsrlv"),
    [0x46] = X66(V3("vpsravd", | IA_W0)),
    [0x47] = VARSHIFT("vpsllv"),
    [0x58] = X66(V2N("vpbroadcastd", 4, | IA_W0)),
    [0x59] = X66(V2N("vpbroadcastq", 8, | IA_W0)),
    [0x5a] = X66(VLDMN("vbroadcasti128", 16, | IA_L1 | IA_W0)),
    [0x78] = X66(V2N("vpbroadcastb", 1, | IA_W0)),
    [0x79] = X66(V2N("vpbroadcastw", 2, | IA_W0)),
    [0x8c] = X66(VEXW(VMASK_LD("vpmaskmovd"), VMASK_LD("vpmaskmovq"))),
    [0x8e] = X66(VEXW(VMASK_ST("vpmaskmovd"), VMASK_ST("vpmaskmovq"))),
    [0x90] = VGATHERS("vpgatherdd", "vpgatherdq"),
    [0x91] = VGATHERS("vpgatherqd", "vpgatherqq"),
    [0x92] = VGATHERS("vgatherdps", "vgatherdpd"),
    [0x93] = VGATHERS("vgatherqps", "vgatherqpd"),
    FMA_ROWS(0x90, "132"),
    FMA_ROWS(0xa0, "213"),
    FMA_ROWS(0xb0, "231"),
    [0xdb] = X66(V2("vaesimc", | IA_L0)),
    [0xdc] = X66(V3("vaesenc", | IA_L0)),
    [0xdd] = X66(V3("vaesenclast", | IA_L0)),
    [0xde] = X66(V3("vaesdec", | IA_L0)),
    [0xdf] = X66(V3("vaesdeclast", | IA_L0)),
    [0xf2] = PFX(ROW("andn", I_ANDN, G, B, E, Y, BMIFL, FT(BMI1), AT(IA_LOAD | IA_L0))),
    [0xf3] = REG(UD_NODE, BLS("blsr", I_BLSR), BLS("blsmsk", I_BLSMSK), BLS("blsi", I_BLSI)),
    [0xf5] = PFX(ROW("bzhi", I_BZHI, G, E, B, Y, BMIFL, FT(BMI2), AT(IA_LOAD | IA_L0)), UD_NODE,
                 BMI_PDP("pext", I_PEXT), BMI_PDP("pdep", I_PDEP)),
    [0xf6] = F2(BMI_PDP("mulx", I_MULX)),
    [0xf7] = PFX(ROW("bextr", I_BEXTR, G, E, B, Y, FL(0, IF_ALL, IF_AF | IF_PF | IF_SF), FT(BMI1),
                     AT(IA_LOAD | IA_L0)),
                 BMI_SH("shlx", I_SHLX), BMI_SH("sarx", I_SARX), BMI_SH("shrx", I_SHRX)),
};

#define VINS128(nm) V3NI(nm, 16, | IA_L1 | IA_W0)
#define VEXT128(nm) AVX(nm, W, V, IUB, NONE, NONE, MEMSZ(16), AT(IA_STORE | IA_L1 | IA_W0))
#define F16ST(nm, n) ROW(nm, I_AVX, W, V, IUB, NONE, MEMSZ(n), FT(F16C), AT(IA_STORE | FP | IA_W0))
#define VBLENDV(nm) X66(AVX(nm, V, H, W, L, X, AT(IA_LOAD | IA_W0)))
#define VPCMPSTR(nm, at)                                                                           \
    X66(AVX(nm, V, W, IUB, NONE, Y, MEMSZ(16), FL(0, IF_ALL, 0), AT(IA_LOAD | IA_EFLAGS | IA_L0 at)))

const struct insn_node insn_map_vex0f3a[256] = {
    [0x00] = X66(V2I("vpermq", | IA_L1 | IA_W1)),
    [0x01] = X66(V2I("vpermpd", | IA_L1 | IA_W1)),
    [0x02] = X66(V3I("vpblendd", | IA_W0)),
    [0x04] = X66(V2I("vpermilps", | IA_W0)),
    [0x05] = X66(V2I("vpermilpd", | IA_W0)),
    [0x06] = X66(V3I("vperm2f128", | IA_L1 | IA_W0)),
    [0x08] = X66(V2I("vroundps", | FP)),
    [0x09] = X66(V2I("vroundpd", | FP)),
    [0x0a] = X66(VS3I("vroundss", 4, | FP)),
    [0x0b] = X66(VS3I("vroundsd", 8, | FP)),
    [0x0c] = X66(V3I("vblendps")),
    [0x0d] = X66(V3I("vblendpd")),
    [0x0e] = X66(V3I("vpblendw")),
    [0x0f] = X66(V3I("vpalignr")),
    [0x14] = X66(VPEXTR("vpextrb", D, 1)),
    [0x15] = X66(VPEXTR("vpextrw", D, 2)),
    [0x16] = X66(VPEXTR("vpextrd", Y, 0)),
    [0x17] = X66(VPEXTR("vextractps", D, 4)),
    [0x18] = X66(VINS128("vinsertf128")),
    [0x19] = X66(VEXT128("vextractf128")),
    [0x1d] = X66(VEXL(F16ST("vcvtps2ph", 8), F16ST("vcvtps2ph", 16))),
    [0x20] = X66(VPINSR("vpinsrb", D, 1)),
    [0x21] = X66(V3NI("vinsertps", 4, | IA_L0)),
    [0x22] = X66(VPINSR("vpinsrd", Y, 0)),
    [0x38] = X66(VINS128("vinserti128")),
    [0x39] = X66(VEXT128("vextracti128")),
    [0x40] = X66(V3I("vdpps", | FP)),
    [0x41] = X66(V3I("vdppd", | FP | IA_L0)),
    [0x42] = X66(V3I("vmpsadbw")),
    [0x44] = X66(V3I("vpclmulqdq", | IA_L0)),
    [0x46] = X66(V3I("vperm2i128", | IA_L1 | IA_W0)),
    [0x4a] = VBLENDV("vblendvps"),
    [0x4b] = VBLENDV("vblendvpd"),
    [0x4c] = VBLENDV("vpblendvb"),
    [0x60] = VPCMPSTR("vpcmpestrm", | IA_RAXRDX_IN),
    [0x61] = VPCMPSTR("vpcmpestri", | IA_RAXRDX_IN | IA_RCX_OUT),
    [0x62] = VPCMPSTR("vpcmpistrm", ),
    [0x63] = VPCMPSTR("vpcmpistri", | IA_RCX_OUT),
    [0xdf] = X66(V2I("vaeskeygenassist", | IA_L0)),
    [0xf0] = F2(ROW("rorx", I_RORX, G, E, IUB, Y, FT(BMI2), AT(IA_LOAD | IA_L0))),
};

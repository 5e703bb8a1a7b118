/* SPDX-License-Identifier: Apache-2.0 */
/* The three-byte opcode maps 0F38 and 0F3A. Source: Intel SDM vol. 2, appendix A. */
#include "cpu/soft/insn_table_sse.h"

/* clang-format off */
#define X66(...) PFX(UD_NODE, __VA_ARGS__)
#define PMOVX(nm, n) X66(XN(nm, SSE41, n))
#define CRC(sz) ROW("crc32", I_CRC32, G, E, NONE, sz, FT(SSE42), AT(IA_LOAD))
#define MOVBE_LD ROW("movbe", I_MOVBE, G, M, NONE, V, FT(MOVBE), AT(IA_LOAD))
#define MOVBE_ST ROW("movbe", I_MOVBE, M, G, NONE, V, FT(MOVBE), AT(IA_STORE))

const struct insn_node insn_map_0f38[256] = {
    [0x00] = PAIR("pshufb", SSSE3, SSSE3),
    [0x01] = PAIR("phaddw", SSSE3, SSSE3),
    [0x02] = PAIR("phaddd", SSSE3, SSSE3),
    [0x03] = PAIR("phaddsw", SSSE3, SSSE3),
    [0x04] = PAIR("pmaddubsw", SSSE3, SSSE3),
    [0x05] = PAIR("phsubw", SSSE3, SSSE3),
    [0x06] = PAIR("phsubd", SSSE3, SSSE3),
    [0x07] = PAIR("phsubsw", SSSE3, SSSE3),
    [0x08] = PAIR("psignb", SSSE3, SSSE3),
    [0x09] = PAIR("psignw", SSSE3, SSSE3),
    [0x0a] = PAIR("psignd", SSSE3, SSSE3),
    [0x0b] = PAIR("pmulhrsw", SSSE3, SSSE3),
    [0x10] = X66(X("pblendvb", SSE41)),
    [0x14] = X66(X("blendvps", SSE41)),
    [0x15] = X66(X("blendvpd", SSE41)),
    [0x17] = X66(XCMP("ptest", SSE41, 16, | IA_ALIGN)),
    [0x1c] = PAIR("pabsb", SSSE3, SSSE3),
    [0x1d] = PAIR("pabsw", SSSE3, SSSE3),
    [0x1e] = PAIR("pabsd", SSSE3, SSSE3),
    [0x20] = PMOVX("pmovsxbw", 8),
    [0x21] = PMOVX("pmovsxbd", 4),
    [0x22] = PMOVX("pmovsxbq", 2),
    [0x23] = PMOVX("pmovsxwd", 8),
    [0x24] = PMOVX("pmovsxwq", 4),
    [0x25] = PMOVX("pmovsxdq", 8),
    [0x28] = X66(X("pmuldq", SSE41)),
    [0x29] = X66(X("pcmpeqq", SSE41)),
    [0x2a] = X66(XM("movntdqa", SSE41, 16, | IA_ALIGN)),
    [0x2b] = X66(X("packusdw", SSE41)),
    [0x30] = PMOVX("pmovzxbw", 8),
    [0x31] = PMOVX("pmovzxbd", 4),
    [0x32] = PMOVX("pmovzxbq", 2),
    [0x33] = PMOVX("pmovzxwd", 8),
    [0x34] = PMOVX("pmovzxwq", 4),
    [0x35] = PMOVX("pmovzxdq", 8),
    [0x37] = X66(X("pcmpgtq", SSE42)),
    [0x38] = X66(X("pminsb", SSE41)),
    [0x39] = X66(X("pminsd", SSE41)),
    [0x3a] = X66(X("pminuw", SSE41)),
    [0x3b] = X66(X("pminud", SSE41)),
    [0x3c] = X66(X("pmaxsb", SSE41)),
    [0x3d] = X66(X("pmaxsd", SSE41)),
    [0x3e] = X66(X("pmaxuw", SSE41)),
    [0x3f] = X66(X("pmaxud", SSE41)),
    [0x40] = X66(X("pmulld", SSE41)),
    [0x41] = X66(X("phminposuw", SSE41)),
    [0xdb] = X66(X("aesimc", AES)),
    [0xdc] = X66(X("aesenc", AES)),
    [0xdd] = X66(X("aesenclast", AES)),
    [0xde] = X66(X("aesdec", AES)),
    [0xdf] = X66(X("aesdeclast", AES)),
    [0xf0] = PFX(MOVBE_LD, MOVBE_LD, UD_NODE, CRC(B)),
    [0xf1] = PFX(MOVBE_ST, MOVBE_ST, UD_NODE, CRC(V)),
};

#define PEXTR(nm, sz, n) X66(ROW(nm, I_SSE, E, V, IUB, sz, MEMSZ(n), FT(SSE41), AT(IA_STORE | IA_GRM_DST)))
#define PINSR(nm, sz, n) X66(ROW(nm, I_SSE, V, E, IUB, sz, MEMSZ(n), FT(SSE41), AT(IA_LOAD | IA_GRM_SRC)))
#define PCMPSTR(nm, at)                                                                            \
    X66(ROW(nm, I_SSE, V, W, IUB, Y, MEMSZ(16), FT(SSE42), FL(0, IF_ALL, 0), AT(IA_LOAD | IA_EFLAGS at)))

const struct insn_node insn_map_0f3a[256] = {
    [0x08] = X66(XI("roundps", SSE41, | FP)),
    [0x09] = X66(XI("roundpd", SSE41, | FP)),
    [0x0a] = X66(XNI("roundss", SSE41, 4, | FP)),
    [0x0b] = X66(XNI("roundsd", SSE41, 8, | FP)),
    [0x0c] = X66(XI("blendps", SSE41)),
    [0x0d] = X66(XI("blendpd", SSE41)),
    [0x0e] = X66(XI("pblendw", SSE41)),
    [0x0f] = PFX(MXI("palignr", SSSE3), XI("palignr", SSSE3)),
    [0x14] = PEXTR("pextrb", D, 1),
    [0x15] = PEXTR("pextrw", D, 2),
    [0x16] = PEXTR("pextrd", Y, 0),
    [0x17] = PEXTR("extractps", D, 4),
    [0x20] = PINSR("pinsrb", D, 1),
    [0x21] = X66(XNI("insertps", SSE41, 4)),
    [0x22] = PINSR("pinsrd", Y, 0),
    [0x40] = X66(XI("dpps", SSE41, | FP)),
    [0x41] = X66(XI("dppd", SSE41, | FP)),
    [0x42] = X66(XI("mpsadbw", SSE41)),
    [0x44] = X66(XI("pclmulqdq", PCLMUL)),
    [0x60] = PCMPSTR("pcmpestrm", | IA_RAXRDX_IN),
    [0x61] = PCMPSTR("pcmpestri", | IA_RAXRDX_IN | IA_RCX_OUT),
    [0x62] = PCMPSTR("pcmpistrm", ),
    [0x63] = PCMPSTR("pcmpistri", | IA_RCX_OUT),
    [0xdf] = X66(XI("aeskeygenassist", AES)),
};

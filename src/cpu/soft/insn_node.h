/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decode table's building blocks. A table is a 256-entry array of nodes indexed by the opcode
 * byte; a node is a row (one instruction form), nothing (#UD), or a small array indexed by
 * something else the decoder knows: a prefix, a ModRM field, the operand size. So decoding is a
 * walk of at most five direct indexings. Included only by the insn_table*.c files and
 * insn_decode.c.
 */
#ifndef SM_SOFT_INSN_NODE_H
#define SM_SOFT_INSN_NODE_H

#include "cpu/soft/insn.h"

enum insn_node_kind {
    NK_UD,     /* no instruction; must be 0: absent array elements */
    NK_ROW,    /* .row */
    NK_PREFIX, /* sub[4]: mandatory prefix none, 66, F3, F2 */
    NK_REP,    /* sub[4] as NK_PREFIX, but the prefix keeps its other meaning too */
    NK_MOD,    /* sub[2]: ModRM memory form, register form */
    NK_REG,    /* sub[8]: ModRM.reg without REX.R */
    NK_RM,     /* sub[8]: ModRM.rm without REX.B */
    NK_OPSZ,   /* sub[3]: operand size 16, 32, 64 */
    NK_REXB,   /* sub[2]: REX.B */
    NK_VEXL,   /* sub[2]: VEX.L */
    NK_VEXW,   /* sub[2]: VEX.W */
    NK_MODE,   /* sub[2]: 64-bit mode, 16- and 32-bit modes */
};

/* What the decoder must know of a row's operands, computed from the kinds at compile time. */
#define NE_MODRM 0x01u  /* has a ModRM byte */
#define NE_MEM 0x02u    /* memory form only */
#define NE_REG 0x04u    /* register form only */
#define NE_ANYMOD 0x08u /* mod is ignored, always the register form (MOV CR, DR) */
#define NE_REXR 0x10u   /* REX.R extends ModRM.reg */
#define NE_REXB 0x20u   /* REX.B extends ModRM.rm in register form */
#define NE_OPREG 0x40u  /* register in the opcode byte */
#define NE_IMM 0x80u    /* has any of the below */
#define NE_I 0x0100u    /* immediates, by operand kind */
#define NE_IB 0x0200u
#define NE_IUB 0x0400u
#define NE_IW 0x0800u
#define NE_IV 0x1000u
#define NE_J 0x2000u
#define NE_O 0x4000u
#define NE_VVVV 0x8000u  /* VEX.vvvv is a register; else it must be 1111 */
#define NE_VSIB 0x10000u /* SIB with a vector register as index */

struct insn_node {
    union {
        const struct insn_desc *row;
        const struct insn_node *sub;
    };
    uint8_t kind; /* enum insn_node_kind */
    uint32_t enc; /* NE_*, for a row */
};

extern const struct insn_node insn_map_1byte[256];
extern const struct insn_node insn_map_0f[256];
extern const struct insn_node insn_map_0f38[256];
extern const struct insn_node insn_map_0f3a[256];
/* The same opcodes behind a VEX prefix. */
extern const struct insn_node insn_map_vex0f[256];
extern const struct insn_node insn_map_vex0f38[256];
extern const struct insn_node insn_map_vex0f3a[256];
/* The x87 opcodes D8-DF, linked from insn_map_1byte: by memory or register form, then reg. */
extern const struct insn_node insn_x87[8][2];

#define NE_HAS(k, a, b, c, d) (O_##a == O_##k || O_##b == O_##k || O_##c == O_##k || O_##d == O_##k)
#define NE_IF(bits, k, ...) (NE_HAS(k, __VA_ARGS__) ? (bits) : 0u)
#define NE_IMM_OF(...)                                                                             \
    (NE_IF(NE_I, I, __VA_ARGS__) | NE_IF(NE_IB, IB, __VA_ARGS__) |                                 \
     NE_IF(NE_IUB, IUB, __VA_ARGS__) | NE_IF(NE_IUB, L, __VA_ARGS__) |                             \
     NE_IF(NE_IW, IW, __VA_ARGS__) | NE_IF(NE_IV, IV, __VA_ARGS__) | NE_IF(NE_J, J, __VA_ARGS__) | \
     NE_IF(NE_O, O, __VA_ARGS__))
#define NE_CTL(...) (NE_HAS(C, __VA_ARGS__) || NE_HAS(D, __VA_ARGS__))
#define NE_OF(...)                                                                                 \
    (NE_IF(NE_MODRM | NE_REXB, E, __VA_ARGS__) | NE_IF(NE_MODRM | NE_REXR, G, __VA_ARGS__) |       \
     NE_IF(NE_MODRM | NE_MEM, M, __VA_ARGS__) |                                                    \
     NE_IF(NE_MODRM | NE_MEM | NE_VSIB, VM, __VA_ARGS__) |                                         \
     NE_IF(NE_MODRM | NE_REXB | (NE_CTL(__VA_ARGS__) ? 0u : NE_REG), R, __VA_ARGS__) |             \
     NE_IF(NE_MODRM, S, __VA_ARGS__) | NE_IF(NE_MODRM | NE_REXR, V, __VA_ARGS__) |                 \
     NE_IF(NE_MODRM | NE_REXB, W, __VA_ARGS__) |                                                   \
     NE_IF(NE_MODRM | NE_REXB | NE_REG, U, __VA_ARGS__) |                                          \
     (NE_CTL(__VA_ARGS__) ? NE_MODRM | NE_ANYMOD | NE_REXR : 0u) |                                 \
     NE_IF(NE_MODRM, P, __VA_ARGS__) | NE_IF(NE_MODRM, Q, __VA_ARGS__) |                           \
     NE_IF(NE_MODRM | NE_REG, N, __VA_ARGS__) | NE_IF(NE_OPREG, Z, __VA_ARGS__) |                  \
     NE_IF(NE_VVVV, H, __VA_ARGS__) | NE_IF(NE_VVVV, B, __VA_ARGS__) | NE_IMM_OF(__VA_ARGS__) |    \
     (NE_IMM_OF(__VA_ARGS__) ? NE_IMM : 0u))

/* One row: mnemonic, id, three operand kinds (ROW4: four), size, then designated members of struct
 * insn_desc. */
#define ROW4(nm, id_, a, b, c, d, sz, ...)                                                         \
    {                                                                                              \
        .row = &(const struct insn_desc){.name = nm,                                               \
                                         .id = id_,                                                \
                                         .op = {O_##a, O_##b, O_##c, O_##d},                       \
                                         .size = SZ_##sz,                                          \
                                         __VA_ARGS__},                                             \
        .kind = NK_ROW, .enc = NE_OF(a, b, c, d)                                                   \
    }
#define ROW(nm, id_, a, b, c, sz, ...) ROW4(nm, id_, a, b, c, NONE, sz, __VA_ARGS__)
#define UD_NODE                                                                                    \
    {                                                                                              \
        .kind = NK_UD                                                                              \
    }
#define NODE_OF(k, n, ...)                                                                         \
    {                                                                                              \
        .sub = (const struct insn_node[n]){__VA_ARGS__}, .kind = k                                 \
    }
#define PFX(...) NODE_OF(NK_PREFIX, 4, __VA_ARGS__)
#define REPX(...) NODE_OF(NK_REP, 4, __VA_ARGS__)
#define MOD(...) NODE_OF(NK_MOD, 2, __VA_ARGS__)
#define REG(...) NODE_OF(NK_REG, 8, __VA_ARGS__)
#define RM(...) NODE_OF(NK_RM, 8, __VA_ARGS__)
#define OPSZ(...) NODE_OF(NK_OPSZ, 3, __VA_ARGS__)
#define REXB(...) NODE_OF(NK_REXB, 2, __VA_ARGS__)
#define VEXL(...) NODE_OF(NK_VEXL, 2, __VA_ARGS__)
#define VEXW(...) NODE_OF(NK_VEXW, 2, __VA_ARGS__)
#define MODES(...) NODE_OF(NK_MODE, 2, __VA_ARGS__)
#define ONLY64(...) MODES(__VA_ARGS__, UD_NODE)
#define LEGACY(...) MODES(UD_NODE, __VA_ARGS__)

/* Members of a row, short. FL: arithmetic flags read, written, left undefined. */
#define FL(r, w, u) .flags_read = (r), .flags_written = (w), .flags_undefined = (u)
#define AT(...) .attr = (__VA_ARGS__)
#define MEMSZ(n) .mem_size = (n)
#define FT(f) .feature = IFT_##f
#define A_RMW (IA_LOAD | IA_STORE)
#define A_JMP (IA_END | IA_BRANCH)

/* Flags each condition code reads. */
#define CC_O IF_OF
#define CC_B IF_CF
#define CC_Z IF_ZF
#define CC_BE (IF_CF | IF_ZF)
#define CC_S IF_SF
#define CC_P IF_PF
#define CC_L (IF_SF | IF_OF)
#define CC_LE (IF_SF | IF_OF | IF_ZF)
/* The sixteen forms from opcode base, in condition order: row is a macro of (suffix, flags). */
#define CC_ROWS(base, row)                                                                         \
    [base] = row("o", CC_O), [base + 1] = row("no", CC_O), [base + 2] = row("b", CC_B),            \
    [base + 3] = row("nb", CC_B), [base + 4] = row("z", CC_Z), [base + 5] = row("nz", CC_Z),       \
    [base + 6] = row("be", CC_BE), [base + 7] = row("nbe", CC_BE), [base + 8] = row("s", CC_S),    \
    [base + 9] = row("ns", CC_S), [base + 10] = row("p", CC_P), [base + 11] = row("np", CC_P),     \
    [base + 12] = row("l", CC_L), [base + 13] = row("nl", CC_L), [base + 14] = row("le", CC_LE),   \
    [base + 15] = row("nle", CC_LE)

#endif

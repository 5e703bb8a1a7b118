/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing host instructions, one call each, into memory that is executable at another address.
 * Encodings: Intel SDM vol. 2, 2.1-2.2. Running out of room is remembered, not reported at once:
 * what was written is then to be thrown away.
 *
 * Threads: none of it locks; one writer per buffer.
 */
#ifndef SM_SOFT_EMIT_H
#define SM_SOFT_EMIT_H

#include <stdbool.h>
#include <stdint.h>

/* Host registers by number. */
enum { H_AX, H_CX, H_DX, H_BX, H_SP, H_BP, H_SI, H_DI, H_R8, H_R9, H_R10, H_R11 };
#define H_NONE 0xff

struct emit_buf {
    uint8_t *at, *start, *end; /* borrowed: where the next byte goes, within [start, end) */
    const uint8_t *run;        /* where start is executable */
    bool full;                 /* something did not fit */
};

/* A host memory operand. RSP is never a base or an index. */
struct host_mem {
    uint8_t base, index, scale; /* H_NONE: without; scale is log2 */
    int32_t disp;
};

/* One instruction: prefixes, REX or VEX (made up from the registers), opcode, ModRM, immediate. */
struct host_insn {
    uint8_t prefix; /* 0, 66, F2 or F3 */
    uint8_t opcode[3];
    uint8_t n_opcode;
    uint8_t reg; /* ModRM.reg: a register, or part of the opcode */
    uint8_t rm;  /* register operand, when !is_mem */
    uint8_t n_imm;
    bool lock, wide; /* wide: REX.W */
    bool bytes;      /* byte registers: 4 to 7 are SPL to DIL */
    bool is_mem;
    uint8_t vex_map; /* 0: no VEX prefix, else it has one instead of prefix, REX and escapes */
    uint8_t vex_pp, vex_l, vvvv;
    struct host_mem mem;
    const uint8_t *imm; /* borrowed */
};

void emit_insn(struct emit_buf *b, const struct host_insn *i);

void emit8(struct emit_buf *b, uint8_t v);
void emit32(struct emit_buf *b, uint32_t v);
/* Raw bytes of a string literal. */
void emit_bytes(struct emit_buf *b, const char *bytes, unsigned n);
#define EMIT(b, literal) emit_bytes(b, literal, sizeof(literal) - 1)

/* Opcodes of one byte, or of two as 0x0fXX; 64 bits wide where the name says so. */
void emit_rm64(struct emit_buf *b, unsigned opcode, unsigned reg, struct host_mem mem);
void emit_rm32(struct emit_buf *b, unsigned opcode, unsigned reg, struct host_mem mem);
void emit_rr64(struct emit_buf *b, unsigned opcode, unsigned reg, unsigned rm);
void emit_rr32(struct emit_buf *b, unsigned opcode, unsigned reg, unsigned rm);
/* Without effect on flags, in the shortest form. */
void emit_mov_imm(struct emit_buf *b, unsigned reg, uint64_t v);

/* Executable address of the next byte. */
static inline const uint8_t *emit_here(const struct emit_buf *b)
{
    return b->run + (b->at - b->start);
}

/* Jumps, always with 32-bit displacements. emit_jcc() is forward, and returns the place of its one
 * for emit_land(). cond: 0 to 15. */
uint8_t *emit_jcc(struct emit_buf *b, unsigned cond);
void emit_jmp_to(struct emit_buf *b, const uint8_t *target); /* target: executable address */
void emit_land(struct emit_buf *b, uint8_t *from);           /* a forward jump comes here */

static inline struct host_mem host_at(unsigned base, uint32_t disp)
{
    return (struct host_mem){(uint8_t)base, H_NONE, 0, (int32_t)disp};
}

#endif

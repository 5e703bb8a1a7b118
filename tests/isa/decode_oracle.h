/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compares insn_decode() with Zydis on one byte sequence, field by field. Every permitted
 * difference is in one of two tables of decode_oracle.c: ISA extensions that the CPU model lacks,
 * and known differences with their reasons. Single-threaded.
 */
#ifndef SM_TESTS_DECODE_ORACLE_H
#define SM_TESTS_DECODE_ORACLE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <Zydis/Zydis.h>

/* What is compared. */
enum oracle_field {
    OF_LEGAL_ZYDIS, /* Zydis accepts, we do not */
    OF_LEGAL_OURS,  /* we accept, Zydis does not */
    OF_LENGTH,
    OF_NAME,
    OF_FEATURE,
    OF_ATTR,
    OF_OPSIZE,
    OF_LAYOUT, /* offsets and sizes of parts, REX, ModRM */
    OF_MEMORY, /* base, index, scale, displacement, segment */
    OF_MEM_SIZE,
    OF_ACCESS, /* memory operand read, written */
    OF_ALIGN,
    OF_FP_ARITH,
    OF_REG, /* register operands from ModRM.reg, ModRM.rm, opcode */
    OF_IMM,
    OF_FLAGS_READ,
    OF_FLAGS_WRITTEN,
    OF_FLAGS_UNDEFINED,
    OF_TRUNCATED,
    OF_COUNT
};

#define ORACLE_MAX_KNOWN 128

struct oracle {
    ZydisDecoder decoder;
    uint64_t model; /* INSN_MODEL_* */
    int mode;       /* enum insn_mode */
    uint64_t compared, legal, outside_model, unexplained;
    uint64_t known_hits[ORACLE_MAX_KNOWN]; /* by index of the known-difference table */
    /* differences printed so far, one per field and mnemonic */
    uint8_t reported[OF_COUNT][ZYDIS_MNEMONIC_MAX_VALUE + 1];
};

/* mode: enum insn_mode; 16 and 32 bits are Zydis' legacy machine modes. */
void oracle_init(struct oracle *o, uint64_t model, int mode);

/*
 * Compare on bytes[0..len). Unexplained differences are counted and the first ones printed to
 * stdout. Returns the length by which a linear sweep should advance: the instruction's, or 1.
 */
unsigned oracle_compare(struct oracle *o, const uint8_t *bytes, size_t len);

/* Print the tallies and the known differences with their hit counts. */
void oracle_report(const struct oracle *o, FILE *out);

#endif

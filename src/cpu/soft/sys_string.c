/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MOVS STOS LODS SCAS CMPS where ops_string.c does not apply: 16-bit addresses, segments that are
 * not flat. One element at a time; a REP instruction does a bounded number and then leaves RIP at
 * itself, so that interrupts get in.
 */
#include "cpu/soft/legacy.h"
#include "cpu/soft/sys.h"

#define CHUNK 256 /* elements per go */

static uint32_t reg(const struct soft_cpu *cpu, const struct insn *insn, unsigned r)
{
    return insn->addr16 ? (uint16_t)cpu->gpr[r] : (uint32_t)cpu->gpr[r];
}

static void add(struct soft_cpu *cpu, const struct insn *insn, unsigned r, uint64_t by)
{
    sys_write_reg(cpu, r, insn->addr16 ? 2 : 4, cpu->gpr[r] + by);
}

static uint64_t source_va(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned segment = insn->seg == INSN_NO_SEG ? SEG_DS : insn->seg;
    return legacy_linear(cpu, segment, reg(cpu, insn, R_SI), insn->opsize, ACC_READ);
}

static uint64_t target_va(struct soft_cpu *cpu, const struct insn *insn, enum soft_access acc)
{
    return legacy_linear(cpu, SEG_ES, reg(cpu, insn, R_DI), insn->opsize, acc);
}

static void compare(struct soft_cpu *cpu, unsigned size, uint64_t a, uint64_t b)
{
    unsigned shift =
        32 - 8 * size; /* the same flags, but for AF and PF, as of the shifted values */
    uint16_t f, low;
    __asm__("cmpl %2, %1\n\tlahf\n\tseto %%al"
            : "=&a"(f)
            : "r"((uint32_t)a << shift), "r"((uint32_t)b << shift)
            : "cc");
    __asm__("cmpb %2, %1\n\tlahf\n\tseto %%al"
            : "=&a"(low)
            : "q"((uint8_t)a), "q"((uint8_t)b)
            : "cc");
    cpu->flags = (uint16_t)((f & ~0x1400u) | (low & 0x1400u));
}

static void element(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->opsize, id = insn->desc->id;
    uint64_t step = cpu->sys_flags & FL_DF ? 0 - (uint64_t)size : size;
    bool reads_si = id == I_MOVS || id == I_CMPS || id == I_LODS;
    uint64_t value = reads_si ? soft_load(cpu, source_va(cpu, insn), size) : cpu->gpr[R_AX];
    switch (id) {
    case I_MOVS:
    case I_STOS:
        soft_store(cpu, target_va(cpu, insn, ACC_WRITE), size,
                   value & (0xffffffffu >> (32 - 8 * size)));
        break;
    case I_LODS:
        sys_write_reg(cpu, R_AX, size, value);
        break;
    default: /* CMPS, SCAS */
        compare(cpu, size, value, soft_load(cpu, target_va(cpu, insn, ACC_READ), size));
        break;
    }
    if (reads_si) {
        add(cpu, insn, R_SI, step);
    }
    if (id != I_LODS) {
        add(cpu, insn, R_DI, step);
    }
}

void sys_string(struct soft_cpu *cpu, const struct insn *insn)
{
    bool compares = insn->desc->id == I_CMPS || insn->desc->id == I_SCAS;
    if (insn->rep == REP_NONE) {
        element(cpu, insn);
        return;
    }
    for (unsigned left = CHUNK; reg(cpu, insn, R_CX) != 0; left--) {
        if (left == 0) {
            cpu->rip = cpu->insn_rip;
            return;
        }
        element(cpu, insn);
        add(cpu, insn, R_CX, ~0ull);
        if (compares && ((cpu->flags & FLAGS_ZF) != 0) != (insn->rep == REP_REPE)) {
            return;
        }
        if (cpu->mode & MODE_STEP) {
            left = 1;
        }
    }
}

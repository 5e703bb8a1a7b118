/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segmented memory and the stack, for everything that also runs outside 64-bit mode: compatibility
 * mode, and protected and real mode before long mode.
 *
 * How legacy code stays on the fast paths of 64-bit code: while MODE_LEGACY is set, no TLB entry of
 * the current privilege lies at or above 4 GiB (tlb.c sees to it). So an address that wraps around
 * 32 bits needs no truncation where it is computed: it misses, and the slow path truncates it.
 * Segments cost nothing while ES, SS and DS are flat; MODE_SEGMENTED says that they are not, and an
 * operand's address is then checked by an operation of its own (ops_legacy.c), as are all through
 * CS, FS and GS.
 *
 * All of it runs inside a run slice, on the vCPU's thread; faults are raised.
 */
#ifndef SM_SOFT_LEGACY_H
#define SM_SOFT_LEGACY_H

#include "cpu/soft/segment.h"

static inline bool legacy_mode(const struct soft_cpu *cpu)
{
    return (cpu->mode & MODE_LEGACY) != 0;
}

/* In real mode (CR0.PE clear). */
static inline bool legacy_real(const struct soft_cpu *cpu)
{
    return !(cpu->cr0 & CR0_PE);
}

/* How the code at the current CS is decoded. */
static inline enum insn_mode legacy_insn_mode(uint32_t mode)
{
    return !(mode & MODE_LEGACY) ? INSN_64 : mode & MODE_CODE16 ? INSN_16 : INSN_32;
}

/* Linear address of an instruction; rip is relative to CS outside 64-bit mode. */
static inline uint64_t legacy_code_va(const struct soft_cpu *cpu, uint64_t rip)
{
    uint64_t va = rip + cpu->seg_base[SEG_CS];
    return legacy_mode(cpu) ? (uint32_t)va : va;
}

/*
 * Linear address of size bytes at offset in a segment, outside 64-bit mode. Raises #GP(0), or
 * #SS(0) for SS, when the segment forbids the access. Segment: ES ... GS. Source: SDM vol.
 * 3, 5.3-5.5.
 */
uint64_t legacy_linear(struct soft_cpu *cpu, unsigned segment, uint32_t offset, unsigned size,
                       enum soft_access acc);

/* The same in a segment that is not loaded; vector: V_GP or V_SS. */
uint64_t legacy_linear_in(struct soft_cpu *cpu, const struct seg_state *segment, uint32_t offset,
                          unsigned size, enum soft_access acc, unsigned vector);

/*
 * The stack in any mode: sp is a value of RSP, ESP or SP, of which only the bits that count are
 * used. Faults are #SS.
 */
uint64_t stack_load(struct soft_cpu *cpu, uint64_t sp, unsigned size);
void stack_store(struct soft_cpu *cpu, uint64_t sp, unsigned size, uint64_t value);
/* Store below RSP and lower it; load at RSP and raise it. */
void stack_push(struct soft_cpu *cpu, unsigned size, uint64_t value);
uint64_t stack_pop(struct soft_cpu *cpu, unsigned size);
/* Replace the bits of RSP that count. */
void stack_set(struct soft_cpu *cpu, uint64_t sp);

/* soft_update_mode(): the MODE_* bits that segments and the operating mode call for. Brings
 * seg_base[] and the TLBs in line. old: the mode before. */
uint32_t legacy_mode_bits(struct soft_cpu *cpu, uint32_t old);

/* sys.c's share: the instructions that only legacy modes have, and PUSH, POP, ENTER and string
 * instructions in forms that are rare there. */
void sys_legacy(struct soft_cpu *cpu, const struct insn *insn);
void sys_string(struct soft_cpu *cpu, const struct insn *insn);

#endif

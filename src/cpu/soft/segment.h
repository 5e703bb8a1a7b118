/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segment descriptors: reading the GDT and LDT, unpacking, loading segment registers. Internal to
 * the privileged half; runs inside a run slice. Source: Intel SDM vol. 3, chapters 3 and 5.
 */
#ifndef SM_SOFT_SEGMENT_H
#define SM_SOFT_SEGMENT_H

#include "cpu/soft/cpu.h"

/* seg_state.attr */
#define SA_ACCESSED 0x0001u
#define SA_WRITE 0x0002u   /* data: writable; code: readable */
#define SA_CONFORM 0x0004u /* code: conforming; data: expand-down */
#define SA_CODE 0x0008u
#define SA_S 0x0010u /* code or data, not system */
#define SA_P 0x0080u
#define SA_L 0x2000u
#define SA_DB 0x4000u
#define SA_G 0x8000u
#define SA_TYPE(attr) ((attr)&0x1fu) /* type with S */
#define SA_DPL(attr) (((attr) >> 5) & 3u)
#define SA_WITH_DPL(dpl) ((unsigned)(dpl) << 5)

#define ST_LDT 0x02u
#define ST_TSS_AVAILABLE 0x09u
#define ST_TSS_BUSY 0x0bu
#define ST_CALL_GATE 0x0cu
#define ST_INT_GATE 0x0eu
#define ST_TRAP_GATE 0x0fu

#define SEL_RPL(sel) ((sel)&3u)
#define SEL_NULL(sel) (((sel)&0xfffcu) == 0)
#define SEL_ERR(sel) ((sel)&0xfffcu) /* error code that names a selector */

/* A descriptor as read from a table. */
struct segment_desc {
    struct seg_state seg; /* base holds the low 32 bits for 8-byte descriptors */
    uint64_t va;          /* of the descriptor */
    uint64_t raw;         /* its first 8 bytes */
};

/* Read the descriptor that a non-null selector names. False when it lies outside its table (raise
 * #GP(selector) then, as a rule). A page fault is raised. */
bool segment_read(struct soft_cpu *cpu, uint16_t selector, struct segment_desc *out);
/* Second half of a 16-byte system descriptor: completes base. False as above; type bits that must
 * be zero also give false. */
bool segment_read_upper(struct soft_cpu *cpu, struct segment_desc *desc);
/* Set the accessed bit in memory and in *desc. */
void segment_mark_accessed(struct soft_cpu *cpu, struct segment_desc *desc);

/* Load SS, DS, ES, FS or GS as MOV does, with all checks. Outside 64-bit mode the instruction must
 * end its block. */
void segment_load(struct soft_cpu *cpu, enum seg_index index, uint16_t selector);
/* Check selector as SS at privilege cpl and fill *out; raises #GP or #SS. A null selector passes
 * only when null_ok. Changes no register. */
void segment_check_stack(struct soft_cpu *cpu, uint16_t selector, unsigned cpl, bool null_ok,
                         struct seg_state *out);
/* CS as a far transfer in real mode loads it. */
void segment_set_real_code(struct soft_cpu *cpu, uint16_t selector);
/* After a return to outer privilege: clear data segments that cpl may not use. */
void segment_drop_inner(struct soft_cpu *cpu, unsigned cpl);

/* Flat 64-bit (or 32-bit compatibility) code and flat data, as SYSCALL and SYSRET load them. */
void segment_set_flat(struct soft_cpu *cpu, uint16_t cs, uint16_t ss, unsigned dpl, bool long_mode);

#endif

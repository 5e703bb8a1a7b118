/* SPDX-License-Identifier: Apache-2.0 */
/* What deliver.c and deliver_legacy.c share. */
#ifndef SM_SOFT_DELIVER_PRIV_H
#define SM_SOFT_DELIVER_PRIV_H

#include "cpu/soft/segment.h"

enum { ERR_EXT = 1, ERR_IDT = 2 };

struct event {
    unsigned vector;
    bool soft; /* INT n, INT3: the gate's DPL counts and error codes have no EXT */
    bool has_code;
    uint32_t code;
    uint64_t rip;   /* return address */
    uint64_t flags; /* image to push */
};

/* Deliver before long mode: the real-mode vector table, or 8-byte gates. As deliver(). */
void deliver_legacy(struct soft_cpu *cpu, const struct event *e);
/*
 * The code segment of a gate (low: its first 8 bytes), whose type was checked, into cs with the
 * handler's CPL in its selector. code_bits: which of SA_L and SA_DB the segment must have, of those
 * in code_mask. Raises what SDM 6.12 says. Returns the handler's CPL.
 */
unsigned deliver_gate_code(struct soft_cpu *cpu, const struct event *e, uint64_t low,
                           uint32_t code_mask, uint32_t code_bits, struct seg_state *cs);
/* The handler's CS, RIP and flags are in: what every delivery ends with. masks: clear IF. */
void deliver_done(struct soft_cpu *cpu, bool masks);

#endif

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
/* The handler's CS, RIP and flags are in: what every delivery ends with. masks: clear IF. */
void deliver_done(struct soft_cpu *cpu, bool masks);

#endif

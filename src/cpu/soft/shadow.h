/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory as a replay sees it (check.h): pages that it writes, or whose page-table entries it
 * marks, are copies of its own; all others are the guest's. The replay's vCPU has soft_cpu.shadow
 * set, and walk.c and access.c ask here whenever it is about to touch memory for such a vCPU.
 *
 * A translation that the real vCPU has in its TLB is used as it is: the TLB is part of the state
 * that the block starts from. Everything else is walked anew, and kept for this replay only.
 *
 * In a run slice, on the vCPU's thread.
 */
#ifndef SM_SOFT_SHADOW_H
#define SM_SOFT_SHADOW_H

#include "cpu/soft/cpu.h"

#define SHADOW_PAGES 256 /* copies in one replay */
#define SHADOW_SLOTS 1024

/* Why a replay could not go on before some instruction. */
enum shadow_stop {
    SHADOW_GOES_ON,
    SHADOW_DEVICE, /* memory that is a device's */
    SHADOW_FULL,   /* too many pages written */
    SHADOW_FAILED, /* what the engine does not do */
    SHADOW_STOPS
};

struct shadow {
    const struct soft_cpu *real; /* borrowed: the vCPU that is replayed */
    uint8_t (*copy)[4096];       /* owned: SHADOW_PAGES */
    uint8_t *host[SHADOW_PAGES]; /* the guest's page that copy[i] stands for */
    unsigned n;
    uint16_t slot[SHADOW_SLOTS]; /* by hash of host: index in host[] + 1 */
    uint8_t stop;                /* enum shadow_stop */
    bool flushed;                /* the replay emptied its TLB: the real one counts no more */
};

/* Begin a replay: no copies. */
void shadow_clear(struct shadow *m);
/* The byte that the replay sees in place of the guest's byte at p; write: in a copy, made now if
 * there is none. Ends the replay (SHADOW_FULL) when there is no room. */
uint8_t *shadow_byte(struct soft_cpu *replay, uint8_t *p, bool write);
/* Host page of a data access as the real vCPU's TLB has it, or NULL. */
uint8_t *shadow_cached(const struct soft_cpu *replay, uint64_t va, bool write, bool user);
/* End the replay before the instruction under way. */
_Noreturn void shadow_leave(struct soft_cpu *replay, enum shadow_stop why);

#endif

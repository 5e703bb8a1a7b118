/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's page tables: the 4-level walk (Intel SDM vol. 3, 4.5). In a run slice.
 */
#ifndef SM_SOFT_WALK_H
#define SM_SOFT_WALK_H

#include "cpu/soft/exec.h"

struct walk {
    gpa_t phys; /* of the byte at va */
    bool writable, user, global, large, dirty;
    bool exec;
};

/*
 * Walk for one access. Returns 0 and *w, or the page-fault error code (with PFEC_* set as the
 * hardware would) in *code and -1. Sets accessed bits, and the dirty bit for writes.
 */
int soft_walk(struct soft_cpu *cpu, uint64_t va, enum soft_access acc, bool user, struct walk *w,
              uint32_t *code);

static inline bool va_canonical(uint64_t va)
{
    return (uint64_t)((int64_t)(va << 16) >> 16) == va;
}

#endif

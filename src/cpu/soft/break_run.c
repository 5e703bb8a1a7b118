/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/soft/breakpoint.h"
#include "cpu/soft/legacy.h"
#include "cpu/soft/soft.h"
#include "cpu/soft/watch.h"

/* Is the block's first instruction a repeated one? */
static bool repeats(const struct block *b)
{
    struct insn i;
    if (insn_decode_mode(b->bytes, b->n_bytes, legacy_insn_mode(b->mode), &i) != INSN_OK ||
        i.rep == REP_NONE) {
        return false;
    }
    switch (i.desc->id) {
    case I_MOVS:
    case I_CMPS:
    case I_STOS:
    case I_LODS:
    case I_SCAS:
    case I_INS:
    case I_OUTS:
        return true;
    default:
        return false;
    }
}

void break_run(struct soft_cpu *cpu)
{
    int32_t budget = cpu->budget;
    uint64_t rip = cpu->rip, va = legacy_code_va(cpu, rip);
    unsigned here = break_code_at(cpu, va, 1);
    if (here && !(cpu->sys_flags & FL_RF)) {
        break_raise(cpu, here);
    }
    cpu->sys_flags &= ~(uint64_t)FL_RF;
    cpu->link_from = NULL;
    struct block *b = blocks_find(cpu);
    if (cpu->break_careful || break_code_at(cpu, va + 1, b->n_bytes - 1u)) {
        watch_one(cpu, false);
    } else {
        watch_ops(cpu, b);
    }
    cpu->link_from = NULL;
    if (here && cpu->rip == rip && repeats(b)) {
        cpu->sys_flags |= FL_RF; /* the next iteration is no new instruction */
    }
    cpu->budget = budget - 1;
}

unsigned break_done(struct soft_cpu *cpu, bool ss_loaded)
{
    if (ss_loaded) {
        return 0;
    }
    unsigned hits = cpu->break_hits;
    cpu->break_hits = 0;
    cpu->break_careful = false;
    if (!cpu->break_code) {
        cpu->mode &= ~MODE_BREAK;
    }
    return hits;
}

bool break_landed(struct soft_cpu *cpu)
{
    if (cpu->exc_vector == BREAK_AGAIN) {
        watch_own_step_mode(cpu);
        return true;
    }
    cpu->break_careful = false;
    cpu->break_hits = 0;
    return false;
}

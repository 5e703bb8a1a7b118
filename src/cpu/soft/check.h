/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --check: each block is replayed and compared.
 *
 * Before a block runs, a second vCPU, a copy of the first, executes the same instructions one at a
 * time: each is fetched, decoded and lifted anew, with all its flags, no block cache, no links, no
 * translated code; its TLB begins empty, and what it writes goes to copies of pages (shadow.h).
 * Then the block runs for real, alone, and registers, flags, FP state and those pages must be the
 * same, or the exception that ended both. So it finds faults of everything that makes the engine
 * fast: the translator, fused and flag-free operations, links, the jump cache, the block cache and
 * code that changes. What one instruction does is in the same handlers on both sides; tests against
 * the host's processor are for that (tests/isa).
 *
 * With engine_debug.check_every, a block that was the same for its first CHECK_FIRST runs is
 * compared in one run of so many: enough for the interpreter's and the translator's form of it.
 *
 * Flags that an instruction leaves undefined are not compared until one defines them; the fast way
 * may leave others there than the slow way, so an instruction that looks at them runs by itself.
 *
 * Not compared: instructions that ask the world (device memory, ports, MSRs, the clock, random
 * numbers), which run by themselves, and the few blocks whose memory a device wrote meanwhile. The
 * other vCPUs are stopped while a block is replayed and run.
 *
 * check_run() and check_landed() run in a run slice, on the vCPU's thread; the rest outside one.
 */
#ifndef SM_SOFT_CHECK_H
#define SM_SOFT_CHECK_H

#include "cpu/soft/exec.h"
#include "cpu/soft/shadow.h"
#include "cpu/soft/soft.h"

#define CHECK_FIRST 50 /* more than it takes to be translated (soft.c) */

struct check_step {
    uint64_t rip;
    uint8_t len;
    uint8_t bytes[INSN_MAX_LEN];
    uint8_t mode; /* enum insn_mode */
};

enum check_end {
    CHECK_AT_RIP, /* the replay's vCPU is at the instruction after the block */
    CHECK_RAISED, /* in exc_* of the replay's vCPU */
    CHECK_CUT,    /* before an instruction that cannot be replayed */
};

/* The first thing found different. */
struct check_difference {
    const char *what;       /* static text; NULL: nothing */
    unsigned index;         /* of a register among its kind */
    const uint8_t *host;    /* memory: the guest's page */
    uint64_t block, replay; /* the values, as far as 8 bytes show them */
};

struct check_counts {
    uint64_t compared, alone, device, large, moved, stale, passed;
};

struct check {
    struct soft_cpu *replay; /* owned */
    struct soft_cpu *before; /* owned: registers only, at the block's start */
    struct shadow memory;
    const struct block *block;
    unsigned until;     /* runs of well-known blocks until one is checked again */
    bool active;        /* between the replay and the comparison */
    bool fetching;      /* what the replay is at */
    unsigned limit;     /* instructions to replay */
    unsigned undefined; /* IF_*: flags that the replay's last instructions left undefined */
    uint8_t end;        /* enum check_end */
    bool cut;           /* the replay is of the instructions before one that cannot be replayed */
    bool large;         /* because that one writes too much */
    uint64_t dma;       /* engine.device_writes at the start */
    unsigned n_steps;   /* executed by the replay */
    struct check_step steps[BLOCK_MAX_INSNS + 1]; /* one more: the next one, when cut */
    struct check_difference difference;
    struct check_counts counts;
    const struct block *left; /* the block that ran before, and the cache's epoch then; or NULL */
    uint64_t left_epoch;
};

int check_new(struct soft_cpu *cpu, struct sm_error *err);
void check_free(struct soft_cpu *cpu); /* NULL in cpu->check is fine */
/* err for a run that ended because of a difference; the whole story goes to engine_debug.text.
 * False: it ended for another reason. */
bool check_report(struct soft_cpu *cpu, struct sm_error *err);

/* How much was compared up to now, as a line: every CHECK_SAYS blocks, and at the end. With FP
 * state out. */
#define CHECK_SAYS (1u << 20)
void check_say_counts(struct soft_cpu *cpu);

/* Run b, which is to be run now, under check. Faults leave by soft_raise() as ever. */
void check_run(struct soft_cpu *cpu, struct block *b);
/* An exception was raised, and not yet delivered. */
void check_landed(struct soft_cpu *cpu);
/* An instruction that is always alone in its block, and not replayed. */
bool check_alone(const struct insn *i);
/* The lifter: must the block end before, or after, such an instruction? */
static inline bool check_splits(const struct soft_cpu *cpu, const struct insn *i)
{
    return (cpu->check || cpu->shadow) && check_alone(i);
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --trace: a line for each event of the levels that soft_cpu.trace has (ENGINE_TRACE_*). The events
 * of the first three are on slow paths, where a bit of the vCPU is looked at; instructions are
 * traced by another run loop (watch.h). So all of it is free when off.
 */
#ifndef SM_SOFT_TRACE_H
#define SM_SOFT_TRACE_H

#include "cpu/soft/cpu.h"

enum trace_what {
    TRACE_READ,      /* device memory: GPA, bytes, value */
    TRACE_WRITE,     /* the same */
    TRACE_IN,        /* port, bytes, value */
    TRACE_OUT,       /* the same */
    TRACE_HALT,      /* HLT sleeps */
    TRACE_INTERRUPT, /* vector, RIP it came at */
    TRACE_EXCEPTION, /* vector, RIP, error code or UINT64_MAX */
    TRACE_FILL,      /* VA, GPA, TRACE_FILL_* */
    TRACE_FLUSH,     /* 1: but global pages */
    TRACE_INVLPG,    /* VA */
    TRACE_INSN,      /* struct block of one instruction, about to run */
};
#define TRACE_FILL_WRITE 1u
#define TRACE_FILL_USER 2u
#define TRACE_FILL_GLOBAL 4u

/* Say it. In a run slice; FP state may be in or out. */
void trace_event(struct soft_cpu *cpu, enum trace_what what, uint64_t a, uint64_t b, uint64_t c);
/* The same with FP state out (trace_host.c). */
void trace_say(struct soft_cpu *cpu, enum trace_what what, uint64_t a, uint64_t b, uint64_t c);

static inline void trace(struct soft_cpu *cpu, unsigned level, enum trace_what what, uint64_t a,
                         uint64_t b, uint64_t c)
{
    if (__builtin_expect(cpu->trace & level, 0)) {
        trace_event(cpu, what, a, b, c);
    }
}

#endif

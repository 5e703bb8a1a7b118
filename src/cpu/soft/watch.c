/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/soft/watch.h"

#include "cpu/soft/check.h"
#include "cpu/soft/legacy.h"
#include "cpu/soft/trace.h"

__attribute__((noinline)) void watch_ops(struct soft_cpu *cpu, struct block *b)
{
    cpu->block = b;
    cpu->budget = 0; /* none to go on to another one */
#ifdef SOFT_TAILCALL
    b->ops[0].handler(cpu, b->ops);
#else
    for (const struct op *o = b->ops; o;) {
        o = o->handler(cpu, o);
    }
#endif
}

void watch_own_step_mode(struct soft_cpu *cpu)
{
    cpu->mode = (cpu->mode & ~MODE_STEP) | (cpu->sys_flags & FL_TF ? MODE_STEP : 0);
}

void watch_one(struct soft_cpu *cpu, bool traced)
{
    cpu->mode |= MODE_STEP;
    struct block *one = blocks_find(cpu);
    if (traced) {
        trace_event(cpu, TRACE_INSN, (uintptr_t)one, 0, 0);
    }
    watch_ops(cpu, one);
    cpu->link_from = NULL;
    watch_own_step_mode(cpu);
}

static bool traced(const struct soft_cpu *cpu, const struct block *b)
{
    const struct engine_debug *debug = &cpu->engine->config.debug;
    return (cpu->trace & ENGINE_TRACE_CODE) && b->rip <= debug->code_to &&
           b->rip + b->n_bytes > debug->code_from;
}

void watch_run(struct soft_cpu *cpu, struct block *b)
{
    int32_t budget = cpu->budget;
    if (traced(cpu, b)) {
        cpu->rip = b->rip;
        uint64_t rip = b->rip;
        watch_one(cpu, rip >= cpu->engine->config.debug.code_from &&
                           rip <= cpu->engine->config.debug.code_to);
    } else if (cpu->check) {
        check_run(cpu, b);
    } else {
        watch_ops(cpu, b);
    }
    cpu->budget = budget - 1;
}

void watch_landed(struct soft_cpu *cpu)
{
    watch_own_step_mode(cpu);
    if (cpu->check) {
        check_landed(cpu);
    }
}

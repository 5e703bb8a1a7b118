/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/soft/trace.h"

void trace_event(struct soft_cpu *cpu, enum trace_what what, uint64_t a, uint64_t b, uint64_t c)
{
    bool in = cpu->fp_in_host;
    if (in) {
        soft_fp_leave(cpu);
    }
    trace_say(cpu, what, a, b, c);
    if (in) {
        soft_fp_enter(cpu);
    }
}

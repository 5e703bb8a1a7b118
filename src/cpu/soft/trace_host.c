/* SPDX-License-Identifier: Apache-2.0 */
/* From events to lines. With FP state out. */
#include <inttypes.h>
#include <stdio.h>

#include "cpu/debug.h"
#include "cpu/soft/exec.h"
#include "cpu/soft/legacy.h"
#include "cpu/soft/soft.h"
#include "cpu/soft/trace.h"

static void say_exception(struct soft_cpu *cpu, uint64_t vector, uint64_t rip, uint64_t code)
{
    static const char names[][4] = {"DE", "DB", "NMI", "BP", "OF", "BR", "UD", "NM", "DF", "9",
                                    "TS", "NP", "SS",  "GP", "PF", "15", "MF", "AC", "MC", "XM"};
    char more[64] = "";
    if (code != UINT64_MAX) {
        snprintf(more, sizeof more, " error code %#" PRIx64, code);
    }
    if (vector == V_PF) {
        snprintf(more, sizeof more, " error code %#" PRIx64 " cr2 %#" PRIx64, code, cpu->cr2);
    }
    debug_line(&cpu->engine->config.debug, cpu->index,
               "exception %" PRIu64 " (#%s)%s at rip %#" PRIx64 " cpl %u", vector,
               vector < sizeof names / sizeof names[0] ? names[vector] : "?", more, rip, cpu->cpl);
}

static void say_fill(const struct soft_cpu *cpu, uint64_t va, uint64_t gpa, uint64_t how)
{
    debug_line(&cpu->engine->config.debug, cpu->index,
               "tlb fill %#" PRIx64 " -> %#" PRIx64 " %s%s%s", va, gpa,
               how & TRACE_FILL_WRITE ? "write" : "read", how & TRACE_FILL_USER ? " user" : "",
               how & TRACE_FILL_GLOBAL ? " global" : "");
}

static void say_insn(const struct soft_cpu *cpu, const struct block *b)
{
    char bytes[3 * INSN_MAX_LEN + 1] = "";
    struct insn insn;
    for (unsigned i = 0; i < b->n_bytes && i < INSN_MAX_LEN; i++) {
        snprintf(bytes + 3 * i, 4, "%02x ", b->bytes[i]);
    }
    enum insn_mode mode = legacy_insn_mode(b->mode);
    bool known = insn_decode_mode(b->bytes, b->n_bytes, mode, &insn) == INSN_OK;
    debug_line(&cpu->engine->config.debug, cpu->index, "code %#" PRIx64 ": %s %s", b->rip, bytes,
               known ? insn.desc->name : "(bad)");
}

void trace_say(struct soft_cpu *cpu, enum trace_what what, uint64_t a, uint64_t b, uint64_t c)
{
    const struct engine_debug *debug = &cpu->engine->config.debug;
    switch (what) {
    case TRACE_READ:
    case TRACE_WRITE:
        debug_line(debug, cpu->index, "exit %s gpa %#" PRIx64 " bytes %" PRIu64 " value %#" PRIx64,
                   what == TRACE_READ ? "read" : "write", a, b, c);
        break;
    case TRACE_IN:
    case TRACE_OUT:
        debug_line(debug, cpu->index, "exit %s port %#" PRIx64 " bytes %" PRIu64 " value %#" PRIx64,
                   what == TRACE_IN ? "in" : "out", a, b, c);
        break;
    case TRACE_HALT:
        debug_line(debug, cpu->index, "exit hlt");
        break;
    case TRACE_INTERRUPT:
        debug_line(debug, cpu->index, "interrupt %#" PRIx64 " at rip %#" PRIx64, a, b);
        break;
    case TRACE_EXCEPTION:
        say_exception(cpu, a, b, c);
        break;
    case TRACE_FILL:
        say_fill(cpu, a, b, c);
        break;
    case TRACE_FLUSH:
        debug_line(debug, cpu->index, "tlb flush%s", a ? " but global pages" : "");
        break;
    case TRACE_INVLPG:
        debug_line(debug, cpu->index, "tlb invlpg %#" PRIx64, a);
        break;
    case TRACE_INSN:
        say_insn(cpu, (const struct block *)(uintptr_t)a);
        break;
    }
}

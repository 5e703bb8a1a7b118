/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupt and exception delivery in IA-32e mode: gate, stack, frame, and what happens when that
 * itself faults. Source: Intel SDM vol. 3, 6.12-6.15.
 *
 * Memory for a delivery is touched through calls that may raise. A raise lands in the run loop,
 * which calls soft_deliver_exception() again; cpu->delivering tells it what was under way. So
 * nothing of the vCPU's state but CR2 changes before the last access.
 */
#include "cpu/soft/breakpoint.h"
#include "cpu/soft/deliver_priv.h"
#include "cpu/soft/lapic.h"
#include "cpu/soft/sys.h"
#include "cpu/soft/trace.h"

/* cpu->delivering: classes of SDM table 6-4, and where the event came from. */
enum { IDLE, BENIGN, CONTRIBUTORY, PAGE_FAULT, DOUBLE_FAULT, EXTERNAL };

struct gate {
    uint64_t rip;
    struct seg_state cs;
    unsigned cpl; /* of the handler */
    unsigned ist;
    bool masks; /* interrupt gate: clears IF */
};

unsigned deliver_gate_code(struct soft_cpu *cpu, const struct event *e, uint64_t low,
                           uint32_t code_mask, uint32_t code_bits, struct seg_state *cs)
{
    uint32_t ext = e->soft ? 0 : ERR_EXT;
    uint32_t code = e->vector * 8 | ERR_IDT | ext;
    uint16_t selector = (uint16_t)(low >> 16);
    struct segment_desc desc;
    unsigned cpl;

    if (e->soft && (low >> 45 & 3) < cpu->cpl)
        soft_raise_code(cpu, V_GP, code);
    if (!(low >> 40 & SA_P))
        soft_raise_code(cpu, V_NP, code);
    if (SEL_NULL(selector))
        soft_raise_code(cpu, V_GP, ext);
    code = SEL_ERR(selector) | ext;
    code_mask |= SA_S | SA_CODE;
    code_bits |= SA_S | SA_CODE;
    if (!segment_read(cpu, selector, &desc) || (desc.seg.attr & code_mask) != code_bits ||
        SA_DPL(desc.seg.attr) > cpu->cpl)
        soft_raise_code(cpu, V_GP, code);
    if (!(desc.seg.attr & SA_P))
        soft_raise_code(cpu, V_NP, code);
    segment_mark_accessed(cpu, &desc);
    cpl = desc.seg.attr & SA_CONFORM ? cpu->cpl : SA_DPL(desc.seg.attr);
    *cs = desc.seg;
    cs->selector = (uint16_t)((selector & ~3u) | cpl);
    return cpl;
}

static void read_gate(struct soft_cpu *cpu, const struct event *e, struct gate *g)
{
    uint32_t ext = e->soft ? 0 : ERR_EXT;
    uint32_t code = e->vector * 8 | ERR_IDT | ext;
    uint64_t va = cpu->idt_base + e->vector * 16;
    uint64_t lo, hi;
    unsigned type;

    if (e->vector * 16 + 15 > cpu->idt_limit)
        soft_raise_code(cpu, V_GP, code);
    lo = soft_sys_load(cpu, va, 8);
    hi = soft_sys_load(cpu, va + 8, 8);
    type = lo >> 40 & 0x1f;
    if (type != ST_INT_GATE && type != ST_TRAP_GATE)
        soft_raise_code(cpu, V_GP, code);
    g->cpl = deliver_gate_code(cpu, e, lo, SA_L | SA_DB, SA_L, &g->cs);
    g->rip = (lo & 0xffff) | (lo >> 32 & 0xffff0000) | hi << 32;
    if (!sys_canonical(g->rip))
        soft_raise_code(cpu, V_GP, ext);
    g->ist = lo >> 32 & 7;
    g->masks = type == ST_INT_GATE;
}

/* RSP that the frame is pushed below. */
static uint64_t choose_stack(struct soft_cpu *cpu, const struct gate *g, uint32_t ext)
{
    const struct seg_state *tr = &cpu->seg[SEG_TR];
    uint64_t rsp;
    unsigned offset;

    if (g->ist == 0 && g->cpl == cpu->cpl)
        return cpu->gpr[R_SP] & ~15ull;
    offset = g->ist != 0 ? 28 + g->ist * 8 : 4 + g->cpl * 8;
    if (offset + 7 > tr->limit)
        soft_raise_code(cpu, V_TS, SEL_ERR(tr->selector) | ext);
    rsp = soft_sys_load(cpu, tr->base + offset, 8);
    if (!sys_canonical(rsp))
        soft_raise_code(cpu, V_SS, ext);
    return rsp & ~15ull;
}

static void push(struct soft_cpu *cpu, const struct gate *g, uint64_t va, uint64_t value)
{
    if (g->cpl == 3)
        soft_store(cpu, va, 8, value);
    else
        soft_sys_store(cpu, va, 8, value);
}

void deliver_done(struct soft_cpu *cpu, bool masks)
{
    cpu->delivering = IDLE;
    cpu->no_step = true;
    cpu->sys_flags &= ~(uint64_t)(FL_TF | FL_VM | FL_RF | FL_NT | (masks ? FL_IF : 0));
    cpu->int_shadow = false;
    cpu->halted = false;
    soft_update_mode(cpu);
}

static void deliver(struct soft_cpu *cpu, const struct event *e)
{
    uint32_t ext = e->soft ? 0 : ERR_EXT;
    unsigned words = e->has_code ? 6 : 5;
    uint64_t top, rsp;
    struct gate g;

    if (!(cpu->efer & EFER_LMA)) {
        deliver_legacy(cpu, e);
        return;
    }
    read_gate(cpu, e, &g);
    top = choose_stack(cpu, &g, ext);
    rsp = top - words * 8;
    if (!sys_canonical(rsp) || !sys_canonical(top - 1))
        soft_raise_code(cpu, V_SS, ext);
    push(cpu, &g, top - 8, cpu->seg[SEG_SS].selector);
    push(cpu, &g, top - 16, cpu->gpr[R_SP]);
    push(cpu, &g, top - 24, e->flags);
    push(cpu, &g, top - 32, cpu->seg[SEG_CS].selector);
    push(cpu, &g, top - 40, e->rip);
    if (e->has_code)
        push(cpu, &g, top - 48, e->code);

    cpu->gpr[R_SP] = rsp;
    if (g.cpl != cpu->cpl)
        cpu->seg[SEG_SS] =
            (struct seg_state){.selector = (uint16_t)g.cpl, .attr = (uint16_t)SA_WITH_DPL(g.cpl)};
    cpu->seg[SEG_CS] = g.cs;
    cpu->rip = g.rip;
    deliver_done(cpu, g.masks);
}

static unsigned class_of(unsigned vector)
{
    switch (vector) {
    case V_DE:
    case V_TS:
    case V_NP:
    case V_SS:
    case V_GP:
        return CONTRIBUTORY;
    case V_PF:
        return PAGE_FAULT;
    case V_DF:
        return DOUBLE_FAULT;
    default:
        return BENIGN;
    }
}

/* Faults are pushed with RF set, so that returning to the instruction skips its breakpoint. */
static bool is_fault(unsigned vector)
{
    return vector != V_DB && vector != V_NMI && vector != V_BP && vector != V_OF &&
           vector != V_DF && vector != V_MC;
}

/* The interrupt whose delivery faulted stays requested. */
static void deliver_again(struct soft_cpu *cpu)
{
    if (cpu->deliver_irq == V_NMI) {
        cpu->nmi_latched = true;
        cpu->nmi_blocked = false;
    } else {
        soft_lapic_unaccept(cpu, cpu->deliver_irq);
    }
}

void soft_deliver_exception(struct soft_cpu *cpu)
{
    struct event e = {
        .vector = cpu->exc_vector,
        .has_code = cpu->exc_has_code,
        .code = cpu->exc_code,
        .rip = cpu->insn_rip,
    };
    unsigned first = cpu->delivering;
    unsigned second = class_of(e.vector);

    if (first == DOUBLE_FAULT && second != BENIGN) {
        cpu->delivering = IDLE;
        soft_shutdown(cpu);
    }
    if (first == EXTERNAL) /* serially: the exception now, the interrupt again later */
        deliver_again(cpu);
    if ((first == CONTRIBUTORY && second == CONTRIBUTORY) ||
        (first == PAGE_FAULT && (second == CONTRIBUTORY || second == PAGE_FAULT))) {
        e.vector = V_DF;
        e.has_code = true;
        e.code = 0;
        second = DOUBLE_FAULT;
    }
    e.flags = soft_get_rflags(cpu) | (is_fault(e.vector) ? FL_RF : 0);
    cpu->delivering = (uint8_t)second;
    trace(cpu, ENGINE_TRACE_INTERRUPTS, TRACE_EXCEPTION, e.vector, e.rip,
          e.has_code ? e.code : UINT64_MAX);
    deliver(cpu, &e);
}

void soft_deliver_int(struct soft_cpu *cpu, unsigned vector)
{
    struct event e = {
        .vector = vector, .soft = true, .rip = cpu->rip, .flags = soft_get_rflags(cpu)};

    cpu->delivering = BENIGN;
    deliver(cpu, &e);
}

void deliver_int1(struct soft_cpu *cpu)
{
    struct event e = {.vector = V_DB, .rip = cpu->rip, .flags = soft_get_rflags(cpu)};
    unsigned hits = cpu->break_hits;

    cpu->delivering = BENIGN;
    deliver(cpu, &e);
    if (hits) { /* of a load of SS just before: part of this exception, none of their own */
        cpu->break_hits = 0;
        cpu->dr6 = (cpu->dr6 & ~(uint64_t)DR6_BREAKS) | hits;
    }
}

void soft_deliver_irq(struct soft_cpu *cpu, unsigned vector)
{
    struct event e = {.vector = vector, .rip = cpu->rip, .flags = soft_get_rflags(cpu)};

    cpu->halted = false;
    cpu->insn_rip = cpu->rip; /* where an exception during delivery returns to */
    cpu->delivering = EXTERNAL;
    cpu->deliver_irq = (uint8_t)vector;
    trace(cpu, ENGINE_TRACE_INTERRUPTS, TRACE_INTERRUPT, vector, e.rip, 0);
    deliver(cpu, &e);
}

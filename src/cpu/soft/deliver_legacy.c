/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupts and exceptions outside long mode. Source: Intel SDM vol. 3, 6.12.1 and 21.1.4.
 *
 * Limits: no task gates and no 16-bit TSS (#GP and #TS, as if they were ill-formed), no
 * virtual-8086 mode to leave.
 */
#include "cpu/soft/deliver_priv.h"
#include "cpu/soft/legacy.h"
#include "cpu/soft/sys.h"

#define ST_INT_GATE16 0x06u
#define ST_TRAP_GATE16 0x07u

static void deliver_real(struct soft_cpu *cpu, const struct event *e)
{
    uint64_t sp = cpu->gpr[R_SP];
    uint32_t entry;

    if (e->vector * 4 + 3 > cpu->idt_limit)
        soft_raise_code(cpu, V_GP, e->vector * 8 | ERR_IDT);
    entry = (uint32_t)soft_sys_load(cpu, cpu->idt_base + e->vector * 4, 4);
    stack_store(cpu, sp - 2, 2, e->flags);
    stack_store(cpu, sp - 4, 2, cpu->seg[SEG_CS].selector);
    stack_store(cpu, sp - 6, 2, e->rip);
    stack_set(cpu, sp - 6);
    segment_set_real_code(cpu, (uint16_t)(entry >> 16));
    cpu->rip = entry & 0xffff;
    deliver_done(cpu, true);
}

struct gate {
    struct seg_state cs, ss; /* ss: of an inner stack */
    uint32_t eip, esp;
    unsigned cpl, size; /* of the handler; of what is pushed */
    bool masks;
};

static void read_gate(struct soft_cpu *cpu, const struct event *e, struct gate *g)
{
    uint32_t ext = e->soft ? 0 : ERR_EXT;
    uint32_t code = e->vector * 8 | ERR_IDT | ext;
    uint64_t raw;
    unsigned type;

    if (e->vector * 8 + 7 > cpu->idt_limit)
        soft_raise_code(cpu, V_GP, code);
    raw = soft_sys_load(cpu, cpu->idt_base + e->vector * 8, 8);
    type = raw >> 40 & 0x1f;
    if (type != ST_INT_GATE && type != ST_TRAP_GATE && type != ST_INT_GATE16 &&
        type != ST_TRAP_GATE16)
        soft_raise_code(cpu, V_GP, code);
    g->cpl = deliver_gate_code(cpu, e, raw, 0, 0, &g->cs);
    g->size = type == ST_INT_GATE || type == ST_TRAP_GATE ? 4 : 2;
    g->eip = (uint32_t)(raw & 0xffff) | (g->size == 4 ? (uint32_t)(raw >> 32 & 0xffff0000) : 0);
    if (g->eip > g->cs.limit)
        soft_raise_code(cpu, V_GP, ext);
    g->masks = type == ST_INT_GATE || type == ST_INT_GATE16;
}

/* SS:ESP of an inner privilege level, from a 32-bit TSS. */
static void read_stack(struct soft_cpu *cpu, struct gate *g, uint32_t ext)
{
    const struct seg_state *tr = &cpu->seg[SEG_TR];
    unsigned offset = 4 + g->cpl * 8;
    uint16_t selector;

    if (SA_TYPE(tr->attr) != ST_TSS_BUSY || offset + 5 > tr->limit)
        soft_raise_code(cpu, V_TS, SEL_ERR(tr->selector) | ext);
    g->esp = (uint32_t)soft_sys_load(cpu, tr->base + offset, 4);
    selector = (uint16_t)soft_sys_load(cpu, tr->base + offset + 4, 2);
    segment_check_stack(cpu, selector, g->cpl, false, &g->ss);
}

static void deliver_protected(struct soft_cpu *cpu, const struct event *e)
{
    uint32_t words[6], ext = e->soft ? 0 : ERR_EXT, mask;
    unsigned n = 0;
    struct gate g;

    read_gate(cpu, e, &g);
    g.ss = cpu->seg[SEG_SS];
    g.esp = (uint32_t)cpu->gpr[R_SP];
    if (g.cpl != cpu->cpl) {
        read_stack(cpu, &g, ext);
        words[n++] = cpu->seg[SEG_SS].selector;
        words[n++] = (uint32_t)cpu->gpr[R_SP];
    }
    words[n++] = (uint32_t)e->flags;
    words[n++] = cpu->seg[SEG_CS].selector;
    words[n++] = (uint32_t)e->rip;
    if (e->has_code)
        words[n++] = e->code;
    mask = g.ss.attr & SA_DB ? 0xffffffff : 0xffff;
    for (unsigned i = 0; i < n; i++) {
        uint32_t at = (g.esp - (i + 1) * g.size) & mask;
        uint64_t va = legacy_linear_in(cpu, &g.ss, at, g.size, ACC_WRITE, V_SS);

        soft_sys_store(cpu, va, g.size, g.size == 4 ? words[i] : words[i] & 0xffff);
    }
    cpu->gpr[R_SP] = (g.esp & ~mask) | ((g.esp - n * g.size) & mask);
    cpu->seg[SEG_SS] = g.ss;
    cpu->seg[SEG_CS] = g.cs;
    cpu->rip = g.eip;
    deliver_done(cpu, g.masks);
}

void deliver_legacy(struct soft_cpu *cpu, const struct event *e)
{
    if (legacy_real(cpu))
        deliver_real(cpu, e);
    else
        deliver_protected(cpu, e);
}

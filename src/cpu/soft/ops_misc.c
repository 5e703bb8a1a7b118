/* SPDX-License-Identifier: Apache-2.0 */
/* Flag bits, no-ops, fences, and the bridges to system instructions and exceptions. */
#include "cpu/soft/hostcall.h"
#include "cpu/soft/ops.h"

#define PAUSES_PER_YIELD 64

OP(nop)
{
    NEXT;
}
/*
 * The guest spins, maybe for a lock whose holder waits for this very host processor. Measured with
 * 600 processes started on 4 (8) vCPUs of 2 host processors: 2.5 s (3.6 s) without giving way, 1.6
 * s (2.1 s) with, anywhere from 16 to 512 PAUSEs.
 */
OP(pause)
{
    __builtin_ia32_pause();
    if (unlikely(++cpu->pauses % PAUSES_PER_YIELD == 0) && cpu->engine->config.n_vcpus > 1) {
        host_yield();
    }
    NEXT;
}
/* Devices run on another host thread: the guest's fence is the host's. */
OP(fence)
{
    __asm__ volatile("mfence" : : : "memory");
    NEXT;
}
/* Caches are coherent here; only the address is checked. */
OP(clflush)
{
    (void)load8(cpu, o, op_ea(cpu, o));
    NEXT;
}
OP(clc)
{
    cpu->flags &= (uint16_t)~FLG_CF;
    NEXT;
}
OP(stc)
{
    cpu->flags |= FLG_CF;
    NEXT;
}
OP(cmc)
{
    cpu->flags ^= FLG_CF;
    NEXT;
}
OP(cld)
{
    cpu->sys_flags &= ~(uint64_t)FL_DF;
    NEXT;
}
OP(std)
{
    cpu->sys_flags |= FL_DF;
    NEXT;
}

OP(raise_plain)
{
    cpu->insn_rip = op_rip(cpu, o);
    soft_raise(cpu, (unsigned)o->imm);
}
OP(raise_gp)
{
    cpu->insn_rip = op_rip(cpu, o);
    soft_raise_code(cpu, V_GP, 0);
}

/* A system instruction: imm is its decoded form, kept in the arena. */
static inline void run_system(struct soft_cpu *cpu, const struct op *o)
{
    const struct insn *i = (const struct insn *)o->imm;
    cpu->insn_rip = op_rip(cpu, o);
    cpu->rip = cpu->insn_rip + o->len;
    cpu->running_op = o;
    soft_sys_exec(cpu, i);
}
OP(system_inside)
{
    run_system(cpu, o);
    NEXT;
}
OP(system_end)
{
    run_system(cpu, o);
    return NULL;
}

/* The block ends after an instruction that is not a branch. */
OP(leave_block)
{
    cpu->rip = op_rip(cpu, o) + o->len;
    return NULL;
}

void lift_emit_raise(struct lift *l, unsigned vector)
{
    lift_emit(l, vector == V_GP ? raise_gp : raise_plain)->imm = vector;
    l->end = true;
}

void lift_emit_system(struct lift *l)
{
    const struct insn *i = l->insn;
    struct insn *copy = blocks_alloc(l->cpu, sizeof *copy);
    if (!copy) {
        l->full = true;
        return;
    }
    *copy = *i;
    bool stays = i->desc->id == I_RDTSC || i->desc->id == I_RDTSCP || i->desc->id == I_RDFSBASE ||
                 i->desc->id == I_RDGSBASE || i->desc->id == I_PUSHF || i->desc->id == I_CLI ||
                 i->desc->id == I_RDRAND || i->desc->id == I_RDSEED || i->desc->id == I_XGETBV;
    lift_emit(l, stays ? system_inside : system_end)->imm = (uint64_t)(uintptr_t)copy;
    l->end = !stays;
}

static void lift_native(struct lift *l)
{
    struct op *o = lift_emit(l, nop);
    uint16_t off = o->off;
    uint8_t len = o->len;
    if (native_lift(l->cpu, l->insn, l->next_rip, o)) {
        l->full = true;
        return;
    }
    o->off = off;
    o->len = len;
    if (l->insn->desc->attr & IA_END) {
        lift_emit(l, leave_block);
        l->end = true;
    }
}

bool misc_lift(struct lift *l)
{
    const struct insn *i = l->insn;
    switch (i->desc->id) {
    case I_NOP:
        return true; /* nothing to do, not even an operation */
    case I_PAUSE:
        lift_emit(l, pause);
        return true;
    case I_FENCE:
        lift_emit(l, fence);
        return true;
    case I_CLFLUSH:
        lift_emit_mem(l, clflush);
        return true;
    case I_CLC:
        lift_emit(l, clc);
        return true;
    case I_STC:
        lift_emit(l, stc);
        return true;
    case I_CMC:
        lift_emit(l, cmc);
        return true;
    case I_CLD:
        lift_emit(l, cld);
        return true;
    case I_STD:
        lift_emit(l, std);
        return true;
    case I_CLI ... I_VMCALL:
    case I_IN:
    case I_OUT:
    case I_INS:
    case I_OUTS:
    case I_PUSHF:
    case I_POPF:
        lift_emit_system(l);
        return true;
    case I_FXSAVE ... I_VGATHER:
        lift_native(l);
        return true;
    default: /* I_UD, and encodings that the model does not have */
        lift_emit_raise(l, V_UD);
        return true;
    }
}

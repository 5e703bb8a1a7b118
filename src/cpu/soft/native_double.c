// SPDX-License-Identifier: Apache-2.0
/* Compiled like slice code: guest FP state is live in here. */
#include "cpu/soft/native_double.h"

#include "cpu/soft/fpstate.h"
#include "cpu/soft/stub.h"

static struct native_double *of(struct soft_cpu *cpu)
{
    return (struct native_double *)cpu;
}

struct stub_area *soft_stubs(struct soft_cpu *cpu)
{
    return of(cpu)->stubs;
}

void soft_raise(struct soft_cpu *cpu, unsigned vector)
{
    cpu->exc_vector = (uint8_t)vector;
    cpu->exc_has_code = false;
    of(cpu)->faulted = true;
    __builtin_longjmp(cpu->landing, 1);
}

void soft_raise_code(struct soft_cpu *cpu, unsigned vector, uint32_t code)
{
    cpu->exc_vector = (uint8_t)vector;
    cpu->exc_has_code = true;
    cpu->exc_code = code;
    of(cpu)->faulted = true;
    __builtin_longjmp(cpu->landing, 1);
}

void soft_update_mode(struct soft_cpu *cpu)
{
    cpu->mode = soft_fp_mode_bits(cpu);
    of(cpu)->mode_updates++;
}

static void check_page(struct soft_cpu *cpu, uint64_t va, bool write)
{
    struct native_double *d = of(cpu);
    if (va + 0x800000000000 >= UINT64_C(1) << 48) { /* not canonical */
        soft_raise_code(cpu, V_GP, 0);
    }
    if (va < d->lo || va >= d->hi || (write && (va & ~UINT64_C(4095)) == d->read_only)) {
        cpu->cr2 = va;
        soft_raise_code(cpu, V_PF, write ? 2 : 0);
    }
}

static void check(struct soft_cpu *cpu, const struct op *o, uint64_t va, unsigned size, bool write)
{
    of(cpu)->slow_calls++;
    cpu->insn_rip = op_rip(cpu, o);
    check_page(cpu, va, write);
    uint64_t last = va + size - 1;
    if ((last ^ va) >> 12 != 0) {
        check_page(cpu, last & ~UINT64_C(4095), write);
    }
}

static void copy(void *to, const void *from, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        ((volatile uint8_t *)to)[i] = ((const volatile uint8_t *)from)[i];
    }
}

uint64_t soft_load_slow(struct soft_cpu *cpu, const struct op *o, uint64_t va, unsigned size)
{
    uint64_t v = 0;
    check(cpu, o, va, size, false);
    copy(&v, (void *)va, size);
    return v;
}

void soft_store_slow(struct soft_cpu *cpu, const struct op *o, uint64_t va, unsigned size,
                     uint64_t value)
{
    check(cpu, o, va, size, true);
    copy((void *)va, &value, size);
}

void *soft_ptr_slow(struct soft_cpu *cpu, const struct op *o, uint64_t va, unsigned size,
                    enum soft_access acc)
{
    check(cpu, o, va, size, acc == ACC_WRITE);
    if (!of(cpu)->bounce && ((va ^ (va + size - 1)) >> 12) == 0) {
        return (void *)va;
    }
    copy(cpu->bounce, (void *)va, size);
    return cpu->bounce;
}

OP(op_stale)
{
    cpu->rip = op_rip(cpu, o);
    return NULL;
}

void soft_ptr_done(struct soft_cpu *cpu, const struct op *o, uint64_t va, unsigned size, void *ptr)
{
    if (op_ptr_bounced(cpu, ptr)) {
        copy((void *)va, ptr, size);
        if (of(cpu)->drop) {
            ((struct op *)o)[1].handler = op_stale;
        }
    }
}

void double_tlb(struct native_double *d, bool filled)
{
    struct soft_cpu *cpu = &d->cpu;
    cpu->tlb_read = cpu->tlb[0][0];
    cpu->tlb_write = cpu->tlb[0][1];
    for (unsigned i = 0; i < SOFT_TLB_SIZE; i++) {
        cpu->tlb_read[i] = (struct soft_tlb_entry){SOFT_TLB_EMPTY(i), 0};
        cpu->tlb_write[i] = cpu->tlb_read[i];
    }
    for (uint64_t va = d->lo; filled && va < d->hi; va += 4096) {
        unsigned i = (va >> 12) & (SOFT_TLB_SIZE - 1);
        cpu->tlb_read[i] = (struct soft_tlb_entry){va, va};
        if (va != d->read_only) {
            cpu->tlb_write[i] = cpu->tlb_read[i];
        }
    }
}

OP(op_double_end)
{
    of(cpu)->rip_after = op_rip(cpu, o);
    return NULL;
}

op_handler double_end(void)
{
    return op_double_end;
}

bool double_run(struct native_double *d)
{
    struct soft_cpu *cpu = &d->cpu;
    d->faulted = false;
    d->rip_after = 0;
    cpu->rip = 0;
    cpu->block = &d->block;
    soft_fp_enter(cpu);
    if (__builtin_setjmp(cpu->landing) == 0) {
        const struct op *o = d->ops;
        while (o != NULL) {
            o = o->handler(cpu, o);
        }
        if (cpu->rip != 0) {
            d->rip_after = cpu->rip;
        }
    }
    soft_fp_leave(cpu);
    return !d->faulted;
}

bool double_step(struct native_double *d, const struct insn *insn, uint64_t rip)
{
    struct soft_cpu *cpu = &d->cpu;
    d->block.rip = rip;
    cpu->mode = soft_fp_mode_bits(cpu);
    d->ops[0].off = 0;
    d->ops[0].len = insn->len;
    d->ops[1].handler = op_double_end;
    d->ops[1].off = insn->len;
    while (native_lift(cpu, insn, rip + insn->len, &d->ops[0]) != 0) {
        stub_reset(d->stubs);
        d->stub_resets++;
    }
    return double_run(d);
}

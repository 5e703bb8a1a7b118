/* SPDX-License-Identifier: Apache-2.0 */
/* Segment checks, and the stack in every mode. */
#include "cpu/soft/legacy.h"

#include "cpu/soft/sys.h"

/* Type and limit of SDM vol. 3, 5.3 and 5.5.1. */
static bool permits(const struct soft_cpu *cpu, const struct seg_state *s, uint32_t offset,
                    unsigned size, enum soft_access acc)
{
    uint64_t last = (uint64_t)offset + size - 1;
    if (!legacy_real(cpu)) {
        if (!(s->attr & SA_P) || !(s->attr & SA_S)) {
            return false;
        }
        if (acc == ACC_WRITE && (s->attr & (SA_CODE | SA_WRITE)) != SA_WRITE) {
            return false;
        }
        if ((s->attr & (SA_CODE | SA_WRITE)) == SA_CODE) { /* execute-only */
            return false;
        }
    }
    if ((s->attr & (SA_CODE | SA_CONFORM)) == SA_CONFORM) { /* expands down */
        return offset > s->limit && last <= (s->attr & SA_DB ? 0xffffffffu : 0xffffu);
    }
    return last <= s->limit;
}

uint64_t legacy_linear_in(struct soft_cpu *cpu, const struct seg_state *segment, uint32_t offset,
                          unsigned size, enum soft_access acc, unsigned vector)
{
    if (!permits(cpu, segment, offset, size, acc)) {
        soft_raise_code(cpu, vector, 0);
    }
    return (uint32_t)(offset + segment->base);
}

uint64_t legacy_linear(struct soft_cpu *cpu, unsigned segment, uint32_t offset, unsigned size,
                       enum soft_access acc)
{
    if (!permits(cpu, &cpu->seg[segment], offset, size, acc)) {
        soft_raise_code(cpu, segment == SEG_SS ? V_SS : V_GP, 0);
    }
    return (uint32_t)(offset + cpu->seg_base[segment]);
}

static uint64_t stack_mask(const struct soft_cpu *cpu)
{
    return !legacy_mode(cpu) ? ~0ull : cpu->mode & MODE_STACK16 ? 0xffff : 0xffffffff;
}

static uint64_t stack_va(struct soft_cpu *cpu, uint64_t sp, unsigned size, enum soft_access acc)
{
    if (!legacy_mode(cpu)) {
        return sp;
    }
    return legacy_linear(cpu, SEG_SS, (uint32_t)(sp & stack_mask(cpu)), size, acc);
}

uint64_t stack_load(struct soft_cpu *cpu, uint64_t sp, unsigned size)
{
    uint64_t va = stack_va(cpu, sp, size, ACC_READ);
    cpu->stack_access = true;
    uint64_t value = soft_load(cpu, va, size);
    cpu->stack_access = false;
    return value;
}

void stack_store(struct soft_cpu *cpu, uint64_t sp, unsigned size, uint64_t value)
{
    uint64_t va = stack_va(cpu, sp, size, ACC_WRITE);
    cpu->stack_access = true;
    soft_store(cpu, va, size, size == 8 ? value : value & ((1ull << (8 * size)) - 1));
    cpu->stack_access = false;
}

void stack_set(struct soft_cpu *cpu, uint64_t sp)
{
    uint64_t mask = stack_mask(cpu);
    uint64_t keep = mask == 0xffff ? cpu->gpr[R_SP] & 0xffff0000 : 0;
    cpu->gpr[R_SP] = keep | (sp & mask);
}

void stack_push(struct soft_cpu *cpu, unsigned size, uint64_t value)
{
    uint64_t sp = cpu->gpr[R_SP] - size;
    stack_store(cpu, sp, size, value);
    stack_set(cpu, sp);
}

uint64_t stack_pop(struct soft_cpu *cpu, unsigned size)
{
    uint64_t sp = cpu->gpr[R_SP];
    uint64_t value = stack_load(cpu, sp, size);
    stack_set(cpu, sp + size);
    return value;
}

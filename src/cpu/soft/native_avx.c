// SPDX-License-Identifier: Apache-2.0
/*
 * AVX instructions that access single elements of memory: masked moves whose operand is not simply
 * there, and gathers. Source: SDM vol. 2, VMASKMOV, VPMASKMOV, VGATHER and VPGATHER.
 */
#include "cpu/soft/lift_mem.h"
#include "cpu/soft/native.h"

struct vector {
    union {
        uint32_t d[8];
        uint64_t q[4];
    };
} __attribute__((may_alias));

/* clang-format off */
#define EACH_REG(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
/* clang-format on */

static struct vector get_vector(unsigned reg)
{
    struct vector v;
    switch (reg) {
#define GET(n)                                                                                     \
    case n:                                                                                        \
        __asm__ volatile("vmovdqu %%ymm" #n ", %0" : "=m"(v));                                     \
        break;
        EACH_REG(GET)
#undef GET
    }
    return v;
}

static void set_vector(unsigned reg, const struct vector *v)
{
    switch (reg) {
#define SET(n)                                                                                     \
    case n:                                                                                        \
        __asm__ volatile("vmovdqu %0, %%ymm" #n : : "m"(*v));                                      \
        break;
        EACH_REG(SET)
#undef SET
    }
}

/* ---- masked moves: op.dst is the mask's register, op.src the operand's size ---- */

static inline bool selected(const struct vector *mask, unsigned i, unsigned element)
{
    return (element == 8 ? mask->q[i] >> 63 : mask->d[i] >> 31) != 0;
}

static __attribute__((noinline)) void *vmask_load(struct soft_cpu *cpu, const struct op *o,
                                                  uint64_t va, unsigned element)
{
    struct vector mask = get_vector(o->dst);
    struct vector *data = (struct vector *)native_host(cpu)->bounce;
    struct vector v = {.q = {0, 0, 0, 0}};
    for (unsigned i = 0; i < o->src / element; i++) {
        if (!selected(&mask, i, element)) {
            continue;
        }
        if (element == 8) {
            v.q[i] = load64(cpu, o, va + 8 * i);
        } else {
            v.d[i] = load32(cpu, o, va + 4 * i);
        }
    }
    *data = v;
    return data;
}

/* All faults come before the first write. */
static __attribute__((noinline)) void vmask_store(struct soft_cpu *cpu, const struct op *o,
                                                  uint64_t va, unsigned element)
{
    struct vector mask = get_vector(o->dst);
    struct op run[2];
    for (unsigned i = 0; i < o->src / element; i++) {
        if (selected(&mask, i, element)) {
            op_ptr(cpu, o, va + element * i, element, ACC_WRITE);
        }
    }
    run[0] = *o;
    run[0].handler = (op_handler)(uintptr_t)o->imm;
    native_run(cpu, run, native_host(cpu)->bounce);
    struct vector v = *(struct vector *)native_host(cpu)->bounce;
    for (unsigned i = 0; i < o->src / element; i++) {
        if (!selected(&mask, i, element)) {
            continue;
        }
        if (element == 8) {
            store64(cpu, o, va + 8 * i, v.q[i]);
        } else {
            store32(cpu, o, va + 4 * i, v.d[i]);
        }
    }
}

static const struct op *vmask_load4(struct soft_cpu *cpu, const struct op *o, uint64_t va)
{
    void *data = vmask_load(cpu, o, va, 4);
    return ((native_stub)(uintptr_t)o->imm)(cpu, o, data);
}

static const struct op *vmask_load8(struct soft_cpu *cpu, const struct op *o, uint64_t va)
{
    void *data = vmask_load(cpu, o, va, 8);
    return ((native_stub)(uintptr_t)o->imm)(cpu, o, data);
}

static const struct op *vmask_store4(struct soft_cpu *cpu, const struct op *o, uint64_t va)
{
    vmask_store(cpu, o, va, 4);
    NEXT;
}

static const struct op *vmask_store8(struct soft_cpu *cpu, const struct op *o, uint64_t va)
{
    vmask_store(cpu, o, va, 8);
    NEXT;
}

native_slow native_vmask_slow_path(bool store, unsigned element)
{
    if (store) {
        return element == 8 ? vmask_store8 : vmask_store4;
    }
    return element == 8 ? vmask_load8 : vmask_load4;
}

/* ---- gathers: op.dst is the target, op.src the mask, op.imm as below ---- */

#define GATHER_INDEX 0x0fu  /* register of the indices */
#define GATHER_WIDE 0x10u   /* elements of 8 bytes, else 4 */
#define GATHER_QINDEX 0x20u /* indices of 8 bytes, else 4 */
#define GATHER_256 0x40u    /* the longer of both is 256 bits */
#define GATHER_ADDR32 0x80u

static uint64_t element_address(const struct soft_cpu *cpu, const struct op *o,
                                const struct vector *index, unsigned i)
{
    uint64_t at =
        (o->imm & GATHER_QINDEX) != 0 ? index->q[i] : (uint64_t)(int64_t)(int32_t)index->d[i];
    uint64_t sum = cpu->gpr[o->base] + (at << (o->scale_seg & 3)) + o->disp;
    if ((o->imm & GATHER_ADDR32) != 0) {
        sum = (uint32_t)sum;
    }
    return sum + cpu->seg_base[o->scale_seg >> 4];
}

/*
 * Element after element. Before an access that may fault, what is done so far goes to the
 * registers: then the fault is between two elements, and the instruction goes on from there.
 */
static __attribute__((noinline)) void gather(struct soft_cpu *cpu, const struct op *o)
{
    bool wide = (o->imm & GATHER_WIDE) != 0;
    unsigned longest = wide || (o->imm & GATHER_QINDEX) != 0 ? 8 : 4;
    unsigned n = ((o->imm & GATHER_256) != 0 ? 32 : 16) / longest, size = wide ? 8 : 4;
    struct vector index = get_vector(o->imm & GATHER_INDEX);
    struct vector mask = get_vector(o->src), target = get_vector(o->dst);
    for (unsigned i = 0; i < n; i++) {
        if (!selected(&mask, i, size)) {
            continue;
        }
        uint64_t va = element_address(cpu, o, &index, i);
        if (tlb_probe(cpu->tlb_read, va, size) == NULL) {
            set_vector(o->dst, &target);
            set_vector(o->src, &mask);
        }
        if (wide) {
            target.q[i] = load64(cpu, o, va);
            mask.q[i] = 0;
        } else {
            target.d[i] = load32(cpu, o, va);
            mask.d[i] = 0;
        }
    }
    for (unsigned i = n * size / 8; i < 4; i++) {
        target.q[i] = 0;
    }
    for (unsigned i = 0; i < 4; i++) {
        mask.q[i] = 0;
    }
    set_vector(o->dst, &target);
    set_vector(o->src, &mask);
}

OP(op_gather)
{
    gather(cpu, o);
    NEXT;
}

op_handler native_gather_handler(const struct insn *insn, struct op *op)
{
    uint8_t opcode = insn->bytes[insn->modrm_off - 1];
    op->dst = insn->reg;
    op->src = insn->vvvv;
    op->index = SOFT_ZERO_REG;
    op->imm = insn->index | (insn->mem_size == 8 ? GATHER_WIDE : 0) |
              ((opcode & 1) != 0 ? GATHER_QINDEX : 0) | (insn->vex_l != 0 ? GATHER_256 : 0) |
              (insn->addr32 ? GATHER_ADDR32 : 0);
    return op_gather;
}

// SPDX-License-Identifier: Apache-2.0
#include "cpu/soft/native.h"

#include "cpu/soft/lift_mem.h"

#define STUB(o) ((native_stub)(uintptr_t)(o)->imm)

OP(op_native_stop)
{
    return o;
}

const struct op *native_run(struct soft_cpu *cpu, struct op out[2], void *mem)
{
    /* A store may drop the running block: the slow path then replaces the handler of the operation
     * after the running one, which is ours here. */
    out[1].handler = op_native_stop;
    out[1].off = (uint16_t)(out[0].off + out[0].len);
    out[1].len = 0;
    out[1].imm = cpu->block->rip + out[1].off;
    const struct op *next = ((native_stub)(uintptr_t)out[0].handler)(cpu, &out[0], mem);
    if (next == &out[1] && out[1].handler != op_native_stop) {
        return out[1].handler(cpu, next);
    }
    return next;
}

static void check_alignment(struct soft_cpu *cpu, const struct op *o, uint64_t va)
{
    if ((va & (o->src - 1u)) != 0) { /* the operand's size */
        cpu->insn_rip = op_rip(cpu, o);
        soft_raise_code(cpu, V_GP, 0);
    }
}

/* The largest operand's bytes, whatever the size: both sides are as large. */
static void copy_bounce(void *to, const void *from)
{
    for (unsigned i = 0; i < 4; i++) {
        uint64_t v;
        __builtin_memcpy(&v, (const uint8_t *)from + 8 * i, 8);
        __builtin_memcpy((uint8_t *)to + 8 * i, &v, 8);
    }
}

/* Into whatever soft_ptr_slow offers, then on its way. */
static __attribute__((noinline)) void store(struct soft_cpu *cpu, const struct op *o, uint64_t va)
{
    void *p = soft_ptr_slow(cpu, o, va, o->src, ACC_WRITE);
    bool bounced = op_ptr_bounced(cpu, p);
    uint64_t *aligned = native_host(cpu)->bounce;
    struct op run[2];
    run[0] = *o;
    run[0].handler = (op_handler)(uintptr_t)o->imm;
    if (bounced) {
        copy_bounce(aligned, p); /* FIST and its kind write nothing when they raise */
    }
    native_run(cpu, run, bounced ? aligned : p);
    if (bounced) {
        copy_bounce(p, aligned);
    }
    soft_ptr_done(cpu, o, va, o->src, p);
}

static const struct op *store_slow(struct soft_cpu *cpu, const struct op *o, uint64_t va)
{
    store(cpu, o, va);
    NEXT;
}

static const struct op *load_slow(struct soft_cpu *cpu, const struct op *o, uint64_t va)
{
    void *p = soft_ptr_slow(cpu, o, va, o->src, ACC_READ);
    if (op_ptr_bounced(cpu, p)) {
        copy_bounce(native_host(cpu)->bounce, p);
        p = native_host(cpu)->bounce;
    }
    return STUB(o)(cpu, o, p);
}

static const struct op *aligned_store_slow(struct soft_cpu *cpu, const struct op *o, uint64_t va)
{
    check_alignment(cpu, o, va);
    return store_slow(cpu, o, va);
}

static const struct op *aligned_load_slow(struct soft_cpu *cpu, const struct op *o, uint64_t va)
{
    check_alignment(cpu, o, va);
    return load_slow(cpu, o, va);
}

native_slow native_slow_path(bool store, bool align)
{
    if (align) {
        return store ? aligned_store_slow : aligned_load_slow;
    }
    return store ? store_slow : load_slow;
}

/* Bytes of the mask whose top bit is set, as bits. */
static unsigned mask_bits(const uint8_t *mask, unsigned size)
{
    unsigned bits = 0;
    for (unsigned i = 0; i < size; i++) {
        bits |= (unsigned)(mask[i] >> 7) << i;
    }
    return bits;
}

/*
 * Only the selected bytes are accessed. All faults come before the first write: the lowest selected
 * byte of each page touched is looked up for writing, lower page first.
 */
static __attribute__((noinline)) void do_maskmov(struct soft_cpu *cpu, const struct op *o,
                                                 uint64_t va, unsigned size)
{
    struct op run[2];
    run[0] = *o;
    run[0].handler = (op_handler)(uintptr_t)o->imm;
    native_run(cpu, run, NULL);
    uint8_t data[16];
    for (unsigned i = 0; i < size; i++) {
        data[i] = cpu->bounce[i]; /* the slow paths below use the buffer */
    }
    unsigned bits = mask_bits(cpu->bounce + 16, size);
    unsigned low = 4096 - (unsigned)(va & 4095); /* bytes in the first page */
    unsigned first = low >= size ? bits : bits & ((1u << low) - 1);
    unsigned second = bits & ~first;
    if (first != 0 && second != 0) {
        op_ptr(cpu, o, va + (unsigned)__builtin_ctz(first), 1, ACC_WRITE);
        op_ptr(cpu, o, va + (unsigned)__builtin_ctz(second), 1, ACC_WRITE);
    }
    for (; bits != 0; bits &= bits - 1) {
        unsigned i = (unsigned)__builtin_ctz(bits);
        store8(cpu, o, va + i, data[i]);
    }
}

OP(op_maskmovq)
{
    do_maskmov(cpu, o, op_ea(cpu, o), 8);
    NEXT;
}

OP(op_maskmovdqu)
{
    do_maskmov(cpu, o, op_ea(cpu, o), 16);
    NEXT;
}

OP(op_maskmovq32)
{
    do_maskmov(cpu, o, op_ea32(cpu, o), 8);
    NEXT;
}

OP(op_maskmovdqu32)
{
    do_maskmov(cpu, o, op_ea32(cpu, o), 16);
    NEXT;
}

op_handler native_maskmov_handler(unsigned size, bool addr32)
{
    if (size == 16) {
        return addr32 ? op_maskmovdqu32 : op_maskmovdqu;
    }
    return addr32 ? op_maskmovq32 : op_maskmovq;
}

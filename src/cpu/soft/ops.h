/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the operation handlers of the interpreter share: register access by width, flags,
 * conditions, and the lifter that each family of handlers (ops_*.c) plugs into.
 *
 * Arithmetic is done by the host's own instruction, followed by LAHF and SETO: results and flags
 * are exactly the hardware's, and nothing about them is written twice.
 */
#ifndef SM_SOFT_OPS_H
#define SM_SOFT_OPS_H

#include "cpu/soft/exec.h"
#include "cpu/soft/lift_mem.h"
#include "cpu/soft/soft.h"

/* Handler tables: index of a width. */
enum { W8, W16, W32, W64 };
static inline unsigned width_of(unsigned bytes)
{
    return (unsigned)__builtin_ctz(bytes);
}

#define REG(T, off) (*(T *)((char *)cpu->gpr + (off)))
/* The access of an operation in memory, by its LOCK prefix as text ("" or "lock "). */
#define LOCK_ACC(LOCK) (sizeof(LOCK) > 1 ? ACC_LOCKED : ACC_WRITE)

/* Writing a 32-bit register clears the upper half; narrower writes leave the rest alone. */
#define SETREG8(off, v) (REG(uint8_t, off) = (uint8_t)(v))
#define SETREG16(off, v) (REG(uint16_t, off) = (uint16_t)(v))
#define SETREG32(off, v) (REG(uint64_t, off) = (uint32_t)(v))
#define SETREG64(off, v) (REG(uint64_t, off) = (uint64_t)(v))

/*
 * An instruction that reads an r/m operand: RM_DO is followed by its body, in which s is the
 * operand; RM_FORMS makes the handlers of it, name_r for a register in o->src and name_x for
 * memory.
 */
#define RM_DO(name, bits, T)                                                                       \
    static inline const struct op *name##_do##bits(struct soft_cpu *cpu, const struct op *o, T s)
#define RM_FORMS(name, bits, T)                                                                    \
    OP(name##_r##bits)                                                                             \
    {                                                                                              \
        return name##_do##bits(cpu, o, REG(T, o->src));                                            \
    }                                                                                              \
    OP(name##_x##bits)                                                                             \
    {                                                                                              \
        return name##_do##bits(cpu, o, load##bits(cpu, o, op_ea(cpu, o)));                         \
    }

/* cpu->flags: SETO in bit 0, LAHF in bits 8-15. */
#define FLG_OF 0x0001u
#define FLG_CF 0x0100u
#define FLG_PF 0x0400u
#define FLG_AF 0x1000u
#define FLG_ZF 0x4000u
#define FLG_SF 0x8000u

/* In inline assembly, with flags in %ax. The guest's into the host: ADD makes OF out of bit 0, SAHF
 * sets the rest. And the host's out again. */
#define FLAGS_IN "addb $0x7f, %%al\n\tsahf\n\t"
#define FLAGS_OUT "\n\tlahf\n\tseto %%al"

static inline bool flags_less(uint16_t f)
{
    return ((f >> 15) ^ f) & 1;
}

/* The sixteen conditions, odd ones negated (Intel SDM vol. 2, B.1.4.7). */
#define COND_0(f) ((f)&FLG_OF)
#define COND_1(f) (!((f)&FLG_OF))
#define COND_2(f) ((f)&FLG_CF)
#define COND_3(f) (!((f)&FLG_CF))
#define COND_4(f) ((f)&FLG_ZF)
#define COND_5(f) (!((f)&FLG_ZF))
#define COND_6(f) ((f) & (FLG_CF | FLG_ZF))
#define COND_7(f) (!((f) & (FLG_CF | FLG_ZF)))
#define COND_8(f) ((f)&FLG_SF)
#define COND_9(f) (!((f)&FLG_SF))
#define COND_10(f) ((f)&FLG_PF)
#define COND_11(f) (!((f)&FLG_PF))
#define COND_12(f) flags_less(f)
#define COND_13(f) (!flags_less(f))
#define COND_14(f) (((f)&FLG_ZF) || flags_less(f))
#define COND_15(f) (!((f)&FLG_ZF) && !flags_less(f))

/* clang-format off */
#define EACH_COND(X, ...) \
    X(0, __VA_ARGS__) X(1, __VA_ARGS__) X(2, __VA_ARGS__) X(3, __VA_ARGS__) \
    X(4, __VA_ARGS__) X(5, __VA_ARGS__) X(6, __VA_ARGS__) X(7, __VA_ARGS__) \
    X(8, __VA_ARGS__) X(9, __VA_ARGS__) X(10, __VA_ARGS__) X(11, __VA_ARGS__) \
    X(12, __VA_ARGS__) X(13, __VA_ARGS__) X(14, __VA_ARGS__) X(15, __VA_ARGS__)
/* clang-format on */

/* ---- lifting ---- */

struct lift {
    struct soft_cpu *cpu;    /* borrowed */
    const struct insn *insn; /* the instruction being lifted */
    enum insn_mode mode;     /* of the block's code */
    uint64_t rip, next_rip;  /* of it */
    uint16_t off;            /* of it from the block's start */
    struct op *ops;          /* borrowed: room for LIFT_MAX_OPS */
    unsigned n;
    op_handler no_flags; /* a twin of the last emitted handler that leaves the flags alone */
    bool end;            /* the block ends here */
    unsigned branches;   /* conditional jumps that the block went past */
    bool full;           /* the arena or the stub area is full: give up */
};
#define LIFT_OPS_PER_INSN 4
#define LIFT_MAX_OPS (BLOCK_MAX_INSNS * LIFT_OPS_PER_INSN + 2)

/* Append an operation for the current instruction. */
struct op *lift_emit(struct lift *l, op_handler handler);
/* The same with the instruction's memory operand in its address fields (67 prefix included). */
struct op *lift_emit_mem(struct lift *l, op_handler handler);
/* Append a way out of the block to a fixed address. */
void lift_emit_link(struct lift *l, uint64_t target);
/* Finish a conditional jump: the way out for the taken side; the block goes on with the other, or
 * ends. */
void lift_emit_sides(struct lift *l, uint64_t taken);
/* Target of the relative branch being lifted. */
static inline uint64_t lift_target(const struct lift *l)
{
    uint64_t to = l->next_rip + (uint64_t)l->insn->imm;
    return l->mode == INSN_64 ? to : l->insn->opsize == 2 ? (uint16_t)to : (uint32_t)to;
}
/* Append an operation that raises an exception without error code (or #GP(0)). */
void lift_emit_raise(struct lift *l, unsigned vector);

/* Byte offset of a general register in cpu->gpr for an access of this size. */
static inline uint8_t lift_reg(const struct insn *i, unsigned reg, unsigned size)
{
    return (uint8_t)(size == 1 && !i->has_rex && reg >= 4 && reg < 8 ? (reg - 4) * 8 + 1 : reg * 8);
}

/* Is the memory operand plain [base + disp], for the short handlers? */
static inline bool lift_simple(const struct insn *i)
{
    return i->index == INSN_NO_REG && i->seg == INSN_NO_SEG && (!i->addr32 || i->mode != INSN_64);
}
static inline uint64_t op_ea_simple(const struct soft_cpu *cpu, const struct op *o)
{
    return cpu->gpr[o->base] + o->disp;
}

/* For operations whose address fields are not the stack's: the stack's own #SS, before an access to
 * it that misses the TLB. */
static inline void op_need_stack(struct soft_cpu *cpu, const struct op *o,
                                 const struct soft_tlb_entry *tlb, uint64_t sp, unsigned size)
{
    uint64_t last = sp + size - 1;
    if (unlikely(!tlb_probe(tlb, sp, size)) && ((uint64_t)((int64_t)(sp << 16) >> 16) != sp ||
                                                (uint64_t)((int64_t)(last << 16) >> 16) != last)) {
        cpu->insn_rip = op_rip(cpu, o);
        soft_raise_code(cpu, V_SS, 0);
    }
}

/* One per family; false when the instruction is not theirs. */
bool alu_lift(struct lift *l);
bool shift_lift(struct lift *l);
bool mul_lift(struct lift *l);
bool mov_lift(struct lift *l);
bool bit_lift(struct lift *l);
bool bmi_lift(struct lift *l);
bool stack_lift(struct lift *l);
bool branch_lift(struct lift *l);
bool string_lift(struct lift *l);
bool atomic_lift(struct lift *l);
bool misc_lift(struct lift *l);
/* Outside 64-bit mode, before the others: what they would get wrong. Puts segment checks before the
 * instruction and may replace it in l->insn by its like with the address in SOFT_EA_REG, in *room.
 */
bool legacy_lift(struct lift *l, struct insn *room);
/* An instruction for soft_sys_exec(). */
void lift_emit_system(struct lift *l);
/* Fuse the compare or test just lifted with a conditional jump that follows; false if it does not
 * fit. */
bool fuse_lift(struct lift *l, const struct insn *cmp);

/* ---- leaving a block ---- */

/* Run loop: look around before the next block? */
static inline bool must_stop(struct soft_cpu *cpu)
{
    return unlikely(atomic_load_explicit(&cpu->pending, memory_order_relaxed) != 0) ||
           unlikely(--cpu->budget < 0);
}

/* Go on at a computed address: by the jump cache, else through the run loop. */
static inline const struct op *op_jump(struct soft_cpu *cpu, uint64_t rip)
{
    const struct soft_jump_entry *j = soft_jump_slot(cpu, rip);
    if (likely(j->rip == rip && j->gen == cpu->gen[j->global]) && !must_stop(cpu) &&
        likely(j->block->mode == cpu->mode)) {
        cpu->block = j->block;
        DISPATCH(j->block->ops);
    }
    cpu->rip = rip;
    return NULL;
}

const struct op *link_same_page(struct soft_cpu *cpu, const struct op *o);
/*
 * o is the link of a taken side: go through it at once when it is the usual kind. The taken side of
 * a conditional jump is a branch of the host's here, on purpose: chosen by arithmetic, the next
 * operation's address would wait for the compare (bench: 1.3 to 2 times the time).
 */
__attribute__((always_inline)) static inline const struct op *take_link(struct soft_cpu *cpu,
                                                                        const struct op *o)
{
    if (likely(o->handler == link_same_page)) {
        struct block *b = (struct block *)o->disp;
        if (likely(!must_stop(cpu))) {
            cpu->block = b;
            DISPATCH(b->ops);
        }
    }
    DISPATCH(o);
}

#endif

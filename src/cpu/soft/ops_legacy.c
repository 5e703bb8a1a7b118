/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Code outside 64-bit mode: operands' segments, the 16- and 32-bit stack, near branches that use
 * it. Everything else goes through the handlers of 64-bit mode (legacy.h says why that is right).
 */
#include "cpu/soft/legacy.h"
#include "cpu/soft/ops.h"

/* The stack is flat and 32 bits wide. */
static inline bool plain_stack(const struct soft_cpu *cpu)
{
    return likely(!(cpu->mode & (MODE_SEGMENTED | MODE_STACK16)));
}

static inline void note(struct soft_cpu *cpu, const struct op *o)
{
    cpu->insn_rip = op_rip(cpu, o);
    cpu->running_op = o;
}

static inline void push(struct soft_cpu *cpu, const struct op *o, unsigned size, uint64_t v)
{
    if (plain_stack(cpu)) {
        uint64_t sp = (uint32_t)(cpu->gpr[R_SP] - size);
        if (size == 4) {
            store32(cpu, o, sp, (uint32_t)v);
        } else {
            store16(cpu, o, sp, (uint16_t)v);
        }
        cpu->gpr[R_SP] = sp;
        return;
    }
    note(cpu, o);
    stack_push(cpu, size, v);
}

static inline uint64_t peek(struct soft_cpu *cpu, const struct op *o, unsigned size)
{
    if (plain_stack(cpu)) {
        uint64_t sp = cpu->gpr[R_SP];
        return size == 4 ? load32(cpu, o, sp) : load16(cpu, o, sp);
    }
    note(cpu, o);
    return stack_load(cpu, cpu->gpr[R_SP], size);
}

static inline void drop(struct soft_cpu *cpu, uint64_t bytes)
{
    if (plain_stack(cpu)) {
        cpu->gpr[R_SP] = (uint32_t)(cpu->gpr[R_SP] + bytes);
    } else {
        stack_set(cpu, cpu->gpr[R_SP] + bytes);
    }
}

/* A near branch must stay in the code segment. */
static inline void check_limit(struct soft_cpu *cpu, const struct op *o, uint64_t to)
{
    if (unlikely((cpu->mode & MODE_CODE_LIMIT) && to > cpu->seg[SEG_CS].limit)) {
        cpu->insn_rip = op_rip(cpu, o);
        soft_raise_code(cpu, V_GP, 0);
    }
}

#define LEGACY_WIDTH(bits, T)                                                                      \
    OP(push_r##bits)                                                                               \
    {                                                                                              \
        push(cpu, o, sizeof(T), REG(T, o->src));                                                   \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(push_i##bits)                                                                               \
    {                                                                                              \
        push(cpu, o, sizeof(T), (T)o->imm);                                                        \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(push_x##bits)                                                                               \
    {                                                                                              \
        push(cpu, o, sizeof(T), load##bits(cpu, o, op_ea(cpu, o)));                                \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(pop_r##bits)                                                                                \
    {                                                                                              \
        T v = (T)peek(cpu, o, sizeof(T));                                                          \
        drop(cpu, sizeof(T));                                                                      \
        SETREG##bits(o->dst, v);                                                                   \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(leave##bits)                                                                                \
    {                                                                                              \
        note(cpu, o);                                                                              \
        uint64_t bp = cpu->gpr[R_BP];                                                              \
        T v = (T)stack_load(cpu, bp, sizeof(T));                                                   \
        stack_set(cpu, bp + sizeof(T));                                                            \
        SETREG##bits(R_BP * 8, v);                                                                 \
        NEXT;                                                                                      \
    }                                                                                              \
    /* disp: the return address; imm: the target, of which the link that follows knows too */      \
    OP(call_link##bits)                                                                            \
    {                                                                                              \
        check_limit(cpu, o, o->imm);                                                               \
        push(cpu, o, sizeof(T), o->disp);                                                          \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(jmp_r##bits)                                                                                \
    {                                                                                              \
        check_limit(cpu, o, REG(T, o->src));                                                       \
        return op_jump(cpu, REG(T, o->src));                                                       \
    }                                                                                              \
    OP(jmp_x##bits)                                                                                \
    {                                                                                              \
        T to = load##bits(cpu, o, op_ea(cpu, o));                                                  \
        check_limit(cpu, o, to);                                                                   \
        return op_jump(cpu, to);                                                                   \
    }                                                                                              \
    OP(call_r##bits)                                                                               \
    {                                                                                              \
        T to = REG(T, o->src);                                                                     \
        check_limit(cpu, o, to);                                                                   \
        push(cpu, o, sizeof(T), op_rip(cpu, o) + o->len);                                          \
        return op_jump(cpu, to);                                                                   \
    }                                                                                              \
    OP(call_x##bits)                                                                               \
    {                                                                                              \
        T to = load##bits(cpu, o, op_ea(cpu, o));                                                  \
        check_limit(cpu, o, to);                                                                   \
        push(cpu, o, sizeof(T), op_rip(cpu, o) + o->len);                                          \
        return op_jump(cpu, to);                                                                   \
    }                                                                                              \
    OP(ret##bits)                                                                                  \
    {                                                                                              \
        T to = (T)peek(cpu, o, sizeof(T));                                                         \
        check_limit(cpu, o, to);                                                                   \
        drop(cpu, sizeof(T) + o->imm);                                                             \
        return op_jump(cpu, to);                                                                   \
    }
LEGACY_WIDTH(16, uint16_t)
LEGACY_WIDTH(32, uint32_t)

/* ---- addresses ---- */

/* imm of seg_ea: size of the access, then flags. */
#define EA_SIZE 0xffffu
#define EA_WRITE 0x10000u
#define EA_16 0x20000u
#define EA_PLAIN 0x40000u /* LEA: an offset, no access */
#define EA_BIT16 0x80000u /* src is the register of a bit number that moves the operand */
#define EA_BIT32 0x100000u

/* The checked linear address of the next operation's operand, into SOFT_EA_REG. */
OP(seg_ea)
{
    uint64_t sum = cpu->gpr[o->base] + (cpu->gpr[o->index] << (o->scale_seg & 3)) + o->disp;
    int64_t by = o->imm & EA_BIT16   ? (int64_t)(REG(int16_t, o->src) >> 4) * 2
                 : o->imm & EA_BIT32 ? (int64_t)(REG(int32_t, o->src) >> 5) * 4
                                     : 0;
    sum += (uint64_t)by;
    uint32_t offset = o->imm & EA_16 ? (uint16_t)sum : (uint32_t)sum;
    if (o->imm & EA_PLAIN) {
        cpu->gpr[SOFT_EA_REG] = offset;
        NEXT;
    }
    note(cpu, o);
    /* the handler adds the bit number's share itself */
    cpu->gpr[SOFT_EA_REG] =
        legacy_linear(cpu, o->scale_seg >> 4, offset, (unsigned)(o->imm & EA_SIZE),
                      o->imm & EA_WRITE ? ACC_WRITE : ACC_READ) -
        (uint64_t)by;
    NEXT;
}

static unsigned default_segment(const struct insn *i)
{
    return i->base == R_SP || i->base == R_BP ? SEG_SS : SEG_DS;
}

static uint64_t bit_flag(const struct insn *i)
{
    bool moves = i->desc->id >= I_BT && i->desc->id <= I_BTC && i->desc->op[1] == O_G;
    return !moves ? 0 : i->opsize == 2 ? EA_BIT16 : EA_BIT32;
}

/* Does an access through this segment need seg_ea()? */
static bool checked(const struct lift *l, unsigned segment)
{
    return (l->cpu->mode & MODE_SEGMENTED) || segment == SEG_CS || segment > SEG_DS;
}

/* seg_ea() for the instruction, which *room becomes with its address in SOFT_EA_REG. */
static struct op *lift_seg_ea(struct lift *l, struct insn *room, unsigned segment, unsigned size)
{
    const struct insn *i = l->insn;
    struct op *o = lift_emit(l, seg_ea);
    lift_mem(room, l->next_rip, o);
    o->scale_seg = (uint8_t)((o->scale_seg & 3) | segment << 4);
    o->src = (uint8_t)(i->reg * 8);
    o->imm =
        size | (i->desc->attr & IA_STORE ? EA_WRITE : 0) | (i->addr16 ? EA_16 : 0) | bit_flag(i);
    room->base = SOFT_EA_REG;
    room->index = INSN_NO_REG;
    room->disp = 0;
    room->addr32 = room->addr16 = false;
    return o;
}

/* Put the instruction's memory operand into the plain form of 64-bit mode: no segment, or an
 * operation before it that leaves the linear address in SOFT_EA_REG. */
static void lift_operand(struct lift *l, struct insn *room)
{
    const struct insn *i = l->insn;
    bool moffs = i->desc->op[0] == O_O || i->desc->op[1] == O_O;
    if ((!i->is_mem && !moffs) || i->desc->id == I_NOP) {
        return;
    }
    unsigned segment = i->seg != INSN_NO_SEG ? i->seg : default_segment(i);
    bool lea = i->desc->id == I_LEA;
    *room = *i;
    room->seg = INSN_NO_SEG;
    if (i->desc->id == I_POP && i->base == R_SP) { /* ESP counts as already raised */
        room->disp += i->opsize;
    }
    if (i->desc->id == I_VGATHER) { /* an address per element: no limits checked */
        room->seg = checked(l, segment) ? (uint8_t)segment : INSN_NO_SEG;
    } else if (i->addr16 || (!lea && checked(l, segment))) {
        struct op *o = lift_seg_ea(l, room, segment, i->mem_size);
        o->imm |= lea ? EA_PLAIN : 0;
        room->is_mem = true;
    }
    l->insn = room;
}

/* DS:[(E)DI], without a ModRM byte that says so. */
static void lift_maskmov(struct lift *l, struct insn *room)
{
    const struct insn *i = l->insn;
    unsigned segment = i->seg != INSN_NO_SEG ? i->seg : SEG_DS;
    *room = *i;
    room->seg = INSN_NO_SEG;
    if (i->addr16 || checked(l, segment)) {
        struct op *o = lift_seg_ea(l, room, segment, i->desc->op[1] == O_N ? 8 : 16);
        o->base = R_DI;
        o->imm |= EA_WRITE;
    }
    l->insn = room;
}

/* ---- lifting ---- */

#define BY_SIZE(name) (i->opsize == 2 ? name##16 : name##32)

static void lift_push(struct lift *l)
{
    const struct insn *i = l->insn;
    if (i->desc->op[0] == O_I || i->desc->op[0] == O_IB) {
        lift_emit(l, BY_SIZE(push_i))->imm = (uint64_t)i->imm;
    } else if (i->is_mem) {
        lift_emit_mem(l, BY_SIZE(push_x));
    } else {
        lift_emit(l, BY_SIZE(push_r))->src = (uint8_t)(i->rm * 8);
    }
}

static void lift_indirect(struct lift *l, op_handler reg, op_handler mem)
{
    l->end = true;
    if (l->insn->is_mem) {
        lift_emit_mem(l, mem);
    } else {
        lift_emit(l, reg)->src = (uint8_t)(l->insn->rm * 8);
    }
}

static void lift_call(struct lift *l)
{
    const struct insn *i = l->insn;
    uint64_t target = lift_target(l);
    struct op *o = lift_emit(l, BY_SIZE(call_link));
    o->disp = l->next_rip;
    o->imm = target;
    lift_emit_link(l, target);
    l->end = true;
}

/* LOOPcc and JCXZ with a 16-bit counter. src: I_LOOPNE ... I_JRCXZ from 0. */
OP(loop16)
{
    uint16_t c = REG(uint16_t, R_CX * 8);
    bool taken = c == 0;
    if (o->src != I_JRCXZ - I_LOOPNE) {
        bool zf = (cpu->flags & FLG_ZF) != 0;
        REG(uint16_t, R_CX * 8) = --c;
        taken = c != 0 && (o->src == I_LOOP - I_LOOPNE || zf == (o->src == I_LOOPE - I_LOOPNE));
    }
    o += taken ? 1 : 2;
    DISPATCH(o);
}

static void lift_loop16(struct lift *l)
{
    lift_emit(l, loop16)->src = (uint8_t)(l->insn->desc->id - I_LOOPNE);
    lift_emit_link(l, lift_target(l));
    lift_emit_link(l, l->next_rip);
    l->end = true;
}

/* In flat segments as in 64-bit mode with a 67 prefix. */
static bool lift_string(struct lift *l, struct insn *room)
{
    const struct insn *i = l->insn;
    if (i->addr16 || checked(l, i->seg != INSN_NO_SEG ? i->seg : SEG_DS)) {
        lift_emit_system(l);
        return true;
    }
    *room = *i;
    room->seg = INSN_NO_SEG;
    l->insn = room;
    return false;
}

bool legacy_lift(struct lift *l, struct insn *room)
{
    const struct insn *i = l->insn;
    lift_operand(l, room);
    switch (i->desc->id) {
    case I_PUSH:
        lift_push(l);
        return true;
    case I_POP:
        if (i->is_mem) {
            lift_emit_system(l);
        } else {
            lift_emit(l, BY_SIZE(pop_r))->dst = (uint8_t)(i->rm * 8);
        }
        return true;
    case I_LEAVE:
        lift_emit(l, BY_SIZE(leave));
        return true;
    case I_ENTER:
        lift_emit_system(l);
        return true;
    case I_CALL:
        lift_call(l);
        return true;
    case I_CALL_RM:
        lift_indirect(l, BY_SIZE(call_r), BY_SIZE(call_x));
        return true;
    case I_JMP_RM:
        lift_indirect(l, BY_SIZE(jmp_r), BY_SIZE(jmp_x));
        return true;
    case I_RET:
        lift_emit(l, BY_SIZE(ret))->imm = i->desc->op[0] == O_IW ? (uint16_t)i->imm : 0;
        l->end = true;
        return true;
    case I_LOOPNE ... I_JRCXZ:
        if (i->addr16) {
            lift_loop16(l);
        }
        return i->addr16;
    case I_MOVS ... I_SCAS:
        return lift_string(l, room);
    case I_MASKMOV:
        lift_maskmov(l, room);
        return false;
    case I_XLAT:
        lift_emit_system(l);
        return true;
    default:
        return false;
    }
}

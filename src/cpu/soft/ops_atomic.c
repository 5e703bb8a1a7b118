/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XCHG with memory, XADD, CMPXCHG and its wide forms. With LOCK they are the host's own locked
 * instructions on guest RAM, so they stay atomic against other vCPUs and devices. An operand that
 * crosses a page, or lies in a page with code, is done in a bounce buffer while all other vCPUs are
 * stopped: atomic against them, though not against devices.
 */
#include "cpu/soft/ops.h"

#define ATOMIC_WIDTH(bits, T, sfx)                                                                 \
    OP(xchg_x##bits)                                                                               \
    {                                                                                              \
        uint64_t va = op_ea(cpu, o);                                                               \
        guest_u##bits *p = op_ptr(cpu, o, va, sizeof(T), ACC_LOCKED);                              \
        T v = REG(T, o->src);                                                                      \
        __asm__ volatile("xchg" sfx " %0, %1" : "+q"(v), "+m"(*p) : : "memory");                   \
        op_ptr_finish(cpu, o, va, sizeof(T), p);                                                   \
        SETREG##bits(o->src, v);                                                                   \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(xadd_r##bits)                                                                               \
    {                                                                                              \
        T d = REG(T, o->dst), s = REG(T, o->src);                                                  \
        uint16_t f;                                                                                \
        __asm__("xadd" sfx " %[s], %[d]" FLAGS_OUT : "=&a"(f), [d] "+q"(d), [s] "+q"(s) : : "cc"); \
        cpu->flags = f;                                                                            \
        SETREG##bits(o->src, s);                                                                   \
        SETREG##bits(o->dst, d);                                                                   \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(xadd_x##bits)                                                                               \
    {                                                                                              \
        uint64_t va = op_ea(cpu, o);                                                               \
        guest_u##bits *p = op_ptr(cpu, o, va, sizeof(T), ACC_LOCKED);                              \
        T s = REG(T, o->src);                                                                      \
        uint16_t f;                                                                                \
        __asm__ volatile("lock xadd" sfx " %[s], %[d]" FLAGS_OUT                                   \
                         : "=&a"(f), [d] "+m"(*p), [s] "+q"(s)                                     \
                         :                                                                         \
                         : "cc", "memory");                                                        \
        op_ptr_finish(cpu, o, va, sizeof(T), p);                                                   \
        cpu->flags = f;                                                                            \
        SETREG##bits(o->src, s);                                                                   \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(cmpxchg_r##bits)                                                                            \
    {                                                                                              \
        T d = REG(T, o->dst), s = REG(T, o->src), old = REG(T, 0);                                 \
        uint16_t f;                                                                                \
        __asm__("cmp" sfx " %[d], %[old]" FLAGS_OUT                                                \
                : "=&a"(f)                                                                         \
                : [d] "q"(d), [old] "q"(old)                                                       \
                : "cc");                                                                           \
        cpu->flags = f;                                                                            \
        if (old == d) {                                                                            \
            SETREG##bits(o->dst, s);                                                               \
        } else {                                                                                   \
            SETREG##bits(0, d); /* the target is not touched: no clearing above 32 bits */         \
        }                                                                                          \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(cmpxchg_x##bits)                                                                            \
    {                                                                                              \
        uint64_t va = op_ea(cpu, o);                                                               \
        guest_u##bits *p = op_ptr(cpu, o, va, sizeof(T), ACC_LOCKED);                              \
        T s = REG(T, o->src), old = REG(T, 0), seen;                                               \
        uint64_t ax = old;                                                                         \
        __asm__ volatile("lock cmpxchg" sfx " %[s], %[d]\n\tmov %%rax, %q[seen]" FLAGS_OUT         \
                         : "+a"(ax), [d] "+m"(*p), [seen] "=&r"(seen)                              \
                         : [s] "q"(s)                                                              \
                         : "cc", "memory");                                                        \
        op_ptr_finish(cpu, o, va, sizeof(T), p);                                                   \
        cpu->flags = (uint16_t)ax;                                                                 \
        if (!((uint16_t)ax & FLG_ZF)) {                                                            \
            SETREG##bits(0, seen);                                                                 \
        }                                                                                          \
        NEXT;                                                                                      \
    }
ATOMIC_WIDTH(8, uint8_t, "b")
ATOMIC_WIDTH(16, uint16_t, "w")
ATOMIC_WIDTH(32, uint32_t, "l")
ATOMIC_WIDTH(64, uint64_t, "q")

/* Only ZF changes. */
static void set_zf(struct soft_cpu *cpu, bool equal)
{
    cpu->flags = (uint16_t)((cpu->flags & ~FLG_ZF) | (equal ? FLG_ZF : 0));
}

OP(cmpxchg8b)
{
    uint64_t va = op_ea(cpu, o);
    uint64_t *p = op_ptr(cpu, o, va, 8, ACC_LOCKED);
    uint64_t old = cpu->gpr[R_DX] << 32 | (uint32_t)cpu->gpr[R_AX], seen = old;
    uint64_t new = cpu->gpr[R_CX] << 32 | (uint32_t)cpu->gpr[R_BX];
    __asm__ volatile("lock cmpxchgq %2, %1" : "+a"(seen), "+m"(*p) : "r"(new) : "cc", "memory");
    op_ptr_finish(cpu, o, va, 8, p);
    set_zf(cpu, seen == old);
    if (seen != old) {
        cpu->gpr[R_AX] = (uint32_t)seen;
        cpu->gpr[R_DX] = seen >> 32;
    }
    NEXT;
}

OP(cmpxchg16b)
{
    uint64_t va = op_ea(cpu, o);
    if (va & 15) {
        cpu->insn_rip = op_rip(cpu, o);
        soft_raise_code(cpu, V_GP, 0);
    }
    void *p = op_ptr(cpu, o, va, 16, ACC_LOCKED);
    uint64_t lo = cpu->gpr[R_AX], hi = cpu->gpr[R_DX];
    bool equal;
    __asm__ volatile("lock cmpxchg16b %[m]"
                     : "+a"(lo), "+d"(hi), [m] "+m"(*(unsigned __int128 *)p), "=@ccz"(equal)
                     : "b"(cpu->gpr[R_BX]), "c"(cpu->gpr[R_CX])
                     : "memory");
    op_ptr_finish(cpu, o, va, 16, p);
    set_zf(cpu, equal);
    if (!equal) {
        cpu->gpr[R_AX] = lo;
        cpu->gpr[R_DX] = hi;
    }
    NEXT;
}

#define ROW4(name)                                                                                 \
    {                                                                                              \
        name##8, name##16, name##32, name##64                                                      \
    }

static void lift_pair(struct lift *l, const op_handler *reg, const op_handler *mem)
{
    const struct insn *i = l->insn;
    unsigned w = width_of(i->opsize);
    struct op *o = i->is_mem ? lift_emit_mem(l, mem[w]) : lift_emit(l, reg[w]);
    o->src = lift_reg(i, i->reg, i->opsize);
    if (!i->is_mem) {
        o->dst = lift_reg(i, i->rm, i->opsize);
    }
}

bool atomic_lift(struct lift *l)
{
    static const op_handler xchg[4] = ROW4(xchg_x);
    static const op_handler xadd[2][4] = {ROW4(xadd_r), ROW4(xadd_x)};
    static const op_handler cmpxchg[2][4] = {ROW4(cmpxchg_r), ROW4(cmpxchg_x)};
    switch (l->insn->desc->id) {
    case I_XCHG:
        lift_pair(l, NULL, xchg);
        return true;
    case I_XADD:
        lift_pair(l, xadd[0], xadd[1]);
        return true;
    case I_CMPXCHG:
        lift_pair(l, cmpxchg[0], cmpxchg[1]);
        return true;
    case I_CMPXCHG8B:
        lift_emit_mem(l, cmpxchg8b);
        return true;
    case I_CMPXCHG16B:
        lift_emit_mem(l, cmpxchg16b);
        return true;
    default:
        return false;
    }
}

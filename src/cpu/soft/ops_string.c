/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MOVS STOS LODS SCAS CMPS. Repeated forms work in pieces that stay inside the pages they touch,
 * keep RSI, RDI and RCX exact after each piece, and let interrupts in between.
 */
#include "cpu/soft/ops.h"

/* o->src: 67 prefix (32-bit RSI, RDI, RCX); o->index: repeat kind; scale_seg: segment of the
 * source. */
static inline uint64_t mask_of(const struct op *o)
{
    return o->src ? 0xffffffffull : ~0ull;
}

static inline uint64_t src_base(const struct soft_cpu *cpu, const struct op *o)
{
    return cpu->seg_base[o->scale_seg >> 4];
}

static inline void advance(struct soft_cpu *cpu, unsigned reg, uint64_t mask, int64_t by)
{
    cpu->gpr[reg] = (cpu->gpr[reg] + (uint64_t)by) & mask;
}

/* An interrupt waits, or each iteration is a single step: come back to this instruction later. */
static inline bool yields(struct soft_cpu *cpu)
{
    return atomic_load_explicit(&cpu->pending, memory_order_relaxed) != 0 ||
           (cpu->mode & MODE_STEP);
}

static uint64_t min3(uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t m = a < b ? a : b;
    return m < c ? m : c;
}

#define STEP(T) ((cpu->sys_flags & FL_DF) ? -(int64_t)sizeof(T) : (int64_t)sizeof(T))
#define ROOM(va, T) ((4096 - ((va)&0xfff)) / sizeof(T))

#define REP_LOOP(T, BODY)                                                                          \
    uint64_t mask = mask_of(o);                                                                    \
    while (cpu->gpr[R_CX] & mask) {                                                                \
        BODY;                                                                                      \
        if (unlikely(yields(cpu)) && (cpu->gpr[R_CX] & mask)) {                                    \
            cpu->rip = op_rip(cpu, o);                                                             \
            return NULL;                                                                           \
        }                                                                                          \
    }                                                                                              \
    NEXT

#define STRING_WIDTH(bits, T, sfx)                                                                 \
    static inline void movs_one##bits(struct soft_cpu *cpu, const struct op *o, uint64_t mask)     \
    {                                                                                              \
        T v = load##bits(cpu, o, (cpu->gpr[R_SI] & mask) + src_base(cpu, o));                      \
        store##bits(cpu, o, cpu->gpr[R_DI] & mask, v);                                             \
        advance(cpu, R_SI, mask, STEP(T));                                                         \
        advance(cpu, R_DI, mask, STEP(T));                                                         \
    }                                                                                              \
    static inline void stos_one##bits(struct soft_cpu *cpu, const struct op *o, uint64_t mask)     \
    {                                                                                              \
        store##bits(cpu, o, cpu->gpr[R_DI] & mask, REG(T, 0));                                     \
        advance(cpu, R_DI, mask, STEP(T));                                                         \
    }                                                                                              \
    static inline void lods_one##bits(struct soft_cpu *cpu, const struct op *o, uint64_t mask)     \
    {                                                                                              \
        T v = load##bits(cpu, o, (cpu->gpr[R_SI] & mask) + src_base(cpu, o));                      \
        SETREG##bits(0, v);                                                                        \
        advance(cpu, R_SI, mask, STEP(T));                                                         \
    }                                                                                              \
    static inline uint16_t compare##bits(T a, T b)                                                 \
    {                                                                                              \
        uint16_t f;                                                                                \
        __asm__("cmp" sfx " %2, %1" FLAGS_OUT : "=&a"(f) : "q"(a), "q"(b) : "cc");                 \
        return f;                                                                                  \
    }                                                                                              \
    static inline void cmps_one##bits(struct soft_cpu *cpu, const struct op *o, uint64_t mask)     \
    {                                                                                              \
        T a = load##bits(cpu, o, (cpu->gpr[R_SI] & mask) + src_base(cpu, o));                      \
        T b = load##bits(cpu, o, cpu->gpr[R_DI] & mask);                                           \
        cpu->flags = compare##bits(a, b);                                                          \
        advance(cpu, R_SI, mask, STEP(T));                                                         \
        advance(cpu, R_DI, mask, STEP(T));                                                         \
    }                                                                                              \
    static inline void scas_one##bits(struct soft_cpu *cpu, const struct op *o, uint64_t mask)     \
    {                                                                                              \
        T b = load##bits(cpu, o, cpu->gpr[R_DI] & mask);                                           \
        cpu->flags = compare##bits(REG(T, 0), b);                                                  \
        advance(cpu, R_DI, mask, STEP(T));                                                         \
    }                                                                                              \
    /* A run of elements inside one source and one target page, upwards. 0: not possible. */       \
    static inline uint64_t movs_run##bits(struct soft_cpu *cpu, const struct op *o, uint64_t mask) \
    {                                                                                              \
        uint64_t si = (cpu->gpr[R_SI] & mask) + src_base(cpu, o), di = cpu->gpr[R_DI] & mask;      \
        uint64_t n = min3(cpu->gpr[R_CX] & mask, ROOM(si, T), ROOM(di, T));                        \
        const void *s = tlb_probe(cpu->tlb_read, si, 1);                                           \
        void *d = tlb_probe(cpu->tlb_write, di, 1);                                                \
        if (!n || !s || !d || (cpu->sys_flags & FL_DF) || (cpu->mode & MODE_STEP)) {               \
            return 0;                                                                              \
        }                                                                                          \
        uint64_t count = n;                                                                        \
        __asm__ volatile("rep movs" sfx : "+S"(s), "+D"(d), "+c"(count) : : "memory");             \
        advance(cpu, R_SI, mask, (int64_t)(n * sizeof(T)));                                        \
        advance(cpu, R_DI, mask, (int64_t)(n * sizeof(T)));                                        \
        return n;                                                                                  \
    }                                                                                              \
    static inline uint64_t stos_run##bits(struct soft_cpu *cpu, const struct op *o, uint64_t mask) \
    {                                                                                              \
        uint64_t di = cpu->gpr[R_DI] & mask;                                                       \
        uint64_t n = min3(cpu->gpr[R_CX] & mask, ROOM(di, T), ROOM(di, T));                        \
        void *d = tlb_probe(cpu->tlb_write, di, 1);                                                \
        if (!n || !d || (cpu->sys_flags & FL_DF) || (cpu->mode & MODE_STEP)) {                     \
            return 0;                                                                              \
        }                                                                                          \
        uint64_t count = n;                                                                        \
        __asm__ volatile("rep stos" sfx : "+D"(d), "+c"(count) : "a"(cpu->gpr[R_AX]) : "memory");  \
        advance(cpu, R_DI, mask, (int64_t)(n * sizeof(T)));                                        \
        return n;                                                                                  \
    }                                                                                              \
    OP(movs##bits)                                                                                 \
    {                                                                                              \
        movs_one##bits(cpu, o, mask_of(o));                                                        \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(stos##bits)                                                                                 \
    {                                                                                              \
        stos_one##bits(cpu, o, mask_of(o));                                                        \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(lods##bits)                                                                                 \
    {                                                                                              \
        lods_one##bits(cpu, o, mask_of(o));                                                        \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(cmps##bits)                                                                                 \
    {                                                                                              \
        cmps_one##bits(cpu, o, mask_of(o));                                                        \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(scas##bits)                                                                                 \
    {                                                                                              \
        scas_one##bits(cpu, o, mask_of(o));                                                        \
        NEXT;                                                                                      \
    }                                                                                              \
    OP(rep_movs##bits)                                                                             \
    {                                                                                              \
        REP_LOOP(                                                                                  \
            T, uint64_t n = movs_run##bits(cpu, o, mask); if (!n) {                                \
                movs_one##bits(cpu, o, mask);                                                      \
                n = 1;                                                                             \
            } advance(cpu, R_CX, mask, -(int64_t)n));                                              \
    }                                                                                              \
    OP(rep_stos##bits)                                                                             \
    {                                                                                              \
        REP_LOOP(                                                                                  \
            T, uint64_t n = stos_run##bits(cpu, o, mask); if (!n) {                                \
                stos_one##bits(cpu, o, mask);                                                      \
                n = 1;                                                                             \
            } advance(cpu, R_CX, mask, -(int64_t)n));                                              \
    }                                                                                              \
    OP(rep_lods##bits)                                                                             \
    {                                                                                              \
        REP_LOOP(T, lods_one##bits(cpu, o, mask); advance(cpu, R_CX, mask, -1));                   \
    }                                                                                              \
    OP(rep_cmps##bits)                                                                             \
    {                                                                                              \
        REP_LOOP(                                                                                  \
            T, cmps_one##bits(cpu, o, mask); advance(cpu, R_CX, mask, -1);                         \
            if (((cpu->flags & FLG_ZF) != 0) != (o->index == REP_REPE)) { NEXT; });                \
    }                                                                                              \
    OP(rep_scas##bits)                                                                             \
    {                                                                                              \
        REP_LOOP(                                                                                  \
            T, scas_one##bits(cpu, o, mask); advance(cpu, R_CX, mask, -1);                         \
            if (((cpu->flags & FLG_ZF) != 0) != (o->index == REP_REPE)) { NEXT; });                \
    }

STRING_WIDTH(8, uint8_t, "b")
STRING_WIDTH(16, uint16_t, "w")
STRING_WIDTH(32, uint32_t, "l")
STRING_WIDTH(64, uint64_t, "q")

#define ROW4(name)                                                                                 \
    {                                                                                              \
        name##8, name##16, name##32, name##64                                                      \
    }

bool string_lift(struct lift *l)
{
    static const op_handler table[5][2][4] = {
        {ROW4(movs), ROW4(rep_movs)}, {ROW4(cmps), ROW4(rep_cmps)}, {ROW4(stos), ROW4(rep_stos)},
        {ROW4(lods), ROW4(rep_lods)}, {ROW4(scas), ROW4(rep_scas)},
    };
    const struct insn *i = l->insn;
    if (i->desc->id < I_MOVS || i->desc->id > I_SCAS) {
        return false;
    }
    struct op *o = lift_emit(l, table[i->desc->id - I_MOVS][i->rep != 0][width_of(i->opsize)]);
    o->src = i->addr32;
    o->index = i->rep;
    o->scale_seg = (uint8_t)((i->seg == INSN_NO_SEG ? LIFT_NO_SEG : i->seg) << 4);
    return true;
}

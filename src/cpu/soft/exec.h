/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an operation handler of the interpreter is made of: the cached operation, the dispatch to
 * the next one, effective addresses and the inlined TLB probe. Included only by handler files.
 */
#ifndef SM_SOFT_EXEC_H
#define SM_SOFT_EXEC_H

#include "cpu/soft/cpu.h"

struct op;
/* Executes one operation; returns the next one to run, or NULL to go back to the run loop with
 * cpu->rip set. In the fast build the "return" is a tail call of the next handler. */
typedef const struct op *(*op_handler)(struct soft_cpu *cpu, const struct op *o);

struct op {
    op_handler handler;
    uint64_t disp; /* displacement; the absolute address when RIP-relative (base = SOFT_ZERO_REG) */
    uint64_t imm;  /* immediate, branch target, or pointer, as the handler says */
    union {
        struct {
            uint8_t dst;  /* register operands as byte offsets into gpr[] (AH = 1), or as the */
            uint8_t src;  /* handler says */
            uint8_t base; /* gpr index, SOFT_ZERO_REG for none */
            uint8_t index;
        };
        uint32_t gen; /* links: generation that disp (a struct block *) is valid in */
    };
    /* scale (log2) in bits 0-1, segment (index of seg_base[]) in bits 4-6; links: GEN_* of gen */
    uint8_t scale_seg;
    uint8_t len;  /* of the guest instruction */
    uint16_t off; /* of the guest instruction from block->rip */
};
_Static_assert(sizeof(struct op) == 32, "two operations per cache line");

#if defined(__SANITIZE_ADDRESS__) || defined(SOFT_NO_TAILCALL)
#define DISPATCH(next) return (next) /* sanitizers keep frames alive: no sibling calls */
#else
#define DISPATCH(next)                                                                             \
    do {                                                                                           \
        const struct op *next_ = (next); /* opaque: gcc then needs two instructions less */        \
        __asm__("" : "+r"(next_));                                                                 \
        return next_->handler(cpu, next_);                                                         \
    } while (0)
#define SOFT_TAILCALL 1
#endif
/*
 * The last statement of a handler. It must become a jump, or the stack grows with every operation:
 * a handler has no local whose address is taken or that wants more than 16 bytes of alignment. Such
 * work goes into a function of its own that is not inlined (tools/check-tail-calls).
 */
#define NEXT DISPATCH(o + 1)

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define OP(name) static const struct op *name(struct soft_cpu *cpu, const struct op *o)

struct block {
    uint64_t rip;  /* guest-virtual address of the first instruction */
    gpa_t phys;    /* guest-physical address of it */
    uint32_t mode; /* MODE_* */
    uint16_t n_ops;
    uint16_t n_bytes; /* of guest code */
    bool dead;        /* dropped from the cache; memory is reused only when the whole cache is */
    bool crosses;     /* its one instruction touches a second guest page, phys2 */
    gpa_t phys2;
    uint16_t heat;        /* runs until it is translated; of use while ops[0] counts them */
    uint16_t checked;     /* runs under check, as far as check.c counts */
    op_handler first;     /* what the interpreter runs for ops[0], whose handler may do more */
    const void *body;     /* translated code jumps there, see xlat.h */
    const uint8_t *bytes; /* copy of the guest code; NULL when it is not to be translated */
    struct block *hash_next;
    struct block *page_next[2]; /* other blocks that touch this page (first, second) */
    struct op ops[];
};

static inline struct soft_jump_entry *soft_jump_slot(struct soft_cpu *cpu, uint64_t rip)
{
    return &cpu->jump[(rip ^ rip >> SOFT_JUMP_BITS) & ((1u << SOFT_JUMP_BITS) - 1)];
}

static inline uint64_t op_rip(const struct soft_cpu *cpu, const struct op *o)
{
    return cpu->block->rip + o->off;
}

/* Effective address: base + index * scale + disp + segment base. Missing parts read as 0. */
static inline uint64_t op_ea(const struct soft_cpu *cpu, const struct op *o)
{
    return cpu->gpr[o->base] + (cpu->gpr[o->index] << (o->scale_seg & 3)) + o->disp +
           cpu->seg_base[o->scale_seg >> 4];
}

/* Does an access of size bytes at va hit entry e and stay inside its page? */
static inline bool tlb_hit(const struct soft_tlb_entry *e, uint64_t va, unsigned size)
{
    return likely(va - e->tag <= 4096 - size);
}

static inline const struct soft_tlb_entry *tlb_slot(const struct soft_tlb_entry *tlb, uint64_t va)
{
    return &tlb[(va >> 12) & (SOFT_TLB_SIZE - 1)];
}

/* Host address for an access that hits the TLB and stays inside one page, else NULL. */
static inline void *tlb_probe(const struct soft_tlb_entry *tlb, uint64_t va, unsigned size)
{
    const struct soft_tlb_entry *e = tlb_slot(tlb, va);
    return tlb_hit(e, va, size) ? (void *)(e->host + (va - e->tag)) : NULL;
}

/* Slow paths (access.c): as soft_load/soft_store, after noting o as the faulting instruction. */
uint64_t soft_load_slow(struct soft_cpu *cpu, const struct op *o, uint64_t va, unsigned size);
void soft_store_slow(struct soft_cpu *cpu, const struct op *o, uint64_t va, unsigned size,
                     uint64_t value);
/*
 * A host pointer for an access of size bytes (up to 832), not ACC_FETCH, whatever the
 * page layout: the page itself, or a bounce buffer (device memory, page crossing) filled with the
 * current bytes. After writing through it call soft_ptr_done() with the same values. For RMW and
 * native operands. Faults do not return. soft_ptr_slow never returns NULL. With ACC_LOCKED other
 * vCPUs are stopped while the bounce buffer is in use, so soft_ptr_done() is a must.
 */
void *soft_ptr_slow(struct soft_cpu *cpu, const struct op *o, uint64_t va, unsigned size,
                    enum soft_access acc);
void soft_ptr_done(struct soft_cpu *cpu, const struct op *o, uint64_t va, unsigned size, void *ptr);

/*
 * The calls of the slow paths from a handler go through thunks (thunk.c) that keep every register
 * but RAX: the handler's hit path then needs no stack frame. The engine is built with
 * -mno-red-zone, as the compiler does not see these calls.
 */
static inline uint64_t call_load_slow(struct soft_cpu *cpu, const struct op *o, uint64_t va,
                                      unsigned size)
{
    __asm__ volatile("call soft_load_thunk"
                     : "+a"(va)
                     : "D"(cpu), "S"(o), "c"(size)
                     : "memory", "cc");
    return va;
}

static inline void call_store_slow(struct soft_cpu *cpu, const struct op *o, uint64_t va,
                                   unsigned size, uint64_t value)
{
    __asm__ volatile("call soft_store_thunk"
                     : "+a"(va)
                     : "D"(cpu), "S"(o), "c"(size), "d"(value)
                     : "memory", "cc");
}

static inline void *call_ptr_slow(struct soft_cpu *cpu, const struct op *o, uint64_t va,
                                  unsigned size, enum soft_access acc)
{
    __asm__ volatile("call soft_ptr_thunk"
                     : "+a"(va)
                     : "D"(cpu), "S"(o), "c"(size), "d"((uint64_t)acc)
                     : "memory", "cc");
    return (void *)va;
}

#define SOFT_DEFINE_LOAD(T, bits)                                                                  \
    typedef T guest_u##bits __attribute__((aligned(1), may_alias)); /* any address */              \
    static inline T load##bits(struct soft_cpu *cpu, const struct op *o, uint64_t va)              \
    {                                                                                              \
        const struct soft_tlb_entry *e = tlb_slot(cpu->tlb_read, va);                              \
        if (tlb_hit(e, va, sizeof(T))) {                                                           \
            return *(volatile guest_u##bits *)(e->host + (va - e->tag));                           \
        }                                                                                          \
        return (T)call_load_slow(cpu, o, va, sizeof(T));                                           \
    }                                                                                              \
    static inline void store##bits(struct soft_cpu *cpu, const struct op *o, uint64_t va, T v)     \
    {                                                                                              \
        const struct soft_tlb_entry *e = tlb_slot(cpu->tlb_write, va);                             \
        if (tlb_hit(e, va, sizeof(T))) {                                                           \
            *(volatile guest_u##bits *)(e->host + (va - e->tag)) = v;                              \
            return;                                                                                \
        }                                                                                          \
        call_store_slow(cpu, o, va, sizeof(T), v);                                                 \
    }
SOFT_DEFINE_LOAD(uint8_t, 8)
SOFT_DEFINE_LOAD(uint16_t, 16)
SOFT_DEFINE_LOAD(uint32_t, 32)
SOFT_DEFINE_LOAD(uint64_t, 64)
#undef SOFT_DEFINE_LOAD

static inline void *op_ptr(struct soft_cpu *cpu, const struct op *o, uint64_t va, unsigned size,
                           enum soft_access acc)
{
    const struct soft_tlb_entry *e = tlb_slot(acc == ACC_READ ? cpu->tlb_read : cpu->tlb_write, va);
    return tlb_hit(e, va, size) ? (void *)(e->host + (va - e->tag))
                                : call_ptr_slow(cpu, o, va, size, acc);
}

/* True when p came from the slow path and soft_ptr_done() has work to do. */
static inline bool op_ptr_bounced(const struct soft_cpu *cpu, const void *p)
{
    return p == (const void *)cpu->bounce;
}

/* After a store through a pointer of op_ptr(): bring a bounced one home. */
static inline void op_ptr_finish(struct soft_cpu *cpu, const struct op *o, uint64_t va,
                                 unsigned size, void *p)
{
    if (unlikely(op_ptr_bounced(cpu, p))) {
        soft_ptr_done(cpu, o, va, size, p);
    }
}

#endif

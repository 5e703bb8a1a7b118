/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The software engine of one VM, and the block cache of each of its vCPUs. Private to soft/.
 *
 * Why a cache per vCPU and not one for all: a link between blocks holds its vCPU's own generation
 * and is patched while it runs; with one owner that needs no atomics, a dropped block can only be
 * under its owner's feet, and the memory of a cache is reused when its owner says so. So no vCPU
 * ever runs freed operations, without epochs or locks on any path. The price is that code is lifted
 * once per vCPU that runs it. What vCPUs must tell each other is about pages only:
 *
 * - code_by[page] has a bit for each vCPU that has (or makes) blocks from that page, written_by
 *   [page] one for each that may have it in a write TLB. Both never hold for long: a vCPU that is
 *   about to read code sets its bit in code_by first, then stops every vCPU of written_by at a safe
 *   point (world.h) and empties its write TLB of that page. A vCPU that fills its write TLB sets
 *   written_by first, then looks at code_by again. One of the two always sees the other.
 * - who stores to a page with a code_by bit (a vCPU's slow path, a device) stores first, then posts
 *   the range to the stale queue of those vCPUs and sets PEND_CODE. A vCPU drops the blocks before
 *   the next block it enters, so a later store that it can see (a flag, an IPI) never arrives
 *   earlier than the new code (Intel SDM vol. 3, 9.1.3, asks for less).
 *
 * Anything that runs code made from guest memory (blocks here, a translator's output elsewhere)
 * must be keyed by those pages, be claimed with soft_claim_code() before the bytes are read, be
 * dropped by blocks_drop(), and look at cpu->pending before it enters code made from another page.
 */
#ifndef SM_SOFT_SOFT_H
#define SM_SOFT_SOFT_H

#include "cpu/soft/cpu.h"
#include "cpu/soft/world.h"

struct stub_area;
struct soft_ioapic;
struct builder; /* lift.c */
struct xlat;    /* xlat.h */

#define BLOCK_HASH_BITS 14
#define BLOCK_ARENA_BYTES (6u << 20)
#define BLOCK_MAX_INSNS 48
#define STALE_QUEUE 64

/* Guest memory that others wrote, for the owner to drop its code of. Any thread, under lock. */
struct stale_queue {
    atomic_flag lock;
    bool overflow; /* too much: drop everything */
    unsigned n;
    struct {
        gpa_t gpa;
        uint64_t len;
    } ranges[STALE_QUEUE];
};

/* Of one vCPU; its thread only, but for stale. */
struct block_cache {
    uint8_t *arena; /* owned: blocks, ops and instruction copies, bump-allocated */
    size_t used;
    size_t touched; /* the most that was used since the host had it all back */
    uint64_t epoch; /* bumped when everything is thrown away */
    struct block *hash[1u << BLOCK_HASH_BITS];
    struct block **pages;    /* owned: by RAM page index, blocks that touch it */
    struct stub_area *stubs; /* owned: generated code that operations call */
    struct builder *builder; /* owned: scratch of lift_block() */
    struct xlat *xlat;       /* owned: translated code */
    struct stale_queue stale;
};

struct engine {
    struct engine_config config;
    struct soft_cpu *cpus[ENGINE_MAX_VCPUS]; /* owned */
    struct soft_ioapic *ioapic;              /* owned */
    _Atomic uint8_t *code_by;                /* owned: by RAM page index, see above */
    _Atomic uint8_t *written_by;             /* owned */
    struct world world;
    /* The run loop that was chosen: run.h. */
    enum vcpu_exit (*slice)(struct soft_cpu *cpu);
    _Atomic uint64_t device_writes; /* to guest memory, counted while blocks are checked */
    uint64_t n_pages;
    uint64_t tsc_khz;
};
_Static_assert(ENGINE_MAX_VCPUS <= 8, "a bit per vCPU in code_by and written_by");

/* RAM page index of a guest-physical address, or UINT64_MAX when it is not RAM. */
static inline uint64_t soft_ram_page(const struct engine *e, gpa_t gpa)
{
    uint64_t ram = e->config.mem->ram_bytes;
    uint64_t low = ram < MEM_LOW_LIMIT ? ram : MEM_LOW_LIMIT;
    if (gpa < low) {
        return gpa >> 12;
    }
    if (gpa >= MEM_HIGH_BASE && gpa - MEM_HIGH_BASE < ram - low) {
        return (low + (gpa - MEM_HIGH_BASE)) >> 12;
    }
    return UINT64_MAX;
}

/* ---- blocks.c ---- */

/* The block at cpu->rip in cpu->mode, lifted if need be. Faults by soft_raise (fetch). */
struct block *blocks_find(struct soft_cpu *cpu);
/* Throw everything away: the arena is full, or too much changed. No block may be running. */
void blocks_reset(struct soft_cpu *cpu);
/* The same, and their memory goes back to the host; if it is so much that making them again pays:
 * more than what a VM takes that was only just restored, and is to answer fast. */
void blocks_trim(struct soft_cpu *cpu);
/* Room in the arena, or NULL when full. */
void *blocks_alloc(struct soft_cpu *cpu, size_t bytes);
/* Drop the vCPU's blocks that overlap [gpa, gpa+len), which lies inside one page. */
void blocks_drop(struct soft_cpu *cpu, gpa_t gpa, unsigned len);
/* Guest RAM was written: tell every vCPU with code there. Any thread; never waits for a vCPU. */
void blocks_note_write(struct engine *e, gpa_t gpa, uint64_t len);
/* The vCPU itself stored len bytes, inside one page, to a page that had code of some vCPU. */
void blocks_wrote(struct soft_cpu *cpu, gpa_t gpa, unsigned len);
/* Have everything thrown away as soon as no block runs. */
void blocks_ask_reset(struct soft_cpu *cpu);
/* Drop what the stale queue names. */
void blocks_drain(struct soft_cpu *cpu);

/* ---- lift.c ---- */

/* Make the block at (rip, phys) from host bytes; NULL when the arena is full. */
struct block *lift_block(struct soft_cpu *cpu, uint64_t rip, gpa_t phys);
size_t lift_builder_size(void);
/* The run loop found the block that cpu->link_from leads to: tie them together. */
void branch_link(struct soft_cpu *cpu, struct block *target);
/* Handlers put into a dropped block: leave to the run loop at the block's start, or at this
 * operation. */
const struct op *lift_stale_entry(struct soft_cpu *cpu, const struct op *o);
const struct op *lift_stale_next(struct soft_cpu *cpu, const struct op *o);

/* ---- xlat.c: translation of blocks that run often (xlat.h) ---- */

/* Forget all code. Also the first thing to do with a new one. */
void xlat_reset(struct xlat *x);
/* A new block: count its runs, if it is one to translate. */
void xlat_watch(struct xlat *x, struct block *b);
/* A block was dropped: no code leads into it any more. */
void xlat_forget(struct xlat *x, struct block *b);

/* ---- tlb.c, access.c ---- */

/* Translate a fetch address; raises #PF with insn_rip = cpu->rip. *global tells if the page is
 * global. */
gpa_t soft_fetch_translate(struct soft_cpu *cpu, uint64_t va, bool *global);
/* Host pointer to guest-physical memory that is readable, or NULL. len must not cross a page. */
const uint8_t *soft_phys_ptr(struct soft_cpu *cpu, gpa_t gpa);
/* The page of gpa is about to be read as code: from now on every write to it is noticed. Stops
 * other vCPUs for a moment when they have it in a write TLB. No effect outside RAM. */
void soft_claim_code(struct soft_cpu *cpu, gpa_t gpa);
/* Forget all cached translations of code (links, jump cache). */
void soft_code_flush(struct soft_cpu *cpu);

#endif

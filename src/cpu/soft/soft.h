/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The software engine of one VM, and the block cache that its vCPUs share. Private to soft/.
 */
#ifndef SM_SOFT_SOFT_H
#define SM_SOFT_SOFT_H

#include "cpu/soft/cpu.h"

struct stub_area;
struct soft_ioapic;
struct builder; /* lift.c */

/* Per guest RAM page. */
#define PF_CODE 0x1u    /* blocks were lifted from it: never in a write TLB */
#define PF_WRITTEN 0x2u /* it may be in a write TLB */

#define BLOCK_HASH_BITS 14
#define BLOCK_ARENA_BYTES (4u << 20)
#define BLOCK_MAX_INSNS 48
#define DMA_QUEUE 64

struct block_cache {
    uint8_t *arena; /* owned: blocks, ops and instruction copies, bump-allocated */
    size_t used;
    uint64_t epoch; /* bumped when everything is thrown away */
    struct block *hash[1u << BLOCK_HASH_BITS];
    struct block **pages; /* owned: by RAM page index, blocks that touch it */
};

struct engine {
    struct engine_config config;
    struct soft_cpu *cpus[ENGINE_MAX_VCPUS]; /* owned */
    struct block_cache cache;
    struct stub_area *stubs;     /* owned */
    struct soft_ioapic *ioapic;  /* owned */
    _Atomic uint8_t *page_flags; /* owned: PF_* by RAM page index */
    uint64_t n_pages;
    uint64_t tsc_khz;
    struct builder *builder; /* owned: scratch of lift_block() */

    /* pages written by devices, waiting for the vCPU to drop their code; under dma_lock */
    atomic_flag dma_lock;
    unsigned n_dma;
    bool dma_overflow;
    struct {
        gpa_t gpa;
        uint64_t len;
    } dma[DMA_QUEUE];
};

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
/* Room in the arena, or NULL when full. */
void *blocks_alloc(struct engine *e, size_t bytes);
/* Drop the blocks that overlap [gpa, gpa+len), which lies inside one page. */
void blocks_drop(struct soft_cpu *cpu, gpa_t gpa, unsigned len);
/* A device wrote guest RAM. Any thread. */
void blocks_note_dma(struct engine *e, gpa_t gpa, uint64_t len);
/* Work off the pages that devices wrote. */
void blocks_drain_dma(struct soft_cpu *cpu);

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

/* ---- mmu.c ---- */

/* Translate a fetch address; raises #PF with insn_rip = cpu->rip. *global tells if the page is
 * global. */
gpa_t soft_fetch_translate(struct soft_cpu *cpu, uint64_t va, bool *global);
/* Host pointer to guest-physical memory that is readable, or NULL. len must not cross a page. */
const uint8_t *soft_phys_ptr(struct soft_cpu *cpu, gpa_t gpa);
/* A RAM page now holds code: take it out of the write TLBs. */
void soft_mark_code(struct soft_cpu *cpu, uint64_t page);
/* Forget all cached translations of code (links, jump cache). */
void soft_code_flush(struct soft_cpu *cpu);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seam between a virtual machine and what runs its instructions. Each engine is one static
 * const table of functions, chosen at run time.
 *
 * An engine owns its vCPUs and its interrupt controllers (one local APIC per vCPU, one I/O APIC).
 * Device accesses of the guest go straight to the two buses it was created with, on the vCPU's own
 * thread; run() returns only for what the monitor itself must decide. That keeps instruction
 * emulation free of "finish the access later" state, and KVM's exits map onto the same two calls.
 */
#ifndef SM_CPU_ENGINE_H
#define SM_CPU_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "hw/bus.h"
#include "hw/mem.h"

#define ENGINE_MAX_VCPUS 8

struct engine; /* one per VM */

struct engine_config {
    struct mem *mem;        /* borrowed; the engine sets mem->on_write */
    const struct bus *mmio; /* borrowed */
    const struct bus *pio;  /* borrowed */
    unsigned n_vcpus;       /* 1 ... ENGINE_MAX_VCPUS */
    const char *cpu_model;  /* "v2" */
};

enum vcpu_exit {
    VCPU_EXIT_KICKED,   /* kick() was called; call run() again to go on */
    VCPU_EXIT_SHUTDOWN, /* triple fault: the guest reset itself */
    VCPU_EXIT_FAILED,   /* the engine cannot go on; err says why */
};

struct seg_state {
    uint64_t base;
    uint32_t limit; /* in bytes, after granularity */
    uint16_t selector;
    uint16_t attr; /* descriptor bits 40-47 in 0-7, 52-55 in 12-15 (VMX access-rights layout) */
};

/* Segment order as in instruction encodings (Intel SDM vol. 2, table 2-1), then the system ones. */
enum seg_index { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_LDTR, SEG_TR, SEG_COUNT };

/* Architectural state of one vCPU, the same for every engine. Little-endian, host order. */
struct cpu_state {
    uint64_t gpr[16]; /* RAX RCX RDX RBX RSP RBP RSI RDI R8 ... R15 */
    uint64_t rip, rflags;
    struct seg_state seg[SEG_COUNT];
    uint64_t gdt_base, idt_base;
    uint32_t gdt_limit, idt_limit;
    uint64_t cr0, cr2, cr3, cr4, cr8, efer;
    uint64_t dr[4], dr6, dr7;
    uint64_t star, lstar, cstar, fmask, kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t tsc_aux, pat, apic_base;
    uint8_t fxsave[512] __attribute__((aligned(16)));
};

struct engine_ops {
    const char *name; /* "soft", "kvm" */

    /* Can this engine run guests here? 0, or SM_EENGINE with the reason and the way out. */
    int (*probe)(struct sm_error *err);

    int (*create)(const struct engine_config *config, struct engine **out, struct sm_error *err);
    void (*destroy)(struct engine *e); /* no run() may be under way; NULL is fine */

    /* Run one vCPU on the calling thread until an exit; a halted vCPU waits inside. Returns 0, or
     * an error with *exit = VCPU_EXIT_FAILED. At most one thread per vCPU. */
    int (*run)(struct engine *e, unsigned vcpu, enum vcpu_exit *exit, struct sm_error *err);

    /* Make run() return VCPU_EXIT_KICKED soon, or at its next call. Any thread, async-signal-safe.
     */
    void (*kick)(struct engine *e, unsigned vcpu);

    /* Drive a pin of the I/O APIC (global system interrupt). Any thread. */
    void (*irq)(struct engine *e, unsigned gsi, int level);

    /* Copy architectural state out and in. Only while the vCPU is not running. set refuses values
     * that the architecture does not allow. */
    int (*get_state)(struct engine *e, unsigned vcpu, struct cpu_state *out, struct sm_error *err);
    int (*set_state)(struct engine *e, unsigned vcpu, const struct cpu_state *in,
                     struct sm_error *err);
};

extern const struct engine_ops engine_soft;

#endif

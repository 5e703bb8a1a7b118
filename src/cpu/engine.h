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
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "hw/bus.h"
#include "hw/mem.h"

#define ENGINE_MAX_VCPUS 8

struct engine; /* one per VM */

/* What the software engine makes host code of; tests use the last two. */
enum engine_translate { ENGINE_TRANSLATE_HOT, ENGINE_TRANSLATE_ALL, ENGINE_TRANSLATE_NONE };

/* What is told of, a line each. The KVM engine sees only exits. */
#define ENGINE_TRACE_EXITS 1u      /* device memory, ports, HLT, ends of run() */
#define ENGINE_TRACE_INTERRUPTS 2u /* delivered interrupts and exceptions */
#define ENGINE_TRACE_TLB 4u        /* fills and flushes */
#define ENGINE_TRACE_CODE 8u       /* instructions in a range */
#define ENGINE_TRACE_ALL 15u

/* For whoever looks for a fault in an engine, or in a guest. All off: it costs nothing. */
struct engine_debug {
    /* The software engine only: replay each block in a simple way, and make run() fail when the
     * two differ (soft/check.h). Some hundred times slower. */
    bool check;
    unsigned check_every; /* check a block's first runs, then one in so many; 0 or 1: all */
    unsigned trace;       /* ENGINE_TRACE_* */
    /* ENGINE_TRACE_CODE: blocks of instructions that touch these guest-virtual addresses, both
     * included, run an instruction at a time. */
    uint64_t code_from, code_to;
    /* What there is to say: whole lines, on any thread that calls the engine. NULL drops them. */
    void (*text)(void *opaque, const char *text, size_t len);
    void *opaque;
};

struct engine_config {
    struct mem *mem;        /* borrowed; the engine sets mem->on_write */
    const struct bus *mmio; /* borrowed */
    const struct bus *pio;  /* borrowed */
    unsigned n_vcpus;       /* 1 ... ENGINE_MAX_VCPUS */
    const char *cpu_model;  /* "v2", "v3" (model.h); NULL: the highest that this host has */
    uint64_t tsc_khz;       /* of the host (tsc.h); 0: the engine finds out */
    enum engine_translate translate;
    struct engine_debug debug;
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

/* What a vCPU does when it is run next. */
enum cpu_mp {
    CPU_RUNNING,
    CPU_HALTED,    /* in HLT: an interrupt wakes it */
    CPU_WAIT_SIPI, /* not the boot processor, and not started yet: registers as after INIT */
    CPU_MP_COUNT
};

/* Interrupt shadow, as KVM numbers it. */
#define CPU_SHADOW_MOV_SS 1u
#define CPU_SHADOW_STI 2u

/* Events under way (as struct kvm_vcpu_events). An engine that never stops in the middle of a
 * delivery leaves them zero. */
struct cpu_events {
    bool exception_injected, exception_pending, exception_has_code;
    uint8_t exception_vector;
    uint32_t exception_code;
    bool interrupt_injected, interrupt_soft;
    uint8_t interrupt_vector;
    bool nmi_injected, nmi_pending, nmi_masked;
    uint8_t shadow; /* CPU_SHADOW_* */
};

#define CPU_LAPIC_BYTES 1024
#define CPU_XSAVE_BYTES 832  /* legacy area, header, AVX: the standard format of XCR0 = 7 */
#define CPU_XSAVE_HEADER 512 /* XSTATE_BV is the 8 bytes here */
#define CPU_XSAVE_AVX 576    /* the upper halves of YMM0 to YMM15 */
#define CPU_FX_MXCSR 24

/*
 * Architectural state of one vCPU, all of it and the same for every engine. Host order.
 *
 * xsave: in the standard format (SDM vol. 1, 13.4); the first 512 bytes are an FXSAVE image. A
 * component whose XSTATE_BV bit is 0 is in its initial state, whatever its bytes are.
 *
 * lapic: the register page as KVM_GET_LAPIC gives it without KVM_CAP_X2APIC_API: register n in the
 * 4 bytes at n << 4, the APIC ID in bits 24-31 of 0x20, the ICR's upper half at 0x310. The timer's
 * current count is what is left of it; in the TSC-deadline mode tsc_deadline counts instead.
 *
 * tsc_offset: the guest's TSC less the host's, both at the rate of machine_state.tsc_khz; wraps.
 */
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
    uint64_t tsc_aux, pat, apic_base, misc_enable;
    uint64_t mtrr_def_type, mtrr_var[16], mtrr_fixed[11]; /* pairs base, mask; in MSR order */
    uint64_t tsc_offset, tsc_adjust, tsc_deadline;
    uint64_t kvm_system_time, kvm_wall_clock; /* the MSRs: addresses of the guest's pages */
    uint64_t xcr0;
    enum cpu_mp mp;
    struct cpu_events events;
    uint8_t lapic[CPU_LAPIC_BYTES];
    uint8_t xsave[CPU_XSAVE_BYTES] __attribute__((aligned(64)));
};

#define ENGINE_IOAPIC_PINS 24

/* What the vCPUs share: the I/O APIC, and the clock. */
struct machine_state {
    uint32_t ioapic_select, ioapic_id;
    uint32_t ioapic_lines; /* asserted pins, by bit */
    uint64_t ioapic_redirect[ENGINE_IOAPIC_PINS];

    /* At host TSC host_tsc, kvm-clock's system time was system_ns. tsc_khz: of host and guest. */
    uint64_t host_tsc, tsc_khz;
    uint64_t system_ns;
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

    /* Optional (NULL: the bus gets every access). Have a guest's 4-byte write of value to gpa add 1
     * to the eventfd fd (borrowed) instead of going to the bus. Before the VM runs. */
    int (*notify)(struct engine *e, gpa_t gpa, uint32_t value, int fd, struct sm_error *err);

    /*
     * Copy architectural state out and in. Only while no vCPU is running. Setting all of it makes
     * this engine go on where the other left off: first set_machine, then set_state of each vCPU,
     * which also gives the guest its kvm-clock page anew. machine_resume() (cpu/machine.h) first
     * carries the clock over. Getting is the other way round, get_machine last: KVM may stop a
     * guest's TSC between runs, and its host_tsc must not be older than the vCPUs' TSCs. A new
     * engine's get_state is the state after power-up. Set refuses values that the architecture, or
     * the CPU model, does not allow (SM_ECORRUPT); the engine is then good for nothing but destroy.
     */
    int (*get_machine)(struct engine *e, struct machine_state *out, struct sm_error *err);
    int (*set_machine)(struct engine *e, const struct machine_state *in, struct sm_error *err);
    int (*get_state)(struct engine *e, unsigned vcpu, struct cpu_state *out, struct sm_error *err);
    int (*set_state)(struct engine *e, unsigned vcpu, const struct cpu_state *in,
                     struct sm_error *err);
};

extern const struct engine_ops engine_soft;
extern const struct engine_ops engine_kvm;

#endif

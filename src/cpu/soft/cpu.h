/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of one software vCPU and the calls its parts make on each other.
 *
 * Guest x87/MMX/SSE state lives in the host's registers for a whole run slice. So everything that
 * can run inside a slice is compiled with -mgeneral-regs-only, calls no libc function, and wraps
 * what must (device accesses) in soft_fp_leave()/soft_fp_enter(). tests/isa/check_soft_symbols
 * enforces it.
 *
 * Faults leave a handler by soft_raise(), a non-local jump back to the run loop: an instruction
 * changes registers only after its last possible fault.
 *
 * Threads: all of it belongs to the vCPU's thread, except the fields named so.
 */
#ifndef SM_SOFT_CPU_H
#define SM_SOFT_CPU_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cpu/engine.h"
#include "cpu/model.h"
#include "cpu/soft/idle.h"
#include "cpu/soft/insn.h"

enum { R_AX, R_CX, R_DX, R_BX, R_SP, R_BP, R_SI, R_DI, R_8, R_9, R_10, R_11 };
#define SOFT_ZERO_REG 16 /* gpr[16] is always 0: "no base", "no index" */
#define SOFT_EA_REG 17   /* gpr[17]: an address computed by the operation before (67 prefix) */

/* EFLAGS outside the arithmetic flags. */
#define FL_TF 0x100u
#define FL_IF 0x200u
#define FL_DF 0x400u
#define FL_IOPL 0x3000u
#define FL_NT 0x4000u
#define FL_RF 0x10000u
#define FL_VM 0x20000u
#define FL_AC 0x40000u
#define FL_VIF 0x80000u
#define FL_VIP 0x100000u
#define FL_ID 0x200000u

#define CR0_PE 0x1u
#define CR0_MP 0x2u
#define CR0_EM 0x4u
#define CR0_TS 0x8u
#define CR0_NE 0x20u
#define CR0_WP 0x10000u
#define CR0_AM 0x40000u
#define CR0_PG 0x80000000u
#define CR4_TSD 0x4u
#define CR4_DE 0x8u
#define CR4_PAE 0x20u
#define CR4_PGE 0x80u
#define CR4_OSFXSR 0x200u
#define CR4_OSXMMEXCPT 0x400u
#define CR4_FSGSBASE 0x10000u
#define CR4_OSXSAVE 0x40000u
#define CR4_SMEP 0x100000u
#define APIC_BASE_BSP 0x100u
#define EFER_SCE 0x1u
#define EFER_LME 0x100u
#define EFER_LMA 0x400u
#define EFER_NX 0x800u

enum soft_vector {
    V_DE = 0,
    V_DB = 1,
    V_NMI = 2,
    V_BP = 3,
    V_OF = 4,
    V_BR = 5,
    V_UD = 6,
    V_NM = 7,
    V_DF = 8,
    V_TS = 10,
    V_NP = 11,
    V_SS = 12,
    V_GP = 13,
    V_PF = 14,
    V_MF = 16,
    V_AC = 17,
    V_MC = 18,
    V_XM = 19,
};

/* Block mode bits: part of a block's key, because the lifted operations depend on them. */
#define MODE_USER 0x01u /* CPL 3 */
#define MODE_STEP 0x02u /* RFLAGS.TF: blocks of one instruction */
#define MODE_FP_OFF                                                                                \
    0x04u /* CR0.TS or CR0.EM: x87/MMX/SSE raise #NM (EM without TS: #UD for SSE)                  \
           */
#define MODE_SSE_TRAP                                                                              \
    0x08u                   /* the guest's MXCSR unmasks an exception: run SSE arithmetic checked  \
                             */
#define MODE_X87_TRAP 0x10u /* the guest's FCW unmasks an exception, or FSW.ES is pending */
#define MODE_AVX_OFF 0x40u  /* the model has AVX, CR4.OSXSAVE or XCR0 does not allow it: #UD */
#define MODE_LEGACY 0x100u  /* not 64-bit mode: 16- or 32-bit code, see legacy.h */
#define MODE_CODE16 0x200u  /* with MODE_LEGACY: CS.D is 0 */
#define MODE_STACK16 0x400u /* with MODE_LEGACY: SS.B is 0 */
#define MODE_SEGMENTED 0x800u   /* with MODE_LEGACY: ES, SS or DS is not flat */
#define MODE_CODE_LIMIT 0x1000u /* with MODE_LEGACY: CS does not reach to 4 GiB */
#define MODE_REAL 0x2000u       /* with MODE_LEGACY: CR0.PE is 0 */
#define MODE_BREAK 0x4000u      /* a breakpoint may be hit: see breakpoint.h */
#define MODE_SEGMENTS                                                                              \
    (MODE_LEGACY | MODE_CODE16 | MODE_STACK16 | MODE_SEGMENTED | MODE_CODE_LIMIT | MODE_REAL)

/* Why the run loop must stop before the next block. Bits of soft_cpu.pending; set by any thread. */
#define PEND_KICK 0x1u     /* engine kick */
#define PEND_IRQ 0x2u      /* the local APIC may have an interrupt to deliver */
#define PEND_CODE 0x4u     /* pages to drop from the code cache (device wrote them) */
#define PEND_SHUTDOWN 0x8u /* triple fault or engine failure; cpu->failure says which */
#define PEND_STOP 0x10u    /* rest until another vCPU is done: world.h */
#define PEND_NMI 0x20u     /* messages of other vCPUs' local APICs */
#define PEND_INIT 0x40u
#define PEND_SIPI 0x80u /* with sipi_vector */

struct soft_tlb_entry {
    uint64_t tag;  /* page VA; an impossible value when empty */
    uint64_t host; /* host address of the page */
};
#define SOFT_TLB_BITS 12
#define SOFT_TLB_SIZE (1u << SOFT_TLB_BITS)
/* Tag of an empty slot: a page that lives in the neighbouring slot, so no address at all can hit
 * it. */
#define SOFT_TLB_EMPTY(slot) ((uint64_t)((slot) ^ 1u) << 12)

#define SOFT_FILL_MAX 8192 /* filled TLB slots remembered before a flush clears everything */
#define SOFT_ITLB_SIZE 256
#define SOFT_JUMP_BITS 12

enum { GEN_LOCAL, GEN_GLOBAL, GEN_PAGE }; /* indices of soft_cpu.gen */

struct soft_itlb_entry {
    uint64_t page; /* VA >> 12, plus 1 << 63 for user mode */
    gpa_t phys;
    uint32_t gen;
    bool global;
};

struct soft_jump_entry {
    uint64_t rip;
    struct block *block;
    uint32_t gen;
    uint32_t global;
};

/* ACC_LOCKED: read and written by one atomic operation. Only for soft_ptr_slow() and its users. */
enum soft_access { ACC_READ, ACC_WRITE, ACC_FETCH, ACC_LOCKED };

/* The host's TSC as a clock. Constant while vCPUs run, and the same in each. */
struct soft_clock {
    uint64_t tsc0; /* host TSC when the first vCPU was reset, or the machine was loaded */
    uint64_t ns0;  /* system time then */
    uint64_t khz;  /* of the host's TSC */
    uint32_t
        mul; /* ns = ((ticks << shift) * mul) >> 32; a negative shift is to the right (pvclock) */
    int8_t shift;
};

struct op;
struct block;
struct block_cache; /* soft.h */
struct soft_lapic;  /* lapic.h */
struct soft_ioapic; /* ioapic.h */

struct soft_cpu {
    uint64_t gpr[18];
    /* Arithmetic flags as LAHF and SETO give them: AL = OF (0 or 1), AH = SF ZF - AF - PF 1 CF. */
    uint16_t flags;
    uint8_t cpl;
    bool int_shadow;          /* STI or MOV SS: no interrupt before the next block */
    uint32_t mode;            /* MODE_* of the current state, see soft_update_mode() */
    _Atomic uint32_t pending; /* PEND_*; any thread */
    atomic_bool waiting;      /* asleep on pending; any thread */
    atomic_bool resting;      /* world.h; any thread */
    int32_t budget;           /* blocks until the next look at the clock */
    uint64_t rip;             /* of the next instruction, whenever no block runs */
    uint64_t insn_rip;   /* of the instruction that is raising or executing in soft_sys_exec() */
    uint64_t sys_flags;  /* RFLAGS without the arithmetic flags (bit 1 not stored) */
    struct block *block; /* borrowed: the block being executed */
    struct soft_tlb_entry *tlb_read; /* the pair for the current CPL, inside tlb[] */
    struct soft_tlb_entry *tlb_write;
    /* By enum seg_index; [7] is 0 ("no segment"). In 64-bit mode only FS and GS are not 0; then
     * seg[].base has what the others were loaded with. */
    uint64_t seg_base[8];
    /* Generation of block links and jump cache entries: to pages of one address space, to global
     * pages, within a page (constant). Links of another generation are looked up again. */
    uint32_t gen[3];
    const struct op
        *link_from;      /* borrowed: the branch to patch once its target is found, or NULL */
    uint64_t link_epoch; /* cache epoch that link_from belongs to */
    const struct op *running_op; /* borrowed: the last one that took a slow path */
    uint64_t xlat_temp;          /* of translated code, within one instruction */
    bool stack_access;           /* the access under way is relative to RSP or RBP: #SS, not #GP */
    bool no_step;          /* no single-step trap now: an event took its place, or SS changed */
    bool irq_check;        /* an interrupt may be waiting for IF or priority */
    uint8_t trace;         /* ENGINE_TRACE_* */
    uint8_t access_checks; /* ACCESS_*: what accesses that miss the TLB are looked at for */
    uint8_t break_code;    /* enabled breakpoints of instructions, by bit */
    uint8_t break_hits;    /* breakpoints to be reported after the instruction, by bit */
    bool break_careful;    /* the next instruction by itself: it may hit one */
    bool world_held;       /* others stay stopped until check.c says so: world.h */
    struct shadow *shadow; /* borrowed: memory of a replay (shadow.h); NULL in a vCPU */
    struct check *check;   /* owned: --check (check.h), or NULL */

    /* privileged state */
    struct seg_state seg[SEG_COUNT]; /* bases of FS and GS: seg_base[] holds the truth */
    uint64_t gdt_base, idt_base;
    uint32_t gdt_limit, idt_limit;
    uint64_t cr0, cr2, cr3, cr4, cr8, efer;
    uint64_t dr[4], dr6, dr7;
    uint64_t star, lstar, cstar, fmask, kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t tsc_aux, pat, apic_base, misc_enable, tsc_offset, tsc_adjust;
    uint64_t mtrr_def_type, mtrr_var[16], mtrr_fixed[11];
    uint64_t kvm_system_time, kvm_wall_clock; /* MSR values; 0 when off */
    bool halted;
    bool wait_sipi;              /* not started yet: nothing but INIT and SIPI count */
    bool nmi_latched;            /* to be delivered */
    bool nmi_blocked;            /* until IRET */
    _Atomic uint8_t sipi_vector; /* any thread */
    uint8_t stopped;             /* vCPUs that this one has stopped, by bit: world.h */
    uint32_t pauses;             /* PAUSE instructions executed */

    /* the exception being raised, between soft_raise() and soft_deliver() */
    uint8_t exc_vector;
    bool exc_has_code;
    uint32_t exc_code;
    uint8_t
        delivering; /* deliver.c: what is being delivered while memory for it is touched; 0 none */
    uint8_t deliver_irq; /* its vector, when it came from the local APIC */
    void *landing[5];    /* __builtin_setjmp buffer of the run loop */
    const char *failure; /* static text; set with PEND_SHUTDOWN when the engine cannot go on */

    unsigned index;            /* vCPU number = APIC id */
    struct engine *engine;     /* borrowed */
    struct block_cache *cache; /* owned */
    struct soft_lapic *lapic;  /* owned */
    struct soft_clock clock;
    struct soft_idle idle;
    enum model_id model;
    uint64_t features; /* INSN_MODEL_* of the model */
    uint64_t xcr0;     /* guest's; 1 and not to be changed without IFT_XSAVE */
    bool amd;          /* vendor of the CPUID model = the host's; set by soft_sys_reset */

    uint32_t mxcsr;  /* guest MXCSR's mask bits while MODE_SSE_TRAP (see native.h) */
    bool fp_in_host; /* guest FP state is in the host registers right now */
    /* page-crossing and device accesses, and stores to code; aligned as CMPXCHG16B needs it */
    uint8_t bounce[CPU_XSAVE_BYTES] __attribute__((aligned(64)));
    /* guest FP state when not in the host: an FXSAVE image; with IFT_AVX an XSAVE image */
    uint8_t fx[CPU_XSAVE_BYTES] __attribute__((aligned(64)));
    uint8_t host_fx[512] __attribute__((aligned(16))); /* struct host_fp of native.h */

    /* TLBs: [user][read, write]; filled slots are listed for cheap flushes: [0] of one address
     * space, [1] global. An entry is array << SOFT_TLB_BITS | slot. */
    struct soft_tlb_entry tlb[2][2][SOFT_TLB_SIZE] __attribute__((aligned(64)));
    bool tlb_high[2][2]; /* [user][global]: entries at or above 4 GiB, see soft_tlb_low() */
    unsigned n_filled[2];
    uint16_t filled[2][SOFT_FILL_MAX];
    uint64_t large_bloom; /* 2 MiB regions (mod 64) that have TLB entries of large pages */
    uint64_t
        code_bloom[64]; /* code pages (hashed) that were translated since the last code flush */
    struct soft_itlb_entry itlb[SOFT_ITLB_SIZE];
    struct soft_jump_entry jump[1u << SOFT_JUMP_BITS];
};

/* ---- soft.c: the run loop and the engine ---- */

/* Raise an exception for the instruction at cpu->insn_rip. Does not return. */
_Noreturn void soft_raise(struct soft_cpu *cpu, unsigned vector);
_Noreturn void soft_raise_code(struct soft_cpu *cpu, unsigned vector, uint32_t code);
_Noreturn void soft_raise_pf(struct soft_cpu *cpu, uint64_t va, uint32_t code); /* sets CR2 */

/* The engine cannot go on: end run() with VCPU_EXIT_FAILED and this static text. */
_Noreturn void soft_fail(struct soft_cpu *cpu, const char *why);
/* Triple fault: end run() with VCPU_EXIT_SHUTDOWN. */
_Noreturn void soft_shutdown(struct soft_cpu *cpu);

/* Recompute cpu->mode, cpu->cpl (from SS.DPL) and the TLB pair after a change of CS/SS, CR0, CR4,
 * EFER, TF or FP control. The instruction that calls it must end its block (IA_END). */
void soft_update_mode(struct soft_cpu *cpu);

/* RFLAGS as a whole: arithmetic flags + sys_flags + bit 1. soft_set_rflags keeps only defined bits.
 */
uint64_t soft_get_rflags(const struct soft_cpu *cpu);
void soft_set_rflags(struct soft_cpu *cpu, uint64_t rflags);

/* Tell the vCPU to look at its pending work: sets bits, wakes it from HLT. Any thread. */
void soft_notify(struct soft_cpu *cpu, uint32_t pend_bits);

/* What the engine owns, for parts that only know the vCPU. Any thread. All borrowed. */
const struct bus *soft_pio(struct soft_cpu *cpu);
struct mem *soft_mem(struct soft_cpu *cpu);
struct soft_ioapic *soft_ioapic(struct engine *e);
struct soft_cpu *soft_vcpu(struct engine *e, unsigned index); /* NULL past the last one */
uint64_t soft_tsc_khz(const struct engine *e);                /* of the host */

/* Guest FP state out of (into) the host registers, the host's in (out). Not nested. */
void soft_fp_leave(struct soft_cpu *cpu);
void soft_fp_enter(struct soft_cpu *cpu);

/* ---- access.c, tlb.c: guest-virtual memory ---- */

/* Access linear memory with the rights of the current CPL. Handle page crossing, MMIO, code pages.
 * Fault by soft_raise with cpu->insn_rip as it stands. size 1-8. */
uint64_t soft_load(struct soft_cpu *cpu, uint64_t va, unsigned size);
void soft_store(struct soft_cpu *cpu, uint64_t va, unsigned size, uint64_t value);
/* The same as supervisor whatever the CPL: descriptor tables, TSS, exception frames. */
uint64_t soft_sys_load(struct soft_cpu *cpu, uint64_t va, unsigned size);
void soft_sys_store(struct soft_cpu *cpu, uint64_t va, unsigned size, uint64_t value);
/* Any length, current CPL. Checks the whole range first: a fault leaves nothing written. */
void soft_store_bytes(struct soft_cpu *cpu, uint64_t va, const void *data, unsigned len);

/* Raise what an access of len bytes (1-4096) by the current CPL would raise; else no effect. */
void soft_check_access(struct soft_cpu *cpu, uint64_t va, unsigned len, enum soft_access acc);

void soft_tlb_flush(struct soft_cpu *cpu, bool keep_global); /* CR3 write keeps global pages */
void soft_tlb_invlpg(struct soft_cpu *cpu, uint64_t va);
void soft_tlb_forget(struct soft_cpu *cpu); /* all of it; code stays linked */
/* Entering MODE_LEGACY: no entry of the current privilege at or above 4 GiB from now on, until the
 * mode is left. */
void soft_tlb_low(struct soft_cpu *cpu);

/* Effective address of a decoded memory operand, segment base included, cpu->rip = next
 * instruction. */
uint64_t soft_ea(struct soft_cpu *cpu, const struct insn *insn);

/* ---- sys.c and its family: privileged architecture ---- */

/*
 * Execute a system instruction. On entry insn_rip is its address and rip the next one's; may change
 * rip, any privileged state and mode (then calls soft_update_mode). Faults by soft_raise. Every id
 * from I_CLI to I_VMCALL, and I_IN, I_OUT, I_INS, I_OUTS, I_PUSHF, I_POPF, I_FENCE-like no-ops
 * excepted.
 */
void soft_sys_exec(struct soft_cpu *cpu, const struct insn *insn);

/* Deliver the exception in cpu->exc_* (return address cpu->insn_rip), handling double and triple
 * faults. */
void soft_deliver_exception(struct soft_cpu *cpu);
/* Software interrupt (INT n, INT3): checks the gate's DPL; return address cpu->rip. */
void soft_deliver_int(struct soft_cpu *cpu, unsigned vector);
/* External interrupt, or V_NMI; return address cpu->rip. Clears halted. */
void soft_deliver_irq(struct soft_cpu *cpu, unsigned vector);

/* State at power-up/INIT, before set_state. Needs index, engine and lapic set, and the vCPUs before
 * this one reset. Leaves the TLBs and cpu->mode alone: set_state follows. */
void soft_sys_reset(struct soft_cpu *cpu);
/* INIT: the processor waits for SIPI. MSRs and the clock stay (SDM vol. 3, table 10-1). Own thread.
 */
void soft_sys_init(struct soft_cpu *cpu);
/* SIPI, while it waits for one: real mode, at vector << 12. In a run slice. */
void soft_sys_start(struct soft_cpu *cpu, uint8_t vector);

/* 0, or -1 when the access must raise #GP(0). In a run slice. */
int soft_rdmsr(struct soft_cpu *cpu, uint32_t index, uint64_t *value);
int soft_wrmsr(struct soft_cpu *cpu, uint32_t index, uint64_t value);

/* ---- lapic.c, ioapic.c, time.c ---- */

/*
 * PEND_IRQ: whoever makes an interrupt deliverable sets it (a new IRR bit, EOI, a lower TPR, IF
 * going from 0 to 1). So the run loop may clear it before it looks, and forget it while IF is 0;
 * only int_shadow obliges it to look again. cpuid.h, lapic.h, ioapic.h and time.h have what the
 * engine needs besides.
 */

/* Highest-priority interrupt that may be delivered now, moved from IRR to ISR; -1 if none. */
int soft_lapic_accept(struct soft_cpu *cpu);
/* True if soft_lapic_accept would deliver (used to leave HLT). */
bool soft_lapic_ready(struct soft_cpu *cpu);
/* Look at the clock: if the timer expired, set its IRR bit. Called now and then by the run loop. */
void soft_lapic_poll(struct soft_cpu *cpu);
/* Nanoseconds until the timer expires, or UINT64_MAX when it is off: how long HLT may sleep. */
uint64_t soft_lapic_deadline_ns(struct soft_cpu *cpu);

/* Guest TSC now. */
uint64_t soft_rdtsc(struct soft_cpu *cpu);

/* ---- native.c: x87, MMX, SSE, AVX ---- */

/* Fill *op, except len and off, for an instruction with id from I_FXSAVE to I_VGATHER (see exec.h
 * for struct op); next_rip is the address of the next instruction. Returns 0, or -1 when the stub
 * area is full (the caller drops the whole code cache, stubs included, and retries). */
int native_lift(struct soft_cpu *cpu, const struct insn *insn, uint64_t next_rip, struct op *op);

#endif

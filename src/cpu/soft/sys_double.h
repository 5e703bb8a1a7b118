/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Test double of everything around the privileged half: a vCPU on flat memory with page rights, the
 * run loop's landing, an engine with two vCPUs, and a port bus that keeps a log. Real instructions
 * are decoded and executed through soft_sys_exec(). For tests only; one thread.
 */
#ifndef SM_SOFT_SYS_DOUBLE_H
#define SM_SOFT_SYS_DOUBLE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpu/soft/cpu.h"
#include "cpu/soft/ioapic.h"
#include "cpu/soft/lapic.h"
#include "cpu/soft/segment.h"
#include "cpu/soft/sys.h"
#include "hw/bus.h"
#include "hw/mem.h"

#define FLAT_PAGES 64
#define FLAT_SIZE (FLAT_PAGES * 4096)

/* Where things are in flat memory; guest-virtual address = offset. */
#define AT_GDT 0x1000u
#define AT_IDT 0x2000u
#define AT_TSS 0x4000u
#define AT_LDT 0x5000u
#define AT_KSTACK 0x9000u /* top; grows down */
#define AT_IST1 0xb000u   /* top */
#define AT_USTACK 0xd000u /* top */
#define AT_DATA 0x10000u
#define AT_HANDLER 0xffffffff81000000ull /* handler of vector v: + v * 16 */

/* Selectors of the table that double_init() builds, in Linux's places and some more. */
#define SEL_KCODE 0x10u
#define SEL_KDATA 0x18u
#define SEL_UCODE32 0x20u
#define SEL_UDATA 0x28u
#define SEL_UCODE 0x30u
#define SEL_TSS 0x40u      /* 16 bytes */
#define SEL_LDT 0x50u      /* 16 bytes */
#define SEL_ABSENT 0x60u   /* data, DPL 3, not present */
#define SEL_RODATA 0x68u   /* data, DPL 3, read-only */
#define SEL_CONFORM 0x70u  /* code, DPL 0, conforming, readable */
#define SEL_XONLY 0x78u    /* code, DPL 3, execute-only, 64-bit */
#define SEL_BASED 0x80u    /* data, DPL 3, base 0x12345678 */
#define SEL_CALLGATE 0x88u /* 16 bytes, to SEL_KCODE, DPL 3 */
#define SEL_KABSENT 0x98u  /* 64-bit code, DPL 0, not present */
#define SEL_UABSENT 0xa0u  /* 64-bit code, DPL 3, not present */
#define SEL_BOTH 0xa8u     /* code with L and D set */
#define GDT_LIMIT 0xafu

struct engine {
    struct soft_cpu *cpus[2];
    unsigned n_cpus;
    struct soft_ioapic ioapic;
    struct mem *mem;
    struct bus pio;
};

struct port_access {
    uint16_t port;
    uint8_t size;
    bool write;
    uint32_t value;
};

struct double_state {
    struct engine engine;
    struct soft_lapic lapic[2];
    uint8_t flat[FLAT_SIZE];
    bool absent[FLAT_PAGES];     /* page fault on any access */
    bool supervisor[FLAT_PAGES]; /* page fault on user access */
    bool read_only[FLAT_PAGES];
    jmp_buf landing;
    bool landing_set;
    bool shutdown;
    unsigned notified[2], tlb_flushes, tlb_flushes_global, invlpg;
    uint64_t invlpg_va;
    unsigned mode_updates;
    struct port_access port[128];
    unsigned n_ports;
    uint32_t port_in; /* next value that a port read gives; counts up */
    int fp_depth;     /* 1 inside a slice */
};

struct double_cpu {
    struct soft_cpu cpu;
    struct double_state *d;
};

/* A vCPU in 64-bit mode at CPL 0 with IF set, descriptor tables, TSS, an interrupt gate for every
 * vector (DPL 0; 3 for vectors 3, 4 and 0x80). Allocates; double_free() ends it. */
struct soft_cpu *double_new(void);
void double_free(struct soft_cpu *cpu);
struct double_state *double_of(struct soft_cpu *cpu);
/* The second vCPU of the engine. */
struct soft_cpu *double_other(struct soft_cpu *cpu);

/* Go to CPL 3 on the user stack. */
void double_enter_user(struct soft_cpu *cpu);
/* Write a gate: vector, type (ST_INT_GATE ...), DPL, IST, selector, present. */
void double_gate(struct soft_cpu *cpu, unsigned vector, unsigned type, unsigned dpl, unsigned ist,
                 uint16_t selector, bool present);

uint64_t flat_get(struct soft_cpu *cpu, uint64_t va, unsigned size);
void flat_set(struct soft_cpu *cpu, uint64_t va, unsigned size, uint64_t value);

/* Execute one instruction at rip 0x400000 + n; bytes are its encoding. Returns the vector that it
 * raised (cpu->exc_* is filled, nothing delivered), or -1. */
int exec(struct soft_cpu *cpu, const char *bytes, size_t len);
#define EXEC(cpu, text) exec(cpu, text, sizeof(text) - 1)
#define RIP_BEFORE 0x400000ull

/* What the run loop does with an exception: deliver, and deliver again what that raises. True
 * unless it ended in a shutdown. */
bool deliver_exception(struct soft_cpu *cpu, unsigned vector, bool has_code, uint32_t code);
bool deliver_irq(struct soft_cpu *cpu, unsigned vector);

/* assert_int_equal with the exception's code checked too. */
#define assert_fault(cpu, text, vector, code)                                                      \
    do {                                                                                           \
        assert_int_equal(EXEC(cpu, text), vector);                                                 \
        assert_int_equal((cpu)->exc_code, code);                                                   \
    } while (0)
#define assert_runs(cpu, text) assert_int_equal(EXEC(cpu, text), -1)

#endif

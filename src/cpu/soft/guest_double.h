/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small guest on the whole engine, for tests: a blob of assembly that runs at CPL 0 in 64-bit
 * mode at GUEST_CODE with the first 16 MiB mapped at 0, and reports by port 0x80. With several
 * vCPUs each starts there with its number in EDI and a stack of its own.
 */
#ifndef SM_SOFT_GUEST_DOUBLE_H
#define SM_SOFT_GUEST_DOUBLE_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpu/engine.h"

#define GUEST_RAM (16u << 20)
#define GUEST_CODE 0x10000u
#define GUEST_STACK 0x9000u      /* top of vCPU 0's; the others follow below */
#define GUEST_STACK_BYTES 0x400u /* of each */
#define GUEST_TABLES 0x1000u     /* PML4, PDPT, PD, PT of the first 2 MiB */
#define GUEST_PT 0x4000u
#define GUEST_IDT 0x6000u
#define GUEST_GDT 0x5000u
#define MMIO_BASE 0xd0000000ull

struct guest {
    struct mem *mem;
    struct bus mmio, pio;
    struct engine *engine;
    unsigned n_vcpus;
    uint64_t out[64]; /* what vCPU 0 reported */
    unsigned n_out;
    uint64_t mmio_value;
    unsigned mmio_writes;
    char debug[16384]; /* what the engine said through engine_debug.text */
};

/* from, to: the blob. */
void guest_init(struct guest *g, const char *from, const char *to);
void guest_init_smp(struct guest *g, unsigned n_vcpus, const char *from, const char *to);
/* With these debugging aids; what they say is added to g->debug. */
void guest_init_debug(struct guest *g, unsigned n_vcpus, const struct engine_debug *debug,
                      const char *from, const char *to);
void guest_fini(struct guest *g);

/* Run vCPU 0 on this thread until an exit. */
enum vcpu_exit guest_run(struct guest *g);
/* Run every vCPU on a thread of its own until each has said STOP_ME. */
void guest_run_all(struct guest *g);

/* An interrupt gate for vector to the guest address. */
void guest_gate(struct guest *g, unsigned vector, uint64_t to);
void guest_put64(struct guest *g, gpa_t at, uint64_t v);
uint64_t guest_get64(struct guest *g, gpa_t at);

/* A blob, as name_from and name_to. */
#define GUEST(name, text)                                                                          \
    extern const char name##_from[], name##_to[];                                                  \
    __asm__(".pushsection .rodata\n.balign 256\n" #name "_from:\n" text "\n" #name                 \
            "_to:\n.popsection\n")
#define REPORT(reg) "mov " reg ", %eax\n out %eax, $0x80\n"
#define STOP "out %al, $0x84\n 1: jmp 1b\n" /* vCPU 0 only */
#define STOP_ME "mov %edi, %eax\n out %al, $0x8c\n 1: jmp 1b\n"

#endif

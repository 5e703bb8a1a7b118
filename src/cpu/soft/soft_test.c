/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small guests on the whole engine: paging rights, accessed and dirty bits, self-modifying code by
 * every route, device accesses, interrupts, halting, kicking. A guest is a blob of assembly that
 * runs at CPL 0 in 64-bit mode at GUEST_CODE with the first 16 MiB mapped at 0, and reports by port
 * 0x80.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "cpu/engine.h"

#define GUEST_RAM (16u << 20)
#define GUEST_CODE 0x10000u
#define GUEST_STACK 0x9000u
#define GUEST_TABLES 0x1000u /* PML4, PDPT, PD, PT of the first 2 MiB */
#define GUEST_PT 0x4000u
#define GUEST_IDT 0x6000u
#define GUEST_GDT 0x5000u
#define MMIO_BASE 0xd0000000ull

struct guest {
    struct mem *mem;
    struct bus mmio, pio;
    struct engine *engine;
    uint64_t out[64]; /* what it reported */
    unsigned n_out;
    uint64_t mmio_value;
    unsigned mmio_writes;
};

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
    return 0x1234567812345678ull;
}

/* 0x80: report; 0x84: stop; 0x88: have the "device" write a RET over the guest's code at 0x20000.
 */
static void port_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct guest *g = opaque;
    static const uint8_t ret_7[] = {0xb8, 7, 0, 0, 0, 0xc3}; /* mov $7, %eax; ret */
    if (offset == 0 && g->n_out < 64) {
        g->out[g->n_out++] = value;
    } else if (offset == 4) {
        engine_soft.kick(g->engine, 0);
    } else if (offset == 8) {
        assert_int_equal(mem_write(g->mem, 0x20000, ret_7, sizeof ret_7), 0);
    }
}

static uint64_t dev_read(void *opaque, uint64_t offset, unsigned size)
{
    return ((struct guest *)opaque)->mmio_value + offset;
}

static void dev_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct guest *g = opaque;
    g->mmio_value = value;
    g->mmio_writes++;
}

static void put64(struct guest *g, gpa_t at, uint64_t v)
{
    assert_int_equal(mem_write(g->mem, at, &v, 8), 0);
}

static uint64_t get64(struct guest *g, gpa_t at)
{
    uint64_t v = 0;
    assert_int_equal(mem_read(g->mem, at, &v, 8), 0);
    return v;
}

static void make_tables(struct guest *g)
{
    put64(g, GUEST_TABLES, (GUEST_TABLES + 0x1000) | 7);
    put64(g, GUEST_TABLES + 0x1000, (GUEST_TABLES + 0x2000) | 7);
    put64(g, GUEST_TABLES + 0x1000 + 3 * 8, 0xc0000000ull | 0x83); /* 1 GiB page: the device hole */
    put64(g, GUEST_TABLES + 0x2000, GUEST_PT | 7);
    for (unsigned i = 1; i < 8; i++) {
        put64(g, GUEST_TABLES + 0x2000 + 8 * i, (uint64_t)i << 21 | 0x87);
    }
    for (unsigned i = 0; i < 512; i++) {
        put64(g, GUEST_PT + 8 * i, (uint64_t)i << 12 | 7);
    }
    put64(g, GUEST_GDT + 8, 0x00af9b000000ffffull);  /* CS, 64-bit */
    put64(g, GUEST_GDT + 16, 0x00cf93000000ffffull); /* SS */
}

/* An interrupt gate for vector to the guest address. */
static void set_gate(struct guest *g, unsigned vector, uint64_t to)
{
    put64(g, GUEST_IDT + 16 * vector,
          (to & 0xffff) | 8ull << 16 | 0x8e00ull << 32 | (to >> 16 & 0xffff) << 48);
    put64(g, GUEST_IDT + 16 * vector + 8, to >> 32);
}

static void load_state(struct guest *g, uint64_t rip)
{
    struct cpu_state s;
    assert_int_equal(engine_soft.get_state(g->engine, 0, &s, NULL), 0);
    s.rip = rip;
    s.rflags = 2;
    s.gdt_base = GUEST_GDT;
    s.gdt_limit = 23;
    s.idt_base = GUEST_IDT;
    s.idt_limit = 0xfff;
    s.cr0 = 0x80010033;
    s.cr3 = GUEST_TABLES;
    s.cr4 = 0x6a0;
    s.efer = 0xd01;
    s.gpr[4] = GUEST_STACK;
    s.seg[SEG_CS] = (struct seg_state){.limit = 0xffffffff, .selector = 8, .attr = 0xa09b};
    for (int i = 0; i < SEG_LDTR; i++) {
        if (i != SEG_CS) {
            s.seg[i] = (struct seg_state){.limit = 0xffffffff, .selector = 16, .attr = 0xc093};
        }
    }
    assert_int_equal(engine_soft.set_state(g->engine, 0, &s, NULL), 0);
}

static void guest_init(struct guest *g, const char *from, const char *to)
{
    static const struct bus_ops ports = {port_read, port_write}, device = {dev_read, dev_write};
    *g = (struct guest){0};
    assert_int_equal(mem_new(GUEST_RAM, &g->mem, NULL), 0);
    assert_int_equal(bus_add(&g->pio, 0x80, 16, &ports, g, NULL), 0);
    assert_int_equal(bus_add(&g->mmio, MMIO_BASE, 4096, &device, g, NULL), 0);
    struct engine_config c = {g->mem, &g->mmio, &g->pio, 1, "v2"};
    struct sm_error err = {0};
    if (engine_soft.create(&c, &g->engine, &err)) {
        fail_msg("%s", err.text);
    }
    make_tables(g);
    assert_int_equal(mem_write(g->mem, GUEST_CODE, from, (uint64_t)(to - from)), 0);
    load_state(g, GUEST_CODE);
}

static void guest_fini(struct guest *g)
{
    engine_soft.destroy(g->engine);
    mem_free(g->mem);
}

static enum vcpu_exit guest_run(struct guest *g)
{
    enum vcpu_exit exit;
    struct sm_error err = {0};
    if (engine_soft.run(g->engine, 0, &exit, &err)) {
        fail_msg("%s", err.text);
    }
    return exit;
}

#define GUEST(name, text)                                                                          \
    extern const char name##_from[], name##_to[];                                                  \
    __asm__(".pushsection .rodata\n.balign 256\n" #name "_from:\n" text "\n" #name                 \
            "_to:\n.popsection\n")
#define REPORT(reg) "mov " reg ", %eax\n out %eax, $0x80\n"
#define STOP "out %al, $0x84\n 1: jmp 1b\n"

/* ---- ---- */

GUEST(sums, "xor %eax, %eax\n mov $1000, %ecx\n 2: add %rcx, %rax\n dec %ecx\n jnz 2b\n"
            "out %eax, $0x80\n" STOP);
static void test_loop(void **state)
{
    struct guest g;
    guest_init(&g, sums_from, sums_to);
    assert_int_equal(guest_run(&g), VCPU_EXIT_KICKED);
    assert_int_equal(g.n_out, 1);
    assert_int_equal(g.out[0], 500500);
    guest_fini(&g);
}

/* Rewrites the immediate of a later instruction of its own block, then of an earlier one. */
GUEST(smc, "lea 3f(%rip), %rbx\n mov $0, %edx\n"
           "2: movb $5, 1(%rbx)\n 3: mov $4, %eax\n out %eax, $0x80\n"
           "inc %edx\n cmp $1, %edx\n je 2b\n cmp $2, %edx\n jne 5f\n"
           "movb $9, 1(%rbx)\n jmp *%rbx\n 5:\n" STOP);
static void test_smc(void **state)
{
    struct guest g;
    guest_init(&g, smc_from, smc_to);
    assert_int_equal(guest_run(&g), VCPU_EXIT_KICKED);
    assert_int_equal(g.n_out, 3);
    assert_int_equal(g.out[0], 5);
    assert_int_equal(g.out[1], 5);
    assert_int_equal(g.out[2], 9);
    guest_fini(&g);
}

/* Code at 0x20000 is called, changed through another virtual address (page 0x30), and called again.
 */
GUEST(alias, "movl $0xc3909090, 0x20000\n movl $0x000003b8, 0x20000\n movw $0xc300, 0x20004\n"
             "mov $0x20000, %ebx\n call *%rbx\n out %eax, $0x80\n"
             "movb $6, 0x30001\n call *%rbx\n out %eax, $0x80\n"
             "out %al, $0x88\n call *%rbx\n out %eax, $0x80\n" STOP);
static void test_smc_alias_and_dma(void **state)
{
    struct guest g;
    guest_init(&g, alias_from, alias_to);
    put64(&g, GUEST_PT + 8 * 0x30, 0x20007);
    assert_int_equal(guest_run(&g), VCPU_EXIT_KICKED);
    assert_int_equal(g.n_out, 3);
    assert_int_equal(g.out[0], 3);
    assert_int_equal(g.out[1], 6);
    assert_int_equal(g.out[2], 7);
    guest_fini(&g);
}

/* An instruction that crosses into a page whose mapping changes under it. */
GUEST(cross, "movb $0xb8, 0x20fff\n movl $0x11, 0x21000\n movb $0xc3, 0x21004\n"
             "movl $0x22, 0x31000\n movb $0xc3, 0x31004\n"
             "mov $0x20fff, %ebx\n call *%rbx\n out %eax, $0x80\n"
             "movq $0x31007, 0x4000 + 8 * 0x21\n invlpg 0x21000\n"
             "call *%rbx\n out %eax, $0x80\n" STOP);
static void test_page_crossing_code(void **state)
{
    struct guest g;
    guest_init(&g, cross_from, cross_to);
    assert_int_equal(guest_run(&g), VCPU_EXIT_KICKED);
    assert_int_equal(g.n_out, 2);
    assert_int_equal(g.out[0], 0x11);
    assert_int_equal(g.out[1], 0x22);
    guest_fini(&g);
}

/* The fault handler reports the error code and CR2, and returns to where RBX says. */
#define PF_HANDLER                                                                                 \
    ".balign 256\n pop %rax\n out %eax, $0x80\n mov %cr2, %rax\n out %eax, $0x80\n"                \
    "mov %rbx, (%rsp)\n iretq\n"
GUEST(rights, "lea 2f(%rip), %rbx\n mov 0x40000, %eax\n"
              "2: lea 3f(%rip), %rbx\n movl $1, 0x41000\n"
              "3: lea 4f(%rip), %rbx\n mov $0x42000, %ecx\n jmp *%rcx\n"
              "4: lea 5f(%rip), %rbx\n mov 0x43ffd, %eax\n"
              "5: mov 0x45000, %eax\n movl $1, 0x46000\n" STOP PF_HANDLER);
static void test_rights(void **state)
{
    struct guest g;
    guest_init(&g, rights_from, rights_to);
    set_gate(&g, 14, GUEST_CODE + 0x100);
    put64(&g, GUEST_PT + 8 * 0x40, 0);                    /* not present */
    put64(&g, GUEST_PT + 8 * 0x41, 0x41005);              /* read only; CR0.WP is set */
    put64(&g, GUEST_PT + 8 * 0x42, 0x42007 | 1ull << 63); /* no execute */
    put64(&g, GUEST_PT + 8 * 0x44, 0x44007 | 1ull << 45); /* reserved bit; reached by crossing */
    assert_int_equal(guest_run(&g), VCPU_EXIT_KICKED);
    const uint64_t want[8] = {0, 0x40000, 3, 0x41000, 0x11, 0x42000, 9, 0x44000};
    assert_int_equal(g.n_out, 8);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(g.out[i], want[i]);
    }
    assert_int_equal(get64(&g, GUEST_PT + 8 * 0x45) & 0x60, 0x20); /* read: accessed */
    assert_int_equal(get64(&g, GUEST_PT + 8 * 0x46) & 0x60, 0x60); /* written: dirty too */
    assert_int_equal(get64(&g, GUEST_PT + 8 * 0x47) & 0x60, 0);
    guest_fini(&g);
}

GUEST(device, "mov $0xd0000000, %ebx\n movl $7, (%rbx)\n mov 4(%rbx), %eax\n out %eax, $0x80\n"
              "addl $5, (%rbx)\n mov (%rbx), %eax\n out %eax, $0x80\n"
              "mov $0xd0001000, %ebx\n mov (%rbx), %eax\n out %eax, $0x80\n"
              "in $0x80, %eax\n out %eax, $0x80\n" STOP);
static void test_device(void **state)
{
    struct guest g;
    guest_init(&g, device_from, device_to);
    assert_int_equal(guest_run(&g), VCPU_EXIT_KICKED);
    assert_int_equal(g.n_out, 4);
    assert_int_equal(g.out[0], 11);
    assert_int_equal(g.out[1], 12);
    assert_int_equal(g.out[2], 0xffffffff);
    assert_int_equal(g.out[3], 0x12345678);
    assert_int_equal(g.mmio_writes, 2);
    guest_fini(&g);
}

/* Vector registers survive a device access in the middle of a block. */
GUEST(vectors, "mov $0x3ff0000000000000, %rax\n movq %rax, %xmm7\n mov $0xd0000000, %ebx\n"
               "mov (%rbx), %ecx\n addsd %xmm7, %xmm7\n movq %xmm7, %rax\n shr $32, %rax\n"
               "out %eax, $0x80\n" STOP);
static void test_vectors_across_exit(void **state)
{
    struct guest g;
    guest_init(&g, vectors_from, vectors_to);
    assert_int_equal(guest_run(&g), VCPU_EXIT_KICKED);
    assert_int_equal(g.n_out, 1);
    assert_int_equal(g.out[0], 0x40000000);
    guest_fini(&g);
}

GUEST(triple, "xor %eax, %eax\n push %rax\n push %rax\n lidt (%rsp)\n ud2\n");
static void test_triple_fault(void **state)
{
    struct guest g;
    guest_init(&g, triple_from, triple_to);
    assert_int_equal(guest_run(&g), VCPU_EXIT_SHUTDOWN);
    guest_fini(&g);
}

static void *kick_later(void *opaque)
{
    struct guest *g = opaque;
    usleep(20000);
    engine_soft.kick(g->engine, 0);
    return NULL;
}

GUEST(spin, "2: jmp 2b\n");
GUEST(sleep, "2: hlt\n jmp 2b\n");
static void kick_test(const char *from, const char *to)
{
    struct guest g;
    pthread_t t;
    guest_init(&g, from, to);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(pthread_create(&t, NULL, kick_later, &g), 0);
        assert_int_equal(guest_run(&g), VCPU_EXIT_KICKED);
        pthread_join(t, NULL);
    }
    guest_fini(&g);
}

static void test_kick_spinning(void **state)
{
    kick_test(spin_from, spin_to);
}

static void test_kick_halted(void **state)
{
    kick_test(sleep_from, sleep_to);
}

/* The APIC timer fires out of HLT and out of a loop; the handler counts. */
GUEST(
    timer, "mov $0x80f, %ecx\n mov $0x1ff, %eax\n xor %edx, %edx\n wrmsr\n"
           "mov $0x832, %ecx\n mov $0x40, %eax\n wrmsr\n"
           "mov $0x83e, %ecx\n mov $0xb, %eax\n wrmsr\n"
           "mov $0x838, %ecx\n mov $1000000, %eax\n wrmsr\n"
           "xor %esi, %esi\n sti\n hlt\n cli\n" REPORT(
               "%esi") "mov $1000000, %eax\n mov $0x838, %ecx\n wrmsr\n sti\n 2: cmp $2, %esi\n "
                       "jne 2b\n" REPORT("%esi") STOP
    ".balign 256\n inc %esi\n push %rax\n push %rcx\n push %rdx\n xor %eax, %eax\n xor %edx, %edx\n"
    "mov $0x80b, %ecx\n wrmsr\n pop %rdx\n pop %rcx\n pop %rax\n iretq\n");
static void test_timer(void **state)
{
    struct guest g;
    guest_init(&g, timer_from, timer_to);
    set_gate(&g, 0x40, GUEST_CODE + 0x100);
    assert_int_equal(guest_run(&g), VCPU_EXIT_KICKED);
    assert_int_equal(g.n_out, 2);
    assert_int_equal(g.out[0], 1);
    assert_int_equal(g.out[1], 2);
    guest_fini(&g);
}

/* More code than the cache holds: every page of 8 MiB is filled with an add and run, twice. */
GUEST(much, "mov $0x200000, %edi\n mov $0xe00000, %ebp\n xor %edx, %edx\n"
            "2: movl $0x90c2ff90, (%rdi)\n movl $0xc3c2ff90, 4(%rdi)\n add $8, %rdi\n"
            "cmp %rbp, %rdi\n jb 2b\n mov $2, %esi\n"
            "3: mov $0x200000, %edi\n 4: call *%rdi\n add $8, %rdi\n cmp %rbp, %rdi\n jb 4b\n"
            "dec %esi\n jnz 3b\n" REPORT("%edx") STOP);
static void test_cache_overflow(void **state)
{
    struct guest g;
    guest_init(&g, much_from, much_to);
    assert_int_equal(guest_run(&g), VCPU_EXIT_KICKED);
    assert_int_equal(g.n_out, 1);
    assert_int_equal(g.out[0], 2 * 2 * (0xe00000 - 0x200000) / 8);
    guest_fini(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loop),
        cmocka_unit_test(test_smc),
        cmocka_unit_test(test_smc_alias_and_dma),
        cmocka_unit_test(test_page_crossing_code),
        cmocka_unit_test(test_rights),
        cmocka_unit_test(test_device),
        cmocka_unit_test(test_vectors_across_exit),
        cmocka_unit_test(test_triple_fault),
        cmocka_unit_test(test_kick_spinning),
        cmocka_unit_test(test_kick_halted),
        cmocka_unit_test(test_timer),
        cmocka_unit_test(test_cache_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

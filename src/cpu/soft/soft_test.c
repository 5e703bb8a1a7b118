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
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "cpu/soft/guest_double.h"

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

/* A call whose return address is written over the call itself: it was made before the bytes
 * changed. */
GUEST(over, "mov %rsp, %rbp\n lea 2f+8(%rip), %rsp\n 2: call 3f\n hlt\n nop\n nop\n hlt\n hlt\n"
            "3: pop %rbx\n mov %rbp, %rsp\n lea 2b+5(%rip), %rcx\n sub %rcx, %rbx\n"
            "mov %ebx, %eax\n out %eax, $0x80\n" STOP);
static void test_call_over_itself(void **state)
{
    struct guest g;
    guest_init(&g, over_from, over_to);
    assert_int_equal(guest_run(&g), VCPU_EXIT_KICKED);
    assert_int_equal(g.n_out, 1);
    assert_int_equal(g.out[0], 0);
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
    guest_put64(&g, GUEST_PT + 8 * 0x30, 0x20007);
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
    guest_gate(&g, 14, GUEST_CODE + 0x100);
    guest_put64(&g, GUEST_PT + 8 * 0x40, 0);                    /* not present */
    guest_put64(&g, GUEST_PT + 8 * 0x41, 0x41005);              /* read only; CR0.WP is set */
    guest_put64(&g, GUEST_PT + 8 * 0x42, 0x42007 | 1ull << 63); /* no execute */
    guest_put64(&g, GUEST_PT + 8 * 0x44,
                0x44007 | 1ull << 45); /* reserved bit; reached by crossing */
    assert_int_equal(guest_run(&g), VCPU_EXIT_KICKED);
    const uint64_t want[8] = {0, 0x40000, 3, 0x41000, 0x11, 0x42000, 9, 0x44000};
    assert_int_equal(g.n_out, 8);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(g.out[i], want[i]);
    }
    assert_int_equal(guest_get64(&g, GUEST_PT + 8 * 0x45) & 0x60, 0x20); /* read: accessed */
    assert_int_equal(guest_get64(&g, GUEST_PT + 8 * 0x46) & 0x60, 0x60); /* written: dirty too */
    assert_int_equal(guest_get64(&g, GUEST_PT + 8 * 0x47) & 0x60, 0);
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
    guest_gate(&g, 0x40, GUEST_CODE + 0x100);
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
    if (getenv("SM_TEST_CHECK")) {
        skip(); /* millions of blocks */
    }
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
        cmocka_unit_test(test_call_over_itself),
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

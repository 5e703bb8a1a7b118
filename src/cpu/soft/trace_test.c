/* SPDX-License-Identifier: Apache-2.0 */
/* That --trace tells what happened: each level on a small guest of which every event is known. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "cpu/soft/guest_double.h"

static void init(struct guest *g, const struct engine_debug *debug, const char *from,
                 const char *to)
{
    guest_init_debug(g, 1, debug, from, to);
    g->debug[0] = 0; /* what setting up said */
}

/* The guest's run said exactly this. */
static void expect(struct guest *g, const char *want)
{
    assert_int_equal(guest_run(g), VCPU_EXIT_KICKED);
    assert_string_equal(g->debug, want);
    guest_fini(g);
}

GUEST(device, "mov $0xd0000000, %ebx\n movl $7, (%rbx)\n mov 4(%rbx), %eax\n"
              "in $0x80, %al\n out %eax, $0x80\n" STOP);
static void test_exits(void **state)
{
    struct guest g;
    init(&g, &(struct engine_debug){.trace = ENGINE_TRACE_EXITS}, device_from, device_to);
    expect(&g, "vCPU 0: exit write gpa 0xd0000000 bytes 4 value 0x7\n"
               "vCPU 0: exit read gpa 0xd0000004 bytes 4 value 0xb\n"
               "vCPU 0: exit in port 0x80 bytes 1 value 0x78\n"
               "vCPU 0: exit out port 0x80 bytes 4 value 0x78\n"
               "vCPU 0: exit out port 0x84 bytes 1 value 0x78\n"
               "vCPU 0: exit kicked rip 0x10014\n");
}

/* A page fault whose handler maps the page. */
GUEST(fault,
      "movl $1, 0x40000\n" STOP ".balign 256\n movq $0x40007, 0x4200\n add $8, %rsp\n iretq\n");
static void test_interrupts(void **state)
{
    struct guest g;
    init(&g, &(struct engine_debug){.trace = ENGINE_TRACE_INTERRUPTS}, fault_from, fault_to);
    guest_gate(&g, 14, GUEST_CODE + 0x100);
    guest_put64(&g, GUEST_PT + 8 * 0x40, 0);
    expect(&g, "vCPU 0: exception 14 (#PF) error code 0x2 cr2 0x40000 at rip 0x10000 cpl 0\n");
}

GUEST(pages, "mov 0x40000, %eax\n movl $1, 0x41000\n invlpg 0x40000\n mov 0x40000, %eax\n"
             "mov 0x40008, %eax\n mov %cr3, %rax\n mov %rax, %cr3\n mov 0x41000, %eax\n" STOP);
static void test_tlb(void **state)
{
    struct guest g;
    init(&g, &(struct engine_debug){.trace = ENGINE_TRACE_TLB}, pages_from, pages_to);
    expect(&g, "vCPU 0: tlb fill 0x40000 -> 0x40000 read\n"
               "vCPU 0: tlb fill 0x41000 -> 0x41000 write\n"
               "vCPU 0: tlb invlpg 0x40000\n"
               "vCPU 0: tlb fill 0x40000 -> 0x40000 read\n"
               "vCPU 0: tlb flush but global pages\n"
               "vCPU 0: tlb fill 0x41000 -> 0x41000 read\n");
}

/* Two instructions in the middle of a loop's block, three times; nothing of what is around them. */
GUEST(loop, "mov $3, %ecx\n 2: nop\n inc %edx\n add %edx, %eax\n dec %ecx\n jnz 2b\n" STOP);
static void test_code(void **state)
{
    struct guest g;
    const struct engine_debug debug = {
        .trace = ENGINE_TRACE_CODE, .code_from = 0x10006, .code_to = 0x10009};
    init(&g, &debug, loop_from, loop_to);
#define TURN "vCPU 0: code 0x10006: ff c2  inc\nvCPU 0: code 0x10008: 01 d0  add\n"
    expect(&g, TURN TURN TURN);
}

static void test_off(void **state)
{
    struct guest g;
    init(&g, &(struct engine_debug){.trace = 0}, pages_from, pages_to);
    expect(&g, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exits), cmocka_unit_test(test_interrupts), cmocka_unit_test(test_tlb),
        cmocka_unit_test(test_code),  cmocka_unit_test(test_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hardware breakpoints and alignment checks on small guests. Their #DB handler reports the RIP it
 * was raised at and DR6, clears DR6, and sets RF in the flags that it returns to, when the bits
 * in R15 say so.
 */
#include <string.h>

#include "cpu/soft/breakpoint.h"
#include "cpu/soft/guest_double.h"

#define HANDLER                                                                                    \
    "push %rax\n mov 8(%rsp), %rax\n out %eax, $0x80\n mov %dr6, %rax\n"                           \
    "out %eax, $0x80\n test %eax, %r15d\n jz 9f\n orl $0x10000, 24(%rsp)\n"                        \
    "9: xor %eax, %eax\n mov %rax, %dr6\n pop %rax\n iretq\n"
#define WATCH(reg, address, dr7)                                                                   \
    "lea " address ", %rax\n mov %rax, %" reg "\n mov $" dr7 ", %eax\n mov %rax, %dr7\n"
#define HERE "lea (%rip), %eax\n out %eax, $0x80\n"
#define ORG(name, at) ".org " #name "_from + " at "\n"
#define HERE_BYTES 6 /* of its first instruction: what it reports is behind that */
#define WRITE4 "0xd0002"
#define DATA4 "0xf0002"
#define DR6_NONE 0xffff0ff0u

static void start(struct guest *g, const char *from, const char *to)
{
    guest_init(g, from, to);
    guest_gate(g, V_DB, GUEST_CODE + 0x200);
}

/* Pairs of what the handler reports; at: of HERE, which follows, 0 for none. */
static void expect_trap(const struct guest *g, unsigned *k, uint64_t rip, unsigned why)
{
    assert_true(*k + 2 <= g->n_out);
    assert_int_equal(g->out[*k], rip);
    assert_int_equal(g->out[*k + 1], DR6_NONE | why);
    *k += 2;
}

static void expect_trap_here(const struct guest *g, unsigned *k, unsigned why)
{
    assert_true(*k + 3 <= g->n_out);
    expect_trap(g, k, g->out[*k + 2] - HERE_BYTES, why);
    ++*k;
}

/* What touches the four bytes, and what does not. */
GUEST(writes, WATCH("dr1", "0x20004", "0xd00008") /* L1 is bit 2, G1 bit 3 */
      "movl $1, 0x20008\n movl $1, 0x20000\n mov 0x20004, %ebx\n movb $1, 0x20004\n" HERE
      "movb $1, 0x20007\n" HERE "movq $1, 0x1ffff\n" HERE "lock incl 0x20004\n" HERE
      "movups %xmm0, 0x20000\n" HERE "mov $0x20014, %esp\n push $2\n push $3\n" HERE
      "mov $0x9000, %esp\n mov 0x20004, %eax\n out %eax, $0x80\n" STOP ORG(writes, "0x200")
          HANDLER);
static void test_writes(void **state)
{
    struct guest g;
    unsigned k = 0;
    start(&g, writes_from, writes_to);
    assert_int_equal(guest_run(&g), VCPU_EXIT_KICKED);
    for (unsigned i = 0; i < 6; i++) {
        expect_trap_here(&g, &k, 2);
    }
    assert_int_equal(g.out[k], 3); /* the stores took place */
    assert_int_equal(g.n_out, k + 1);
    guest_fini(&g);
}

GUEST(
    reads,
    WATCH("dr0", "0x20004",
          DATA4) "mov 0x20004, %ebx\n" HERE "movl $7, 0x20004\n" HERE
                 "mov $0x20007, %esi\n lodsb\n" HERE "cmpb $0, 0x20006\n je 1f\n 1:" HERE
                 "movups 0x20000, %xmm0\n" HERE "call *2f(%rip)\n" HERE
                 "mov 0x20008, %eax\n out %eax, $0x80\n xor %eax, %eax\n mov %rax, %dr7\n mov "
                 "0x20004, %eax\n"
                 "out %eax, $0x80\n" STOP
                 "3: mov 0x20004, %eax\n ret\n.balign 8\n 2: .quad 0x10000 + 3b - reads_from\n" ORG(
                     reads, "0x200") HANDLER);
static void test_reads(void **state)
{
    struct guest g;
    unsigned k = 0;
    start(&g, reads_from, reads_to);
    assert_int_equal(guest_run(&g), VCPU_EXIT_KICKED);
    for (unsigned i = 0; i < 5; i++) {
        if (i == 3) { /* before the JE, which the engine does with the compare */
            g.out[k + 2] -= 2;
        }
        expect_trap_here(&g, &k, 1);
    }
    expect_trap(&g, &k, g.out[k], 1); /* in the function, before its RET */
    k++;
    assert_int_equal(g.out[k], 0);
    assert_int_equal(g.out[k + 1], 7); /* and none once it is off */
    assert_int_equal(g.n_out, k + 2);
    guest_fini(&g);
}

/* The page is written to all the time, the watched bytes three times in a thousand rounds. */
GUEST(
    loops,
    WATCH("dr3", "0x20800",
          "0xd0000040") "mov $1000, %ecx\n mov $0x20000, %ebx\n 2: mov %ecx, (%rbx)\n mov %ecx, "
                        "%eax\n and $0xff, %eax\n"
                        "cmp $0x55, %eax\n jne 3f\n mov %ecx, 0x800(%rbx)\n 3: dec %ecx\n jnz 2b\n"
                        "mov 0x20800, %eax\n out %eax, $0x80\n" STOP ORG(loops, "0x200") HANDLER);
static void test_loop(void **state)
{
    struct guest g;
    start(&g, loops_from, loops_to);
    assert_int_equal(guest_run(&g), VCPU_EXIT_KICKED);
    assert_int_equal(g.n_out, 9); /* 0x355, 0x255, 0x155, 0x55 */
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(g.out[2 * i], g.out[0]);
        assert_int_equal(g.out[2 * i + 1], DR6_NONE | 8);
    }
    assert_int_equal(g.out[8], 0x55);
    guest_fini(&g);
}

/* At the second instruction of a loop's block; each time before it, once with RF set. */
GUEST(
    code, "mov $1, %r15d\n mov $60, %ecx\n 4: dec %ecx\n jnz 4b\n" /* translated before, too */
    WATCH(
        "dr0", "3f(%rip)",
        "2") "mov $5, %ecx\n xor %ebx, %ebx\n"
             "2: inc %ebx\n 3: add $10, %ebx\n dec %ecx\n jnz 2b\n" REPORT(
                 "%ebx") "lea 3b(%rip), %eax\n out %eax, $0x80\n xor %eax, %eax\n mov %rax, %dr7\n"
                         "mov $1, %ecx\n cmp $100, %ebx\n jb 2b\n" STOP ORG(code, "0x200") HANDLER);
static void test_instruction(void **state)
{
    struct guest g;
    unsigned k = 0;
    start(&g, code_from, code_to);
    assert_int_equal(guest_run(&g), VCPU_EXIT_KICKED);
    assert_int_equal(g.out[10], 55);
    for (unsigned i = 0; i < 5; i++) {
        expect_trap(&g, &k, g.out[11], 1);
    }
    assert_int_equal(g.out[12], 66); /* without the breakpoint: none */
    guest_fini(&g);
}

/* Without RF the handler comes again and again, until it sets it. */
GUEST(again,
      "mov $2, %r15d\n" WATCH(
          "dr0", "3f(%rip)",
          "2") "mov $0, %ebx\n jmp 3f\n 3: nop\n"
               "lea 3b(%rip), %eax\n out %eax, $0x80\n" STOP ORG(
                   again,
                   "0x200") " mov %dr6, %rax\n out %eax, $0x80\n inc %ebx\n cmp $3, %ebx\n jne 9f\n"
                            "orl $0x10000, 16(%rsp)\n 9: iretq\n");
static void test_resume_flag(void **state)
{
    struct guest g;
    start(&g, again_from, again_to);
    assert_int_equal(guest_run(&g), VCPU_EXIT_KICKED);
    assert_int_equal(g.n_out, 4);
    assert_int_equal(g.out[2], DR6_NONE | 1);
    guest_fini(&g);
}

/* Stepping through a repeated instruction: its breakpoint is hit once, its data's at one item. */
GUEST(rep, "mov $1, %r15d\n" WATCH(
               "dr0", "3f(%rip)",
               "2") "mov $0x20001, %eax\n mov %rax, %dr1\n mov $0x10000a, %eax\n mov %rax, %dr7\n"
                    "mov $3, %ecx\n mov $0x21000, %esi\n mov $0x20000, %edi\n"
                    "pushfq\n orl $0x100, (%rsp)\n popfq\n 3: rep movsb\n pushfq\n andl $~0x100, "
                    "(%rsp)\n popfq\n"
                    "nop\n" STOP ORG(rep, "0x200") HANDLER);
static void test_repeated(void **state)
{
    struct guest g;
    unsigned k = 0;
    start(&g, rep_from, rep_to);
    assert_int_equal(guest_run(&g), VCPU_EXIT_KICKED);
    uint64_t at = g.out[0];
    expect_trap(&g, &k, at, 1);
    expect_trap(&g, &k, at, DR6_BS);
    expect_trap(&g, &k, at, DR6_BS | 2);
    expect_trap(&g, &k, at + 2, DR6_BS);
    expect_trap(&g, &k, at + 3, DR6_BS);  /* pushfq */
    expect_trap(&g, &k, at + 10, DR6_BS); /* and */
    expect_trap(&g, &k, at + 11, DR6_BS); /* popfq */
    assert_int_equal(g.n_out, k);
    guest_fini(&g);
}

/* Not between the load of SS and the next instruction; and never two at once: a handler with a
 * stack of its own would overwrite its frame. */
GUEST(stack,
      "movw $16, 0x20000\n" WATCH("dr0", "0x20000",
                                  "0x70002") "mov 0x20000, %ss\n nop\n" HERE
                                             "mov 0x20000, %ss\n .byte 0xf1\n" HERE
                                             "mov 0x20000, %ds\n" HERE STOP ORG(stack, "0x200")
                                                 HANDLER);
static void test_after_ss(void **state)
{
    struct guest g;
    unsigned k = 0;
    start(&g, stack_from, stack_to);
    assert_int_equal(guest_run(&g), VCPU_EXIT_KICKED);
    expect_trap_here(&g, &k, 1);
    expect_trap_here(&g, &k, 1);
    expect_trap_here(&g, &k, 1);
    assert_int_equal(g.n_out, k);
    guest_fini(&g);
}

/* Ports 0x81 to 0x84, if CR4.DE says so. STOP is one. */
GUEST(ports,
      WATCH("dr2", "0x85", "0xe000020") "out %eax, $0x85\n"
                                        "mov %cr4, %rax\n or $8, %eax\n mov %rax, %cr4\n out %al, "
                                        "$0x83\n out %al, $0x85\n" HERE "in $0x87, %al\n" HERE
                                        "mov $0x85, %edx\n mov $2, %ecx\n lea 1f(%rip), %eax\n out "
                                        "%eax, $0x80\n 1: rep outsb\n" HERE
                                        "xor %eax, %eax\n mov %rax, %dr7\n" STOP ORG(ports, "0x200")
                                            HANDLER);
static void test_ports(void **state)
{
    struct guest g;
    unsigned k = 0;
    start(&g, ports_from, ports_to);
    assert_int_equal(guest_run(&g), VCPU_EXIT_KICKED);
    expect_trap_here(&g, &k, 4);
    expect_trap_here(&g, &k, 4);
    k++; /* after each item of a repeated one */
    expect_trap(&g, &k, g.out[k - 1], 4);
    expect_trap_here(&g, &k, 4);
    assert_int_equal(g.n_out, k);
    guest_fini(&g);
}

/* A fault takes the place of a trap that the instruction would have caused: none is left over. */
GUEST(faults,
      WATCH("dr0", "0x20000", DATA4) "mov $0x20000, %esi\n mov $0x40000, %edi\n movsl\n" HERE STOP
          ORG(faults, "0x200")
              HANDLER ORG(faults, "0x300") "movl $0xee, %eax\n out %eax, $0x80\n"
                                           "movq $0x40007, 0x4200\n add $8, %rsp\n iretq\n");
static void test_fault_first(void **state)
{
    struct guest g;
    unsigned k = 1;
    start(&g, faults_from, faults_to);
    guest_gate(&g, V_PF, GUEST_CODE + 0x300);
    guest_put64(&g, GUEST_PT + 8 * 0x40, 0);
    assert_int_equal(guest_run(&g), VCPU_EXIT_KICKED);
    assert_int_equal(g.out[0], 0xee);
    expect_trap_here(&g, &k, 1);
    assert_int_equal(g.n_out, k);
    guest_fini(&g);
}

/* The registers that a vCPU is given are in force at once. */
GUEST(given, "movl $1, 0x20000\n" HERE STOP ORG(given, "0x200") HANDLER);
static void test_state(void **state)
{
    struct guest g;
    struct cpu_state s;
    unsigned k = 0;
    start(&g, given_from, given_to);
    assert_int_equal(engine_soft.get_state(g.engine, 0, &s, NULL), 0);
    s.dr[3] = 0x20000;
    s.dr7 = 0xd0000080;
    assert_int_equal(engine_soft.set_state(g.engine, 0, &s, NULL), 0);
    assert_int_equal(guest_run(&g), VCPU_EXIT_KICKED);
    expect_trap_here(&g, &k, 8);
    assert_int_equal(engine_soft.get_state(g.engine, 0, &s, NULL), 0);
    assert_int_equal(s.dr7, 0xd0000080);
    assert_int_equal(s.dr[3], 0x20000);
    guest_fini(&g);
}

/* ---- alignment ---- */

#define USER_STACK 0x30000u
#define TSS 0x7000u

/* At CPL 3 with I/O rights; a fault reports its vector's code and RIP, and ends it. */
static void run_user(struct guest *g, const char *from, const char *to, uint64_t rflags,
                     uint64_t cr0)
{
    struct cpu_state s;
    guest_init(g, from, to);
    guest_gate(g, V_AC, GUEST_CODE + 0x200);
    guest_put64(g, TSS + 4, GUEST_STACK);
    assert_int_equal(engine_soft.get_state(g->engine, 0, &s, NULL), 0);
    s.seg[SEG_CS].selector = 0x2b;
    s.seg[SEG_CS].attr |= 3 << 5;
    s.seg[SEG_SS].selector = 0x23;
    s.seg[SEG_SS].attr |= 3 << 5;
    s.seg[SEG_TR] = (struct seg_state){.base = TSS, .limit = 103, .selector = 0x30, .attr = 0x8b};
    s.gpr[4] = USER_STACK;
    s.rflags = rflags | FL_IOPL | 2;
    s.cr0 |= cr0;
    assert_int_equal(engine_soft.set_state(g->engine, 0, &s, NULL), 0);
    assert_int_equal(guest_run(g), VCPU_EXIT_KICKED);
}

#define AC_HANDLER(name)                                                                           \
    ORG(name, "0x200") "pop %rax\n out %eax, $0x80\n pop %rax\n out %eax, $0x80\n" STOP
#define ALIGNED                                                                                    \
    "mov $100, %ecx\n 2: mov 0x20004, %eax\n mov 0x20008, %rbx\n movb $1, 0x20001\n"               \
    "movw $1, 0x20002\n push %rax\n pop %rax\n dec %ecx\n jnz 2b\n"
GUEST(odd_load, ALIGNED HERE "mov 0x20002, %eax\n" STOP AC_HANDLER(odd_load));
GUEST(odd_store, ALIGNED HERE "movq $1, 0x20004\n" STOP AC_HANDLER(odd_store));
GUEST(odd_vector, ALIGNED HERE "movups 0x20008, %xmm0\n" STOP AC_HANDLER(odd_vector));
GUEST(odd_locked, ALIGNED HERE "lock incw 0x20001\n" STOP AC_HANDLER(odd_locked));
/* The access was fast before, and POPF alone turns the checks on. */
GUEST(turned_on,
      "mov 0x20002, %eax\n mov 0x20002, %eax\n pushfq\n orl $0x40000, (%rsp)\n popfq\n" HERE
      "mov 0x20002, %eax\n" STOP AC_HANDLER(turned_on));
static void test_alignment(void **state)
{
    struct guest g;
    const struct {
        const char *from, *to;
        uint64_t flags;
    } guests[] = {{odd_load_from, odd_load_to, FL_AC},
                  {odd_store_from, odd_store_to, FL_AC},
                  {odd_vector_from, odd_vector_to, FL_AC},
                  {odd_locked_from, odd_locked_to, FL_AC},
                  {turned_on_from, turned_on_to, 0}};
    for (unsigned i = 0; i < sizeof guests / sizeof guests[0]; i++) {
        run_user(&g, guests[i].from, guests[i].to, guests[i].flags, CR0_AM);
        assert_int_equal(g.n_out, 3);
        assert_int_equal(g.out[1], 0);            /* the error code */
        assert_int_equal(g.out[2], g.out[0] + 2); /* behind HERE's OUT */
        guest_fini(&g);
        run_user(&g, guests[i].from, guests[i].to, guests[i].flags, 0);
        assert_int_equal(g.n_out, 1);
        guest_fini(&g);
    }
    run_user(&g, odd_load_from, odd_load_to, 0, CR0_AM);
    assert_int_equal(g.n_out, 1);
    guest_fini(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writes),      cmocka_unit_test(test_reads),
        cmocka_unit_test(test_loop),        cmocka_unit_test(test_instruction),
        cmocka_unit_test(test_resume_flag), cmocka_unit_test(test_repeated),
        cmocka_unit_test(test_after_ss),    cmocka_unit_test(test_ports),
        cmocka_unit_test(test_fault_first), cmocka_unit_test(test_state),
        cmocka_unit_test(test_alignment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Delivery of exceptions and interrupts: frames, stacks, checks, double and triple faults, IRET
 * back. */
#include "cpu/soft/sys_double.h"

static int setup(void **state)
{
    *state = double_new();
    return 0;
}

static int teardown(void **state)
{
    double_free(*state);
    return 0;
}

static uint64_t handler(unsigned vector)
{
    return AT_HANDLER + vector * 16;
}

/* The frame at RSP: error code (if any), RIP, CS, RFLAGS, RSP, SS. */
static void assert_frame(struct soft_cpu *cpu, bool has_code, uint64_t code, uint64_t rip,
                         uint16_t cs, uint64_t flags, uint64_t rsp, uint16_t ss)
{
    uint64_t at = cpu->gpr[R_SP];

    if (has_code) {
        assert_int_equal(flat_get(cpu, at, 8), code);
        at += 8;
    }
    assert_int_equal(flat_get(cpu, at, 8), rip);
    assert_int_equal(flat_get(cpu, at + 8, 8), cs);
    assert_int_equal(flat_get(cpu, at + 16, 8), flags);
    assert_int_equal(flat_get(cpu, at + 24, 8), rsp);
    assert_int_equal(flat_get(cpu, at + 32, 8), ss);
}

static void test_exception_same_privilege(void **state)
{
    struct soft_cpu *cpu = *state;

    cpu->insn_rip = 0x1234;
    cpu->rip = 0x1238;
    cpu->gpr[R_SP] = 0x8e8d; /* to be aligned */
    cpu->sys_flags = FL_IF | FL_TF | FL_AC;
    cpu->flags = FLAGS_KEEP1 | FLAGS_CF | 1;
    assert_true(deliver_exception(cpu, V_GP, true, 0x18));
    assert_int_equal(cpu->rip, handler(V_GP));
    assert_int_equal(cpu->gpr[R_SP], 0x8e80 - 48);
    assert_frame(cpu, true, 0x18, 0x1234, SEL_KCODE, FL_RF | FL_AC | FL_TF | FL_IF | 0x803, 0x8e8d,
                 SEL_KDATA);
    assert_int_equal(cpu->seg[SEG_SS].selector, SEL_KDATA);
    assert_int_equal(cpu->sys_flags, FL_AC); /* interrupt gate: IF, TF off */
    assert_int_equal(cpu->mode, 0);
    assert_int_equal(cpu->delivering, 0);
}

static void test_exception_from_user_and_back(void **state)
{
    struct soft_cpu *cpu = *state;
    uint64_t user_sp;

    double_enter_user(cpu);
    user_sp = cpu->gpr[R_SP];
    cpu->insn_rip = 0x401000;
    cpu->sys_flags = FL_IF | FL_NT;
    assert_true(deliver_exception(cpu, V_DE, false, 0));
    assert_int_equal(cpu->cpl, 0);
    assert_int_equal(cpu->gpr[R_SP], AT_KSTACK - 40);
    assert_int_equal(cpu->seg[SEG_CS].selector, SEL_KCODE);
    assert_int_equal(cpu->seg[SEG_SS].selector, 0);
    assert_frame(cpu, false, 0, 0x401000, SEL_UCODE | 3, FL_RF | FL_IF | FL_NT | 2, user_sp,
                 SEL_UDATA | 3);
    assert_int_equal(cpu->sys_flags, 0); /* NT off too */

    assert_runs(cpu, "\x48\xcf"); /* iretq */
    assert_int_equal(cpu->cpl, 3);
    assert_int_equal(cpu->rip, 0x401000);
    assert_int_equal(cpu->gpr[R_SP], user_sp);
    assert_int_equal(cpu->seg[SEG_CS].selector, SEL_UCODE | 3);
    assert_int_equal(cpu->seg[SEG_SS].selector, SEL_UDATA | 3);
    assert_int_equal(cpu->sys_flags, FL_IF | FL_NT); /* RF is not kept */
    assert_int_equal(cpu->mode, MODE_USER);
}

static void test_page_fault_code(void **state)
{
    struct soft_cpu *cpu = *state;

    cpu->cr2 = 0xdead000;
    cpu->insn_rip = 0x77;
    assert_true(deliver_exception(cpu, V_PF, true, 6));
    assert_int_equal(flat_get(cpu, cpu->gpr[R_SP], 8), 6);
    assert_int_equal(cpu->cr2, 0xdead000);
}

static void test_ist(void **state)
{
    struct soft_cpu *cpu = *state;

    double_gate(cpu, V_NMI, ST_INT_GATE, 0, 1, SEL_KCODE, true);
    flat_set(cpu, AT_TSS + 36, 8, AT_IST1 + 9); /* to be aligned */
    assert_true(deliver_exception(cpu, V_NMI, false, 0));
    assert_int_equal(cpu->gpr[R_SP], AT_IST1 - 40);
    assert_int_equal(cpu->seg[SEG_SS].selector, SEL_KDATA); /* no privilege change: SS stays */
    assert_int_equal(flat_get(cpu, cpu->gpr[R_SP] + 16, 8) & FL_RF, 0);
}

static void test_trap_gate_keeps_if(void **state)
{
    struct soft_cpu *cpu = *state;

    double_gate(cpu, V_UD, ST_TRAP_GATE, 0, 0, SEL_KCODE, true);
    assert_true(deliver_exception(cpu, V_UD, false, 0));
    assert_int_equal(cpu->sys_flags, FL_IF);
}

static void test_conforming_handler_keeps_cpl(void **state)
{
    struct soft_cpu *cpu = *state;

    double_enter_user(cpu);
    double_gate(cpu, V_UD, ST_INT_GATE, 0, 0, SEL_CONFORM, true);
    assert_true(deliver_exception(cpu, V_UD, false, 0));
    assert_int_equal(cpu->cpl, 3);
    assert_int_equal(cpu->seg[SEG_CS].selector, SEL_CONFORM | 3);
    assert_int_equal(cpu->gpr[R_SP], ((AT_USTACK - 0x100) & ~15u) - 40);
}

static void test_software_interrupts(void **state)
{
    struct soft_cpu *cpu = *state;

    double_enter_user(cpu);
    assert_runs(cpu, "\xcd\x80"); /* int 0x80, DPL 3 */
    assert_int_equal(cpu->rip, handler(0x80));
    assert_int_equal(flat_get(cpu, cpu->gpr[R_SP], 8), RIP_BEFORE + 2);
    assert_int_equal(flat_get(cpu, cpu->gpr[R_SP] + 16, 8) & FL_RF, 0);

    double_enter_user(cpu);
    assert_runs(cpu, "\xcc"); /* int3 */
    assert_int_equal(cpu->rip, handler(V_BP));
    assert_int_equal(flat_get(cpu, cpu->gpr[R_SP], 8), RIP_BEFORE + 1);

    double_enter_user(cpu);
    assert_fault(cpu, "\xcd\x0e", V_GP, 0x0e * 8 + 2); /* int 14: DPL 0, no EXT */
    cpu->delivering = 0;
    assert_runs(cpu, "\xf1"); /* int1 ignores the DPL */
    assert_int_equal(cpu->rip, handler(V_DB));
}

/* Faults in the gate or its target, each with the vector that must come out and its error code. */
static void test_bad_gates(void **state)
{
    struct soft_cpu *cpu = *state;
    static const struct {
        unsigned type;
        uint16_t selector;
        bool present;
        unsigned vector;
        uint32_t code;
    } rows[] = {
        {0x05, SEL_KCODE, true, V_GP, 0x42 * 8 + 3},             /* task gate */
        {0x0c, SEL_KCODE, true, V_GP, 0x42 * 8 + 3},             /* call gate */
        {0x1e, SEL_KCODE, true, V_GP, 0x42 * 8 + 3},             /* not a system type */
        {ST_INT_GATE, SEL_KCODE, false, V_NP, 0x42 * 8 + 3},     /* not present */
        {ST_INT_GATE, 0, true, V_GP, 1},                         /* null selector */
        {ST_INT_GATE, 3, true, V_GP, 1},                         /* null, RPL 3 */
        {ST_INT_GATE, GDT_LIMIT + 1, true, V_GP, GDT_LIMIT + 2}, /* outside the GDT */
        {ST_INT_GATE, SEL_KDATA, true, V_GP, SEL_KDATA + 1},     /* data */
        {ST_INT_GATE, SEL_UCODE32, true, V_GP, SEL_UCODE32 + 1}, /* DPL 3 > CPL 0, not long */
        {ST_INT_GATE, SEL_UCODE, true, V_GP, SEL_UCODE + 1},     /* DPL 3 > CPL 0 */
        {ST_INT_GATE, SEL_BOTH, true, V_GP, SEL_BOTH + 1},       /* L and D */
        {ST_INT_GATE, SEL_KABSENT, true, V_NP, SEL_KABSENT + 1},
    };

    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cpu->gpr[R_SP] = AT_KSTACK - 0x100;
        cpu->insn_rip = 0x5555;
        double_gate(cpu, 0x42, rows[i].type, 0, 0, rows[i].selector, rows[i].present);
        assert_true(deliver_exception(cpu, 0x42, false, 0));
        assert_int_equal(cpu->rip, handler(rows[i].vector));
        assert_int_equal(flat_get(cpu, cpu->gpr[R_SP], 8), rows[i].code);
        assert_int_equal(flat_get(cpu, cpu->gpr[R_SP] + 8, 8), 0x5555);
    }
}

static void test_idt_limit(void **state)
{
    struct soft_cpu *cpu = *state;

    cpu->idt_limit = 0x42 * 16 + 14; /* one byte short */
    assert_true(deliver_exception(cpu, 0x42, false, 0));
    assert_int_equal(cpu->rip, handler(V_GP));
    assert_int_equal(flat_get(cpu, cpu->gpr[R_SP], 8), 0x42 * 8 + 3);
    cpu->idt_limit++;
    assert_true(deliver_exception(cpu, 0x42, false, 0));
    assert_int_equal(cpu->rip, handler(0x42));
}

static void test_non_canonical(void **state)
{
    struct soft_cpu *cpu = *state;

    flat_set(cpu, AT_IDT + 0x42 * 16 + 8, 8, 0x00008000); /* handler 0x8000'81000420 */
    assert_true(deliver_exception(cpu, 0x42, false, 0));
    assert_int_equal(cpu->rip, handler(V_GP));
    assert_int_equal(flat_get(cpu, cpu->gpr[R_SP], 8), 1);

    double_gate(cpu, V_SS, ST_INT_GATE, 0, 1, SEL_KCODE, true);
    cpu->gpr[R_SP] = 0x0000900000000000ull;
    assert_true(deliver_exception(cpu, V_UD, false, 0)); /* stack: #SS, which has its own */
    assert_int_equal(cpu->rip, handler(V_SS));
    assert_int_equal(flat_get(cpu, cpu->gpr[R_SP] + 32, 8), 0x0000900000000000ull);
}

static void test_tss_limit(void **state)
{
    struct soft_cpu *cpu = *state;

    double_gate(cpu, V_UD, ST_INT_GATE, 0, 1, SEL_KCODE, true);
    cpu->seg[SEG_TR].limit = 42; /* IST1 is bytes 36-43 */
    assert_true(deliver_exception(cpu, V_UD, false, 0));
    assert_int_equal(cpu->rip, handler(V_TS));
    assert_int_equal(flat_get(cpu, cpu->gpr[R_SP], 8), SEL_TSS + 1);
}

/* Which second exception makes a double fault (SDM table 6-5), by making a gate not present (#NP)
 * or the stack absent (#PF). */
static void test_double_fault(void **state)
{
    struct soft_cpu *cpu = *state;
    static const struct {
        unsigned first;
        bool page; /* second is #PF, else #NP */
        unsigned result;
    } rows[] = {
        {V_UD, false, V_NP}, {V_UD, true, V_PF},  {V_DB, true, V_PF},  {V_GP, false, V_DF},
        {V_GP, true, V_PF},  {V_PF, true, V_DF},  {V_PF, false, V_DF}, {V_SS, false, V_DF},
        {V_AC, false, V_NP}, {V_DE, false, V_DF}, {V_TS, false, V_DF},
    };

    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        unsigned first = rows[i].first;
        bool code =
            first == V_GP || first == V_PF || first == V_SS || first == V_TS || first == V_AC;

        for (unsigned v = 0; v < 32; v++)
            double_gate(cpu, v, ST_INT_GATE, 0, v == V_DF || v == V_PF, SEL_KCODE, true);
        if (first == V_PF || !rows[i].page)
            double_gate(cpu, first, ST_INT_GATE, 0, 0, SEL_KCODE, rows[i].page);
        cpu->gpr[R_SP] = AT_KSTACK - 0x100;
        if (rows[i].page)
            cpu->gpr[R_SP] = 0xf000; /* below it: page 14 */
        double_of(cpu)->absent[14] = rows[i].page;
        cpu->insn_rip = 0x9999;
        assert_true(deliver_exception(cpu, first, code, 0));
        assert_int_equal(cpu->rip, handler(rows[i].result));
        if (rows[i].result == V_DF)
            assert_int_equal(flat_get(cpu, cpu->gpr[R_SP], 8), 0);
        assert_int_equal(flat_get(cpu, cpu->gpr[R_SP] + 8, 8), 0x9999);
        assert_int_equal(cpu->delivering, 0);
    }
}

static void test_triple_fault(void **state)
{
    struct soft_cpu *cpu = *state;
    uint64_t sp = cpu->gpr[R_SP];

    double_gate(cpu, V_GP, ST_INT_GATE, 0, 0, SEL_KCODE, false);
    double_gate(cpu, V_DF, ST_INT_GATE, 0, 0, SEL_KCODE, false);
    cpu->rip = 0x1111;
    assert_false(deliver_exception(cpu, V_GP, true, 0));
    assert_int_equal(cpu->rip, 0x1111); /* nothing was committed */
    assert_int_equal(cpu->gpr[R_SP], sp);
}

static void test_no_idt(void **state)
{
    struct soft_cpu *cpu = *state;

    cpu->idt_limit = 0; /* how Linux reboots when all else fails */
    assert_int_equal(EXEC(cpu, "\xcc"), V_GP);
    assert_false(deliver_exception(cpu, V_GP, true, cpu->exc_code));
}

static void test_interrupt(void **state)
{
    struct soft_cpu *cpu = *state;

    double_enter_user(cpu);
    cpu->rip = 0x400123;
    cpu->halted = true;
    cpu->int_shadow = true;
    assert_true(deliver_irq(cpu, 0xec));
    assert_int_equal(cpu->rip, handler(0xec));
    assert_false(cpu->halted);
    assert_false(cpu->int_shadow);
    assert_frame(cpu, false, 0, 0x400123, SEL_UCODE | 3, FL_IF | 2, AT_USTACK - 0x100,
                 SEL_UDATA | 3);
    assert_int_equal(cpu->gpr[R_SP], AT_KSTACK - 40);
}

/* A fault while an interrupt is delivered: handled first, the interrupt is not lost. */
static void test_interrupt_delivery_faults(void **state)
{
    struct soft_cpu *cpu = *state;

    assert_int_equal(soft_lapic_write(cpu, 0x0f, 0x1ff), 0);
    soft_lapic_post(cpu, 0x42, false);
    assert_int_equal(soft_lapic_accept(cpu), 0x42);
    double_gate(cpu, V_PF, ST_INT_GATE, 0, 1, SEL_KCODE, true);
    cpu->gpr[R_SP] = 0xf000;
    double_of(cpu)->absent[14] = true;
    cpu->rip = 0x3333;
    atomic_store(&cpu->pending, 0);
    assert_true(deliver_irq(cpu, 0x42));
    assert_int_equal(cpu->rip, handler(V_PF));
    assert_int_equal(flat_get(cpu, cpu->gpr[R_SP] + 8, 8), 0x3333);
    assert_true(atomic_load(&cpu->pending) & PEND_IRQ);
    assert_int_equal(soft_lapic_accept(cpu), 0x42);
}

/* The accessed bit of the handler's descriptor is set on the way. */
static void test_accessed_bit(void **state)
{
    struct soft_cpu *cpu = *state;

    flat_set(cpu, AT_GDT + SEL_KCODE, 8, 0x00af9a000000ffff);
    assert_true(deliver_exception(cpu, V_UD, false, 0));
    assert_int_equal(flat_get(cpu, AT_GDT + SEL_KCODE, 8), 0x00af9b000000ffff);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_exception_same_privilege, setup, teardown),
        cmocka_unit_test_setup_teardown(test_exception_from_user_and_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_page_fault_code, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ist, setup, teardown),
        cmocka_unit_test_setup_teardown(test_trap_gate_keeps_if, setup, teardown),
        cmocka_unit_test_setup_teardown(test_conforming_handler_keeps_cpl, setup, teardown),
        cmocka_unit_test_setup_teardown(test_software_interrupts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_gates, setup, teardown),
        cmocka_unit_test_setup_teardown(test_idt_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_non_canonical, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tss_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_double_fault, setup, teardown),
        cmocka_unit_test_setup_teardown(test_triple_fault, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_idt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_interrupt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_interrupt_delivery_faults, setup, teardown),
        cmocka_unit_test_setup_teardown(test_accessed_bit, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

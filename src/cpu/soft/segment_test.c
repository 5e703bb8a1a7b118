/* SPDX-License-Identifier: Apache-2.0 */
/* Segment register loads, descriptor tables, far transfers and IRET: tables of selectors and
 * outcomes. */
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

static void fresh(void **state)
{
    teardown(state);
    setup(state);
}

static void test_mov_sreg(void **state)
{
    static const struct {
        unsigned cpl;
        bool ss; /* else DS */
        uint16_t selector;
        int vector; /* -1: loads */
        uint32_t code;
    } rows[] = {
        {0, false, 0, -1, 0},
        {0, false, 3, -1, 0},
        {3, false, 0, -1, 0},
        {0, false, SEL_KDATA, -1, 0},
        {0, false, SEL_KDATA | 3, V_GP, SEL_KDATA}, /* RPL 3 > DPL 0 */
        {3, false, SEL_KDATA, V_GP, SEL_KDATA},     /* CPL 3 > DPL 0 */
        {3, false, SEL_UDATA | 3, -1, 0},
        {0, false, SEL_UDATA | 3, -1, 0},
        {0, false, SEL_KCODE, -1, 0}, /* readable code */
        {3, false, SEL_CONFORM | 3, -1, 0},
        {3, false, SEL_XONLY | 3, V_GP, SEL_XONLY},
        {3, false, SEL_ABSENT | 3, V_NP, SEL_ABSENT},
        {3, false, SEL_TSS | 3, V_GP, SEL_TSS},
        {3, false, (GDT_LIMIT + 1) | 3, V_GP, GDT_LIMIT + 1},
        {0, false, 0xc, V_GP, 0xc}, /* no LDT */
        {0, true, 0, -1, 0},
        {0, true, 3, V_GP, 0},
        {3, true, 3, V_GP, 0},
        {3, true, SEL_UDATA | 3, -1, 0},
        {3, true, SEL_UDATA, V_GP, SEL_UDATA},       /* RPL */
        {0, true, SEL_UDATA, V_GP, SEL_UDATA},       /* DPL */
        {0, true, SEL_KCODE, V_GP, SEL_KCODE},       /* code */
        {3, true, SEL_RODATA | 3, V_GP, SEL_RODATA}, /* not writable */
        {3, true, SEL_ABSENT | 3, V_SS, SEL_ABSENT},
    };

    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct soft_cpu *cpu = *state;
        enum seg_index seg = rows[i].ss ? SEG_SS : SEG_DS;
        uint16_t before;

        if (rows[i].cpl == 3)
            double_enter_user(cpu);
        before = cpu->seg[seg].selector;
        cpu->gpr[R_AX] = 0xffff0000 | rows[i].selector;
        assert_int_equal(rows[i].ss ? EXEC(cpu, "\x8e\xd0") : EXEC(cpu, "\x8e\xd8"),
                         rows[i].vector);
        assert_int_equal(cpu->seg[seg].selector, rows[i].vector < 0 ? rows[i].selector : before);
        if (rows[i].vector >= 0)
            assert_int_equal(cpu->exc_code, rows[i].code);
        assert_int_equal(cpu->int_shadow, rows[i].ss && rows[i].vector < 0);
        assert_true(cpu->no_step || !cpu->int_shadow);
        assert_int_equal(cpu->cpl, rows[i].cpl);
        assert_int_equal(cpu->seg[SEG_SS].attr >> 5 & 3, rows[i].cpl);
        fresh(state);
    }
}

static void test_fs_gs(void **state)
{
    struct soft_cpu *cpu = *state;

    cpu->gpr[R_AX] = SEL_BASED | 3;
    assert_runs(cpu, "\x8e\xe8"); /* mov gs, eax */
    assert_int_equal(cpu->seg_base[SEG_GS], 0x12345678);
    cpu->gpr[R_AX] = 0;
    assert_runs(cpu, "\x8e\xe8");
    assert_int_equal(cpu->seg_base[SEG_GS], 0);

    flat_set(cpu, cpu->gpr[R_SP], 8, SEL_BASED | 3);
    assert_runs(cpu, "\x0f\xa1"); /* pop fs */
    assert_int_equal(cpu->seg_base[SEG_FS], 0x12345678);
    assert_runs(cpu, "\x0f\xa0"); /* push fs */
    assert_int_equal(flat_get(cpu, cpu->gpr[R_SP], 8), SEL_BASED | 3);
    flat_set(cpu, cpu->gpr[R_SP], 8, SEL_ABSENT);
    assert_fault(cpu, "\x0f\xa9", V_NP, SEL_ABSENT); /* pop gs: RSP unchanged */
    assert_int_equal(flat_get(cpu, cpu->gpr[R_SP], 8), SEL_ABSENT);

    flat_set(cpu, AT_DATA, 8, 0x1122334455667788);
    flat_set(cpu, AT_DATA + 8, 2, SEL_BASED);
    cpu->gpr[R_BX] = AT_DATA;
    assert_runs(cpu, "\x48\x0f\xb5\x03"); /* lgs rax, [rbx] */
    assert_int_equal(cpu->gpr[R_AX], 0x1122334455667788);
    assert_int_equal(cpu->seg_base[SEG_GS], 0x12345678);
}

static void test_read_sreg(void **state)
{
    struct soft_cpu *cpu = *state;

    cpu->gpr[R_AX] = ~0ull;
    assert_runs(cpu, "\x66\x8c\xc8"); /* mov ax, cs */
    assert_int_equal(cpu->gpr[R_AX], 0xffffffffffff0000 | SEL_KCODE);
    assert_runs(cpu, "\x8c\xd0"); /* mov eax, ss */
    assert_int_equal(cpu->gpr[R_AX], SEL_KDATA);
    cpu->gpr[R_BX] = AT_DATA;
    flat_set(cpu, AT_DATA, 8, ~0ull);
    assert_runs(cpu, "\x8c\x0b"); /* mov [rbx], cs: 16 bits */
    assert_int_equal(flat_get(cpu, AT_DATA, 8), 0xffffffffffff0000 | SEL_KCODE);
}

static void test_tables(void **state)
{
    struct soft_cpu *cpu = *state;

    flat_set(cpu, AT_DATA, 2, 0x7f);
    flat_set(cpu, AT_DATA + 2, 8, 0xfffffe0000001000);
    cpu->gpr[R_AX] = AT_DATA;
    cpu->gpr[R_BX] = AT_DATA + 0x100;
    assert_runs(cpu, "\x0f\x01\x18"); /* lidt */
    assert_int_equal(cpu->idt_limit, 0x7f);
    assert_int_equal(cpu->idt_base, 0xfffffe0000001000);
    assert_runs(cpu, "\x0f\x01\x0b"); /* sidt [rbx] */
    assert_int_equal(flat_get(cpu, AT_DATA + 0x100, 2), 0x7f);
    assert_int_equal(flat_get(cpu, AT_DATA + 0x102, 8), 0xfffffe0000001000);
    assert_runs(cpu, "\x0f\x01\x03"); /* sgdt [rbx] */
    assert_int_equal(flat_get(cpu, AT_DATA + 0x100, 2), GDT_LIMIT);
    flat_set(cpu, AT_DATA + 2, 8, 0x0000fe0000001000);
    assert_fault(cpu, "\x0f\x01\x10", V_GP, 0); /* lgdt, non-canonical base */
    assert_int_equal(cpu->gdt_base, AT_GDT);
}

static void test_lldt_ltr(void **state)
{
    struct soft_cpu *cpu = *state;

    cpu->gpr[R_AX] = SEL_LDT;
    assert_runs(cpu, "\x0f\x00\xd0"); /* lldt ax */
    assert_int_equal(cpu->seg[SEG_LDTR].base, AT_LDT);
    cpu->gpr[R_CX] = 0xf; /* LDT entry 1, RPL 3 */
    assert_runs(cpu, "\x8e\xd9");
    cpu->gpr[R_CX] = 0x27; /* past the LDT's limit */
    assert_fault(cpu, "\x8e\xd9", V_GP, 0x24);
    assert_runs(cpu, "\x0f\x00\xc2"); /* sldt edx */
    assert_int_equal(cpu->gpr[R_DX], SEL_LDT);
    cpu->gpr[R_AX] = 0;
    assert_runs(cpu, "\x0f\x00\xd0");
    assert_fault(cpu, "\x0f\x00\xd8", V_GP, 0); /* ltr 0 */
    cpu->gpr[R_AX] = SEL_KDATA;
    assert_fault(cpu, "\x0f\x00\xd0", V_GP, SEL_KDATA);
    assert_fault(cpu, "\x0f\x00\xd8", V_GP, SEL_KDATA);

    flat_set(cpu, AT_GDT + SEL_TSS + 8, 4, 0xffff8800); /* base's upper half */
    cpu->gpr[R_AX] = SEL_TSS;
    assert_runs(cpu, "\x0f\x00\xd8");
    assert_int_equal(cpu->seg[SEG_TR].base, 0xffff880000000000 | AT_TSS);
    assert_int_equal(cpu->seg[SEG_TR].limit, 0x2067);
    assert_fault(cpu, "\x0f\x00\xd8", V_GP, SEL_TSS); /* busy now */
    flat_set(cpu, AT_GDT + SEL_TSS + 5, 1, 0x09);
    assert_fault(cpu, "\x0f\x00\xd8", V_NP, SEL_TSS);
    flat_set(cpu, AT_GDT + SEL_TSS + 5, 1, 0x89);
    flat_set(cpu, AT_GDT + SEL_TSS + 13, 1, 0x05); /* type bits in the upper half */
    assert_fault(cpu, "\x0f\x00\xd8", V_GP, SEL_TSS);
}

static void test_lar_lsl_verr_verw(void **state)
{
    static const struct {
        uint16_t selector;
        bool lar, lsl, verr, verw; /* from CPL 3 */
        uint32_t rights, limit;
    } rows[] = {
        {0, false, false, false, false, 0, 0},
        {SEL_KDATA, false, false, false, false, 0, 0},
        {SEL_UDATA | 3, true, true, true, true, 0xc0f300, 0xffffffff},
        {SEL_RODATA | 3, true, true, true, false, 0xc0f100, 0xffffffff},
        {SEL_UCODE | 3, true, true, true, false, 0xa0fb00, 0xffffffff},
        {SEL_XONLY | 3, true, true, false, false, 0xa0f900, 0xffffffff},
        {SEL_CONFORM, true, true, true, false, 0xa09f00, 0xffffffff},
        {SEL_TSS | 3, false, false, false, false, 0, 0},
        {SEL_CALLGATE | 3, true, false, false, false, 0x00ec00, 0},
        {GDT_LIMIT + 1, false, false, false, false, 0, 0},
    };
    struct soft_cpu *cpu = *state;

    double_enter_user(cpu);
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cpu->gpr[R_BX] = rows[i].selector;
        cpu->gpr[R_AX] = 0x5a5a5a5a5a5a5a5a;
        cpu->flags = FLAGS_KEEP1 | FLAGS_CF | (rows[i].lar ? 0 : FLAGS_ZF);
        assert_runs(cpu, "\x0f\x02\xc3"); /* lar eax, ebx */
        assert_int_equal(!!(cpu->flags & FLAGS_ZF), rows[i].lar);
        assert_true(cpu->flags & FLAGS_CF);
        assert_int_equal(cpu->gpr[R_AX], rows[i].lar ? rows[i].rights : 0x5a5a5a5a5a5a5a5a);
        assert_runs(cpu, "\x0f\x03\xcb"); /* lsl ecx, ebx */
        assert_int_equal(!!(cpu->flags & FLAGS_ZF), rows[i].lsl);
        if (rows[i].lsl)
            assert_int_equal(cpu->gpr[R_CX], rows[i].limit);
        assert_runs(cpu, "\x0f\x00\xe3"); /* verr bx */
        assert_int_equal(!!(cpu->flags & FLAGS_ZF), rows[i].verr);
        assert_runs(cpu, "\x0f\x00\xeb"); /* verw bx */
        assert_int_equal(!!(cpu->flags & FLAGS_ZF), rows[i].verw);
    }
    /* limits: bytes when G is 0 */
    flat_set(cpu, AT_GDT + SEL_UDATA, 8, 0x0041f30000001234);
    cpu->gpr[R_BX] = SEL_UDATA | 3;
    assert_runs(cpu, "\x0f\x03\xcb");
    assert_int_equal(cpu->gpr[R_CX], 0x11234);
}

struct iret_row {
    uint16_t cs, ss;
    uint64_t rip;
    int vector;
    uint32_t code;
};

static void push_frame(struct soft_cpu *cpu, const struct iret_row *r, uint64_t flags)
{
    uint64_t sp = cpu->gpr[R_SP];

    flat_set(cpu, sp, 8, r->rip);
    flat_set(cpu, sp + 8, 8, r->cs);
    flat_set(cpu, sp + 16, 8, flags);
    flat_set(cpu, sp + 24, 8, 0x7fff12345678);
    flat_set(cpu, sp + 32, 8, r->ss);
}

static void test_iret(void **state)
{
    static const struct iret_row rows[] = {
        {SEL_KCODE, SEL_KDATA, 0xffffffff81000000, -1, 0},
        {SEL_KCODE, 0, 0xffffffff81000000, -1, 0},
        {SEL_KCODE, 3, 0x1000, V_GP, 0},
        {SEL_UCODE | 3, SEL_UDATA | 3, 0x401000, -1, 0},
        {SEL_UCODE32 | 3, SEL_UDATA | 3, 0x401000, -1, 0},
        {SEL_UCODE32 | 3, SEL_UDATA | 3, 0x100000000, V_GP, 0}, /* past the limit */
        {SEL_UCODE | 3, 0, 0x401000, V_GP, 0},                  /* null SS at CPL 3 */
        {SEL_UCODE | 3, 3, 0x401000, V_GP, 0},
        {SEL_UCODE | 3, SEL_UDATA, 0x401000, V_GP, SEL_UDATA},
        {SEL_UCODE | 3, SEL_KDATA | 3, 0x401000, V_GP, SEL_KDATA},
        {SEL_UCODE | 3, SEL_RODATA | 3, 0x401000, V_GP, SEL_RODATA},
        {SEL_UCODE | 3, SEL_ABSENT | 3, 0x401000, V_SS, SEL_ABSENT},
        {SEL_UCODE | 3, SEL_UDATA | 3, 0x0000800000000000, V_GP, 0},
        {0, SEL_KDATA, 0x1000, V_GP, 0},
        {3, SEL_KDATA, 0x1000, V_GP, 0},
        {SEL_KDATA, SEL_KDATA, 0x1000, V_GP, SEL_KDATA},
        {SEL_KCODE | 3, SEL_UDATA | 3, 0x1000, V_GP, SEL_KCODE}, /* DPL != RPL */
        {SEL_CONFORM | 3, SEL_UDATA | 3, 0x1000, -1, 0},
        {SEL_BOTH | 3, SEL_UDATA | 3, 0x1000, V_GP, SEL_BOTH},
        {SEL_UABSENT | 3, SEL_UDATA | 3, 0x1000, V_NP, SEL_UABSENT},
        {GDT_LIMIT + 1, SEL_KDATA, 0x1000, V_GP, (GDT_LIMIT + 1) & 0xfffc},
    };

    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct soft_cpu *cpu = *state;
        uint64_t sp = cpu->gpr[R_SP];

        push_frame(cpu, &rows[i], FL_RF | FL_IF | FL_ID | 0x247);
        assert_int_equal(EXEC(cpu, "\x48\xcf"), rows[i].vector);
        if (rows[i].vector >= 0) {
            assert_int_equal(cpu->exc_code, rows[i].code);
            assert_int_equal(cpu->gpr[R_SP], sp);
            assert_int_equal(cpu->seg[SEG_CS].selector, SEL_KCODE);
            assert_int_equal(soft_get_rflags(cpu), FL_IF | 2);
        } else {
            assert_int_equal(cpu->gpr[R_SP], 0x7fff12345678);
            assert_int_equal(cpu->rip, rows[i].rip);
            assert_int_equal(cpu->seg[SEG_CS].selector, rows[i].cs);
            assert_int_equal(cpu->seg[SEG_SS].selector, rows[i].ss);
            assert_int_equal(cpu->cpl, rows[i].cs & 3);
            assert_int_equal(soft_get_rflags(cpu), FL_IF | FL_ID | 0x247);
            assert_int_equal(!!(cpu->mode & MODE_LEGACY), (rows[i].cs & ~3) == SEL_UCODE32);
        }
        fresh(state);
    }
}

static void test_iret_rights(void **state)
{
    struct soft_cpu *cpu = *state;
    static const struct iret_row same = {SEL_UCODE | 3, SEL_UDATA | 3, 0x1000, -1, 0};

    cpu->sys_flags |= FL_NT;
    push_frame(cpu, &same, 2);
    assert_fault(cpu, "\x48\xcf", V_GP, 0);
    cpu->sys_flags = FL_IF;

    double_enter_user(cpu);
    push_frame(cpu, &same, FL_IOPL | FL_TF | 2); /* no IF, IOPL 3: neither changes */
    assert_runs(cpu, "\x48\xcf");
    assert_int_equal(cpu->sys_flags, FL_IF | FL_TF);
    assert_int_equal(cpu->mode, MODE_USER | MODE_STEP);

    double_enter_user(cpu);
    push_frame(cpu, &(struct iret_row){SEL_KCODE, SEL_KDATA, 0x1000, 0, 0}, 2);
    assert_fault(cpu, "\x48\xcf", V_GP, SEL_KCODE); /* inwards */
    cpu->gpr[R_SP] = 0x00007fffffffffe0;
    assert_fault(cpu, "\x48\xcf", V_SS, 0); /* the frame runs out of canonical space */
}

/* Data segments that the outer level may not use are dropped; the base of GS is not. */
static void test_iret_drops_segments(void **state)
{
    struct soft_cpu *cpu = *state;
    static const struct iret_row out = {SEL_UCODE | 3, SEL_UDATA | 3, 0x1000, -1, 0};

    cpu->gpr[R_AX] = SEL_UDATA | 3;
    assert_runs(cpu, "\x8e\xe0"); /* mov fs, eax */
    cpu->seg_base[SEG_GS] = 0x7777;
    push_frame(cpu, &out, 2);
    assert_runs(cpu, "\x48\xcf");
    assert_int_equal(cpu->seg[SEG_DS].selector, 0);
    assert_int_equal(cpu->seg[SEG_ES].selector, 0);
    assert_int_equal(cpu->seg[SEG_FS].selector, SEL_UDATA | 3);
    assert_int_equal(cpu->seg_base[SEG_GS], 0x7777);
}

static void test_retf(void **state)
{
    struct soft_cpu *cpu = *state;
    uint64_t sp = cpu->gpr[R_SP];

    flat_set(cpu, sp, 8, 0xffffffff81234567);
    flat_set(cpu, sp + 8, 8, SEL_KCODE);
    assert_runs(cpu, "\x48\xcb");
    assert_int_equal(cpu->rip, 0xffffffff81234567);
    assert_int_equal(cpu->gpr[R_SP], sp + 16);

    cpu->gpr[R_SP] =
        sp; /* to CPL 3, dropping 16 bytes of arguments on both stacks; 32-bit operands */
    flat_set(cpu, sp, 4, 0x401000);
    flat_set(cpu, sp + 4, 4, SEL_UCODE | 3);
    flat_set(cpu, sp + 24, 4, 0x7000);
    flat_set(cpu, sp + 28, 4, SEL_UDATA | 3);
    assert_runs(cpu, "\xca\x10\x00");
    assert_int_equal(cpu->rip, 0x401000);
    assert_int_equal(cpu->gpr[R_SP], 0x7010);
    assert_int_equal(cpu->cpl, 3);
}

static void test_far_jumps(void **state)
{
    static const struct {
        uint16_t selector;
        int vector;
        uint32_t code;
    } rows[] = {
        {SEL_KCODE, -1, 0},
        {SEL_CONFORM, -1, 0},
        {0, V_GP, 0},
        {SEL_KDATA, V_GP, SEL_KDATA},
        {SEL_UCODE, V_GP, SEL_UCODE},     /* DPL 3 from CPL 0 */
        {SEL_KCODE | 3, V_GP, SEL_KCODE}, /* RPL */
        {SEL_KABSENT, V_NP, SEL_KABSENT},
        {SEL_CALLGATE, V_GP, SEL_CALLGATE}, /* documented limit */
        {SEL_BOTH, V_GP, SEL_BOTH},
        {GDT_LIMIT + 1, V_GP, (GDT_LIMIT + 1) & 0xfffc},
    };

    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct soft_cpu *cpu = *state;
        uint64_t sp = cpu->gpr[R_SP];

        cpu->gpr[R_BX] = AT_DATA;
        flat_set(cpu, AT_DATA, 4, 0x400);
        flat_set(cpu, AT_DATA + 4, 2, rows[i].selector);
        assert_int_equal(EXEC(cpu, "\xff\x2b"), rows[i].vector); /* jmp far [rbx] */
        if (rows[i].vector >= 0)
            assert_int_equal(cpu->exc_code, rows[i].code);
        else
            assert_int_equal(cpu->rip, 0x400);
        assert_int_equal(EXEC(cpu, "\xff\x1b"), rows[i].vector); /* call far [rbx] */
        if (rows[i].vector < 0) {
            assert_int_equal(cpu->gpr[R_SP], sp - 8);
            assert_int_equal(flat_get(cpu, sp - 8, 4), RIP_BEFORE + 2);
            assert_int_equal(cpu->seg[SEG_CS].selector, rows[i].selector);
        } else {
            assert_int_equal(cpu->gpr[R_SP], sp);
        }
        fresh(state);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_mov_sreg, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fs_gs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_read_sreg, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tables, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lldt_ltr, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lar_lsl_verr_verw, setup, teardown),
        cmocka_unit_test_setup_teardown(test_iret, setup, teardown),
        cmocka_unit_test_setup_teardown(test_iret_rights, setup, teardown),
        cmocka_unit_test_setup_teardown(test_iret_drops_segments, setup, teardown),
        cmocka_unit_test_setup_teardown(test_retf, setup, teardown),
        cmocka_unit_test_setup_teardown(test_far_jumps, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

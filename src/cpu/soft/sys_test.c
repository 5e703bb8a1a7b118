/* SPDX-License-Identifier: Apache-2.0 */
/* System instructions other than segments and MSRs: flags, control registers, SYSCALL family,
 * ports. */
#include <string.h>

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

static void set_iopl(struct soft_cpu *cpu, unsigned iopl)
{
    cpu->sys_flags = (cpu->sys_flags & ~(uint64_t)FL_IOPL) | iopl << 12;
}

/* POPF of all ones and of zero, at each CPL and IOPL that matters: which bits changed? */
static void test_popf(void **state)
{
    struct soft_cpu *cpu = *state;
    static const struct {
        unsigned cpl, iopl;
        bool word;
        uint64_t changes;
    } rows[] = {
        {0, 0, false, FL_ARITH | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_AC | FL_ID},
        {0, 0, true, FL_ARITH | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT},
        {3, 0, false, FL_ARITH | FL_TF | FL_DF | FL_NT | FL_AC | FL_ID},
        {3, 3, false, FL_ARITH | FL_TF | FL_IF | FL_DF | FL_NT | FL_AC | FL_ID},
        {3, 2, true, FL_ARITH | FL_TF | FL_DF | FL_NT},
        {3, 3, true, FL_ARITH | FL_TF | FL_IF | FL_DF | FL_NT},
    };

    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (unsigned ones = 0; ones < 2; ones++) {
            uint64_t before, image = ones ? ~0ull : 0, keep = (uint64_t)rows[i].iopl << 12;

            if (rows[i].cpl == 3)
                double_enter_user(cpu);
            else
                cpu->gpr[R_SP] = AT_KSTACK - 0x100;
            before = ones ? keep | 2 : keep | (0x3f7fd7 & ~(uint64_t)(FL_IOPL | FL_RF | FL_VM));
            soft_set_rflags(cpu, before);
            flat_set(cpu, cpu->gpr[R_SP], 8, image);
            if (rows[i].word)
                assert_runs(cpu, "\x66\x9d");
            else
                assert_runs(cpu, "\x9d");
            assert_int_equal(soft_get_rflags(cpu),
                             (before & ~rows[i].changes) | (image & rows[i].changes));
        }
        teardown(state);
        setup(state);
        cpu = *state;
    }
}

static void test_pushf(void **state)
{
    struct soft_cpu *cpu = *state;
    uint64_t sp = cpu->gpr[R_SP];

    soft_set_rflags(cpu, 0x3f7fd7);
    flat_set(cpu, sp - 16, 8, 0xeeeeeeeeeeeeeeee);
    assert_runs(cpu, "\x9c");
    assert_int_equal(cpu->gpr[R_SP], sp - 8);
    assert_int_equal(flat_get(cpu, sp - 8, 8), 0x3c7fd7); /* without RF and VM */
    assert_runs(cpu, "\x66\x9c");
    assert_int_equal(flat_get(cpu, sp - 16, 8), 0x7fd7eeeeeeeeeeee);
}

static void test_popf_step_and_interrupts(void **state)
{
    struct soft_cpu *cpu = *state;

    cpu->sys_flags = 0;
    assert_int_equal(soft_lapic_write(cpu, 0x0f, 0x1ff), 0);
    soft_lapic_post(cpu, 0x55, false);
    atomic_store(&cpu->pending, 0); /* the run loop looked while IF was 0 */
    flat_set(cpu, cpu->gpr[R_SP], 8, FL_TF | FL_IF | 2);
    assert_runs(cpu, "\x9d");
    assert_true(cpu->mode & MODE_STEP);
    assert_true(atomic_load(&cpu->pending) & PEND_IRQ);
}

static void test_cli_sti(void **state)
{
    struct soft_cpu *cpu = *state;

    assert_runs(cpu, "\xfa");
    assert_int_equal(cpu->sys_flags & FL_IF, 0);
    assert_runs(cpu, "\xfb");
    assert_int_equal(cpu->sys_flags & FL_IF, FL_IF);
    assert_true(cpu->int_shadow);
    cpu->int_shadow = false;
    assert_runs(cpu, "\xfb"); /* IF was 1: no shadow */
    assert_false(cpu->int_shadow);

    double_enter_user(cpu);
    assert_fault(cpu, "\xfa", V_GP, 0);
    assert_fault(cpu, "\xfb", V_GP, 0);
    set_iopl(cpu, 3);
    assert_runs(cpu, "\xfa");
    assert_int_equal(cpu->sys_flags & FL_IF, 0);
}

/* Every privileged instruction, from CPL 3. */
static void test_privileged(void **state)
{
    struct soft_cpu *cpu = *state;
    static const struct {
        const char *bytes;
        uint8_t len;
    } rows[] = {
        {"\xf4", 1},         /* hlt */
        {"\x0f\x01\xf8", 3}, /* swapgs */
        {"\x0f\x06", 2},     /* clts */
        {"\x0f\x08", 2},     /* invd */
        {"\x0f\x09", 2},     /* wbinvd */
        {"\x0f\x32", 2},     /* rdmsr */
        {"\x0f\x30", 2},     /* wrmsr */
        {"\x0f\x20\xc0", 3}, /* mov rax, cr0 */
        {"\x0f\x22\xd8", 3}, /* mov cr3, rax */
        {"\x0f\x21\xf8", 3}, /* mov rax, dr7 */
        {"\x0f\x23\xf8", 3}, /* mov dr7, rax */
        {"\x0f\x01\x38", 3}, /* invlpg [rax] */
        {"\x0f\x01\x10", 3}, /* lgdt [rax] */
        {"\x0f\x01\x18", 3}, /* lidt [rax] */
        {"\x0f\x00\xd0", 3}, /* lldt ax */
        {"\x0f\x00\xd8", 3}, /* ltr ax */
        {"\x0f\x01\xf0", 3}, /* lmsw ax */
        {"\x48\x0f\x07", 3}, /* sysretq */
        {"\x0f\x33", 2},     /* rdpmc */
    };

    double_enter_user(cpu);
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(exec(cpu, rows[i].bytes, rows[i].len), V_GP);
        assert_int_equal(cpu->exc_code, 0);
        assert_false(cpu->halted);
    }
}

static void test_cr0(void **state)
{
    struct soft_cpu *cpu = *state;
    struct double_state *d = double_of(cpu);
    unsigned flushes = d->tlb_flushes_global;
    static const uint64_t bad[] = {
        0x180050033ull, /* high half */
        0x00050033,     /* PG off in long mode */
        0x80050032,     /* PG without PE */
        0xa0050033,     /* NW without CD */
    };

    cpu->gpr[R_AX] = 0x80050033 ^ CR0_WP;
    assert_runs(cpu, "\x0f\x22\xc0");
    assert_int_equal(cpu->cr0, 0x80040033);
    assert_int_equal(d->tlb_flushes_global, flushes + 1);
    cpu->gpr[R_AX] = 0x8004002b; /* TS on; ET cannot be cleared */
    assert_runs(cpu, "\x0f\x22\xc0");
    assert_int_equal(cpu->cr0, 0x8004003b);
    assert_runs(cpu, "\x0f\x06"); /* clts */
    assert_int_equal(cpu->cr0, 0x80040033);
    for (unsigned i = 0; i < 4; i++) {
        cpu->gpr[R_AX] = bad[i];
        assert_fault(cpu, "\x0f\x22\xc0", V_GP, 0);
        assert_int_equal(cpu->cr0, 0x80040033);
    }
    cpu->gpr[R_BX] = 0xfff8; /* lmsw bx: only TS of MP EM TS; PE stays */
    assert_runs(cpu, "\x0f\x01\xf3");
    assert_int_equal(cpu->cr0, 0x80040039);
    cpu->gpr[R_CX] = ~0ull;
    assert_runs(cpu, "\x0f\x01\xe1"); /* smsw ecx */
    assert_int_equal(cpu->gpr[R_CX], 0x80040039);
}

static void test_cr3_cr4_cr8(void **state)
{
    struct soft_cpu *cpu = *state;
    struct double_state *d = double_of(cpu);
    unsigned all = d->tlb_flushes_global, any = d->tlb_flushes;

    cpu->gpr[R_DX] = 0x12345018;
    assert_runs(cpu, "\x0f\x22\xda"); /* mov cr3, rdx */
    assert_int_equal(cpu->cr3, 0x12345018);
    assert_int_equal(d->tlb_flushes, any + 1);
    assert_int_equal(d->tlb_flushes_global, all);
    cpu->gpr[R_DX] = 1ull << MODEL_PHYS_BITS;
    assert_fault(cpu, "\x0f\x22\xda", V_GP, 0);

    cpu->gpr[R_CX] = cpu->cr4 ^ CR4_PGE;
    assert_runs(cpu, "\x0f\x22\xe1");
    assert_int_equal(d->tlb_flushes_global, all + 1);
    for (unsigned bit = 0; bit < 64; bit++) {
        uint64_t allowed = 0x1107bc, before = cpu->cr4;

        cpu->gpr[R_CX] = before ^ 1ull << bit;
        if ((allowed >> bit & 1) && bit != 5) {
            assert_runs(cpu, "\x0f\x22\xe1");
            assert_int_equal(cpu->cr4, before ^ 1ull << bit);
        } else { /* reserved, or PAE */
            assert_fault(cpu, "\x0f\x22\xe1", V_GP, 0);
            assert_int_equal(cpu->cr4, before);
        }
    }

    cpu->gpr[R_AX] = 9;
    assert_runs(cpu, "\x44\x0f\x22\xc0"); /* mov cr8, rax */
    cpu->gpr[R_AX] = 0;
    assert_runs(cpu, "\x44\x0f\x20\xc0");
    assert_int_equal(cpu->gpr[R_AX], 9);
    cpu->gpr[R_AX] = 16;
    assert_fault(cpu, "\x44\x0f\x22\xc0", V_GP, 0);
    cpu->cr2 = 0xabcdef;
    assert_runs(cpu, "\x0f\x20\xd0");
    assert_int_equal(cpu->gpr[R_AX], 0xabcdef);
}

static void test_debug_registers(void **state)
{
    struct soft_cpu *cpu = *state;

    cpu->gpr[R_AX] = 0xffffffff;
    assert_runs(cpu, "\x0f\x23\xf0"); /* mov dr6, rax */
    assert_int_equal(cpu->dr6, 0xffffefff);
    assert_runs(cpu, "\x0f\x23\xf8"); /* mov dr7, rax: GD is on now */
    assert_int_equal(cpu->dr7, 0xffff27ff);
    assert_int_equal(EXEC(cpu, "\x0f\x21\xf8"), V_DB);
    assert_int_equal(cpu->dr7 & 0x2000, 0);
    assert_int_equal(cpu->dr6 & 0x2000, 0x2000);
    cpu->gpr[R_AX] = 1ull << 32;
    assert_fault(cpu, "\x0f\x23\xf8", V_GP, 0);
    cpu->gpr[R_AX] = 0x123456789;
    assert_runs(cpu, "\x0f\x23\xd8"); /* mov dr3, rax */
    assert_int_equal(cpu->dr[3], 0x123456789);
    assert_runs(cpu, "\x0f\x21\xe3"); /* mov rbx, dr4: an alias of dr6 */
    assert_int_equal(cpu->gpr[R_BX], cpu->dr6);
    cpu->cr4 |= CR4_DE;
    assert_int_equal(EXEC(cpu, "\x0f\x21\xe3"), V_UD);
}

static void test_invlpg(void **state)
{
    struct soft_cpu *cpu = *state;

    cpu->gpr[R_AX] = 0x7000;
    assert_runs(cpu, "\x0f\x01\x78\x10"); /* invlpg [rax+16] */
    assert_int_equal(double_of(cpu)->invlpg_va, 0x7010);
}

static void test_syscall_sysret(void **state)
{
    struct soft_cpu *cpu = *state;

    cpu->star = (uint64_t)((SEL_UCODE32 | 3) << 16 | SEL_KCODE) << 32;
    cpu->lstar = 0xffffffff81800000;
    cpu->fmask = 0x257fd5;
    double_enter_user(cpu);
    soft_set_rflags(cpu, FL_IF | FL_DF | FL_TF | 0xd5 | 2);
    soft_update_mode(cpu);
    assert_runs(cpu, "\x0f\x05");
    assert_int_equal(cpu->rip, 0xffffffff81800000);
    assert_int_equal(cpu->cpl, 0);
    assert_int_equal(cpu->gpr[R_CX], RIP_BEFORE + 2);
    assert_int_equal(cpu->gpr[R_11], FL_IF | FL_DF | FL_TF | 0xd7);
    assert_int_equal(soft_get_rflags(cpu), 2);
    assert_int_equal(cpu->mode, 0); /* TF is off as well */
    assert_int_equal(cpu->seg[SEG_CS].selector, SEL_KCODE);
    assert_int_equal(cpu->seg[SEG_SS].selector, SEL_KDATA);

    assert_runs(cpu, "\x48\x0f\x07"); /* sysretq */
    assert_int_equal(cpu->rip, RIP_BEFORE + 2);
    assert_int_equal(cpu->cpl, 3);
    assert_int_equal(cpu->seg[SEG_CS].selector, SEL_UCODE | 3);
    assert_int_equal(cpu->seg[SEG_SS].selector, SEL_UDATA | 3);
    assert_int_equal(cpu->seg[SEG_CS].attr, 0xa0fb);
    assert_int_equal(cpu->seg[SEG_SS].attr, 0xc0f3);
    assert_int_equal(soft_get_rflags(cpu), FL_IF | FL_DF | FL_TF | 0xd7);
    assert_int_equal(cpu->mode, MODE_USER | MODE_STEP);
}

static void test_sysret_corners(void **state)
{
    struct soft_cpu *cpu = *state;

    cpu->star = (uint64_t)((SEL_UCODE32 | 3) << 16 | SEL_KCODE) << 32;
    cpu->gpr[R_CX] = 0x0000800000000000; /* non-canonical */
    cpu->amd = false;
    assert_fault(cpu, "\x48\x0f\x07", V_GP, 0);
    assert_int_equal(cpu->cpl, 0);
    cpu->amd = true;
    assert_runs(cpu, "\x48\x0f\x07"); /* AMD faults at the target */
    assert_int_equal(cpu->cpl, 3);
    assert_int_equal(cpu->rip, 0x0000800000000000);

    teardown(state);
    setup(state);
    cpu = *state;
    cpu->star = (uint64_t)((SEL_UCODE32 | 3) << 16 | SEL_KCODE) << 32;
    cpu->gpr[R_CX] = 0x1122334455667788;
    cpu->gpr[R_11] = 2;
    assert_runs(cpu, "\x0f\x07"); /* sysretl: to compatibility mode */
    assert_int_equal(cpu->rip, 0x55667788);
    assert_int_equal(cpu->seg[SEG_CS].selector, SEL_UCODE32 | 3);
    assert_int_equal(cpu->mode, MODE_USER | MODE_LEGACY);
    cpu->efer &= ~(uint64_t)EFER_SCE;
    assert_int_equal(EXEC(cpu, "\x0f\x05"), V_UD);
}

static void test_sysenter(void **state)
{
    struct soft_cpu *cpu = *state;

    cpu->amd = true;
    assert_int_equal(EXEC(cpu, "\x0f\x34"), V_UD);
    assert_int_equal(EXEC(cpu, "\x0f\x35"), V_UD);
    cpu->amd = false;
    cpu->sysenter_cs = 0;
    assert_fault(cpu, "\x0f\x34", V_GP, 0);
    cpu->sysenter_cs = SEL_KCODE;
    cpu->sysenter_esp = 0x8000;
    cpu->sysenter_eip = 0xffffffff81900000;
    double_enter_user(cpu);
    assert_runs(cpu, "\x0f\x34");
    assert_int_equal(cpu->rip, 0xffffffff81900000);
    assert_int_equal(cpu->gpr[R_SP], 0x8000);
    assert_int_equal(cpu->cpl, 0);
    assert_int_equal(cpu->sys_flags & FL_IF, 0);
    cpu->gpr[R_DX] = 0x401000;
    cpu->gpr[R_CX] = AT_USTACK;
    assert_runs(cpu, "\x48\x0f\x35");
    assert_int_equal(cpu->cpl, 3);
    assert_int_equal(cpu->seg[SEG_CS].selector, (SEL_KCODE + 32) | 3);
    assert_int_equal(cpu->rip, 0x401000);
}

static void test_swapgs_and_bases(void **state)
{
    struct soft_cpu *cpu = *state;

    cpu->seg_base[SEG_GS] = 0x1000;
    cpu->kernel_gs_base = 0x2000;
    assert_runs(cpu, "\x0f\x01\xf8");
    assert_int_equal(cpu->seg_base[SEG_GS], 0x2000);
    assert_int_equal(cpu->kernel_gs_base, 0x1000);

    cpu->gpr[R_AX] = 0xffff800012345678;
    assert_runs(cpu, "\xf3\x48\x0f\xae\xd0"); /* wrfsbase rax */
    assert_runs(cpu, "\xf3\x0f\xae\xc1");     /* rdfsbase ecx */
    assert_int_equal(cpu->gpr[R_CX], 0x12345678);
    assert_runs(cpu, "\xf3\x0f\xae\xd8"); /* wrgsbase eax */
    assert_int_equal(cpu->seg_base[SEG_GS], 0x12345678);
    cpu->gpr[R_AX] = 0x0000800000000000;
    assert_fault(cpu, "\xf3\x48\x0f\xae\xd8", V_GP, 0);
    cpu->cr4 &= ~(uint64_t)CR4_FSGSBASE;
    assert_int_equal(EXEC(cpu, "\xf3\x48\x0f\xae\xd0"), V_UD);
}

static void test_time_and_random(void **state)
{
    struct soft_cpu *cpu = *state;
    uint64_t first;

    cpu->gpr[R_AX] = cpu->gpr[R_DX] = ~0ull;
    assert_runs(cpu, "\x0f\x31");
    first = cpu->gpr[R_DX] << 32 | cpu->gpr[R_AX];
    assert_true(cpu->gpr[R_AX] >> 32 == 0 && first < 1ull << 40); /* starts near 0 */
    cpu->tsc_aux = 0x77;
    assert_runs(cpu, "\x0f\x01\xf9"); /* rdtscp */
    assert_true((cpu->gpr[R_DX] << 32 | cpu->gpr[R_AX]) > first);
    assert_int_equal(cpu->gpr[R_CX], 0x77);
    cpu->cr4 |= CR4_TSD;
    assert_runs(cpu, "\x0f\x31");
    double_enter_user(cpu);
    assert_fault(cpu, "\x0f\x31", V_GP, 0);

    cpu->flags = FLAGS_KEEP1 | FLAGS_ZF | 1;
    for (int i = 0; i < 10 && cpu->flags != (FLAGS_KEEP1 | FLAGS_CF); i++)
        assert_runs(cpu, "\x48\x0f\xc7\xf3"); /* rdrand rbx */
    assert_int_equal(cpu->flags, FLAGS_KEEP1 | FLAGS_CF);
    cpu->gpr[R_SI] = ~0ull;
    assert_runs(cpu, "\x66\x0f\xc7\xf6"); /* rdrand si: the rest stays */
    assert_int_equal(cpu->gpr[R_SI] >> 16, 0xffffffffffff);
}

static void test_hlt_vmcall(void **state)
{
    struct soft_cpu *cpu = *state;

    assert_runs(cpu, "\xf4");
    assert_true(cpu->halted);
    assert_int_equal(EXEC(cpu, "\x0f\x01\xc1"), V_UD);
    assert_int_equal(EXEC(cpu, "\x0f\x01\xd9"), V_UD);
}

static void test_in_out(void **state)
{
    struct soft_cpu *cpu = *state;
    struct double_state *d = double_of(cpu);

    cpu->gpr[R_AX] = 0xaaaaaaaaaaaaaaaa;
    assert_runs(cpu, "\xe4\x60"); /* in al, 0x60 */
    assert_int_equal(cpu->gpr[R_AX], 0xaaaaaaaaaaaaaa44);
    cpu->gpr[R_DX] = 0xfff0cf8;
    assert_runs(cpu, "\x66\xed"); /* in ax, dx */
    assert_int_equal(cpu->gpr[R_AX], 0xaaaaaaaaaaaa3345);
    assert_runs(cpu, "\xed"); /* in eax, dx */
    assert_int_equal(cpu->gpr[R_AX], 0x11223346);
    cpu->gpr[R_AX] = 0xaabbccdd;
    assert_runs(cpu, "\xe6\x80"); /* out 0x80, al */
    assert_runs(cpu, "\xef");     /* out dx, eax */
    assert_int_equal(d->n_ports, 5);
    assert_int_equal(d->port[1].port, 0x0cf8);
    assert_int_equal(d->port[1].size, 2);
    assert_int_equal(d->port[3].value, 0xdd);
    assert_int_equal(d->port[4].value, 0xaabbccdd);
    assert_true(d->port[4].write);
}

static void test_port_permission(void **state)
{
    struct soft_cpu *cpu = *state;

    double_enter_user(cpu);
    /* bitmap at TSS + 104: port 0x3f8-0x3f9 allowed, everything else not */
    memset(double_of(cpu)->flat + AT_TSS + 104, 0xff, 0x2000);
    flat_set(cpu, AT_TSS + 104 + 0x3f8 / 8, 1, 0xfc);
    cpu->gpr[R_DX] = 0x3f8;
    assert_runs(cpu, "\xec");
    assert_runs(cpu, "\x66\xed");       /* two ports: both allowed */
    assert_fault(cpu, "\xed", V_GP, 0); /* four: not */
    cpu->gpr[R_DX] = 0x3f7;
    assert_fault(cpu, "\x66\xed", V_GP, 0);         /* straddles into the allowed ones */
    flat_set(cpu, AT_TSS + 104 + 0xffff / 8, 1, 0); /* the last port is allowed ... */
    cpu->gpr[R_DX] = 0xffff;
    cpu->seg[SEG_TR].limit = 104 + 0x2000;
    assert_runs(cpu, "\xec"); /* ... and the byte after its own is inside the limit */
    cpu->seg[SEG_TR].limit--;
    assert_fault(cpu, "\xec", V_GP, 0);
    set_iopl(cpu, 3);
    assert_runs(cpu, "\xed");
}

static void test_string_io(void **state)
{
    struct soft_cpu *cpu = *state;
    struct double_state *d = double_of(cpu);

    flat_set(cpu, AT_DATA, 8, 0x0807060504030201);
    cpu->gpr[R_SI] = AT_DATA;
    cpu->gpr[R_CX] = 3;
    cpu->gpr[R_DX] = 0x1f0;
    assert_runs(cpu, "\xf3\x66\x6f"); /* rep outsw */
    assert_int_equal(d->n_ports, 3);
    assert_int_equal(d->port[2].value, 0x0605);
    assert_int_equal(cpu->gpr[R_SI], AT_DATA + 6);
    assert_int_equal(cpu->gpr[R_CX], 0);
    assert_int_equal(cpu->rip, RIP_BEFORE + 3);

    cpu->sys_flags |= FL_DF;
    cpu->gpr[R_DI] = AT_DATA + 0x100;
    assert_runs(cpu, "\x6d"); /* insd, backwards */
    assert_int_equal(flat_get(cpu, AT_DATA + 0x100, 4), 0x11223344);
    assert_int_equal(cpu->gpr[R_DI], AT_DATA + 0xfc);
    cpu->gpr[R_CX] = 0;
    assert_runs(cpu, "\xf3\x6d");
    assert_int_equal(d->n_ports, 4);
}

/* A REP comes back to itself after a bounded number of items, and is exact about a fault. */
static void test_string_io_resumes(void **state)
{
    struct soft_cpu *cpu = *state;
    struct double_state *d = double_of(cpu);
    unsigned goes = 0;

    cpu->gpr[R_DI] = AT_DATA;
    cpu->gpr[R_CX] = 100;
    do {
        assert_runs(cpu, "\xf3\x6c"); /* rep insb */
        goes++;
    } while (cpu->rip == RIP_BEFORE);
    assert_int_equal(goes, 2);
    assert_int_equal(d->n_ports, 100);
    assert_int_equal(cpu->gpr[R_CX], 0);

    d->n_ports = 0;
    d->read_only[(AT_DATA >> 12) + 1] = true;
    cpu->gpr[R_DI] = AT_DATA + 0xffc;
    cpu->gpr[R_CX] = 10;
    assert_int_equal(EXEC(cpu, "\xf3\x6c"), V_PF);
    assert_int_equal(cpu->cr2, AT_DATA + 0x1000);
    assert_int_equal(cpu->gpr[R_CX], 6);
    assert_int_equal(cpu->gpr[R_DI], AT_DATA + 0x1000);
    assert_int_equal(d->n_ports, 4); /* the device was not read for the fifth */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_popf, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pushf, setup, teardown),
        cmocka_unit_test_setup_teardown(test_popf_step_and_interrupts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cli_sti, setup, teardown),
        cmocka_unit_test_setup_teardown(test_privileged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cr0, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cr3_cr4_cr8, setup, teardown),
        cmocka_unit_test_setup_teardown(test_debug_registers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_invlpg, setup, teardown),
        cmocka_unit_test_setup_teardown(test_syscall_sysret, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sysret_corners, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sysenter, setup, teardown),
        cmocka_unit_test_setup_teardown(test_swapgs_and_bases, setup, teardown),
        cmocka_unit_test_setup_teardown(test_time_and_random, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hlt_vmcall, setup, teardown),
        cmocka_unit_test_setup_teardown(test_in_out, setup, teardown),
        cmocka_unit_test_setup_teardown(test_port_permission, setup, teardown),
        cmocka_unit_test_setup_teardown(test_string_io, setup, teardown),
        cmocka_unit_test_setup_teardown(test_string_io_resumes, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

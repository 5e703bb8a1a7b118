/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way from the start-up interrupt to 64-bit mode, and code of 16 and 32 bits on it: the whole
 * engine runs guests that are assembled here. A guest reports by port 0x80 and ends by port 0x84.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/soft/soft.h"

#define GUEST_RAM (16u << 20)
#define VECTOR 8u /* of the start-up interrupt: code at 0x8000 */
#define CODE (VECTOR << 12)

struct guest {
    struct mem *mem;
    struct bus mmio, pio;
    struct engine *engine;
    uint64_t out[64];
    unsigned n_out;
};

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
    return 0;
}

static void port_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct guest *g = opaque;
    if (offset == 0 && g->n_out < 64) {
        g->out[g->n_out++] = value;
    } else if (offset == 4) {
        engine_soft.kick(g->engine, 0);
    }
}

static void put64(struct guest *g, gpa_t at, uint64_t v)
{
    assert_int_equal(mem_write(g->mem, at, &v, 8), 0);
}

/* A vCPU that waits for its start-up interrupt; page tables at 0x1000 map 1 GiB at 0. */
static void guest_init(struct guest *g, const char *from, const char *to)
{
    static const struct bus_ops ports = {port_read, port_write};
    struct sm_error err = {0};
    *g = (struct guest){0};
    assert_int_equal(mem_new(GUEST_RAM, &g->mem, NULL), 0);
    assert_int_equal(bus_add(&g->pio, 0x80, 16, &ports, g, NULL), 0);
    struct engine_config c = {g->mem, &g->mmio, &g->pio, 1, NULL};
    if (engine_soft.create(&c, &g->engine, &err)) {
        fail_msg("%s", err.text);
    }
    put64(g, 0x1000, 0x2000 | 7);
    put64(g, 0x2000, 0x83 | 4);
    assert_int_equal(mem_write(g->mem, CODE, from, (uint64_t)(to - from)), 0);
    soft_sys_init(g->engine->cpus[0]);
    soft_sys_start(g->engine->cpus[0], VECTOR);
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

static void expect(struct guest *g, const uint64_t *values, unsigned n)
{
    assert_int_equal(guest_run(g), VCPU_EXIT_KICKED);
    for (unsigned i = 0; i < n && i < g->n_out; i++) {
        if (g->out[i] != values[i]) {
            fail_msg("report %u: %#llx, not %#llx", i, (unsigned long long)g->out[i],
                     (unsigned long long)values[i]);
        }
    }
    assert_int_equal(g->n_out, n);
}
#define EXPECT(g, ...)                                                                             \
    expect(g, (const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__}) / 8)

/* Code is linked at 0 and runs at CODE: addresses are written as name - from + CODE. */
#define GUEST(name, text)                                                                          \
    extern const char name##_from[], name##_to[];                                                  \
    __asm__(".pushsection .rodata\n.balign 256\n .code16\n" #name "_from:\n F = " #name            \
            "_from\n" text "\n" #name "_to:\n .code64\n.popsection\n")
#define REPORT(reg) "mov " reg ", %eax\n out %eax, $0x80\n"
#define STOP "out %al, $0x84\n jmp .\n"

/* As Linux's trampoline goes, arch/x86/realmode/rm/trampoline_64.S. */
GUEST(start, "cli\n mov %cs, %ax\n mov %ax, %ds\n mov %ax, %es\n mov %ax, %ss\n"
             "mov $0xf00, %sp\n"
             "movzwl %ax, %eax\n out %eax, $0x80\n"
             "lidtl 20f - F\n lgdtl 21f - F\n"
             "mov $1, %ax\n lmsw %ax\n"
             "ljmpl $8, $1f - F + 0x8000\n"
             ".balign 8\n 20: .word 0\n .long 0\n"
             "21: .word 39\n .long 22f - F + 0x8000\n"
             ".balign 8\n 22: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff\n"
             ".quad 0x00af9b000000ffff, 0x00009b008000ffff\n"
             ".code32\n 1: mov $16, %eax\n mov %eax, %ds\n mov %eax, %es\n mov %eax, %ss\n"
             "mov $0x7000, %esp\n call 2f\n jmp 3f\n"
             "2: mov $0x1234, %eax\n out %eax, $0x80\n ret\n"
             "3: mov $0xa0, %eax\n mov %eax, %cr4\n mov $0x1000, %eax\n mov %eax, %cr3\n"
             "mov $0xc0000080, %ecx\n rdmsr\n or $0x101, %eax\n wrmsr\n"
             "mov %cr0, %eax\n or $0x80010001, %eax\n mov %eax, %cr0\n"
             "rdmsr\n out %eax, $0x80\n"
             "ljmpl $24, $4f - F + 0x8000\n"
             ".code64\n 4: movabs $0x123456789abc, %rax\n shr $32, %rax\n out %eax, $0x80\n"
             "mov %cs, %eax\n out %eax, $0x80\n" STOP);
static void test_start(void **state)
{
    struct guest g;
    guest_init(&g, start_from, start_to);
    EXPECT(&g, 0x800, 0x1234, 0x501, 0x1234, 24);
    guest_fini(&g);
}

/* Real mode: INT n and #UD through the table at 0, the frame, and IRET; a VEX prefix is #UD (ANDN,
 * which 16-bit protected mode has where the model does). */
#define ANDN ".byte 0xc4, 0xe2, 0x70, 0xf2, 0xc2\n" /* andn %edx, %ecx, %eax */
GUEST(real, "cli\n xor %ax, %ax\n mov %ax, %ds\n mov %ax, %ss\n mov $0xf00, %sp\n"
            "movw $6f - F, 0x18\n movw $0x800, 0x1a\n"
            "movw $7f - F, 0x80\n movw $0x800, 0x82\n"
            "stc\n int $0x20\n 1: setc %al\n movzbl %al, %eax\n out %eax, $0x80\n"
            "mov %sp, %ax\n movzwl %ax, %eax\n out %eax, $0x80\n 5: " ANDN STOP
            /* #UD: where, and the stack; go on behind it */
            "6: pop %ax\n sub $5b - F, %ax\n movzwl %ax, %eax\n out %eax, $0x80\n"
            "mov %sp, %ax\n movzwl %ax, %eax\n out %eax, $0x80\n" STOP
            /* INT 20h: the frame's CS and the carry flag in the image of FLAGS */
            "7: mov %sp, %bp\n mov 2(%bp), %ax\n movzwl %ax, %eax\n out %eax, $0x80\n"
            "mov 4(%bp), %ax\n and $0x201, %ax\n movzwl %ax, %eax\n out %eax, $0x80\n"
            "clc\n iretw\n");
static void test_real_mode_interrupts(void **state)
{
    struct guest g;
    guest_init(&g, real_from, real_to);
    EXPECT(&g, 0x800, 1, 1, 0xf00, 0, 0xefc); /* at last CS and FLAGS are still there */
    guest_fini(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_start),
        cmocka_unit_test(test_real_mode_interrupts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

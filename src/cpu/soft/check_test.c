/* SPDX-License-Identifier: Apache-2.0 */
/*
 * That --check finds faults. Each test runs a small guest, plants a fault in what the engine made
 * of its code (an operation, translated code, a link), and expects the run to end at that block;
 * and that it sees none where there is none (soft_test and smp_test run under it as well).
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "cpu/soft/check.h"
#include "cpu/soft/guest_double.h"
#include "cpu/soft/ops.h"
#include "cpu/soft/xlat.h"

/* A function at GUEST_CODE + 0x100, called before and after the test's turn. */
#define FUNCTION(text) ".balign 256\n" text "ret\n"
#define TWICE "mov $0x10100, %ebx\n call *%rbx\n" STOP_ONCE "call *%rbx\n" REPORT("%edx") STOP
#define STOP_ONCE "out %al, $0x84\n"

GUEST(adds, TWICE FUNCTION("add $5, %edx\n mov %edx, 0x20000\n"));

/* Up to the test's turn. hot: runs until a block is translated, 0: never. */
static void init_hot(struct guest *g, unsigned hot, const char *from, const char *to)
{
    const struct engine_debug debug = {.check = true};
    guest_init_debug(g, 1, &debug, from, to);
    g->engine->cpus[0]->cache->xlat->hot = hot;
    assert_int_equal(guest_run(g), VCPU_EXIT_KICKED);
}

static void init(struct guest *g, enum engine_translate what, const char *from, const char *to)
{
    init_hot(g, what == ENGINE_TRANSLATE_ALL, from, to);
}

static struct block *block_at(struct guest *g, uint64_t rip)
{
    struct block_cache *c = g->engine->cpus[0]->cache;
    for (struct block *b = c->pages[rip >> 12]; b; b = b->page_next[0]) {
        if (b->rip == rip && !b->dead && !(b->mode & MODE_STEP)) {
            return b;
        }
    }
    fail_msg("no block at %#llx", (unsigned long long)rip);
    return NULL;
}

/* The run ends with an error that has these words, and a report that has those. */
static void expect_found(struct guest *g, const char *words, const char *report)
{
    enum vcpu_exit exit;
    struct sm_error err = {0};
    assert_int_equal(engine_soft.run(g->engine, 0, &exit, &err), SM_EENGINE);
    assert_int_equal(exit, VCPU_EXIT_FAILED);
    if (!strstr(err.text, words) || !strstr(err.text, "0x10100") || !strstr(g->debug, report)) {
        fail_msg("%s\n%s", err.text, g->debug);
    }
    guest_fini(g);
}

static void test_no_fault(void **state)
{
    struct guest g;
    init(&g, ENGINE_TRANSLATE_NONE, adds_from, adds_to);
    assert_int_equal(guest_run(&g), VCPU_EXIT_KICKED);
    assert_int_equal(g.out[0], 0x830f10 + 10);
    assert_true(g.engine->cpus[0]->check->counts.compared >= 5);
    guest_fini(&g);
    assert_non_null(strstr(g.debug, "blocks compared"));
}

static void test_wrong_operation(void **state)
{
    struct guest g;
    init(&g, ENGINE_TRANSLATE_NONE, adds_from, adds_to);
    block_at(&g, 0x10100)->ops[0].imm = 6;
    expect_found(&g, "general register 2: 0x830f1b in the block, 0x830f1a in the replay",
                 "0x10100: 83 c2 05  add\n");
}

static void test_wrong_store(void **state)
{
    struct guest g;
    init(&g, ENGINE_TRANSLATE_NONE, adds_from, adds_to);
    block_at(&g, 0x10100)->ops[1].disp += 4;
    expect_found(&g, "memory at GPA 0x20000", "and its replay differ");
}

/* Nothing but flags. */
GUEST(flags, TWICE FUNCTION("cmp $0, %ecx\n lea 1(%rdx), %edx\n"));
static void test_wrong_flags(void **state)
{
    struct guest g;
    init(&g, ENGINE_TRANSLATE_NONE, flags_from, flags_to);
    block_at(&g, 0x10100)->ops[0].imm = 1;
    expect_found(&g, "arithmetic flags", "interpreted");
}

GUEST(links, TWICE FUNCTION("jmp 5f\n nop\n 5: inc %edx\n"));
static void test_wrong_link(void **state)
{
    struct guest g;
    init(&g, ENGINE_TRANSLATE_NONE, links_from, links_to);
    struct block *b = block_at(&g, 0x10100), *to = block_at(&g, 0x10103);
    assert_int_equal(b->ops[0].disp, (uintptr_t)to);
    b->ops[0].disp = (uintptr_t)b;
    expect_found(&g, "block that a link leads to", "0x10103");
}

/* What the translator reads is its own copy of the block's bytes. */
GUEST(often, "mov $0x10100, %ebx\n call *%rbx\n" STOP_ONCE
             "mov $100, %ebp\n 3: call *%rbx\n dec %ebp\n jnz 3b\n" REPORT("%edx")
                 STOP FUNCTION("add $5, %edx\n mov %edx, 0x20000\n"));
static void test_wrong_translation(void **state)
{
    struct guest g;
    init(&g, ENGINE_TRANSLATE_ALL, often_from, often_to);
    assert_int_equal(guest_run(&g), VCPU_EXIT_KICKED);
    assert_int_equal(g.out[0], 0x830f10 + 505);
    guest_fini(&g);

    init_hot(&g, 40, often_from, often_to);
    struct block *b = block_at(&g, 0x10100);
    assert_ptr_equal(b->body, g.engine->cpus[0]->cache->xlat->interpret);
    ((uint8_t *)(uintptr_t)b->bytes)[2] = 6;
    expect_found(&g, "general register 2", "translated");
}

/* One instruction that writes more than a replay has room for: tried once, not at each item. */
GUEST(fill, "mov $0x200000, %edi\n mov $0x200000, %ecx\n mov $7, %eax\n rep stosb\n"
            "mov 0x3ffff8, %rax\n out %eax, $0x80\n" STOP);
static void test_too_much(void **state)
{
    struct guest g;
    init(&g, ENGINE_TRANSLATE_NONE, fill_from, fill_to);
    assert_int_equal(g.out[0], 0x07070707);
    assert_true(g.engine->cpus[0]->check->counts.large < 10);
    guest_fini(&g);
}

/* Two vCPUs under check, that change the same memory. */
GUEST(both, "mov $3000, %ecx\n 2: lock incl 0x20000\n dec %ecx\n jnz 2b\n" STOP_ME);
static void test_two_vcpus(void **state)
{
    struct guest g;
    const struct engine_debug debug = {.check = true};
    guest_init_debug(&g, 2, &debug, both_from, both_to);
    guest_run_all(&g);
    assert_int_equal(guest_get64(&g, 0x20000), 6000);
    guest_fini(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_fault),    cmocka_unit_test(test_wrong_operation),
        cmocka_unit_test(test_wrong_store), cmocka_unit_test(test_wrong_flags),
        cmocka_unit_test(test_wrong_link),  cmocka_unit_test(test_wrong_translation),
        cmocka_unit_test(test_too_much),    cmocka_unit_test(test_two_vcpus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

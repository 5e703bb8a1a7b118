/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several vCPUs, each on its own host thread: memory order, locked operations wherever their
 * operand lies, code that one vCPU (or a device) changes under another, messages between local
 * APICs. Guests share the page at X; rounds are counted in R13, so nothing needs to be cleared in
 * between.
 */
#include <stdatomic.h>
#include <unistd.h>

#include "cpu/soft/guest_double.h"

#define X 0x30000u /* shared variables, a cache line each */
#define Y 0x30040u
#define DONE 0x30140u
#define BAD 0x30180u
#define RESULTS 0x200000u /* of vCPU 0; the others' follow at 1 MiB each */
#define ROUNDS 20000u

static uint32_t get32(struct guest *g, gpa_t at)
{
    return (uint32_t)guest_get64(g, at);
}

static uint32_t result(struct guest *g, unsigned vcpu, uint64_t index)
{
    return get32(g, RESULTS + vcpu * 0x100000u + 4 * index);
}

/* ---- memory order ---- */

/* All n vCPUs meet; R12 begins as n. */
#define BARRIER(n)                                                                                 \
    "lock incl 0x30080\n 9: pause\n mov 0x30080, %eax\n cmp %r12d, %eax\n jb 9b\n"                 \
    "add $" #n ", %r12d\n"
#define SETUP(n)                                                                                   \
    "mov $0x30000, %ebx\n mov $0x30040, %ebp\n mov $" #n ", %r12d\n mov $1, %r13d\n"               \
    "mov %edi, %r14d\n shl $20, %r14d\n add $0x200000, %r14d\n"
#define AGAIN "inc %r13d\n cmp $20001, %r13d\n jne 3b\n"

/* RBX: what this vCPU writes, RBP: what the other one writes; EDX: what was read. */
#define PAIR(body)                                                                                 \
    SETUP(2)                                                                                       \
    "test %edi, %edi\n jz 3f\n xchg %rbx, %rbp\n 3:\n" BARRIER(2) body                             \
        "mov %edx, (%r14)\n add $4, %r14\n" AGAIN STOP_ME
GUEST(sb_fence, PAIR("mov %r13d, (%rbx)\n mfence\n mov (%rbp), %edx\n"));
GUEST(sb_xchg, PAIR("mov %r13d, %edx\n xchg %edx, (%rbx)\n mov (%rbp), %edx\n"));
GUEST(load_buffering, PAIR("mov (%rbp), %edx\n mov %r13d, (%rbx)\n"));

static void pair_test(const char *from, const char *to, bool both_new_is_bad)
{
    struct guest g;
    guest_init_smp(&g, 2, from, to);
    guest_run_all(&g);
    for (unsigned i = 0; i < ROUNDS; i++) {
        bool new0 = result(&g, 0, i) == i + 1, new1 = result(&g, 1, i) == i + 1;
        assert_false(both_new_is_bad ? new0 && new1 : !new0 && !new1);
    }
    guest_fini(&g);
}

static void test_store_buffering(void **state)
{
    pair_test(sb_fence_from, sb_fence_to, false);
    pair_test(sb_xchg_from, sb_xchg_to, false);
}

static void test_load_buffering(void **state)
{
    pair_test(load_buffering_from, load_buffering_to, true);
}

/* One writes X then Y, the other reads Y then X: never an old X after a new Y. */
GUEST(message, SETUP(2) "test %edi, %edi\n jnz 4f\n" BARRIER(
                   2) "3: mov %r13d, (%rbx)\n mov %r13d, (%rbp)\n" AGAIN STOP_ME
                      "4:\n" BARRIER(2) "5: mov (%rbp), %ecx\n mov (%rbx), %edx\n cmp %ecx, %edx\n"
                                        "jae 6f\n incl 0x30180\n 6: cmp $20000, %ecx\n jb 5b\n"
                                        "incl 0x30140\n" STOP_ME);
static void test_message_passing(void **state)
{
    struct guest g;
    guest_init_smp(&g, 2, message_from, message_to);
    guest_run_all(&g);
    assert_int_equal(get32(&g, BAD), 0);
    assert_int_equal(get32(&g, DONE), 1);
    guest_fini(&g);
}

/* Two write, two read in opposite orders: they agree on which write came first. */
GUEST(iriw, SETUP(4) "test $1, %edi\n jz 2f\n xchg %rbx, %rbp\n 2: cmp $2, %edi\n jae 4f\n"
                     "3:\n" BARRIER(4) "mov %r13d, (%rbx)\n" AGAIN STOP_ME "4: 3:\n" BARRIER(
                         4) "mov (%rbx), %ecx\n mov (%rbp), %edx\n mov %ecx, (%r14)\n"
                            "mov %edx, 4(%r14)\n add $8, %r14\n" AGAIN STOP_ME);
static void test_independent_reads(void **state)
{
    struct guest g;
    guest_init_smp(&g, 4, iriw_from, iriw_to);
    guest_run_all(&g);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        bool x_first = result(&g, 2, 2 * i) == i + 1 && result(&g, 2, 2 * i + 1) <= i;
        bool y_first = result(&g, 3, 2 * i) == i + 1 && result(&g, 3, 2 * i + 1) <= i;
        assert_false(x_first && y_first);
    }
    guest_fini(&g);
}

/* ---- locked operations ---- */

/* Four operations each on 4 bytes at R8 and 8 bytes at R8 + 4096, as many rounds as 0x30108 says.
 */
GUEST(counters, "mov 0x30100, %r8\n mov 0x30108, %r13\n"
                "3: lock incl (%r8)\n lock addl $2, (%r8)\n mov $1, %eax\n lock xadd %eax, (%r8)\n"
                "4: mov 0x1000(%r8), %rax\n 5: lea 1(%rax), %rcx\n"
                "lock cmpxchg %rcx, 0x1000(%r8)\n jne 5b\n"
                "dec %r13\n jnz 3b\n" STOP_ME);
static void count(gpa_t at, unsigned rounds)
{
    struct guest g;
    guest_init_smp(&g, 4, counters_from, counters_to);
    guest_put64(&g, 0x30100, at);
    guest_put64(&g, 0x30108, rounds);
    guest_run_all(&g);
    assert_int_equal(get32(&g, at), 4 * 4 * rounds);
    assert_int_equal(guest_get64(&g, at + 4096), 4 * rounds);
    guest_fini(&g);
}

static void test_locked(void **state)
{
    count(0x31000, 20000);          /* aligned */
    count(0x3103e, 2000);           /* across cache lines */
    count(0x30ffe, 500);            /* across pages */
    count(GUEST_CODE + 0xf00, 500); /* in a page with code */
    count(GUEST_CODE + 0xffe, 500); /* half in a page with code */
}

/* ---- code that changes ---- */

/* vCPU 0 writes functions into 64 pages in turn, again and again; three others call them. */
#define PAGE_OF_ROUND "mov %r13d, %ebx\n and $63, %ebx\n shl $12, %ebx\n add $0x400000, %ebx\n"
GUEST(publish, "mov $1, %r13d\n test %edi, %edi\n jnz 5f\n xor %r12d, %r12d\n 3:\n" PAGE_OF_ROUND
               "movb $0xb8, (%rbx)\n mov %r13d, 1(%rbx)\n movb $0xc3, 5(%rbx)\n"
               "mov %r13d, 0x30000\n add $3, %r12d\n 4: pause\n cmp %r12d, 0x30040\n jne 4b\n"
               "inc %r13d\n cmp $2001, %r13d\n jne 3b\n" STOP_ME
               "5: pause\n cmp %r13d, 0x30000\n jne 5b\n" PAGE_OF_ROUND
               "call *%rbx\n cmp %eax, %r13d\n je 6f\n lock incl 0x30180\n"
               "6: lock incl 0x30040\n inc %r13d\n cmp $2001, %r13d\n jne 5b\n" STOP_ME);
static void test_published_code(void **state)
{
    struct guest g;
    guest_init_smp(&g, 4, publish_from, publish_to);
    guest_run_all(&g);
    assert_int_equal(get32(&g, BAD), 0);
    assert_int_equal(get32(&g, Y), 3 * 2000);
    guest_fini(&g);
}

/* vCPU 0 patches a function, through another address, that two others call all the time: they never
 * see it go back, and see the last value. */
#define CALLER                                                                                     \
    "5: xor %r13d, %r13d\n mov $0x20000, %ebx\n 6: call *%rbx\n cmp %r13d, %eax\n jae 7f\n"        \
    "lock incl 0x30180\n 7: mov %eax, %r13d\n cmp $5000, %eax\n jb 6b\n lock incl "                \
    "0x30140\n" STOP_ME
GUEST(patch, "test %edi, %edi\n jnz 5f\n mov $1, %r13d\n 3: mov %r13d, 0x50004\n"
             "mov $20, %ecx\n 4: dec %ecx\n jnz 4b\n"
             "inc %r13d\n cmp $5001, %r13d\n jne 3b\n" STOP_ME CALLER);
GUEST(calls, CALLER);

/* Three NOPs, MOV $imm, %eax with imm aligned at 0x20004, RET. */
static void put_function(struct guest *g)
{
    guest_put64(g, 0x20000, 0xb8909090);
    guest_put64(g, 0x20008, 0xc3);
    guest_put64(g, GUEST_PT + 8 * 0x50, 0x20007); /* the other address */
}

static void test_patched_code(void **state)
{
    struct guest g;
    guest_init_smp(&g, 3, patch_from, patch_to);
    put_function(&g);
    guest_run_all(&g);
    assert_int_equal(get32(&g, BAD), 0);
    assert_int_equal(get32(&g, DONE), 2);
    guest_fini(&g);
}

static void *patch_by_device(void *opaque)
{
    struct guest *g = opaque;
    for (uint32_t i = 1; i <= 5000; i++) {
        _Atomic uint32_t *p = mem_ptr_write(g->mem, 0x20004, 4);
        atomic_store(p, i);
        mem_wrote(g->mem, 0x20004, 4);
    }
    return NULL;
}

static void test_code_from_device(void **state)
{
    struct guest g;
    pthread_t device;
    guest_init_smp(&g, 2, calls_from, calls_to);
    put_function(&g);
    assert_int_equal(pthread_create(&device, NULL, patch_by_device, &g), 0);
    guest_run_all(&g);
    pthread_join(device, NULL);
    assert_int_equal(get32(&g, BAD), 0);
    assert_int_equal(get32(&g, DONE), 2);
    guest_fini(&g);
}

/* ---- messages ---- */

#define APIC_ON "mov $0x80f, %ecx\n mov $0x1ff, %eax\n xor %edx, %edx\n wrmsr\n"
#define SEND(low, dest) "mov $0x830, %ecx\n mov $" low ", %eax\n mov " dest ", %edx\n wrmsr\n"
/* At GUEST_CODE + 0x100: counts in the vCPU's line of X. */
#define HANDLER(eoi)                                                                               \
    ".balign 256\n push %rax\n push %rcx\n push %rdx\n mov %edi, %eax\n shl $6, %eax\n"            \
    "incl 0x30000(%rax)\n" eoi "pop %rdx\n pop %rcx\n pop %rax\n iretq\n"
#define EOI "mov $0x80b, %ecx\n xor %eax, %eax\n xor %edx, %edx\n wrmsr\n"
/* Sleep until this vCPU's count reaches R13. */
#define AWAIT "6: cli\n cmp %r13d, 0x30000(%rbp)\n jae 7f\n sti\n hlt\n jmp 6b\n 7: sti\n"

/* Two vCPUs wake each other out of HLT in turn. R15: the other one. */
GUEST(ping, APIC_ON "mov $2, %r12d\n" BARRIER(
                2) "mov %edi, %ebp\n shl $6, %ebp\n mov %edi, %r15d\n xor $1, %r15d\n"
                   "mov $1, %r13d\n test %edi, %edi\n jnz 4f\n"
                   "3: " SEND("0x41", "%r15d") AWAIT
      "inc %r13d\n cmp $3001, %r13d\n jne 3b\n" STOP_ME
      "4: " AWAIT SEND("0x41",
                       "%r15d") "inc %r13d\n cmp $3001, %r13d\n jne 4b\n" STOP_ME HANDLER(EOI));
static void test_ping_pong(void **state)
{
    struct guest g;
    guest_init_smp(&g, 2, ping_from, ping_to);
    guest_gate(&g, 0x41, GUEST_CODE + 0x100);
    guest_run_all(&g);
    assert_int_equal(get32(&g, X), 3000);
    assert_int_equal(get32(&g, Y), 3000);
    guest_fini(&g);
}

/* vCPU 0 sends NMIs to all the others until each has had some, out of HLT with interrupts off. */
GUEST(nmi, APIC_ON
      "mov %edi, %ebp\n shl $6, %ebp\n test %edi, %edi\n jnz 4f\n"
      "3: " SEND("0xc0400",
                 "$0") "mov $1000, %ecx\n 2: pause\n dec %ecx\n jnz 2b\n"
                       "cmpl $3, 0x30140\n jb 3b\n" STOP_ME
                       "4: hlt\n cmpl $20, 0x30000(%rbp)\n jb 4b\n lock incl 0x30140\n" STOP_ME
                           HANDLER(""));
static void test_nmi(void **state)
{
    struct guest g;
    guest_init_smp(&g, 4, nmi_from, nmi_to);
    guest_gate(&g, 2, GUEST_CODE + 0x100);
    guest_run_all(&g);
    assert_int_equal(get32(&g, X), 0);
    for (unsigned i = 1; i < 4; i++) {
        assert_in_range(get32(&g, X + 64 * i), 20, 1u << 20);
    }
    guest_fini(&g);
}

/* INIT stops a vCPU that counts; both are told to leave when the count stands still. */
GUEST(init, APIC_ON "test %edi, %edi\n jnz 4f\n 2: pause\n cmpl $1000, 0x30000\n jb 2b\n" SEND(
                "0x4500",
                "$1") "3: mov 0x30000, %ebx\n mov $100000, %ecx\n 2: pause\n dec %ecx\n jnz 2b\n"
                      "cmp %ebx, 0x30000\n jne 3b\n mov $1, %eax\n out %al, $0x8c\n" STOP_ME
                      "4: incl 0x30000\n jmp 4b\n");
static void test_init(void **state)
{
    struct guest g;
    struct cpu_state s;
    guest_init_smp(&g, 2, init_from, init_to);
    guest_run_all(&g);
    assert_int_equal(engine_soft.get_state(g.engine, 0, &s, NULL), 0);
    assert_int_equal(s.mp, CPU_RUNNING);
    assert_int_equal(engine_soft.get_state(g.engine, 1, &s, NULL), 0);
    assert_int_equal(s.mp, CPU_WAIT_SIPI);
    assert_int_equal(s.cr0, 0x60000010);
    assert_int_equal(s.efer, 0);
    guest_fini(&g);
}

/* INIT and two SIPIs, as the multiprocessor specification has it: the vCPU starts in real mode. The
 * second SIPI, and one to a running vCPU, count for nothing. */
GUEST(sipi, APIC_ON
      "test %edi, %edi\n jnz 4f\n" SEND("0x4660", "$1") SEND("0x4500", "$1") SEND("0x4660", "$1")
          SEND("0x4661", "$1") "2: pause\n cmpl $0x1234, 0x30040\n jne 2b\n mov $1, %eax\n"
                               "out %al, $0x8c\n" STOP_ME "4: pause\n jmp 4b\n");
static void test_sipi(void **state)
{
    /* mov $0x3000, %ax; mov %ax, %ds; movw $0x1234, 0x40; hlt; jmp to the hlt */
    static const uint8_t start[] = {0xb8, 0x00, 0x30, 0x8e, 0xd8, 0xc7, 0x06,
                                    0x40, 0x00, 0x34, 0x12, 0xf4, 0xeb, 0xfd};
    struct guest g;
    struct cpu_state s;
    guest_init_smp(&g, 2, sipi_from, sipi_to);
    assert_int_equal(mem_write(g.mem, 0x60000, start, sizeof start), 0);
    guest_run_all(&g);
    assert_int_equal(engine_soft.get_state(g.engine, 1, &s, NULL), 0);
    assert_int_equal(s.seg[SEG_CS].selector, 0x6000);
    assert_int_equal(s.seg[SEG_CS].base, 0x60000);
    assert_int_not_equal(s.mp, CPU_WAIT_SIPI);
    guest_fini(&g);
}

static void *kick_all(void *opaque)
{
    struct guest *g = opaque;
    usleep(20000);
    for (unsigned i = 0; i < g->n_vcpus; i++) {
        engine_soft.kick(g->engine, i);
    }
    return NULL;
}

/* Kicked while two stop the world all the time, one sleeps and one spins. */
GUEST(busy, "cmp $2, %edi\n jb 3f\n je 2f\n 1: hlt\n jmp 1b\n 2: jmp 2b\n"
            "3: lock incl 0x30ffe\n jmp 3b\n");
static void test_kick(void **state)
{
    struct guest g;
    pthread_t t;
    guest_init_smp(&g, 4, busy_from, busy_to);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(pthread_create(&t, NULL, kick_all, &g), 0);
        guest_run_all(&g);
        pthread_join(t, NULL);
    }
    guest_fini(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_store_buffering),
        cmocka_unit_test(test_load_buffering),
        cmocka_unit_test(test_message_passing),
        cmocka_unit_test(test_independent_reads),
        cmocka_unit_test(test_locked),
        cmocka_unit_test(test_published_code),
        cmocka_unit_test(test_patched_code),
        cmocka_unit_test(test_code_from_device),
        cmocka_unit_test(test_ping_pong),
        cmocka_unit_test(test_nmi),
        cmocka_unit_test(test_init),
        cmocka_unit_test(test_sipi),
        cmocka_unit_test(test_kick),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* EFLAGS.AC: which accesses of a program that asks for it may be misaligned? (16 bytes and more
 * are left out: there processors differ.) */
#include <setjmp.h>
#include <sys/mman.h>

#include "observe.h"

static sigjmp_buf back;
static volatile int got, code;

#define SET_AC "pushfq; orl $0x40000, (%%rsp); popfq\n"
#define CLEAR_AC "pushfq; andl $~0x40000, (%%rsp); popfq\n"

static void caught(int n, siginfo_t *info, void *context)
{
    __asm__ volatile(CLEAR_AC ::: "memory", "cc");
    got = n;
    code = info->si_code;
    siglongjmp(back, 1);
}

/* The red zone is below RSP. */
#define TRY(text, at)                                                                              \
    do {                                                                                           \
        got = code = 0;                                                                            \
        if (sigsetjmp(back, 1) == 0)                                                               \
            __asm__ volatile("sub $256, %%rsp\n" SET_AC text "\n" CLEAR_AC                         \
                             "add $256, %%rsp" ::"D"(at)                                           \
                             : "memory", "cc", "rax", "rcx", "rdx", "rbx", "rsi", "xmm0", "st");   \
        __asm__ volatile(CLEAR_AC ::: "memory", "cc");                                             \
        printf("%s: signal %d code %d\n", text, got, code);                                        \
    } while (0)

int main(void)
{
    static uint8_t stack[65536] __attribute__((aligned(16)));
    stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
    uint8_t *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(p != MAP_FAILED && mprotect(p + 4096, 4096, PROT_NONE) == 0);
    MUST(sigaltstack(&other, NULL) == 0);
    on_signal(SIGBUS, caught, SA_ONSTACK);
    on_signal(SIGSEGV, caught, SA_ONSTACK);
    for (unsigned round = 0; round < 2; round++) {
        TRY("movl 4(%%rdi), %%eax", p);
        TRY("movl 2(%%rdi), %%eax", p);
        TRY("movl %%eax, 1(%%rdi)", p);
        TRY("movw 1(%%rdi), %%ax", p);
        TRY("movq 4(%%rdi), %%rax", p);
        TRY("movb 1(%%rdi), %%al", p);
        TRY("addl $1, 2(%%rdi)", p);
        TRY("lock incl 1(%%rdi)", p);
        TRY("xchgq %%rax, 4(%%rdi)", p);
        TRY("btl $3, 1(%%rdi)", p);
        TRY("movq 4(%%rdi), %%xmm0", p);
        TRY("movss 1(%%rdi), %%xmm0", p);
        TRY("fldl 4(%%rdi); fstp %%st(0)", p);
        TRY("fldl 8(%%rdi); fstp %%st(0)", p);
        TRY("fnstcw 1(%%rdi)", p);
        TRY("lea 1(%%rdi), %%rsi; add $99, %%rdi; mov $16, %%ecx; rep movsb", p);
        TRY("lea 1(%%rdi), %%rsi; add $64, %%rdi; movsq", p);
        TRY("sub $4, %%rsp; push %%rax; pop %%rax; add $4, %%rsp", p);
        TRY("movl 4096(%%rdi), %%eax", p);
    }
    return 0;
}

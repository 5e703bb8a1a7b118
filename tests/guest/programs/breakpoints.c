/* SPDX-License-Identifier: Apache-2.0 */
/* The processor's breakpoints as debuggers use them, by ptrace: where the tracee stops, and why.
 * Repeated instructions only in steps: else processors tell of their data now and then. */
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/user.h>

#include "observe.h"

extern uint8_t traced[], traced_in[], watched[];
__asm__(".text\n"
        ".globl traced, traced_in\n"
        "traced:\n"
        "  mov %ebx, %ecx; xor %eax, %eax; lea watched(%rip), %rdi\n"
        "1: add %rcx, %rax\n"
        "traced_in: add $1, %rax\n"
        "  loop 1b\n"
        "  movl $1, 16(%rdi); movl $2, (%rdi); mov 4(%rdi), %edx\n"
        "  movb $3, 7(%rdi); movups 8(%rdi), %xmm0; movups %xmm0, -8(%rdi)\n"
        "  lock xaddq %rdx, (%rdi); cmpl $0, 4(%rdi); jne 2f\n"
        "2: cmp $100, %ebx; je 3f\n"
        "  mov $64, %ecx; lea 64(%rdi), %rsi; push %rdi; sub $32, %rdi; rep movsb; pop %rdi\n"
        "  mov $8, %ecx; push %rdi; rep stosq; pop %rdi\n"
        "3: push (%rdi); pop 4(%rdi)\n"
        "  mov %ss, (%rdi); mov (%rdi), %ss; nop; nop\n"
        "  ret\n"
        ".data\n"
        ".balign 4096\n"
        ".skip 256\n"
        ".globl watched\n"
        "watched: .skip 256\n"
        ".balign 4096\n"
        ".text\n");

static int tracee(unsigned rounds)
{
    MUST(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
    raise(SIGSTOP);
    __asm__ volatile("call traced" ::"b"(rounds)
                     : "rax", "rcx", "rdx", "rsi", "rdi", "xmm0", "memory");
    return 0;
}

static int wait_stop(pid_t pid)
{
    int status;
    MUST(waitpid(pid, &status, 0) == pid);
    return WIFSTOPPED(status) ? WSTOPSIG(status) : 0;
}

static long set(pid_t pid, unsigned reg, uint64_t value)
{
    return ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg) + reg * 8, value);
}

static uint64_t get(pid_t pid, unsigned reg)
{
    return (uint64_t)ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, u_debugreg) + reg * 8, 0);
}

struct point {
    const void *at;
    unsigned kind, len; /* as DR7 has them */
};

/* All stops of one run, runs of equal ones as one. */
static void run(const char *name, const struct point *points, unsigned n, bool steps)
{
    uint64_t dr7 = 0, last = 0, last_why = 0;
    unsigned times = 0;
    fflush(stdout);
    pid_t pid = fork();
    MUST(pid >= 0);
    if (pid == 0)
        _exit(tracee(steps ? 3 : 100));
    MUST(wait_stop(pid) == SIGSTOP);
    for (unsigned i = 0; i < n; i++) {
        MUST(set(pid, i, (uint64_t)(uintptr_t)points[i].at) == 0);
        dr7 |= 1ull << (2 * i) | (uint64_t)(points[i].kind | points[i].len << 2) << (16 + 4 * i);
    }
    MUST(set(pid, 7, dr7) == 0);
    printf("%s:", name);
    bool step = false;
    for (;;) {
        MUST(ptrace(step ? PTRACE_SINGLESTEP : PTRACE_CONT, pid, 0, 0) == 0);
        if (wait_stop(pid) != SIGTRAP)
            break;
        uint64_t at = (uint64_t)ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, regs.rip), 0);
        uint64_t why = get(pid, 6) & 0x600f;
        at -= (uintptr_t)traced;
        if (times && (at != last || why != last_why)) {
            printf(" %ld/%#lx*%u", (long)last, (long)last_why, times);
            times = 0;
        }
        last = at;
        last_why = why;
        times++;
        step = steps && at < 200;
        MUST(set(pid, 6, 0) == 0);
    }
    if (times)
        printf(" %ld/%#lx*%u", (long)last, (long)last_why, times);
    putchar('\n');
}

int main(void)
{
    const struct point code = {traced_in, 0, 0}, write4 = {watched, 1, 3}, data4 = {watched, 3, 3},
                       write1 = {watched + 7, 1, 0}, data8 = {watched, 3, 2},
                       data2 = {watched + 18, 3, 1};
    run("none", NULL, 0, false);
    run("instruction", &code, 1, false);
    run("write 4", &write4, 1, false);
    run("data 4", &data4, 1, false);
    run("write 1", &write1, 1, false);
    run("data 8", &data8, 1, false);
    run("data 2", &data2, 1, false);
    run("four", (const struct point[]){write1, code, data2, write4}, 4, false);
    run("instruction, in steps", &code, 1, true);
    run("four, in steps", (const struct point[]){write1, code, data2, write4}, 4, true);
    printf("a kernel address: %ld\n", set(getpid(), 0, 0xffff888000000000) == 0 ? 0l : (long)errno);
    return 0;
}

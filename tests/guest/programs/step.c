/* SPDX-License-Identifier: Apache-2.0 */
/* Single steps: by the trap flag in one's own handler, and by ptrace; breakpoints and system calls.
 */
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>

#include "observe.h"

#define STEPS_MAX 200

extern uint8_t code_begin[], code_end[], traced_begin[], traced_break[];
__asm__(".text\n"
        ".globl code_begin, code_end, traced_begin, traced_break\n"
        "code_begin:\n"
        "  pushfq; orl $0x100, (%rsp); popfq\n"
        "  nop\n"
        "  mov $3, %ecx\n"
        "  lea buffer(%rip), %rdi; lea buffer+64(%rip), %rsi\n"
        "  rep movsb\n"
        "  mov $39, %eax\n"
        "  syscall\n"
        "  mov %ss, %eax; mov %eax, %ss\n" /* a trap waits for the next instruction */
        "  nop\n"
        "  xor %eax, %eax; cpuid\n"
        "  call 1f\n"
        "  jmp 2f\n"
        "1: ret\n"
        "2: pushfq; pop %rax\n"
        "  pushfq; andl $~0x100, (%rsp); popfq\n"
        "  nop\n"
        "code_end: ret\n"
        "traced_begin:\n"
        "  mov $5, %ecx; xor %eax, %eax\n"
        "3: add %rcx, %rax; loop 3b\n"
        "traced_break: nop\n"
        "  add %rbx, %rax\n"
        "  ret\n"
        ".bss\n"
        ".lcomm buffer, 128\n"
        ".text\n");

static unsigned steps;
static long offsets[STEPS_MAX];

static void record(int n, siginfo_t *info, void *context)
{
    const ucontext_t *uc = context;
    if (steps < STEPS_MAX)
        offsets[steps++] = (long)uc->uc_mcontext.gregs[REG_RIP] - (long)(uintptr_t)code_begin;
    if (info->si_code != TRAP_TRACE)
        printf("trap code %d\n", info->si_code);
}

static void by_flag(void)
{
    on_signal(SIGTRAP, record, 0);
    __asm__ volatile("call code_begin" ::
                         : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r11", "memory");
    printf("by the trap flag:");
    for (unsigned i = 0; i < steps; i++)
        printf(" %ld", offsets[i]);
    putchar('\n');
}

static int tracee(void *arg)
{
    uint64_t result;
    MUST(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
    raise(SIGSTOP);
    __asm__ volatile("mov $1000, %%ebx; call traced_begin" : "=a"(result)::"rbx", "rcx", "memory");
    printf("tracee: result %llu, getppid %s\n", (unsigned long long)result,
           syscall(SYS_getppid) == 4242 ? "as the tracer says" : "its own");
    return (int)(result & 0x7f);
}

static struct user_regs_struct registers(pid_t pid)
{
    struct user_regs_struct r;
    MUST(ptrace(PTRACE_GETREGS, pid, 0, &r) == 0);
    return r;
}

static int wait_stop(pid_t pid)
{
    int status;
    MUST(waitpid(pid, &status, 0) == pid);
    return WIFSTOPPED(status) ? WSTOPSIG(status) : -status;
}

/* Up to the breakpoint, over it by single steps, with registers and FP state changed. */
static void debug(pid_t pid)
{
    uint64_t at = (uintptr_t)traced_break;
    long word = ptrace(PTRACE_PEEKTEXT, pid, at, 0);
    MUST(ptrace(PTRACE_POKETEXT, pid, at, (word & ~0xffl) | 0xcc) == 0);
    MUST(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
    printf("stopped by %d", wait_stop(pid));
    struct user_regs_struct r = registers(pid);
    printf(" at %lld, rax %lld\n", (long long)(r.rip - at), (long long)r.rax);
    MUST(ptrace(PTRACE_POKETEXT, pid, at, word) == 0);
    r.rip = at;
    r.rbx += 7;
    MUST(ptrace(PTRACE_SETREGS, pid, 0, &r) == 0);
    for (int i = 0; i < 3; i++) {
        MUST(ptrace(PTRACE_SINGLESTEP, pid, 0, 0) == 0);
        int stop = wait_stop(pid);
        r = registers(pid);
        printf("step %d: signal %d at %s%lld, rax %lld, flags %#llx\n", i, stop,
               r.rip - at < 64 ? "+" : "the caller ", r.rip - at < 64 ? (long long)(r.rip - at) : 0,
               (long long)r.rax, (unsigned long long)r.eflags & 0x9d5);
    }
    struct user_fpregs_struct fp;
    MUST(ptrace(PTRACE_GETFPREGS, pid, 0, &fp) == 0);
    fp.xmm_space[0] ^= 0xff;
    MUST(ptrace(PTRACE_SETFPREGS, pid, 0, &fp) == 0);
    MUST(ptrace(PTRACE_GETFPREGS, pid, 0, &fp) == 0);
    printf("control %#x mxcsr %#x\n", fp.cwd, fp.mxcsr);
}

/* The rest by system calls; getppid lies. */
static void trace_calls(pid_t pid)
{
    bool entry = true;
    unsigned calls = 0, lies = 0;
    for (;;) {
        MUST(ptrace(PTRACE_SYSCALL, pid, 0, 0) == 0);
        int stop = wait_stop(pid);
        if (stop <= 0) {
            printf("exit status %d; %u lies\n", -stop >> 8, lies);
            return;
        }
        struct user_regs_struct r = registers(pid);
        if (!entry && r.orig_rax == SYS_getppid) {
            r.rax = 4242;
            lies++;
            MUST(ptrace(PTRACE_SETREGS, pid, 0, &r) == 0);
        }
        entry = !entry;
        calls++;
    }
}

static void by_ptrace(void)
{
    fflush(stdout);
    pid_t pid = fork();
    MUST(pid >= 0);
    if (pid == 0) {
        int code = tracee(NULL);
        fflush(stdout);
        _exit(code);
    }
    printf("first stop: %d\n", wait_stop(pid));
    fflush(stdout);
    debug(pid);
    fflush(stdout);
    trace_calls(pid);
}

int main(void)
{
    by_flag();
    by_ptrace();
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Every way into the kernel and back: int 0x80, the vDSO's entry, signals on top, single steps. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static long int80(long nr, long a, long b, long c)
{
    long r;
    __asm__ volatile("int $0x80" : "=a"(r) : "a"(nr), "b"(a), "c"(b), "d"(c) : "memory");
    return r;
}

/* The kernel's entry for this processor: SYSENTER, SYSCALL or INT 0x80. */
static long vdso_call(long nr, long a, long b, long c)
{
    long r, entry = (long)getauxval(AT_SYSINFO);
    __asm__ volatile("call *%1" : "=a"(r) : "S"(entry), "0"(nr), "b"(a), "c"(b), "d"(c) : "memory");
    return r;
}

/* All six arguments, EBP among them. */
static void six(void)
{
    int fd = open("/proc/self/exe", O_RDONLY);
    void *p = (void *)syscall(SYS_mmap2, 0, 4096, 1, 2, fd, 0);
    printf("mmap2 %d\n", p != (void *)-1 && memcmp(p, "\177ELF", 4) == 0);
    close(fd);
}

static volatile int signals;
static uint32_t ecx_seen;

static void on_usr1(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    signals++;
    ecx_seen = (uint32_t)uc->uc_mcontext.gregs[REG_ECX];
    uc->uc_mcontext.gregs[REG_EDX] = 0x12345678;
}

static void change_registers(void)
{
    struct sigaction sa = {.sa_sigaction = on_usr1, .sa_flags = SA_SIGINFO};
    uint32_t edx;
    sigaction(SIGUSR1, &sa, NULL);
    __asm__ volatile("int $0x80"
                     : "=d"(edx)
                     : "a"(SYS_kill), "b"(getpid()), "c"(SIGUSR1), "d"(0)
                     : "memory");
    printf("signal %d, ecx %u, edx %x\n", signals, ecx_seen, edx);
    sa.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    static char stack[16384];
    stack_t alt = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&alt, NULL);
    sigaction(SIGUSR1, &sa, NULL);
    raise(SIGUSR1);
    printf("signal %d on another stack\n", signals);
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    printf("signal %d code %d trap %d error %x address %p\n", sig, info->si_code,
           (int)uc->uc_mcontext.gregs[REG_TRAPNO], (unsigned)uc->uc_mcontext.gregs[REG_ERR],
           sig == SIGSEGV ? info->si_addr : NULL);
    uc->uc_mcontext.gregs[REG_EIP] += 2;
}

/* Each faulting instruction is two bytes long. */
static void faults(void)
{
    struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    static const int sigs[] = {SIGSEGV, SIGILL, SIGFPE, SIGBUS, SIGTRAP};
    for (unsigned i = 0; i < sizeof sigs / sizeof *sigs; i++) {
        sigaction(sigs[i], &sa, NULL);
    }
    __asm__ volatile("movb (%0), %%al" : : "r"(0x10) : "eax");
    __asm__ volatile("movb %%al, (%0)" : : "r"(0xfffff000) : "eax");
    __asm__ volatile("ud2");
    __asm__ volatile("div %0" : : "r"(0), "a"(1), "d"(0));
    __asm__ volatile("hlt; nop");
    __asm__ volatile("int $0x81");
    __asm__ volatile("mov %%ax, %%ss" : : "a"(0)); /* a null SS is for 64-bit code only */
    __asm__ volatile("in %%dx, %%eax; nop" : : "d"(0x80) : "eax");
}

static volatile int traps;

static void on_step(int sig)
{
    traps++;
}

static void single_step(void)
{
    signal(SIGTRAP, on_step);
    __asm__ volatile("pushf; orl $0x100, (%%esp); popf; nop; inc %%eax; push %%eax; pop %%ecx\n\t"
                     "pushf; andl $~0x100, (%%esp); popf"
                     :
                     :
                     : "eax", "ecx", "cc", "memory");
    printf("%d single steps\n", traps);
}

static void traced(void)
{
    int status, steps = 0;
    long peeked;
    static volatile int word = 4711;
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        word++;
        _exit(word & 255);
    }
    waitpid(child, &status, 0);
    peeked = ptrace(PTRACE_PEEKDATA, child, &word, 0);
    for (; steps < 500 && WIFSTOPPED(status); steps++) {
        ptrace(PTRACE_SINGLESTEP, child, 0, 0);
        waitpid(child, &status, 0);
    }
    ptrace(PTRACE_CONT, child, 0, 0);
    if (!WIFEXITED(status)) {
        waitpid(child, &status, 0);
    }
    printf("traced: word %ld, exit %d\n", peeked, WEXITSTATUS(status));
}

int main(void)
{
    struct timespec a, b;
    printf("int 0x80: %d\n", int80(SYS_getpid, 0, 0, 0) == getpid());
    printf("entry: %d %ld\n", vdso_call(SYS_getpid, 0, 0, 0) == getpid(),
           vdso_call(SYS_close, -1, 0, 0));
    printf("no such call: %d\n", int80(9999, 0, 0, 0) == -ENOSYS);
    clock_gettime(CLOCK_MONOTONIC, &a);
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &b);
    printf("clock: %d\n", b.tv_sec >= a.tv_sec && b.tv_sec - a.tv_sec < 10);
    six();
    change_registers();
    faults();
    single_step();
    traced();
    fflush(stdout);
    return int80(SYS_exit, 7, 0, 0);
}

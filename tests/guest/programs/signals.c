/* SPDX-License-Identifier: Apache-2.0 */
/* Faults as signals show them, and going back from a handler with changed registers. */
#include <fcntl.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "observe.h"

static sigjmp_buf landing;
static uint8_t *area;
static volatile int depth, deepest;

static void report(int n, siginfo_t *info, void *context)
{
    const ucontext_t *uc = context;
    const greg_t *r = uc->uc_mcontext.gregs;
    long off = (long)((uint8_t *)info->si_addr - area);
    printf("signal %d code %d trap %lld error %#llx", n, info->si_code, (long long)r[REG_TRAPNO],
           (long long)r[REG_ERR]);
    if (n == SIGSEGV || n == SIGBUS)
        printf(off >= -4096 && off < 65536 ? " area%+ld" : " elsewhere", off);
    putchar('\n');
    siglongjmp(landing, 1);
}

#define TRY(name, ...)                                                                             \
    do {                                                                                           \
        printf("%s: ", name);                                                                      \
        if (sigsetjmp(landing, 1) == 0) {                                                          \
            __VA_ARGS__;                                                                           \
            printf("nothing happened\n");                                                          \
        }                                                                                          \
    } while (0)

static void faults(void)
{
    static const int all[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
    uint64_t zero = 0;
    int fd = memfd_create("x", 0);
    stack_t other = {.ss_sp = malloc(65536), .ss_size = 65536};
    MUST(sigaltstack(&other, NULL) == 0);
    for (unsigned i = 0; i < sizeof all / sizeof all[0]; i++)
        on_signal(all[i], report, SA_ONSTACK);
    area = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(area != MAP_FAILED && fd >= 0);
    MUST(mprotect(area + 4096, 4096, PROT_READ) == 0);
    MUST(mprotect(area + 8192, 4096, PROT_NONE) == 0);
    MUST(munmap(area + 16384, 4096) == 0);
    MUST(mmap(area + 32768, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) !=
         MAP_FAILED);
    TRY("read of nothing", (void)*(volatile uint8_t *)(area + 16384 + 5));
    TRY("write of nothing", *(volatile uint8_t *)(area + 16384 + 5) = 1);
    TRY("write of read-only", *(volatile uint8_t *)(area + 4096 + 7) = 1);
    TRY("read of no access", (void)*(volatile uint8_t *)(area + 8192));
    TRY("write across into read-only", *(volatile uint64_t *)(area + 4096 - 3) = 1);
    TRY("read across into nothing", (void)*(volatile uint64_t *)(area + 16384 - 3));
    TRY("beyond the end of a file", (void)*(volatile uint8_t *)(area + 32768 + 9));
    TRY("execute data", ((void (*)(void))(uintptr_t)area)());
    TRY("execute nothing", ((void (*)(void))(uintptr_t)(area + 16384))());
    TRY("read a kernel address", (void)*(volatile uint8_t *)0xffffffff81000000);
    TRY("read no canonical address", (void)*(volatile uint8_t *)0x8000000000000000);
    TRY("ud2", __asm__ volatile("ud2"));
    TRY("hlt", __asm__ volatile("hlt"));
    TRY("cli", __asm__ volatile("cli"));
    TRY("in", __asm__ volatile("in $0x80, %%al" ::: "rax"));
    TRY("rdmsr", __asm__ volatile("rdmsr" ::"c"(0x10) : "rax", "rdx"));
    TRY("mov to cr0", __asm__ volatile("mov %0, %%cr0" ::"r"(zero)));
    TRY("int3", __asm__ volatile("int3"));
    TRY("int 3 the long way", __asm__ volatile(".byte 0xcd, 3"));
    TRY("int 0x41", __asm__ volatile("int $0x41"));
    TRY("icebp", __asm__ volatile(".byte 0xf1"));
    TRY("divide by zero", __asm__ volatile("div %0" ::"r"(zero) : "rax", "rdx"));
    TRY("divide too much", __asm__ volatile("mov $1, %%edx; mov $0x1000, %%eax; div %%dl" ::
                                                : "rax", "rdx"));
    TRY("bad selector", __asm__ volatile("mov %0, %%ds" ::"r"((uint16_t)0xffff)));
    TRY("stack not canonical",
        __asm__ volatile("mov %%rsp, %%rbx; mov %0, %%rsp; push %%rax; mov %%rbx, %%rsp" ::"r"(
                             0x8000000000000000)
                         : "rbx", "memory"));
    TRY("lock on a register form", __asm__ volatile(".byte 0xf0, 0x01, 0xc0"));
    TRY("sixteen bytes",
        __asm__ volatile(
            ".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,"
            "0x66,0x90"));
    TRY("movaps out of line", __asm__ volatile("movaps (%0), %%xmm0" ::"r"(area + 1) : "xmm0"));
}

static void change_registers(int n, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    greg_t *r = uc->uc_mcontext.gregs;
    r[REG_RIP] += 2; /* past ud2 */
    r[REG_RAX] = 0x1111222233334444;
    r[REG_R15] = r[REG_RBX] + 1;
    r[REG_EFL] |= 0x8d5; /* OF SF ZF AF PF CF */
}

static void changed_registers(void)
{
    uint64_t rax = 1, r15 = 2, flags;
    on_signal(SIGILL, change_registers, 0);
    __asm__ volatile("mov $41, %%ebx; xor %%ecx, %%ecx; ud2; pushfq; pop %2; mov %%r15, %1"
                     : "=a"(rax), "=r"(r15), "=r"(flags)::"rbx", "rcx", "r15", "memory");
    printf("after a changed frame: rax %#llx r15 %llu flags %#llx\n", (unsigned long long)rax,
           (unsigned long long)r15, (unsigned long long)flags & 0x8d5);
}

static void nest(int n, siginfo_t *info, void *context)
{
    char here;
    stack_t now;
    MUST(sigaltstack(NULL, &now) == 0);
    bool inside = &here >= (char *)now.ss_sp && &here < (char *)now.ss_sp + now.ss_size;
    deepest = ++depth > deepest ? depth : deepest;
    printf("handler %d at depth %d %s the other stack\n", n, depth, inside ? "on" : "off");
    if (n == SIGUSR1)
        raise(SIGUSR2);
    if (n == SIGUSR2 && depth < 4)
        raise(SIGUSR2);
    depth--;
}

static void nesting(void)
{
    on_signal(SIGUSR1, nest, SA_ONSTACK);
    on_signal(SIGUSR2, nest, SA_NODEFER | SA_ONSTACK);
    raise(SIGUSR1);
    printf("deepest %d, now %d\n", deepest, depth);
}

static volatile sig_atomic_t alarms;

static void count_alarm(int n, siginfo_t *info, void *context)
{
    alarms++;
}

/* Registers of a loop that a timer interrupts often. */
static void interrupted_loop(void)
{
    timer_t timer;
    struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    struct itimerspec every = {{0, 500000}, {0, 500000}};
    on_signal(SIGALRM, count_alarm, SA_RESTART);
    MUST(timer_create(CLOCK_MONOTONIC, &e, &timer) == 0);
    MUST(timer_settime(timer, 0, &every, NULL) == 0);
    uint64_t wrong = 0;
    uint64_t end = clock_ns(CLOCK_MONOTONIC) + 20000000000u;
    for (unsigned i = 0; alarms < 100 && (i % 1024 || clock_ns(CLOCK_MONOTONIC) < end); i++) {
        uint64_t a = i, b = ~(uint64_t)i, sum;
        __asm__ volatile("mov %1, %%r8; mov %2, %%r9; mov %%r8, %%r10; stc; mov $50, %%ecx\n"
                         "1: jnc 2f; lea 1(%%r8), %%r8; lea -1(%%r9), %%r9; dec %%ecx; jnz 1b\n"
                         "2: lea (%%r8, %%r9), %0"
                         : "=r"(sum)
                         : "r"(a), "r"(b)
                         : "rcx", "r8", "r9", "r10", "cc");
        wrong += sum != UINT64_MAX;
    }
    timer_delete(timer);
    printf("interrupted loop: %llu wrong, interrupted %s\n", (unsigned long long)wrong,
           alarms >= 100 ? "often" : "too seldom");
}

static int restarted(void *arg)
{
    char byte;
    int fds[2];
    struct timespec t = {1, 0};
    MUST(pipe(fds) == 0);
    on_signal(SIGALRM, count_alarm, 0);
    alarm(1);
    int n = (int)read(fds[0], &byte, 1);
    printf("read without SA_RESTART: %d, %s\n", n, n < 0 ? strerror(errno) : "-");
    ualarm(300000, 0);
    n = nanosleep(&t, &t);
    printf("nanosleep: %d, %s, rest %s\n", n, strerror(errno),
           t.tv_sec == 0 && t.tv_nsec > 300000000 ? "as it should be" : "wrong");
    return 0;
}

int main(void)
{
    faults();
    changed_registers();
    nesting();
    interrupted_loop();
    in_child(restarted, NULL);
    return 0;
}

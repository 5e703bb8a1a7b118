/* SPDX-License-Identifier: Apache-2.0 */
/* x87 and SSE state across context switches, fork, signals, and as signal frames show it. */
#include <sched.h>

#include "observe.h"

#define WORKERS 6
#define ROUNDS 300

struct fp_state {
    uint8_t image[512] __attribute__((aligned(16)));
};

/* All of it in, one system call, all of it out: what changed? */
static bool keeps_state(unsigned seed, void (*between)(void))
{
    struct fp_state before, after;
    uint64_t random = seed * 0x9e3779b97f4a7c15u + 1;

    __asm__ volatile("fxsave64 %0" : "=m"(before));
    uint16_t control = (uint16_t)(0x37f & ~(3u << 10)) | (uint16_t)((seed & 3) << 10);
    memcpy(before.image, &control, 2);
    memset(before.image + 2, 0, 2);
    before.image[4] = 0xff; /* all eight registers in use */
    uint32_t mxcsr = 0x1f80 | (seed & 3) << 13;
    memcpy(before.image + 24, &mxcsr, 4);
    memset(before.image + 8, 0, 16); /* instruction and operand pointers differ by processor */
    for (unsigned i = 32; i < 416; i++)
        before.image[i] = (uint8_t)next_random(&random);
    for (unsigned i = 0; i < 8; i++) /* a normal number each; the last six bytes are reserved */
        memset(before.image + 32 + 16 * i + 7, 0x40, 3), memset(before.image + 42 + 16 * i, 0, 6),
            before.image[39 + 16 * i] |= 0x80;
    __asm__ volatile("fxrstor64 %0" ::"m"(before));
    __asm__ volatile("" ::: "memory");
    between();
    __asm__ volatile("fxsave64 %0" : "=m"(after));
    __asm__ volatile("fninit" ::: "memory");
    mxcsr = 0x1f80;
    __asm__ volatile("ldmxcsr %0" ::"m"(mxcsr));
    return memcmp(before.image, after.image, 8) == 0 &&
           memcmp(before.image + 24, after.image + 24, 4) == 0 &&
           memcmp(before.image + 32, after.image + 32, 384) == 0;
}

/* The kernel alone, no C library: that may use the registers. */
static void yield(void)
{
    long n = 24;
    __asm__ volatile("syscall" : "+a"(n)::"rcx", "r11", "memory");
}

static void nap(void)
{
    static const struct timespec t = {.tv_nsec = 200000};
    long n = 35;
    __asm__ volatile("syscall" : "+a"(n) : "D"(&t), "S"(0) : "rcx", "r11", "memory");
}

static void spin(void)
{
    for (unsigned i = 0; i < 300000; i++)
        __asm__ volatile("");
}

static void *work(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg, bad = 0;
    for (unsigned i = 0; i < ROUNDS; i++)
        bad += !keeps_state(seed + i * 7, i % 50 == 0 ? spin : i % 3 ? yield : nap);
    return (void *)(uintptr_t)bad;
}

static int work_in_process(void *arg)
{
    return (int)(uintptr_t)work(arg);
}

static void switches(void)
{
    pthread_t threads[WORKERS];
    start_threads(threads, WORKERS, work);
    uintptr_t bad = sum_threads(threads, WORKERS);
    printf("threads: %u of %u rounds lost state\n", (unsigned)bad, WORKERS * ROUNDS);
    bad = 0;
    for (uintptr_t i = 0; i < 3; i++)
        bad += (uintptr_t)in_child(work_in_process, (void *)(i + 100));
    printf("processes: %u of %u rounds lost state\n", (unsigned)bad, 3 * ROUNDS);
}

static void clobber(int n, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    const struct _libc_fpstate *fp = uc->uc_mcontext.fpregs;
    uint16_t control;
    __asm__ volatile("fnstcw %0" : "=m"(control));
    printf("in the handler: control %#x, frame's control %#x\n", control, fp->cwd);
    __asm__ volatile("fninit; pxor %%xmm0, %%xmm0; pxor %%xmm15, %%xmm15" ::: "xmm0", "xmm15");
}

static void raise_it(void)
{
    long pid = getpid(), n = 62;
    __asm__ volatile("syscall" : "+a"(n) : "D"(pid), "S"((long)SIGUSR1) : "rcx", "r11", "memory");
}

static void change(int n, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    uint32_t *xmm3 = uc->uc_mcontext.fpregs->_xmm[3].element;
    for (int i = 0; i < 4; i++)
        xmm3[i] += 0x01010101;
    uc->uc_mcontext.fpregs->mxcsr |= 0x8000; /* flush to zero */
}

static void signals(void)
{
    uint32_t v[4] = {0x10, 0x20, 0x30, 0x40}, mxcsr;
    on_signal(SIGUSR1, clobber, 0);
    printf("a handler that clobbers: state %s\n", keeps_state(9, raise_it) ? "kept" : "lost");
    on_signal(SIGUSR1, change, 0);
    long pid = getpid(), n = 62;
    __asm__ volatile("movdqu %1, %%xmm3; syscall; movdqu %%xmm3, %1; stmxcsr %2"
                     : "+a"(n), "+m"(v), "=m"(mxcsr)
                     : "D"(pid), "S"((long)SIGUSR1)
                     : "rcx", "r11", "xmm3", "memory");
    printf("a handler that writes the frame: %x %x %x %x, mxcsr %x\n", v[0], v[1], v[2], v[3],
           mxcsr);
    mxcsr = 0x1f80;
    __asm__ volatile("ldmxcsr %0" ::"m"(mxcsr));
}

static int inherited(void *arg)
{
    uint16_t control;
    uint32_t mxcsr;
    __asm__ volatile("fnstcw %0; stmxcsr %1" : "=m"(control), "=m"(mxcsr));
    printf("a child starts with control %#x, mxcsr %#x\n", control, mxcsr & 0xffc0);
    return 0;
}

static void inheritance(void)
{
    uint16_t control = 0x77f;
    uint32_t mxcsr = 0x3f80;
    __asm__ volatile("fldcw %0; ldmxcsr %1" ::"m"(control), "m"(mxcsr));
    in_child(inherited, NULL);
    control = 0x37f;
    mxcsr = 0x1f80;
    __asm__ volatile("fldcw %0; ldmxcsr %1" ::"m"(control), "m"(mxcsr));
}

static void report_fpe(int n, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    printf("SIGFPE code %d, trap %lld\n", info->si_code,
           (long long)uc->uc_mcontext.gregs[REG_TRAPNO]);
    uc->uc_mcontext.fpregs->cwd |= 0x3f;
    uc->uc_mcontext.fpregs->swd = 0;
    uc->uc_mcontext.fpregs->mxcsr = 0x1f80;
    if (uc->uc_mcontext.gregs[REG_TRAPNO] == 19) /* a fault: go past the instruction */
        uc->uc_mcontext.gregs[REG_RIP] += 5;
}

/* Unmasked exceptions: x87 reports at the next instruction, SSE at once. */
static void unmasked(void)
{
    static const uint16_t masks[] = {0x37e, 0x37b, 0x377, 0x36f, 0x35f};
    double zero = 0, one = 1, big = 1e308, tiny = 1e-308;
    on_signal(SIGFPE, report_fpe, 0);
    for (unsigned i = 0; i < sizeof masks / sizeof masks[0]; i++) {
        double a = i == 0 ? zero : i == 2 ? big : i == 3 ? tiny : one;
        double b = i == 0 ? zero : i == 2 ? tiny : i == 3 ? big : i == 1 ? zero : 3;
        uint32_t mxcsr = 0x1f80 & ~(1u << (7 + (i == 0   ? 0
                                                : i == 1 ? 2
                                                : i == 2 ? 3
                                                : i == 3 ? 4
                                                         : 5)));
        double result = a;
        printf("x87 control %#x: ", masks[i]);
        fflush(stdout);
        __asm__ volatile("fninit; fldcw %1; fldl %2; fdivl %3; fstpl %0; fwait; fninit"
                         : "=m"(result)
                         : "m"(masks[i]), "m"(a), "m"(b));
        printf("done\nSSE mxcsr %#x: ", mxcsr);
        fflush(stdout);
        __asm__ volatile("ldmxcsr %1; movsd %2, %%xmm8; movsd %3, %%xmm9; .byte 0xf2, 0x45, 0x0f, "
                         "0x5e, 0xc1; nop"
                         : "=m"(result)
                         : "m"(mxcsr), "m"(a), "m"(b)
                         : "xmm8", "xmm9");
        mxcsr = 0x1f80;
        __asm__ volatile("ldmxcsr %0" ::"m"(mxcsr));
        printf("done\n");
    }
}

int main(void)
{
    switches();
    signals();
    inheritance();
    unmasked();
    return 0;
}

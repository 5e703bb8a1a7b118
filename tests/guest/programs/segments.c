/* SPDX-License-Identifier: Apache-2.0 */
/* FS and GS bases by every way, kept across switches and signals; restartable sequences. */
#include <asm/prctl.h>
#include <cpuid.h>
#include <sched.h>
#include <stddef.h>
#include <sys/auxv.h>
#include <sys/rseq.h>
#include <sys/syscall.h>

#include "observe.h"

static uint64_t read_gs_base(void)
{
    uint64_t v;
    __asm__ volatile("rdgsbase %0" : "=r"(v));
    return v;
}

static void write_gs_base(uint64_t v)
{
    __asm__ volatile("wrgsbase %0" ::"r"(v) : "memory");
}

static uint64_t kernel_gs_base(void)
{
    uint64_t v = 1;
    MUST(syscall(SYS_arch_prctl, ARCH_GET_GS, &v) == 0);
    return v;
}

static uint64_t words[64];
static bool instructions;

static void *keep(void *arg)
{
    uint64_t mine = (uint64_t)(uintptr_t)&words[(uintptr_t)arg], bad = 0;
    if (instructions)
        write_gs_base(mine);
    else
        MUST(syscall(SYS_arch_prctl, ARCH_SET_GS, mine) == 0);
    for (unsigned i = 0; i < 2000; i++) {
        uint64_t word;
        if (i % 3 == 0)
            sched_yield();
        if (i % 100 == 0)
            usleep(100);
        __asm__ volatile("mov %%gs:0, %0" : "=r"(word));
        bad += word != (uintptr_t)arg * 1000;
        bad += instructions && read_gs_base() != mine;
        bad += kernel_gs_base() != mine;
    }
    return (void *)(uintptr_t)bad;
}

static void change_base(int n, siginfo_t *info, void *context)
{
    write_gs_base(0x1234);
}

static void bases(void)
{
    pthread_t t[6];
    instructions = getauxval(AT_HWCAP2) & 2; /* FSGSBASE usable by programs */
    printf("base instructions: %s\n", instructions ? "yes" : "no");
    for (uintptr_t i = 0; i < 64; i++)
        words[i] = i * 1000;
    start_threads(t, 6, keep);
    uintptr_t bad = sum_threads(t, 6);
    printf("bases: %u lost\n", (unsigned)bad);
    if (!instructions)
        return;
    on_signal(SIGUSR1, change_base, 0);
    write_gs_base(0x5678);
    raise(SIGUSR1);
    printf("after a handler: %#llx\n", (unsigned long long)read_gs_base());
    uint16_t selector;
    __asm__ volatile("mov %0, %%gs; mov %%gs, %0" : "=r"(selector) : "0"((uint16_t)0));
    printf("after a null selector: base %#llx, selector %u\n", (unsigned long long)read_gs_base(),
           selector);
    write_gs_base(0xffffffffffffffff);
    printf("the highest base: %#llx %#llx\n", (unsigned long long)read_gs_base(),
           (unsigned long long)kernel_gs_base());
    write_gs_base(0);
    uint64_t fs;
    __asm__ volatile("rdfsbase %0" : "=r"(fs));
    printf("fs base is the thread's own: %d\n", fs == *(uint64_t *)(uintptr_t)fs);
}

/* A sequence that spins in its critical section until a signal sends it to its abort handler. */
static bool sequence_aborts(struct rseq *r)
{
    static struct rseq_cs cs __attribute__((aligned(32)));
    uint64_t result = 0;
    extern char rseq_start[], rseq_commit[], rseq_abort[];
    cs = (struct rseq_cs){.start_ip = (uintptr_t)rseq_start,
                          .post_commit_offset = (uint64_t)(rseq_commit - rseq_start),
                          .abort_ip = (uintptr_t)rseq_abort};
    __asm__ volatile("movq %1, %2\n"
                     "rseq_start: mov $2000000000, %%rcx\n"
                     "1: dec %%rcx; jnz 1b\n"
                     "movq $1, %0\n"
                     "rseq_commit: jmp 2f\n"
                     ".byte 0x0f, 0xb9, 0x3d; .long 0x53053053\n" /* RSEQ_SIG */
                     "rseq_abort: movq $2, %0\n"
                     "2:\n"
                     : "+r"(result)
                     : "r"(&cs), "m"(r->rseq_cs)
                     : "rcx", "memory", "cc");
    return result == 2;
}

static void no_more(int n, siginfo_t *info, void *context)
{
}

static void restartable(void)
{
    struct rseq *r = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
    unsigned cpu = 0, differ = 0;
    if (__rseq_size == 0) {
        printf("rseq: not registered\n");
        return;
    }
    for (unsigned i = 0; i < 1000; i++) {
        cpu = *(volatile uint32_t *)&r->cpu_id;
        differ += cpu != (unsigned)sched_getcpu() && cpu == *(volatile uint32_t *)&r->cpu_id;
    }
    printf("rseq: cpu differs %s\n", differ < 20 ? "hardly ever" : "often");
    on_signal(SIGALRM, no_more, 0);
    ualarm(20000, 0);
    printf("interrupted sequence: %s\n", sequence_aborts(r) ? "aborted" : "went on");
}

int main(void)
{
    bases();
    restartable();
    return 0;
}

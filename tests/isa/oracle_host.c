// SPDX-License-Identifier: Apache-2.0
/*
 * oracle_host: the host CPU's side of the instruction oracle. Started by oracle with three
 * descriptors: SHARED (struct oc_shared), REQUESTS and REPLIES (pipes, one byte per batch).
 *
 * Each case is entered by returning from a signal handler into its registers, and left by the
 * signal of its trap: the frame of that signal is the outcome, and is then made into the next case.
 * So the process never leaves the handler but for cases. FS and GS belong to the cases: nothing
 * below uses thread-local storage. It runs under strict seccomp, as a case gone astray may execute
 * anything. Built without sanitizers.
 */
#include <asm/prctl.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "oracle_case.h"

#define ALT_STACK (64u << 10)
/* In a signal frame: an XSAVE image in the standard format. */
#define XSTATE_BV 512
#define XSTATE_AVX 576

/* A signal handler has no other way to its state; the process is single-threaded. */
static struct {
    struct oc_shared *shared;
    uint8_t *image; /* the test memory as a whole, writable */
    int requests, replies;
    uint32_t next;
    uint32_t n;
    int started;
} host;

static long raw_syscall(long nr, long a, long b, long c)
{
    long ret;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(nr), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
    return ret;
}

static const int reg_of_gpr[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                   REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                   REG_R12, REG_R13, REG_R14, REG_R15};

static void record(const ucontext_t *uc)
{
    struct oc_result *r = &host.shared->results[host.next++];
    const greg_t *g = uc->uc_mcontext.gregs;
    for (unsigned i = 0; i < 16; i++) {
        r->gpr[i] = (uint64_t)g[reg_of_gpr[i]];
    }
    r->rip = (uint64_t)g[REG_RIP];
    r->rflags = (uint64_t)g[REG_EFL];
    r->trap = (uint64_t)g[REG_TRAPNO];
    r->err = (uint64_t)g[REG_ERR];
    r->cr2 = (uint64_t)g[REG_CR2];
    const uint8_t *fx = (const uint8_t *)uc->uc_mcontext.fpregs;
    memcpy(r->fx, fx, OC_FX);
    if (!host.shared->avx) {
        memset(r->ymm, 0, OC_YMM);
    } else if (fx[XSTATE_BV] & 4) {
        memcpy(r->ymm, fx + XSTATE_AVX, OC_YMM);
    } else { /* in its initial state, and perhaps not written */
        memset(r->ymm, 0, OC_YMM);
    }
    oc_collect(host.image, host.shared->pristine, r);
}

static void load(ucontext_t *uc)
{
    const struct oc_case *c = &host.shared->cases[host.next];
    greg_t *g = uc->uc_mcontext.gregs;
    uint8_t *fx = (uint8_t *)uc->uc_mcontext.fpregs;
    host.shared->running = host.next;
    for (unsigned i = 0; i < 16; i++) {
        g[reg_of_gpr[i]] = (greg_t)c->gpr[i];
    }
    g[REG_RIP] = (greg_t)c->rip;
    g[REG_EFL] = (greg_t)c->rflags;
    memcpy(fx, c->fx, OC_FX);
    fx[XSTATE_BV] |= 3; /* where there is one: x87 and SSE count */
    if (host.shared->avx) {
        memcpy(fx + XSTATE_AVX, c->ymm, OC_YMM);
        fx[XSTATE_BV] |= 4;
    }
    oc_apply(c, host.image);
}

static void on_trap(int sig, siginfo_t *info, void *context)
{
    /* AC would forbid the compiler's own accesses; AC, NT and ID live on over sigreturn. */
    __asm__ volatile("pushfq; andq $~0x244500, (%%rsp); popfq" : : : "memory", "cc");
    if (host.started) {
        record(context);
    }
    host.started = 1;
    if (host.next == host.n) {
        char byte = 0;
        if (host.n) {
            raw_syscall(SYS_write, host.replies, (long)&byte, 1);
        }
        if (raw_syscall(SYS_read, host.requests, (long)&byte, 1) != 1) {
            raw_syscall(SYS_exit, 0, 0, 0);
        }
        host.next = host.shared->first;
        host.n = host.shared->n;
    }
    load(context);
}

static int map_at(uint64_t va, unsigned pages, int prot, int fd, unsigned flat)
{
    void *p = mmap((void *)(uintptr_t)va, pages * OC_PAGE, prot,
                   MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE, fd, flat * OC_PAGE);
    return p == (void *)(uintptr_t)va ? 0 : -1;
}

static int map_memory(void)
{
    int fd = memfd_create("oracle", 0), rw = PROT_READ | PROT_WRITE;
    if (fd < 0 || ftruncate(fd, OC_IMAGE) != 0) {
        return -1;
    }
    host.image = mmap(NULL, OC_IMAGE, rw, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (host.image == MAP_FAILED || map_at(OC_CODE, 2, rw | PROT_EXEC, fd, 0) ||
        map_at(OC_DATA, 2, rw, fd, 2) || map_at(OC_DATA2, 1, rw, fd, 4) ||
        map_at(OC_DATA2 + OC_PAGE, 1, PROT_READ, fd, 5) || map_at(OC_DATA3, 1, PROT_READ, fd, 6) ||
        map_at(OC_DATA3 + OC_PAGE, 1, rw, fd, 7) || map_at(OC_COUNT, 1, rw, fd, 8)) {
        return -1;
    }
    memcpy(host.image, host.shared->pristine, OC_IMAGE);
    return 0;
}

static int arm(void)
{
    static const int sigs[] = {SIGSEGV, SIGFPE, SIGILL, SIGBUS, SIGTRAP};
    struct sigaction sa = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    stack_t ss = {.ss_sp = malloc(ALT_STACK), .ss_size = ALT_STACK};
    sigfillset(&sa.sa_mask);
    if (ss.ss_sp == NULL || sigaltstack(&ss, NULL) != 0) {
        return -1;
    }
    memset(ss.ss_sp, 0, ALT_STACK); /* present: its faults would touch CR2 */
    for (unsigned i = 0; i < sizeof sigs / sizeof *sigs; i++) {
        if (sigaction(sigs[i], &sa, NULL) != 0) {
            return -1;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        return 2;
    }
    host.requests = atoi(argv[2]);
    host.replies = atoi(argv[3]);
    host.shared =
        mmap(NULL, sizeof *host.shared, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(argv[1]), 0);
    if (host.shared == MAP_FAILED || map_memory() != 0 || arm() != 0) {
        return 3;
    }
    if (raw_syscall(SYS_arch_prctl, ARCH_SET_GS, (long)OC_GS_BASE, 0) != 0 ||
        raw_syscall(SYS_arch_prctl, ARCH_SET_FS, (long)OC_FS_BASE, 0) != 0 ||
        raw_syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0) != 0) {
        raw_syscall(SYS_exit, 4, 0, 0);
    }
    __asm__ volatile("int3"); /* on_trap() never comes back */
    return 5;
}

// SPDX-License-Identifier: Apache-2.0
#include "cpu/soft/native_oracle.h"

#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

/* Arena layout. State and code share RWX pages: this is a test. */
#define AT_STATE 0
#define AT_CODE 8192
#define AT_INSN 12288
#define AT_TAIL (AT_INSN + 16) /* the instruction is padded with NOPs up to here */
#define AT_DATA 20480
#define ARENA_BYTES (AT_DATA + ORACLE_DATA_BYTES + 4096)

struct state {
    struct oracle_regs in, out;
    uint64_t host_rsp;
    uint32_t mxcsr;
    uint16_t fcw;
};

/* The running oracle, for the signal handler: tests are single-threaded. */
static struct {
    struct oracle *o;
} current;

static const int reg_of_gpr[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                   REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                   REG_R12, REG_R13, REG_R14, REG_R15};

static void on_fault(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    greg_t *g = uc->uc_mcontext.gregs;
    struct oracle *o = current.o;
    if (o == NULL || (uint8_t *)g[REG_RIP] != o->insn_at) {
        signal(sig, SIG_DFL); /* not ours: die of it */
        return;
    }
    struct state *s = (struct state *)(o->arena + AT_STATE);
    for (unsigned i = 0; i < 16; i++) {
        s->out.gpr[i] = (uint64_t)g[reg_of_gpr[i]];
    }
    s->out.rflags = (uint64_t)g[REG_EFL];
    memcpy(s->out.fx, uc->uc_mcontext.fpregs, 512);
    s->out.vector = (int)g[REG_TRAPNO];
    s->out.cr2 = (uint64_t)(uintptr_t)info->si_addr;
    g[REG_RIP] = (greg_t)(uintptr_t)(o->arena + AT_TAIL + 256); /* leave */
    g[REG_EFL] &= ~(greg_t)0x400;
}

static uint8_t *rip32(uint8_t *p, const void *target, unsigned tail)
{
    int32_t rel = (int32_t)((const uint8_t *)target - (p + 4 + tail));
    memcpy(p, &rel, 4);
    return p + 4;
}

static uint8_t *bytes(uint8_t *p, const char *hex)
{
    for (; *hex != 0; hex += 2) {
        char two[3] = {hex[0], hex[1], 0};
        *p++ = (uint8_t)strtoul(two, NULL, 16);
    }
    return p;
}

/* mov reg, [rip+x] (opcode 8b) or mov [rip+x], reg (89) */
static uint8_t *mov_gpr(uint8_t *p, uint8_t opcode, unsigned reg, const void *at)
{
    *p++ = (uint8_t)(0x48 | (reg >> 3) << 2);
    *p++ = opcode;
    *p++ = (uint8_t)(0x05 | (reg & 7) << 3);
    return rip32(p, at, 0);
}

static void write_code(struct oracle *o)
{
    struct state *s = (struct state *)(o->arena + AT_STATE);
    uint8_t *p = o->arena + AT_CODE;
    p = bytes(p, "53554154415541564157"); /* push rbx rbp r12-r15 */
    p = mov_gpr(p, 0x89, 4, &s->host_rsp);
    p = rip32(bytes(p, "0fae1d"), &s->mxcsr, 0);
    p = rip32(bytes(p, "d93d"), &s->fcw, 0);
    p = rip32(bytes(p, "0fae0d"), s->in.fx, 0); /* fxrstor */
    p = rip32(bytes(p, "ff35"), &s->in.rflags, 0);
    p = bytes(p, "9d"); /* popf */
    for (unsigned i = 0; i < 16; i++) {
        p = mov_gpr(p, 0x8b, i, &s->in.gpr[i]);
    }
    *p++ = 0xe9;
    rip32(p, o->insn_at, 0);

    p = o->arena + AT_TAIL;
    for (unsigned i = 0; i < 16; i++) {
        p = mov_gpr(p, 0x89, i, &s->out.gpr[i]);
    }
    p = mov_gpr(p, 0x8b, 4, &s->host_rsp);
    p = rip32(bytes(p, "9c8f05"), &s->out.rflags, 0); /* pushf; pop */
    p = rip32(bytes(p, "0fae05"), s->out.fx, 0);      /* fxsave */
    *p++ = 0xe9;
    rip32(p, o->arena + AT_TAIL + 256, 0);

    p = o->arena + AT_TAIL + 256;
    p = mov_gpr(p, 0x8b, 4, &s->host_rsp);
    p = bytes(p, "dbe3"); /* fninit */
    p = rip32(bytes(p, "d92d"), &s->fcw, 0);
    p = rip32(bytes(p, "0fae15"), &s->mxcsr, 0);
    bytes(p, "415f415e415d415c5d5bc3");
}

int oracle_init(struct oracle *o)
{
    memset(o, 0, sizeof(*o));
    o->arena = mmap(NULL, ARENA_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (o->arena == MAP_FAILED ||
        mprotect(o->arena, AT_INSN + 4096, PROT_READ | PROT_WRITE | PROT_EXEC) != 0 ||
        mprotect(o->arena + AT_DATA, ORACLE_DATA_BYTES, PROT_READ | PROT_WRITE) != 0) {
        return -1;
    }
    o->data = o->arena + AT_DATA;
    o->insn_at = o->arena + AT_INSN;
    write_code(o);
    stack_t ss = {.ss_size = 65536};
    o->alt_stack = ss.ss_sp = malloc(ss.ss_size);
    if (ss.ss_sp == NULL || sigaltstack(&ss, NULL) != 0) {
        return -1;
    }
    return 0;
}

void oracle_arm(void)
{
    struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    const int sigs[] = {SIGSEGV, SIGFPE, SIGILL, SIGBUS};
    for (unsigned i = 0; i < 4; i++) {
        sigaction(sigs[i], &sa, NULL);
    }
}

void oracle_fini(struct oracle *o)
{
    const int sigs[] = {SIGSEGV, SIGFPE, SIGILL, SIGBUS};
    for (unsigned i = 0; i < 4; i++) {
        signal(sigs[i], SIG_DFL);
    }
    stack_t ss = {.ss_flags = SS_DISABLE};
    sigaltstack(&ss, NULL);
    free(o->alt_stack);
    munmap(o->arena, ARENA_BYTES);
}

void oracle_run(struct oracle *o, const uint8_t *insn, size_t len, struct oracle_regs *regs)
{
    struct state *s = (struct state *)(o->arena + AT_STATE);
    memset(o->insn_at, 0x90, AT_TAIL - AT_INSN);
    memcpy(o->insn_at, insn, len);
    s->in = *regs;
    s->in.rflags = (regs->rflags & 0x8d5) | 0x202;
    s->out.vector = -1;
    current.o = o;
    ((void (*)(void))(uintptr_t)(o->arena + AT_CODE))();
    current.o = NULL;
    *regs = s->out;
    regs->next_rip = (uint64_t)(uintptr_t)o->insn_at + len;
}

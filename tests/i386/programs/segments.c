/* SPDX-License-Identifier: Apache-2.0 */
/* Segments that are not flat: TLS descriptors, LDT entries with bases and limits. Debian's cloud
 * kernel allows no 16-bit segments. */
#include <asm/ldt.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static sigjmp_buf back;

static void on_signal(int sig, siginfo_t *info, void *context)
{
    siglongjmp(back, sig);
}

static int set_ldt(unsigned entry, uint32_t base, uint32_t limit, unsigned contents, int wide,
                   int read_only)
{
    struct user_desc d = {.entry_number = entry,
                          .base_addr = base,
                          .limit = limit,
                          .seg_32bit = (unsigned)wide,
                          .contents = contents,
                          .read_exec_only = (unsigned)read_only,
                          .useable = 1};
    return (int)syscall(SYS_modify_ldt, 1, &d, sizeof d);
}
#define LDT(n) ((n)*8u + 7u)

static uint8_t *memory; /* two pages */

/* A byte through FS at an offset; -signal when that faults. */
static int peek(uint16_t selector, uint32_t offset)
{
    uint32_t v = 0;
    int sig = sigsetjmp(back, 1);
    if (sig != 0) {
        return -sig;
    }
    __asm__ volatile("push %%fs; mov %w1, %%fs; movzbl %%fs:(%2), %0; pop %%fs"
                     : "=r"(v)
                     : "r"((uint32_t)selector), "r"(offset));
    return (int)v;
}

static int poke(uint16_t selector, uint32_t offset, uint32_t value)
{
    int sig = sigsetjmp(back, 1);
    if (sig != 0) {
        return -sig;
    }
    __asm__ volatile("push %%fs; mov %w0, %%fs; movl %2, %%fs:(%1); pop %%fs"
                     :
                     : "r"((uint32_t)selector), "r"(offset), "r"(value)
                     : "memory");
    return 0;
}

static void limits(void)
{
    uint32_t base = (uint32_t)memory + 16;
    printf("ldt %d\n", set_ldt(0, base, 99, 0, 1, 0));
    printf("up: %d %d %d %d\n", peek(LDT(0), 0), peek(LDT(0), 99), peek(LDT(0), 100),
           peek(LDT(0), 0xffffffff));
    printf("write: %d %d %d\n", poke(LDT(0), 96, 1), poke(LDT(0), 97, 1), poke(LDT(0), 100, 1));
    set_ldt(1, base, 99, 1, 1, 0);
    printf("down: %d %d %d\n", peek(LDT(1), 99), peek(LDT(1), 100), peek(LDT(1), 200));
    set_ldt(2, base, 99, 0, 1, 1);
    printf("read-only: %d %d\n", peek(LDT(2), 5), poke(LDT(2), 5, 1));
    printf("null: %d, absent: %d\n", peek(0, 0), peek(LDT(77), 0));
}

static void tls(void)
{
    struct user_desc d = {.entry_number = (unsigned)-1,
                          .base_addr = (uint32_t)memory + 4096,
                          .limit = 0xfffff,
                          .seg_32bit = 1,
                          .limit_in_pages = 1,
                          .useable = 1};
    long rc = syscall(SYS_set_thread_area, &d);
    uint16_t selector = (uint16_t)(d.entry_number * 8 + 3);
    memory[4096] = 42;
    printf("tls %ld: %d, %d below\n", rc, peek(selector, 0), peek(selector, (uint32_t)-4096));
    struct user_desc got = {.entry_number = d.entry_number};
    syscall(SYS_get_thread_area, &got);
    printf("the same: %d\n", got.base_addr == d.base_addr && got.limit == d.limit);
}

/* ES and DS with bases: string instructions, and plain ones, with 16- and 32-bit addresses. */
static void strings(void)
{
    uint32_t si = 2, di = 4, cx = 10, left;
    int sig = sigsetjmp(back, 1);
    memset(memory, 0, 4096);
    memcpy(memory + 66, "segmented!", 10);
    set_ldt(3, (uint32_t)memory + 64, 63, 0, 1, 0);
    set_ldt(4, (uint32_t)memory + 256, 63, 0, 1, 0);
    if (sig == 0) {
        __asm__ volatile("push %%ds; push %%es; mov %w4, %%es; mov %w3, %%ds; cld; rep movsb\n\t"
                         "movzbl 3, %%eax; mov %%al, %%es:1; addr16 movzbl 4, %%eax\n\t"
                         "mov %%al, %%es:2; pop %%es; pop %%ds"
                         : "+S"(si), "+D"(di), "+c"(cx)
                         : "d"(LDT(3)), "b"(LDT(4))
                         : "eax", "memory");
    }
    printf("movs: %d %u %u %.10s %c%c\n", sig, si, di, memory + 260, memory[257], memory[258]);
    /* runs into the limit: what fits is moved, and the registers say how far it got */
    cx = 100;
    di = 50;
    sig = sigsetjmp(back, 1);
    if (sig == 0) {
        __asm__ volatile("push %%es; mov %w2, %%es; rep stosb; pop %%es"
                         : "+D"(di), "+c"(cx)
                         : "d"(LDT(4)), "a"('x')
                         : "memory");
    }
    __asm__ volatile("mov %%ds, %0; mov %0, %%es" : "=r"(left));
    printf("stos: %d, to the limit: %d %d\n", sig, memory[256 + 63], memory[256 + 64]);
}

/* LAR, LSL, VERR, VERW of what was made above. */
static void queries(void)
{
    for (unsigned n = 0; n < 8; n++) {
        uint32_t rights = 0, limit = 0;
        uint8_t r, w;
        __asm__("lar %1, %0" : "+r"(rights) : "r"(LDT(n)) : "cc");
        __asm__("lsl %1, %0" : "+r"(limit) : "r"(LDT(n)) : "cc");
        __asm__("verr %w1; setz %0" : "=q"(r) : "r"(LDT(n)) : "cc");
        __asm__("verw %w1; setz %0" : "=q"(w) : "r"(LDT(n)) : "cc");
        printf("ldt %u: %x %x %u %u\n", n, rights, limit, r, w);
    }
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    static uint8_t stack[32768];
    stack_t alt = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaltstack(&alt, NULL);
    sigaction(SIGSEGV, &sa, NULL);
    sigaction(SIGBUS, &sa, NULL);
    memory =
        mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (unsigned i = 0; i < 8192; i++) {
        memory[i] = (uint8_t)i;
    }
    limits();
    tls();
    strings();
    queries();
    return 0;
}

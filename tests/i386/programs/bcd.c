/* SPDX-License-Identifier: Apache-2.0 */
/* The instructions that 64-bit mode does not have, over their whole input or much of it. */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>

static uint32_t hash = 2166136261u;

static void mix(uint32_t v)
{
    for (int i = 0; i < 4; i++) {
        hash = (hash ^ (v >> 8 * i & 255)) * 16777619u;
    }
}

/* EAX and flags through one instruction; undefined flags are masked. */
#define RUN(text, mask)                                                                            \
    do {                                                                                           \
        hash = 2166136261u;                                                                        \
        for (uint32_t ax = 0; ax < 0x10000; ax += 7) {                                             \
            for (uint32_t in = 0; in < 4; in++) {                                                  \
                uint32_t a = ax | 0xabcd0000, f = (in & 1) | (in & 2) << 3;                        \
                __asm__ volatile("push %1; popf; " text "; pushf; pop %1"                          \
                                 : "+a"(a), "+d"(f)                                                \
                                 :                                                                 \
                                 : "cc", "memory");                                                \
                mix(a);                                                                            \
                mix(f &(mask));                                                                    \
            }                                                                                      \
        }                                                                                          \
        printf("%-10s %08x\n", text, hash);                                                        \
    } while (0)

static sigjmp_buf back;

static void on_signal(int sig)
{
    siglongjmp(back, sig);
}

static int try_bound(int index, int low, int high)
{
    int range[2] = {low, high}, sig = sigsetjmp(back, 1);
    if (sig == 0) {
        __asm__ volatile("bound %0, %1" : : "r"(index), "m"(range));
    }
    return sig;
}

static int try_into(int a)
{
    int sig = sigsetjmp(back, 1);
    if (sig == 0) {
        __asm__ volatile("add $0x7fffffff, %0; into" : "+r"(a) : : "cc");
    }
    return sig;
}

static int try_aam(void)
{
    int sig = sigsetjmp(back, 1);
    if (sig == 0) {
        __asm__ volatile(".byte 0xd4, 0x00" : : : "eax", "cc");
    }
    return sig;
}

/* PUSHA stores ESP as it was before; POPA skips it. */
__attribute__((used)) static uint32_t pushed[8], moved, restored;
static void pusha_popa(void)
{
    __asm__ volatile("mov $1, %%eax; mov $2, %%ecx; mov $3, %%edx\n\t"
                     "mov %%esp, %%esi; pusha; mov %%esi, moved; sub %%esp, moved\n\t"
                     "mov %%esp, %%esi; mov $pushed, %%edi; mov $8, %%ecx; cld; rep movsl\n\t"
                     "movl $55, 12(%%esp); movl $66, 28(%%esp); popa; mov %%eax, restored"
                     :
                     :
                     : "eax", "ecx", "edx", "esi", "edi", "memory");
    printf("pusha %u: %u %u %u, esp %d, popa %u\n", moved, pushed[7], pushed[6], pushed[5],
           pushed[3] == pushed[1], restored);
}

static void others(void)
{
    uint16_t selector = 0x100, rpl = 3;
    uint8_t zf, al;
    __asm__("arpl %2, %0; setz %1" : "+r"(selector), "=q"(zf) : "r"(rpl) : "cc");
    printf("arpl %x %u\n", selector, zf);
    __asm__("arpl %2, %0; setz %1" : "+r"(selector), "=q"(zf) : "r"(rpl) : "cc");
    printf("arpl %x %u\n", selector, zf);
    __asm__("stc; .byte 0xd6" : "=a"(al) : : "cc");
    printf("salc %x\n", al);
    uint32_t frame, size;
    __asm__("mov %%ebp, %%ecx; mov %%esp, %%edx; enter $24, $0; mov %%edx, %0; sub %%esp, %0\n\t"
            "lea 4(%%ebp), %1; sub %%edx, %1; leave; sub %%ebp, %%ecx; or %%ecx, %1"
            : "=&r"(size), "=&r"(frame)
            :
            : "ecx", "edx", "memory");
    printf("enter %u %u\n", size, frame);
}

int main(void)
{
    signal(SIGSEGV, on_signal);
    signal(SIGFPE, on_signal);
    RUN("daa", 0xd5);
    RUN("das", 0xd5);
    RUN("aaa", 0x11);
    RUN("aas", 0x11);
    RUN("aam", 0xc4);
    RUN("aam $7", 0xc4);
    RUN("aad", 0xc4);
    RUN("aad $16", 0xc4);
    RUN("inc %%eax", 0x8d5);
    RUN("dec %%eax", 0x8d5);
    RUN("incw %%ax", 0x8d5);
    printf("bound %d %d %d\n", try_bound(5, 1, 9), try_bound(10, 1, 9), try_bound(-1, -1, -1));
    printf("into %d %d\n", try_into(0), try_into(1));
    printf("aam 0: %d\n", try_aam());
    pusha_popa();
    others();
    return 0;
}

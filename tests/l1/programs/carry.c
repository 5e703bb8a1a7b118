/* SPDX-License-Identifier: Apache-2.0 */
/*
 * carry FILE: holds known values in every register that a program has, nearly all of the time, and
 * sleeps in another thread, while the machine below is moved; FILE says for ever what became of it:
 *
 *   spins N lost N naps N short N late N back N UNIT
 *
 * lost: spins after which a register was not as it should be; short, late: naps that took less than
 * they should, or long; back: times that the monotonic clock went backwards. UNIT: avx or sse.
 */
#include <fcntl.h>

#include "../../guest/programs/observe.h"

#define TURNS 60000000ull /* of one spin: some tenths of a second */
#define NAP_NS 50000000ull
#define LATE_NS 20000000000ull
#define MARK 0x5eed0fca11ab1e00ull

#define EACH(X)                                                                                    \
    X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define LOAD(n) "vmovdqu 512+32*" #n "(%[in]), %%ymm" #n "\n\t"
#define STORE(n) "vmovdqu %%ymm" #n ", 512+32*" #n "(%[out])\n\t"

struct held {
    uint8_t fx[512]; /* FXSAVE: x87, MXCSR, XMM */
    uint64_t ymm[16][4];
    uint64_t gpr[4], turns; /* R8 R9 R14 R15, and how often the loop turned */
} __attribute__((aligned(64)));

static struct {
    uint64_t spins, lost, naps, short_naps, late_naps, back;
} told;
static bool avx;

static void fill(struct held *h, uint64_t seed)
{
    uint16_t control = (uint16_t)(0x37f | (seed & 3) << 10);
    uint32_t mxcsr = 0x1f80 | (uint32_t)(seed & 3) << 13;

    memset(h, 0, sizeof *h);
    memcpy(h->fx, &control, 2);
    h->fx[4] = 0xff; /* all eight registers are in use */
    memcpy(h->fx + 24, &mxcsr, 4);
    for (unsigned i = 0; i < 8; i++) {
        const uint64_t significand = 1ull << 63 | MARK >> 1 | i, exponent = 0x3fff + seed % 64;
        memcpy(h->fx + 32 + 16 * i, &significand, 8);
        memcpy(h->fx + 40 + 16 * i, &exponent, 2);
    }
    for (uint64_t i = 0; i < 16; i++) {
        h->ymm[i][0] = MARK | i;
        h->ymm[i][1] = seed * 0x9e3779b97f4a7c15u + i;
        if (avx) {
            h->ymm[i][2] = ~MARK ^ i;
            h->ymm[i][3] = seed * 0xc2b2ae3d27d4eb4fu ^ i;
        }
        memcpy(h->fx + 160 + 16 * i, h->ymm[i], 16);
    }
    for (uint64_t i = 0; i < 4; i++)
        h->gpr[i] = MARK << i ^ seed;
    h->turns = TURNS;
}

/* All of it in, TURNS turns of a loop, all of it out. */
static void spin(const struct held *in, struct held *out)
{
    __asm__ volatile("fxrstor64 (%[in])\n\t"
                     "mov 1024(%[in]), %%r8; mov 1032(%[in]), %%r9\n\t"
                     "mov 1040(%[in]), %%r14; mov 1048(%[in]), %%r15\n\t"
                     "test %[avx], %[avx]; jz 1f\n\t" EACH(
                         LOAD) "1:\n\t"
                               "mov %[turns], %%rcx; xor %%eax, %%eax\n"
                               "2: add $1, %%rax; sub $1, %%rcx; jnz 2b\n\t"
                               "test %[avx], %[avx]; jz 3f\n\t" EACH(
                                   STORE) "vzeroupper\n3:\n\t"
                                          "fxsave64 (%[out])\n\t"
                                          "mov %%r8, 1024(%[out]); mov %%r9, 1032(%[out])\n\t"
                                          "mov %%r14, 1040(%[out]); mov %%r15, 1048(%[out]); mov "
                                          "%%rax, 1056(%[out])\n\t"
                                          "fninit"
                     :
                     : [in] "r"(in), [out] "r"(out), [avx] "r"((uint64_t)avx), [turns] "r"(TURNS)
                     : "rax", "rcx", "r8", "r9", "r14", "r15", "memory", "xmm0", "xmm1", "xmm2",
                       "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
                       "xmm12", "xmm13", "xmm14", "xmm15");
    const uint32_t mxcsr = 0x1f80;
    __asm__ volatile("ldmxcsr %0" ::"m"(mxcsr));
}

static bool kept(const struct held *a, const struct held *b)
{
    return memcmp(a->fx, b->fx, 6) == 0 && memcmp(a->fx + 24, b->fx + 24, 4) == 0 &&
           memcmp(a->fx + 32, b->fx + 32, 384) == 0 && memcmp(a->gpr, b->gpr, 40) == 0 &&
           (!avx || memcmp(a->ymm, b->ymm, sizeof a->ymm) == 0);
}

static void *nap(void *arg)
{
    uint64_t last = clock_ns(CLOCK_MONOTONIC);
    for (;;) {
        const struct timespec t = {.tv_nsec = (long)NAP_NS};
        uint64_t before = clock_ns(CLOCK_MONOTONIC);
        told.back += before < last;
        nanosleep(&t, NULL);
        last = clock_ns(CLOCK_MONOTONIC);
        told.short_naps += last < before + NAP_NS;
        told.late_naps += last > before + LATE_NS;
        told.naps++;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    static struct held in, out;
    pthread_t thread;
    MUST(argc == 2);
    int fd = open(argv[1], O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    MUST(fd >= 0);
    avx = __builtin_cpu_supports("avx2");
    MUST(pthread_create(&thread, NULL, nap, NULL) == 0);
    for (uint64_t seed = 1;; seed++) {
        char text[160];
        fill(&in, seed);
        spin(&in, &out);
        told.spins++;
        told.lost += !kept(&in, &out);
        int n = snprintf(
            text, sizeof text, "spins %llu lost %llu naps %llu short %llu late %llu back %llu %s\n",
            (unsigned long long)told.spins, (unsigned long long)told.lost,
            (unsigned long long)told.naps, (unsigned long long)told.short_naps,
            (unsigned long long)told.late_naps, (unsigned long long)told.back, avx ? "avx" : "sse");
        MUST(pwrite(fd, text, (size_t)n, 0) == n); /* numbers only get longer */
    }
}

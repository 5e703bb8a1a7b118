/* SPDX-License-Identifier: Apache-2.0 */
/* AVX: YMM state across switches, signals and ptrace; faults in the middle; what its instructions
 * compute. */
#include <elf.h>
#include <immintrin.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#include "observe.h"

#define WORKERS 5
#define ROUNDS 300
#define XMM_AT 160 /* in an XSAVE image */
#define YMM_AT 576

#define EACH(X)                                                                                    \
    X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define LOAD(n) "vmovdqu 32*" #n "(%1), %%ymm" #n "\n\t"
#define STORE(n) "vmovdqu %%ymm" #n ", 32*" #n "(%2)\n\t"
#define CLOBBERS                                                                                   \
    "rcx", "r11", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",        \
        "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

struct ymm {
    uint64_t q[16][4];
};

/* All of it in, one system call, all of it out. */
static void through(const struct ymm *in, struct ymm *out, long n, const void *a, long b)
{
    __asm__ volatile(EACH(LOAD) "syscall\n\t" EACH(STORE)
                     : "+a"(n)
                     : "r"(in), "r"(out), "D"(a), "S"(b)
                     : CLOBBERS);
}

static void fill(struct ymm *y, uint64_t seed)
{
    seed = seed * 0x9e3779b97f4a7c15u + 1;
    for (unsigned i = 0; i < 64; i++)
        y->q[i / 4][i % 4] = next_random(&seed);
}

static void *work(void *arg)
{
    static const struct timespec t = {.tv_nsec = 100000};
    uintptr_t bad = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct ymm in, out;
        fill(&in, (uintptr_t)arg * 1000 + i);
        through(&in, &out, i % 3 ? 24 : 35, i % 3 ? NULL : &t, 0); /* yield, nap */
        bad += memcmp(&in, &out, sizeof in) != 0;
    }
    return (void *)bad;
}

static int work_in_process(void *arg)
{
    return (int)(uintptr_t)work(arg);
}

static void switches(void)
{
    pthread_t threads[WORKERS];
    start_threads(threads, WORKERS, work);
    uintptr_t bad = (uintptr_t)in_child(work_in_process, (void *)50);
    bad += sum_threads(threads, WORKERS);
    printf("switches: %u rounds lost state\n", (unsigned)bad);
}

static void clobber(int n, siginfo_t *info, void *context)
{
    __asm__ volatile("vzeroall" ::: CLOBBERS);
}

static void edit(int n, siginfo_t *info, void *context)
{
    uint8_t *image = (uint8_t *)((ucontext_t *)context)->uc_mcontext.fpregs;
    uint64_t v = 0x1122334455667788;
    memcpy(image + XMM_AT + 16 * 5, &v, 8);
    memcpy(image + YMM_AT + 16 * 5, &v, 8);
    image[512] |= 6; /* both components count */
    __asm__ volatile("vzeroall" ::: CLOBBERS);
}

static void signals(void)
{
    struct ymm in, out;
    fill(&in, 7);
    on_signal(SIGUSR1, clobber, 0);
    through(&in, &out, 62, (void *)(intptr_t)getpid(), SIGUSR1);
    printf("a handler that clobbers: %s\n", memcmp(&in, &out, sizeof in) ? "lost" : "kept");
    on_signal(SIGUSR1, edit, 0);
    through(&in, &out, 62, (void *)(intptr_t)getpid(), SIGUSR1);
    printf("a handler that edits: ymm5 %llx %llx, the rest %s\n", (long long)out.q[5][0],
           (long long)out.q[5][2], memcmp(in.q[6], out.q[6], 320) ? "lost" : "kept");
}

static void traced(void)
{
    static uint8_t image[16384];
    struct iovec io = {image, sizeof image};
    struct ymm in, out;
    int status;
    fill(&in, 8);
    pid_t pid = fork();
    MUST(pid >= 0);
    if (pid == 0) {
        MUST(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
        through(&in, &out, 62, (void *)(intptr_t)getpid(), SIGSTOP);
        in.q[11][0] = 1, in.q[11][3] = 2;
        _exit(memcmp(&in, &out, sizeof in) ? 1 : 0);
    }
    MUST(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
    MUST(ptrace(PTRACE_GETREGSET, pid, NT_X86_XSTATE, &io) == 0);
    unsigned bad = 0;
    for (unsigned i = 0; i < 16; i++)
        bad += memcmp(image + XMM_AT + 16 * i, in.q[i], 16) != 0 ||
               memcmp(image + YMM_AT + 16 * i, in.q[i] + 2, 16) != 0;
    printf("the tracer sees %u registers wrong\n", bad);
    memcpy(image + XMM_AT + 16 * 11, &(uint64_t){1}, 8);
    memcpy(image + YMM_AT + 16 * 11 + 8, &(uint64_t){2}, 8);
    MUST(ptrace(PTRACE_SETREGSET, pid, NT_X86_XSTATE, &io) == 0);
    MUST(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
    MUST(waitpid(pid, &status, 0) == pid);
    printf("what the tracer set: status %#x\n", status);
}

/* ---- faults ---- */

static uint8_t *pages; /* two; the second cannot be accessed at first */

static void unlock(int n, siginfo_t *info, void *context)
{
    printf("%s at page + %ld\n", n == SIGSEGV ? "SIGSEGV" : "?",
           (long)((uint8_t *)info->si_addr - pages));
    MUST(mprotect(pages, 8192, PROT_READ | PROT_WRITE) == 0);
}

static void skip(int n, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    printf("signal %d, code %d, trap %lld\n", n, info->si_code,
           (long long)uc->uc_mcontext.gregs[REG_TRAPNO]);
    uc->uc_mcontext.gregs[REG_RIP] = uc->uc_mcontext.gregs[REG_RBX];
}

static void show(const char *what, const void *p)
{
    const uint32_t *v = p;
    printf("%s:", what);
    for (unsigned i = 0; i < 8; i++)
        printf(" %x", v[i]);
    printf("\n");
}

__attribute__((target("avx2"))) static void faults(void)
{
    uint32_t v[8];
    pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(pages != MAP_FAILED);
    for (unsigned i = 0; i < 2048; i++)
        ((uint32_t *)pages)[i] = i;
    MUST(mprotect(pages + 4096, 4096, PROT_NONE) == 0);
    on_signal(SIGSEGV, unlock, 0);
    int *end = (int *)(pages + 4096);
    __m256i low = _mm256_setr_epi32(-1, 0, -1, -1, 0, 0, 0, 0),
            high = _mm256_setr_epi32(-1, -1, 0, 0, -1, 0, 0, 0);
    _mm256_storeu_si256((__m256i *)v, _mm256_maskload_epi32(end - 4, low));
    show("a masked load before the end", v);
    _mm256_maskstore_epi32(end - 4, low, _mm256_set1_epi32(0x55));
    printf("a masked store before the end: %x %x %x %x\n", end[-4], end[-3], end[-2], end[-1]);
    _mm256_storeu_si256((__m256i *)v, _mm256_maskload_epi32(end - 4, high));
    show("a masked load past the end", v);
    MUST(mprotect(pages + 4096, 4096, PROT_NONE) == 0);
    __m256i index = _mm256_setr_epi32(1, 5, 1023, 1030, 7, 1500, 0, 2);
    _mm256_storeu_si256((__m256i *)v, _mm256_i32gather_epi32((int *)pages, index, 4));
    show("a gather past the end", v);
    on_signal(SIGSEGV, skip, 0);
    on_signal(SIGFPE, skip, 0);
    __asm__ volatile("lea 1f(%%rip), %%rbx; vmovaps 16(%0), %%ymm0; 1:" ::"r"(pages)
                     : "rbx", "xmm0");
    printf("past an unaligned vmovaps\n");
    float one = 1;
    uint32_t mxcsr = 0x1d80; /* division by zero */
    __asm__ volatile(
        "vldmxcsr %0; vbroadcastss %1, %%ymm2; vxorps %%ymm1, %%ymm1, %%ymm1; lea 1f(%%rip), %%rbx;"
        "vdivps %%ymm1, %%ymm2, %%ymm0; 1:" ::"m"(mxcsr),
        "m"(one)
        : "rbx", "xmm0", "xmm1", "xmm2");
    mxcsr = 0x1f80;
    __asm__ volatile("vldmxcsr %0" ::"m"(mxcsr));
}

/* ---- what is computed ---- */

__attribute__((target("avx2,fma,f16c,bmi,bmi2,lzcnt,movbe"))) static void compute(void)
{
    uint64_t r = 42, hash = 0;
    for (unsigned i = 0; i < 20000; i++) {
        double d[4];
        uint32_t w[8];
        uint64_t a = next_random(&r), b = next_random(&r), high;
        __m256d x = _mm256_set_pd((double)a, (double)b, 1.0 / (double)(a | 1), -(double)(i + 1));
        _mm256_storeu_pd(
            d, _mm256_fmadd_pd(x, _mm256_sqrt_pd(_mm256_andnot_pd(_mm256_set1_pd(-0.0), x)), x));
        __m256i y =
            _mm256_mullo_epi32(_mm256_set1_epi64x((long long)a), _mm256_set1_epi64x((long long)b));
        y = _mm256_permutevar8x32_epi32(_mm256_sllv_epi32(y, _mm256_set1_epi32(i & 31)), y);
        _mm256_storeu_si256((__m256i *)w, _mm256_shuffle_epi8(y, _mm256_castpd_si256(x)));
        __m128i h = _mm_cvtps_ph(_mm256_cvtpd_ps(x), 0);
        hash = hash * 31 + _mulx_u64(a, b, (unsigned long long *)&high) + high;
        hash ^= _pdep_u64(a, b) + _pext_u64(b, a) + _bzhi_u64(a, i & 63) + _bextr_u64(b, i & 63, 9);
        hash += _lzcnt_u64(a >> (i & 63)) + _tzcnt_u64(b << (i & 63)) + (~a & b) + _blsr_u64(a) +
                _blsi_u64(b);
        hash ^= (uint64_t)_mm_cvtsi128_si64(h);
        for (unsigned k = 0; k < 4; k++) {
            uint64_t bits;
            memcpy(&bits, &d[k], 8);
            hash = (hash ^ bits ^ w[k] ^ (uint64_t)w[k + 4] << 32) * 0x9e3779b97f4a7c15u;
        }
    }
    printf("computed %llx\n", (long long)hash);
}

/* The C library's choice for this processor. */
static void strings(void)
{
    uint64_t hash = 0;
    char *end = (char *)pages + 4096;
    MUST(mprotect(pages + 4096, 4096, PROT_NONE) == 0);
    for (unsigned n = 1; n < 700; n++) {
        char *s = end - n;
        memset(s, 'a' + n % 26, n - 1);
        s[n - 1] = 0;
        memmove(s + n / 3, s, n - n / 3 - 1);
        hash = hash * 31 + strlen(s) + (uintptr_t)(strchr(s, 0) - s) + (memchr(s, 'q', n) != NULL) +
               (unsigned)(memcmp(s, s + n / 2, n - n / 2) > 0) + (strrchr(s, 'b') != NULL);
    }
    printf("strings %llx\n", (long long)hash);
}

int main(void)
{
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
        !__builtin_cpu_supports("bmi2")) {
        printf("this processor has no AVX2\n");
        return 0;
    }
    uint32_t low, up;
    __asm__("xgetbv" : "=a"(low), "=d"(up) : "c"(0));
    printf("XCR0 & 7: %x\n", low & 7);
    switches();
    signals();
    traced();
    faults();
    compute();
    strings();
    return 0;
}

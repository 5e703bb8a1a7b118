/* SPDX-License-Identifier: Apache-2.0 */
/* Ordinary work in 32 bits: x87 and SSE arithmetic, long long, strings, threads, fork, the heap. */
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void floats(void)
{
    double x = 0.5;
    long double l = 1.0L;
    float f = 3.0f;
    for (int i = 1; i < 200; i++) {
        x = sin(x) + sqrt(i) / (x + 1);
        l = l * 1.01L + (long double)x;
        f = f * 0.99f + (float)i;
    }
    printf("%.17g %.20Lg %.9g\n", x, l, f);
    printf("%.17g %.17g %.17g %lld\n", pow(1.1, 77), exp(-3.25), atan2(1, -3), llrint(1e15 / 7));
    printf("%a %a\n", 0x1p-1074, nextafter(1, 2));
}

#if defined(__SSE2__)
#error "built for i386 on purpose"
#endif
__attribute__((target("sse2"))) static void vectors(void)
{
    typedef double v2 __attribute__((vector_size(16)));
    typedef int v4 __attribute__((vector_size(16)));
    v2 a = {1.5, -2.25}, b = {3.125, 1e10};
    v4 i = {1, -2, 3, 0x7fffffff}, j = {5, 6, -7, 1};
    static v2 store[64];
    for (int k = 0; k < 64; k++) {
        a = (a + b - (v2){k, 1}) / (v2){3, 7};
        store[k] = a;
        b = b / (v2){2, 3} + store[k / 2];
        i = i * j + (i > j);
    }
    printf("%.17g %.17g %.17g %d %d %d %d\n", a[0], a[1], b[1], i[0], i[1], i[2], i[3]);
}

static void integers(void)
{
    uint64_t a = 0x123456789abcdef1ull, b = 0xfedcba9876543ull;
    int64_t s = -1234567890123456789ll;
    uint32_t hash = 0;
    for (int i = 0; i < 3000; i++) {
        a = a * b + (uint64_t)i;
        b ^= a >> (i & 63) | a << (63 - (i & 63));
        s = s / (int64_t)(i + 3) * 1000003 - s % (i + 7);
        hash = hash * 31 + (uint32_t)(a ^ b ^ (uint64_t)s);
        hash ^= (uint32_t)(a / (b | 1)) + (uint32_t)(b % ((a >> 33) + 1));
    }
    printf("%016llx %016llx %lld %08x\n", (unsigned long long)a, (unsigned long long)b,
           (long long)s, hash);
}

static void strings(void)
{
    char *a = malloc(100001), *b = malloc(100001);
    for (int i = 0; i < 100000; i++) {
        a[i] = (char)('a' + i * 7 % 26);
    }
    a[100000] = 0;
    memcpy(b, a, 100001);
    memmove(b + 13, b, 50000);
    printf("%d %d %d %s\n", strlen(a) == 100000, strcmp(a, b) < 0,
           memcmp(a + 50013, b + 50013, 49000), strstr(b + 40000, "hov") ? "found" : "not found");
    printf("%.20s %d\n", strrchr(a, 'q') - 5, (int)(strchr(a, 'z') - a));
    free(a);
    free(b);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn = PTHREAD_COND_INITIALIZER;
static _Atomic int atomic_sum;
static _Atomic uint64_t wide_sum; /* CMPXCHG8B */
static int next, order[40];
static __thread int mine;

static void *worker(void *arg)
{
    int me = (int)(intptr_t)arg;
    for (int round = 0; round < 10; round++) {
        pthread_mutex_lock(&lock);
        while (next % 4 != me) {
            pthread_cond_wait(&turn, &lock);
        }
        order[next++] = me;
        pthread_cond_broadcast(&turn);
        pthread_mutex_unlock(&lock);
        mine += me;
        atomic_sum++;
        wide_sum += 0x100000001ull;
    }
    return (void *)(intptr_t)mine;
}

static void threads(void)
{
    pthread_t t[4];
    int sum = 0, sorted = 1;
    for (int i = 0; i < 4; i++) {
        pthread_create(&t[i], NULL, worker, (void *)(intptr_t)i);
    }
    for (int i = 0; i < 4; i++) {
        void *r;
        pthread_join(t[i], &r);
        sum += (int)(intptr_t)r;
    }
    for (int i = 0; i < 40; i++) {
        sorted &= order[i] == i % 4;
    }
    printf("threads: %d %d %d %llx\n", sum, sorted, atomic_sum, (unsigned long long)wide_sum);
}

/* Code written and changed at run time. */
static void jit(void)
{
    uint8_t *p =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int (*f)(int) = (int (*)(int))p, sum = 0;
    for (int i = 0; i < 100; i++) {
        uint8_t code[] = {0x8b, 0x44, 0x24, 0x04, 0x05, (uint8_t)i, 0, 0, 0, 0xc3};
        memcpy(p, code, sizeof code);
        sum += f(i * 2);
    }
    printf("jit %d\n", sum);
}

static void forks(void)
{
    int pipes[2], status, total = 0;
    if (pipe(pipes) != 0) {
        return;
    }
    for (int i = 0; i < 5; i++) {
        if (fork() == 0) {
            int v = i * i;
            _exit(write(pipes[1], &v, sizeof v) == sizeof v ? i : 99);
        }
    }
    for (int i = 0; i < 5; i++) {
        int v;
        wait(&status);
        total += WEXITSTATUS(status);
        total += read(pipes[0], &v, sizeof v) == sizeof v ? v * 100 : 0;
    }
    printf("forks %d\n", total);
}

int main(void)
{
    printf("%zu %zu\n", sizeof(long), sizeof(long double));
    floats();
    vectors();
    integers();
    strings();
    threads();
    jit();
    fflush(stdout);
    forks();
    return 3;
}

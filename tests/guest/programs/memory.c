/* SPDX-License-Identifier: Apache-2.0 */
/* Code that is written, moved and shared; protections; copy on write; the many ways of mapping. */
#include <setjmp.h>
#include <sys/mman.h>

#include "observe.h"

#define PAGE 4096

static sigjmp_buf landing;
static int trap_code, trap_error;

static void land(int n, siginfo_t *info, void *context)
{
    trap_code = info->si_code;
    trap_error = (int)((ucontext_t *)context)->uc_mcontext.gregs[REG_ERR];
    siglongjmp(landing, n);
}

typedef int (*function)(void);

/* mov $value, %eax; ret */
static void put_function(uint8_t *at, int value)
{
    at[0] = 0xb8;
    memcpy(at + 1, &value, 4);
    at[5] = 0xc3;
}

static int call(const uint8_t *at)
{
    return ((function)(uintptr_t)at)();
}

static void try_call(const char *name, const uint8_t *at)
{
    int n = sigsetjmp(landing, 1);
    if (n == 0)
        printf("%s: %d\n", name, call(at));
    else
        printf("%s: signal %d code %d error %#x\n", name, n, trap_code, trap_error);
}

static uint8_t *map(size_t len, int prot)
{
    uint8_t *p = mmap(NULL, len, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(p != MAP_FAILED);
    return p;
}

static void protections(void)
{
    uint8_t *p = map(PAGE, PROT_READ | PROT_WRITE);
    put_function(p, 1);
    try_call("not executable", p);
    MUST(mprotect(p, PAGE, PROT_READ | PROT_EXEC) == 0);
    try_call("executable", p);
    MUST(mprotect(p, PAGE, PROT_READ | PROT_WRITE) == 0);
    put_function(p, 2);
    try_call("not executable again", p);
    MUST(mprotect(p, PAGE, PROT_EXEC | PROT_READ | PROT_WRITE) == 0);
    try_call("rewritten", p);
    MUST(mprotect(p, PAGE, PROT_NONE) == 0);
    try_call("no access", p);
    MUST(munmap(p, PAGE) == 0);
    try_call("gone", p);
    MUST(mmap(p, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
              -1, 0) == p);
    put_function(p, 3);
    try_call("mapped anew", p);
    MUST(madvise(p, PAGE, MADV_DONTNEED) == 0);
    put_function(p, 4);
    try_call("dropped and written", p);
}

/* Patched thousands of times, also by itself, also the instruction that comes next. */
static void self_modifying(void)
{
    uint8_t *p = map(2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
    long sum = 0;
    for (int i = 0; i < 20000; i++) {
        put_function(p + i % 64 * 6, i);
        sum += call(p + i % 64 * 6);
    }
    printf("patched from outside: %ld\n", sum);
    for (int i = 0; i < 2000; i++) { /* the constant lies on both sides of the page's end */
        put_function(p + PAGE - 3, i);
        sum += call(p + PAGE - 3);
    }
    printf("across pages: %ld\n", sum);
    /* movb $n, next's constant; next: mov $0, %eax; ret */
    static const uint8_t own[] = {0xc6, 0x05, 1, 0, 0, 0, 0, 0xb8, 0, 0, 0, 0, 0xc3};
    memcpy(p, own, sizeof own);
    sum = 0;
    for (int i = 0; i < 256; i++) {
        p[6] = (uint8_t)i;
        sum += call(p);
    }
    printf("patching the next instruction: %ld\n", sum);
    /* rep stosb over the code behind itself: the new code must run */
    static const uint8_t fill[] = {0x48, 0x8d, 0x3d, 9,    0,    0,    0,    0xb9, 5,
                                   0,    0,    0,    0xb0, 0x90, 0xf3, 0xaa, 0x0f, 0x0b,
                                   0x0f, 0x0b, 0x90, 0x31, 0xc0, 0xb0, 77,   0xc3};
    memcpy(p, fill, sizeof fill);
    printf("written over by rep stosb: %d\n", call(p));
}

static void two_views(void)
{
    int fd = memfd_create("code", 0);
    MUST(fd >= 0 && ftruncate(fd, PAGE) == 0);
    uint8_t *w = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    uint8_t *x = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    MUST(w != MAP_FAILED && x != MAP_FAILED);
    long sum = 0;
    for (int i = 0; i < 5000; i++) {
        put_function(w, i);
        __builtin_ia32_mfence();
        uint32_t a = 0, c = 0;
        __asm__ volatile("cpuid"
                         : "+a"(a), "+c"(c)::"ebx", "edx"); /* serialises: the other view changed */
        sum += call(x);
    }
    printf("written by another view: %ld\n", sum);
    put_function(w, 1);
    sum = call(x);
    uint8_t new_code[6];
    put_function(new_code, 1000);
    MUST(pwrite(fd, new_code, sizeof new_code, 0) == sizeof new_code);
    printf("written by a system call: %ld %d\n", sum, call(x));
}

static uint8_t *shared_code;

static int child_code(void *arg)
{
    int before = call(shared_code);
    put_function(shared_code, 222);
    printf("child: %d, then %d\n", before, call(shared_code));
    return 0;
}

static void copy_on_write(void)
{
    size_t len = 64 * PAGE;
    uint8_t *data = map(len, PROT_READ | PROT_WRITE);
    shared_code = map(PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
    put_function(shared_code, 111);
    int before = call(shared_code);
    in_child(child_code, NULL);
    printf("parent: %d, then %d\n", before, call(shared_code));
    for (size_t i = 0; i < len; i += 8)
        *(uint64_t *)(data + i) = i;
    int pipe_fd[2];
    MUST(pipe(pipe_fd) == 0);
    fflush(stdout);
    for (int child = 0; child < 4; child++) {
        pid_t pid = fork();
        MUST(pid >= 0);
        if (pid == 0) {
            uint64_t sum = 0;
            for (size_t i = (size_t)child * PAGE; i < len; i += 4 * PAGE)
                memset(data + i, child + 1, PAGE);
            for (size_t i = 0; i < len; i++)
                sum = sum * 31 + data[i];
            _exit(write(pipe_fd[1], &(uint64_t[]){(uint64_t)child, sum}, 16) != 16);
        }
    }
    uint64_t sums[4], pair[2], own = 0;
    for (int i = 0; i < 4; i++) {
        MUST(read(pipe_fd[0], pair, 16) == 16);
        sums[pair[0]] = pair[1];
    }
    while (wait(NULL) > 0)
        ;
    for (size_t i = 0; i < len; i++)
        own = own * 31 + data[i];
    printf("copies: %llx %llx %llx %llx, original %llx\n", (unsigned long long)sums[0],
           (unsigned long long)sums[1], (unsigned long long)sums[2], (unsigned long long)sums[3],
           (unsigned long long)own);
}

static void mappings(void)
{
    int fd = memfd_create("data", 0);
    MUST(fd >= 0 && ftruncate(fd, 3 * PAGE) == 0);
    uint8_t *shared = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    uint8_t *private = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    MUST(shared != MAP_FAILED && private != MAP_FAILED);
    shared[0] = 1;
    shared[PAGE] = 2;
    private[0] = 9;
    shared[0] = 3;
    shared[PAGE] = 4;
    printf("shared %d %d, private %d %d\n", shared[0], shared[PAGE], private[0], private[PAGE]);
    uint8_t *moved = mremap(private, 3 * PAGE, 300 * PAGE, MREMAP_MAYMOVE);
    MUST(moved != MAP_FAILED);
    printf("moved: %d %d\n", moved[0], moved[PAGE]);
    uint8_t *low = mmap((void *)0x40000000, PAGE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    uint8_t *high = mmap((void *)0x7f0000000000, PAGE, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(low != MAP_FAILED && high != MAP_FAILED);
    *low = 5;
    *high = 6;
    printf("low %d high %d\n", *low, *high);
    size_t big = 64u << 20; /* with huge pages if the kernel likes */
    uint8_t *p = map(big, PROT_READ | PROT_WRITE);
    madvise(p, big, MADV_HUGEPAGE);
    uint64_t sum = 0;
    for (size_t i = 0; i < big; i += PAGE)
        p[i + i / PAGE % PAGE] = (uint8_t)(i >> 12);
    MUST(mprotect(p + 5 * PAGE, PAGE, PROT_READ) == 0);
    MUST(madvise(p + (8u << 20), 4u << 20, MADV_DONTNEED) == 0);
    for (size_t i = 0; i < big; i++)
        sum = sum * 3 + p[i];
    printf("large area: %llx\n", (unsigned long long)sum);
    on_signal(SIGSEGV, land, 0);
    if (sigsetjmp(landing, 1) == 0)
        p[5 * PAGE] = 1;
    else
        printf("a page of it: code %d error %#x\n", trap_code, trap_error);
}

int main(void)
{
    on_signal(SIGSEGV, land, 0);
    on_signal(SIGILL, land, 0);
    protections();
    self_modifying();
    two_views();
    copy_on_write();
    mappings();
    return 0;
}

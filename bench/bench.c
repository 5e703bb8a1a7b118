/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The benchmark program: bench [--budget MS] [--busybox PATH] [--hold MS] [--only TEXT] [--serve]
 * A static binary that runs on the host and, as rdinit=/bench, is PID 1 of a guest; then it ends
 * with a power-off. Lines on standard output, for tools/run-bench:
 *   bench begin MONOTONIC_NS         first of all: in a guest, the end of the boot
 *   bench tsc KHZ                    of the time-stamp counter, natively only
 *   bench cmdline TEXT               of the kernel, in a guest only
 *   bench row GROUP NS RUNS RESULT NAME  the fastest run, per operation
 *   bench end MONOTONIC_NS
 * --budget: at least so long on each row (200); --hold: stay so long after the end. --only:
 * the rows whose names contain TEXT, for profiling. --serve, instead of any row, for
 * tools/run-bench-vms: "bench ready", then for each line of standard input a run of busybox's true,
 * and "bench done STATUS".
 */
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "rows.h"

#define MIN_RUNS 3
#define NS_PER_MS UINT64_C(1000000)

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 * NS_PER_MS + (uint64_t)t.tv_nsec;
}

/* In the guest, nothing is there yet but the initramfs. */
static void become_init(void)
{
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    mount("proc", "/proc", "proc", 0, NULL);
    int fd = open("/dev/console", O_RDWR);
    for (int i = 0; fd >= 0 && i < 3; i++)
        if (i != fd)
            dup2(fd, i);
}

static void print_cmdline(void)
{
    char line[4096];
    int fd = open("/proc/cmdline", O_RDONLY);
    ssize_t n = fd < 0 ? 0 : read(fd, line, sizeof line - 1);

    line[n > 0 ? n : 0] = 0;
    line[strcspn(line, "\n")] = 0;
    printf("bench cmdline %s\n", line);
    if (fd >= 0)
        close(fd);
}

/* QEMU's guest has nothing to measure its counter with, and must be told. */
static void print_tsc(void)
{
    uint64_t t0 = now(), c0 = __rdtsc();

    usleep(100000);
    uint64_t t1 = now(), c1 = __rdtsc();
    printf("bench tsc %llu\n", (unsigned long long)((c1 - c0) * NS_PER_MS / (t1 - t0)));
}

static void measure(const struct row *row, const char *group, struct row_env *env, uint64_t budget)
{
    uint64_t best = UINT64_MAX, total = 0, result = 0;
    unsigned runs = 0;

    if (row->init)
        row->init(env);
    /* The first run, which faults pages in and fills caches and translations, does not count. */
    for (unsigned i = 0; i <= MIN_RUNS || total < budget; i++) {
        if (row->before)
            row->before(env);
        uint64_t start = now();
        uint64_t r = row->run(env);
        uint64_t took = now() - start;
        if (i > 0 && r != result) {
            printf("bench error %s: results differ between runs\n", row->name);
            return;
        }
        result = r;
        if (i == 0)
            continue;
        best = took < best ? took : best;
        total += took;
        runs++;
    }
    printf("bench row %s %.2f %u %llx %s\n", group, (double)best / row->ops, runs,
           (unsigned long long)result, row->name);
}

static bool run_all(struct row_env *env, uint64_t budget, const char *only)
{
    static const struct {
        const char *name;
        const struct row *rows;
    } groups[] = {{"os", rows_os}, {"int", rows_int}, {"fp", rows_fp}, {"smp", rows_smp}};

    env->arena = mmap(NULL, ROWS_ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (env->arena == MAP_FAILED) {
        puts("bench error no memory");
        return false;
    }
    /* Small pages, and no part of what fork copies: the arena is not what those rows measure. */
    madvise(env->arena, ROWS_ARENA, MADV_NOHUGEPAGE);
    madvise(env->arena, ROWS_ARENA, MADV_DONTFORK);
    for (unsigned g = 0; g < sizeof groups / sizeof groups[0]; g++)
        for (const struct row *row = groups[g].rows; row->name; row++)
            if (strstr(row->name, only))
                measure(row, groups[g].name, env, budget);
    return true;
}

static void serve(const char *busybox)
{
    char line[256];

    puts("bench ready");
    while (fgets(line, sizeof line, stdin)) {
        int status = -1;
        pid_t pid = fork();

        if (pid == 0) {
            execl(busybox, "busybox", "true", (char *)NULL);
            _exit(127);
        }
        if (pid > 0)
            waitpid(pid, &status, 0);
        printf("bench done %d\n", status);
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"budget", required_argument, NULL, 'b'}, {"busybox", required_argument, NULL, 'x'},
        {"hold", required_argument, NULL, 'h'},   {"only", required_argument, NULL, 'o'},
        {"serve", no_argument, NULL, 's'},        {0}};
    struct row_env env = {.busybox = "/busybox"};
    const char *only = "";
    uint64_t budget = 200;
    unsigned hold = 0;
    bool init = getpid() == 1, serves = false;
    int c;

    if (init)
        become_init();
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("bench begin %llu\n", (unsigned long long)now());
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 'b')
            budget = strtoull(optarg, NULL, 10);
        else if (c == 'x')
            env.busybox = optarg;
        else if (c == 'h')
            hold = (unsigned)strtoul(optarg, NULL, 10);
        else if (c == 'o')
            only = optarg;
        else if (c == 's')
            serves = true;
        else if (!init)
            return 2;
    }
    if (init)
        print_cmdline();
    else
        print_tsc();
    bool ok = true;
    if (serves)
        serve(env.busybox);
    else
        ok = run_all(&env, budget * NS_PER_MS, only);
    printf("bench end %llu\n", (unsigned long long)now());
    usleep(hold * 1000);
    if (init) {
        fflush(stdout);
        reboot(RB_POWER_OFF);
    }
    return ok ? 0 : 1;
}

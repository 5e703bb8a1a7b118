/* SPDX-License-Identifier: Apache-2.0 */
/* Rows that are mostly the kernel's: system calls, faults, processes, pipes, copies. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rows.h"

#define PAGE 4096u
#define FAULT_PAGES 4096u
#define COPY_BYTES (16u << 20)
#define N_GETPPID 2000
#define N_FORK 8
#define N_EXEC 4
#define N_PIPE 200

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t getppid_run(struct row_env *env)
{
    long sum = 0;

    for (int i = 0; i < N_GETPPID; i++)
        sum |= syscall(SYS_getppid);
    return sum < 0;
}

/* Small pages everywhere: whether the kernel gives huge ones is not what is measured. */
static void fault_before(struct row_env *env)
{
    if (env->mapping && munmap(env->mapping, FAULT_PAGES * PAGE) != 0)
        die("munmap");
    env->mapping =
        mmap(NULL, FAULT_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (env->mapping == MAP_FAILED)
        die("mmap");
    madvise(env->mapping, FAULT_PAGES * PAGE, MADV_NOHUGEPAGE);
    madvise(env->mapping, FAULT_PAGES * PAGE, MADV_DONTFORK); /* it outlives the row */
}

static uint64_t fault_run(struct row_env *env)
{
    volatile uint8_t *p = env->mapping;

    for (unsigned i = 0; i < FAULT_PAGES; i++)
        p[i * PAGE] = 1;
    return FAULT_PAGES;
}

static uint64_t wait_for(pid_t pid)
{
    int status;

    if (pid < 0)
        die("fork");
    if (waitpid(pid, &status, 0) != pid)
        die("waitpid");
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static uint64_t fork_run(struct row_env *env)
{
    uint64_t failed = 0;

    for (int i = 0; i < N_FORK; i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        failed += wait_for(pid);
    }
    return failed;
}

static pid_t spawn_true(const char *busybox)
{
    char *const args[] = {(char *)"busybox", (char *)"true", NULL}, *const none[] = {NULL};
    pid_t pid = vfork();

    if (pid == 0) {
        execve(busybox, args, none);
        _exit(127);
    }
    return pid;
}

static uint64_t exec_run(struct row_env *env)
{
    for (int i = 0; i < N_EXEC; i++)
        if (wait_for(spawn_true(env->busybox)) != 0)
            die(env->busybox);
    return 0;
}

/* Both ends on one CPU, as in a guest of one. Forking is in the time, spread over N_PIPE trips. */
static uint64_t pipe_run(struct row_env *env)
{
    int to[2], from[2];
    cpu_set_t all, one;
    char c = 'x';

    if (pipe(to) != 0 || pipe(from) != 0)
        die("pipe");
    CPU_ZERO(&one);
    CPU_SET((unsigned)sched_getcpu(), &one);
    if (sched_getaffinity(0, sizeof all, &all) != 0 || sched_setaffinity(0, sizeof one, &one) != 0)
        die("affinity");
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < N_PIPE; i++)
            if (read(to[0], &c, 1) != 1 || write(from[1], &c, 1) != 1)
                _exit(1);
        _exit(0);
    }
    for (int i = 0; pid > 0 && i < N_PIPE; i++)
        if (write(to[1], &c, 1) != 1 || read(from[0], &c, 1) != 1)
            die("pipe round trip");
    uint64_t failed = wait_for(pid);
    sched_setaffinity(0, sizeof all, &all);
    for (int i = 0; i < 2; i++) {
        close(to[i]);
        close(from[i]);
    }
    return failed;
}

static void copy_init(struct row_env *env)
{
    memset(env->arena, 0x5a, 2 * COPY_BYTES);
}

static uint64_t copy_run(struct row_env *env)
{
    memcpy(env->arena + COPY_BYTES, env->arena, COPY_BYTES);
    return env->arena[2 * COPY_BYTES - 1];
}

const struct row rows_os[] = {
    {"getppid", N_GETPPID, NULL, NULL, getppid_run},
    {"anonymous page fault", FAULT_PAGES, NULL, fault_before, fault_run},
    {"fork+exit+wait", N_FORK, NULL, NULL, fork_run},
    {"vfork+exec+wait", N_EXEC, NULL, NULL, exec_run},
    {"pipe round trip", N_PIPE, NULL, NULL, pipe_run},
    {"memcpy 16 MiB", 1, copy_init, NULL, copy_run},
    {0},
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest suite's programs share. Each prints what it observes, and nothing that may differ
 * between two Linux machines that both work: the host's output is the reference for the guest's.
 */
#ifndef OBSERVE_H
#define OBSERVE_H

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

/* For what must succeed for the test to make sense. */
#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            printf("%s:%d: %s: %s\n", __FILE__, __LINE__, #x, strerror(errno));                    \
            exit(99);                                                                              \
        }                                                                                          \
    } while (0)

/* So that a program that hangs has said where. */
__attribute__((constructor)) static void by_lines(void)
{
    setvbuf(stdout, NULL, _IOLBF, 4096);
}

static inline void on_signal(int n, void (*f)(int, siginfo_t *, void *), int flags)
{
    struct sigaction a = {.sa_sigaction = f, .sa_flags = SA_SIGINFO | flags};
    MUST(sigaction(n, &a, NULL) == 0);
}

/* Runs f(arg) in a child. Its exit status, or 1000 + the signal that ended it. */
static inline int in_child(int (*f)(void *), void *arg)
{
    int status;
    fflush(stdout);
    pid_t pid = fork();
    MUST(pid >= 0);
    if (pid == 0) {
        int code = f(arg);
        fflush(stdout);
        _exit(code);
    }
    MUST(waitpid(pid, &status, 0) == pid);
    return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Threads that run f with 1 to n. */
static inline void start_threads(pthread_t *threads, unsigned n, void *(*f)(void *))
{
    for (uintptr_t i = 0; i < n; i++)
        MUST(pthread_create(&threads[i], NULL, f, (void *)(i + 1)) == 0);
}

/* Waits for them. The sum of what they returned. */
static inline uintptr_t sum_threads(const pthread_t *threads, unsigned n)
{
    uintptr_t sum = 0;
    for (unsigned i = 0; i < n; i++) {
        void *result;
        MUST(pthread_join(threads[i], &result) == 0);
        sum += (uintptr_t)result;
    }
    return sum;
}

static inline uint64_t clock_ns(clockid_t id)
{
    struct timespec t;
    MUST(clock_gettime(id, &t) == 0);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A generator of its own: rand() differs between C libraries. */
static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

#endif

// SPDX-License-Identifier: Apache-2.0
/*
 * As posix_spawn does it, which knows no namespaces: the child borrows our memory on a stack of its
 * own until it becomes the program, so the cost does not grow with ours. Until then it calls
 * nothing that takes a lock.
 */
#include "worker/birth.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define STACK_BYTES (64u << 10)

/* Written by the parent, and after it by the child, which alone runs then. */
struct birth {
    char *const *argv, *const *env;
    const int *files;
    unsigned n;
    int first, quiet;
    bool own_user;            /* in a user namespace of its own, too */
    char user[32], group[32]; /* what is written into its maps */
    int failed;               /* an errno */
};

static bool put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    size_t len = strlen(text);
    bool good = write(fd, text, len) == (ssize_t)len;
    close(fd);
    return good;
}

/* We stay who we are; without this, files of our own could not be opened. */
static bool map_user(const struct birth *b)
{
    return put("/proc/self/setgroups", "deny") && put("/proc/self/uid_map", b->user) &&
           put("/proc/self/gid_map", b->group);
}

static void default_signals(void)
{
    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_DFL); /* refused for some, which are so already */
}

static bool set_files(const struct birth *b)
{
    for (unsigned i = 0; i < b->n; i++)
        if (dup2(b->files[i], b->first + (int)i) < 0)
            return false;
    for (int fd = 0; fd < b->quiet; fd++) {
        close(fd); /* so that the next one opened is it */
        if (open("/dev/null", O_RDWR) != fd)
            return false;
    }
    return syscall(SYS_close_range, b->first + (int)b->n, ~0u, 0) == 0;
}

/* A sanitizer would look for the stack of a thread, and for leaks of a process. */
__attribute__((no_sanitize("address"))) static int child_main(void *opaque)
{
    struct birth *b = opaque;
    sigset_t none;
    default_signals();
    if ((b->own_user && !map_user(b)) || setsid() < 0 || !set_files(b)) {
        b->failed = errno ? errno : EIO;
        syscall(SYS_exit_group, 127);
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(b->argv[0], b->argv, b->env);
    b->failed = errno;
    syscall(SYS_exit_group, 127);
    return 0;
}

/* One attempt, with these namespaces. */
static int attempt(struct birth *b, char *stack, int namespaces, int *pid)
{
    b->own_user = namespaces & CLONE_NEWUSER;
    b->failed = 0;
    *pid = clone(child_main, stack + STACK_BYTES, CLONE_VM | CLONE_VFORK | SIGCHLD | namespaces, b);
    if (*pid < 0)
        return errno;
    if (b->failed)
        while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
            ;
    return b->failed;
}

/* Who may not have a PID namespace may have one in a user namespace. */
static int attempt_all(struct birth *b, char *stack, int *pid)
{
#ifndef SM_SANITIZED /* whose run time looks for its threads under /proc by their numbers */
    static const int namespaces[] = {CLONE_NEWPID, CLONE_NEWUSER | CLONE_NEWPID};
    for (unsigned i = 0; i < sizeof namespaces / sizeof namespaces[0]; i++)
        if (attempt(b, stack, namespaces[i], pid) == 0)
            return 0;
#endif
    return attempt(b, stack, 0, pid);
}

int birth(char *const *argv, char *const *env, const int *files, unsigned n, int first, int quiet,
          int *pid)
{
    struct birth b = {
        .argv = argv, .env = env, .files = files, .n = n, .first = first, .quiet = quiet};
    sigset_t all, old;
    int cancel;
    snprintf(b.user, sizeof b.user, "%u %u 1", (unsigned)geteuid(), (unsigned)geteuid());
    snprintf(b.group, sizeof b.group, "%u %u 1", (unsigned)getegid(), (unsigned)getegid());
    char *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        return errno;
    /* A handler that ran in the child would run in our memory. */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
    int rc = attempt_all(&b, stack, pid);
    pthread_setcancelstate(cancel, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    munmap(stack, STACK_BYTES);
    return rc;
}

// SPDX-License-Identifier: Apache-2.0
#include "oracle_child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

int child_new(struct oracle_child *c)
{
    *c = (struct oracle_child){.requests = -1, .replies = -1};
    c->shared_fd = memfd_create("oracle_shared", MFD_CLOEXEC);
    if (c->shared_fd < 0 || ftruncate(c->shared_fd, sizeof *c->shared) != 0) {
        return -1;
    }
    c->shared = mmap(NULL, sizeof *c->shared, PROT_READ | PROT_WRITE, MAP_SHARED, c->shared_fd, 0);
    return c->shared == MAP_FAILED ? -1 : 0;
}

/* It ends by itself when the requests do. */
static void reap(struct oracle_child *c)
{
    close(c->requests);
    close(c->replies);
    waitpid(c->pid, NULL, 0);
    c->pid = 0;
}

void child_end(struct oracle_child *c)
{
    if (c->pid > 0) {
        reap(c);
    }
}

static void exec_host(const struct oracle_child *c, int requests, int replies)
{
    const char *dir = getenv("SM_ORACLE_HOST");
    char path[4096], fds[3][16];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 8);
    if (n <= 0) {
        return;
    }
    snprintf(path + n, 8, "_host");
    const int numbers[3] = {dup(c->shared_fd), dup(requests), dup(replies)};
    for (unsigned i = 0; i < 3; i++) {
        snprintf(fds[i], sizeof fds[i], "%d", numbers[i]);
    }
    execl(dir ? dir : path, "oracle_host", fds[0], fds[1], fds[2], (char *)NULL);
}

static int start(struct oracle_child *c)
{
    int to[2], from[2];
    if (pipe2(to, O_CLOEXEC) != 0) {
        return -1;
    }
    if (pipe2(from, O_CLOEXEC) != 0) {
        close(to[0]);
        close(to[1]);
        return -1;
    }
    c->pid = fork();
    if (c->pid == 0) {
        exec_host(c, to[0], from[1]);
        _exit(6);
    }
    close(to[0]);
    close(from[1]);
    c->requests = to[1];
    c->replies = from[0];
    return c->pid < 0 ? -1 : 0;
}

int child_ask(struct oracle_child *c, uint32_t first, uint32_t n)
{
    if (c->pid == 0 && start(c) != 0) {
        return -1;
    }
    c->shared->first = first;
    c->shared->n = n;
    return write(c->requests, "", 1) == 1 ? 0 : -1;
}

enum child_end child_wait(struct oracle_child *c, unsigned seconds)
{
    struct pollfd p = {.fd = c->replies, .events = POLLIN};
    char byte;
    int ready;
    do {
        ready = poll(&p, 1, (int)seconds * 1000);
    } while (ready < 0 && errno == EINTR);
    if (ready == 1 && read(c->replies, &byte, 1) == 1) {
        return CHILD_DONE;
    }
    kill(c->pid, SIGKILL);
    reap(c);
    return ready ? CHILD_DIED : CHILD_HANGS;
}

// SPDX-License-Identifier: Apache-2.0
#include "detach.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The child sends its VM's name, or ends. */
static int wait_ready(int ready, pid_t child)
{
    char name[RECORD_NAME_MAX + 1] = "";
    int status;
    ssize_t n;
    do {
        n = read(ready, name, sizeof name - 1);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        puts(name);
        return 0;
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(status))
        return say("run: the VM's process was ended by SIG%s", sigabbrev_np(WTERMSIG(status)));
    return WEXITSTATUS(status) ? WEXITSTATUS(status) : EXIT_OURS;
}

int detach_fork(struct detach *d)
{
    int fds[2];
    fflush(NULL);
    if (pipe2(fds, O_CLOEXEC) != 0)
        return say("run: cannot make a pipe: %s", strerror(errno));
    pid_t child = fork();
    if (child < 0)
        return say("run: cannot start a process: %s", strerror(errno));
    if (child > 0) {
        close(fds[1]);
        return wait_ready(fds[0], child);
    }
    close(fds[0]);
    d->ready = fds[1];
    return -1;
}

void detach_ready(struct detach *d, const struct record *r)
{
    if (d->ready < 0)
        return;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int messages = openat(r->dir, "messages", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    setsid();
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    dup2(messages < 0 ? null : messages, STDERR_FILENO);
    if (write(d->ready, r->name, strlen(r->name)) < 0)
        say("run: nobody waited for the VM"); /* the parent was killed: the VM was wanted */
    close(d->ready);
    close(null);
    if (messages >= 0)
        close(messages);
    if (chdir("/") != 0)
        say("run: cannot leave the folder: %s", strerror(errno));
}

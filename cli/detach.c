// SPDX-License-Identifier: Apache-2.0
#include "detach.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int detach_begin(struct detach *d)
{
    int fds[2];
    fflush(NULL);
    if (pipe2(fds, O_CLOEXEC) != 0)
        return say("%s: cannot make a pipe: %s", d->command, strerror(errno));
    d->child = fork();
    if (d->child < 0) {
        int error = errno;
        close(fds[0]);
        close(fds[1]);
        return say("%s: cannot start a process: %s", d->command, strerror(error));
    }
    close(fds[d->child ? 1 : 0]);
    d->ready = fds[d->child ? 0 : 1];
    return d->child ? DETACH_PARENT : DETACH_CHILD;
}

/* The child sends its VM's name, or ends. */
int detach_wait(struct detach *d)
{
    char name[RECORD_NAME_MAX + 1] = "";
    int status;
    ssize_t n;
    do {
        n = read(d->ready, name, sizeof name - 1);
    } while (n < 0 && errno == EINTR);
    close(d->ready);
    if (n > 0) {
        puts(d->shown ? d->shown : name);
        return 0;
    }
    while (waitpid(d->child, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(status))
        return say("%s: the VM's process was ended by SIG%s", d->command,
                   sigabbrev_np(WTERMSIG(status)));
    return WEXITSTATUS(status) ? WEXITSTATUS(status) : EXIT_OURS;
}

int detach_fork(struct detach *d)
{
    int who = detach_begin(d);
    return who == DETACH_PARENT ? detach_wait(d) : who;
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
        say("%s: nobody waited for the VM",
            d->command); /* the parent was killed: the VM was wanted */
    close(d->ready);
    close(null);
    if (messages >= 0)
        close(messages);
    if (chdir("/") != 0)
        say("%s: cannot leave the folder: %s", d->command, strerror(errno));
}

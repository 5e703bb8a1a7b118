// SPDX-License-Identifier: Apache-2.0
#include "worker/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "worker/birth.h"
#include "worker/control.h"

/* A sanitizer in the worker reports on stderr and reads its options from the environment. */
#ifdef SM_SANITIZED
#define REPORTS 1
#else
#define REPORTS 0
#endif

/* Copies first, out of the way of the numbers that the child wants. */
static int copy_and_spawn(char *const *argv, int control, const int *files, unsigned n, int *pid)
{
    char *const nothing[] = {NULL};
    int copies[1 + PROCESS_MAX_FILES] = {0}, rc = 0;
    unsigned made = 0;
    for (; !rc && made < n + 1; made += rc == 0) {
        copies[made] = fcntl(made ? files[made - 1] : control, F_DUPFD_CLOEXEC,
                             CONTROL_FD + 1 + PROCESS_MAX_FILES);
        rc = copies[made] < 0 ? errno : 0;
    }
    rc = rc ? rc
            : birth(argv, REPORTS ? environ : nothing, copies, n + 1, CONTROL_FD, REPORTS ? 2 : 3,
                    pid);
    while (made-- > 0)
        close(copies[made]);
    return rc;
}

int process_start(char *const *argv, const int *files, unsigned n, struct process *out,
                  struct sm_error *err)
{
    int pair[2];
    *out = (struct process){.pidfd = -1, .control = -1};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return err_sys(err, "cannot create a socket pair for the VM's process");
    int failed = copy_and_spawn(argv, pair[1], files, n, &out->pid);
    close(pair[1]);
    if (failed) {
        errno = failed;
        int rc = err_sys(err, "cannot start the VM's process %s", argv[0]);
        close(pair[0]);
        return rc;
    }
    out->control = pair[0];
    out->pidfd = pidfd_open(out->pid, 0);
    if (out->pidfd >= 0)
        return 0;
    int rc = err_sys(err, "cannot watch the VM's process");
    kill(out->pid, SIGKILL);
    waitpid(out->pid, NULL, 0);
    close(pair[0]);
    out->control = -1;
    return rc;
}

void process_reap(struct process *p, char *how, unsigned size)
{
    siginfo_t info = {0};
    int rc;
    how[0] = 0;
    do
        rc = waitid(P_PIDFD, (id_t)p->pidfd, &info, WEXITED);
    while (rc != 0 && errno == EINTR);
    if (rc != 0) /* somebody else waits for all children, or SIGCHLD is ignored */
        snprintf(how, size, "it is gone");
    else if (info.si_code == CLD_EXITED && info.si_status != 0)
        snprintf(how, size, "it ended with exit code %d", info.si_status);
    else if (info.si_code != CLD_EXITED)
        snprintf(how, size, "it was killed by signal %d (%s)%s", info.si_status,
                 sigdescr_np(info.si_status),
                 info.si_status == SIGKILL  ? "; is the host out of memory?"
                 : info.si_status == SIGSYS ? "; it tried a system call that its jail forbids"
                                            : "");
}

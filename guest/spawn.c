/* SPDX-License-Identifier: Apache-2.0 */
/* See spawn.h. */
#include "spawn.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

static void shut(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void close_all(struct spawn *s, int child[3], int *report)
{
    shut(&s->in_fd);
    shut(&s->out_fd[0]);
    shut(&s->out_fd[1]);
    shut(&s->tty_fd);
    shut(&s->report_fd);
    shut(report);
    for (int i = 0; i < 3; i++)
        shut(&child[i]);
}

/* A pipe whose one end (0 read, 1 write) is ours and non-blocking; the other stays blocking. */
static int make_pipe(int ours, int *our_fd, int *child_fd)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return -1;
    *our_fd = fds[ours];
    *child_fd = fds[!ours];
    return fcntl(*our_fd, F_SETFL, O_NONBLOCK | (ours ? O_WRONLY : O_RDONLY));
}

static int open_tty(const struct codec_exec *x, int *master, int child[3])
{
    int unlocked = 0;

    *master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (*master < 0 || ioctl(*master, TIOCSPTLCK, &unlocked) < 0)
        return -1;
    spawn_resize(*master, x->rows, x->cols);
    child[0] = ioctl(*master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (child[0] < 0)
        return -1;
    for (int i = 1; i < 3; i++) {
        child[i] = fcntl(child[0], F_DUPFD_CLOEXEC, 3);
        if (child[i] < 0)
            return -1;
    }
    return 0;
}

static int open_pipes(const struct codec_exec *x, struct spawn *s, int child[3])
{
    if (x->flags & PROTO_EXEC_STDIN) {
        if (make_pipe(1, &s->in_fd, &child[0]) < 0)
            return -1;
    } else if ((child[0] = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0) {
        return -1;
    }
    if (make_pipe(0, &s->out_fd[0], &child[1]) < 0)
        return -1;
    return make_pipe(0, &s->out_fd[1], &child[2]);
}

static int fail(struct launch_report *r, const char *what)
{
    r->class = errno == ENOENT ? PROTO_ERR_INTERNAL : PROTO_ERR_RESOURCE;
    r->os_errno = (uint32_t)errno;
    snprintf(r->text, sizeof r->text, "%s: %s", what, strerror(errno));
    return -1;
}

int spawn_start(const struct codec_exec *x, struct spawn *out, struct launch_report *r)
{
    struct launch l = {.exec = x, .stdio = {-1, -1, -1}, .report_fd = -1};
    int status;

    *out = (struct spawn){-1, -1, {-1, -1}, -1, -1};
    if (x->flags & PROTO_EXEC_TTY)
        status = open_tty(x, &out->tty_fd, l.stdio);
    else
        status = open_pipes(x, out, l.stdio);
    if (status < 0 || make_pipe(0, &out->report_fd, &l.report_fd) < 0) {
        status =
            fail(r, x->flags & PROTO_EXEC_TTY ? "cannot open a terminal" : "cannot open pipes");
        close_all(out, l.stdio, &l.report_fd);
        return status;
    }
    out->pid = fork();
    if (out->pid == 0)
        launch_child(&l);
    if (out->pid < 0) {
        status = fail(r, "cannot create a process");
        close_all(out, l.stdio, &l.report_fd);
        return status;
    }
    for (int i = 0; i < 3; i++)
        shut(&l.stdio[i]);
    shut(&l.report_fd);
    return 0;
}

void spawn_resize(int tty_fd, uint16_t rows, uint16_t cols)
{
    struct winsize size = {.ws_row = rows, .ws_col = cols};

    if (rows || cols)
        ioctl(tty_fd, TIOCSWINSZ, &size);
}

void spawn_tty_eof(int tty_fd)
{
    struct termios t;
    char c;

    if (tcgetattr(tty_fd, &t) < 0 || !(t.c_lflag & ICANON) || !t.c_cc[VEOF])
        return;
    c = (char)t.c_cc[VEOF];
    if (write(tty_fd, &c, 1) < 0) {
        /* a full or dead terminal: its reader has other news already */
    }
}

/* The session id of a process, or -1. Field 6 of /proc/PID/stat; the name before it may hold
 * anything. */
static pid_t session_of(const char *pid)
{
    char path[64], line[512], *p;
    int session = -1;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    f = fopen(path, "re");
    if (!f)
        return -1;
    line[fread(line, 1, sizeof line - 1, f)] = 0;
    fclose(f);
    p = strrchr(line, ')');
    if (!p || sscanf(p + 1, " %*c %*d %*d %d", &session) != 1)
        return -1;
    return session;
}

void spawn_signal_all(pid_t pid, int signal)
{
    DIR *proc = opendir("/proc");

    /* The group first: it cannot fork away between being listed and being signalled. */
    if (kill(-pid, signal) < 0)
        kill(pid, signal); /* forked a moment ago and without a group yet */
    for (struct dirent *e = proc ? readdir(proc) : NULL; e; e = readdir(proc)) {
        pid_t other = atoi(e->d_name);
        /* Members of the first group have had theirs; a second one would be a second signal. */
        if (other > 1 && other != pid && session_of(e->d_name) == pid && getpgid(other) != pid)
            kill(other, signal);
    }
    if (proc)
        closedir(proc);
}

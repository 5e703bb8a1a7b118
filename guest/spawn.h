/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a session's process, with pipes or a terminal, and ending what it left. */
#ifndef SM_GUEST_SPAWN_H
#define SM_GUEST_SPAWN_H

#include <sys/types.h>

#include "launch.h"

/* The agent's ends; non-blocking, close-on-exec, owned by who asked; -1 where there is none. */
struct spawn {
    pid_t pid;
    int in_fd;     /* write: stdin */
    int out_fd[2]; /* read: stdout, stderr */
    int tty_fd;    /* the terminal's master: instead of all three */
    int report_fd; /* read: a struct launch_report, or end of file once execve succeeded */
};

/* 0, or -1 with *r filled and nothing left open. */
int spawn_start(const struct codec_exec *x, struct spawn *out, struct launch_report *r);

void spawn_resize(int tty_fd, uint16_t rows, uint16_t cols); /* 0 by 0 changes nothing */

/* End of input: a terminal's reader gets its end-of-file character. */
void spawn_tty_eof(int tty_fd);

/* signal to every process of the session that pid leads; pid must not be reaped yet. */
void spawn_signal_all(pid_t pid, int signal);

#endif

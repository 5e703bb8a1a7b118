/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SM_WORKER_PROCESS_H
#define SM_WORKER_PROCESS_H

#include "base/err.h"

struct process {
    int pid;
    int pidfd;   /* owned */
    int control; /* owned: our end of the socket pair */
};

/*
 * Start a program with argv, no environment, its end of a socket pair as CONTROL_FD and no other
 * descriptor but a standard three that lead nowhere; in a process group of its own, so that a
 * terminal's Ctrl-C is for the owner alone.
 */
int process_start(char *const *argv, struct process *out, struct sm_error *err);

/* Wait for its end and say how it came: text for a message, "" if it was exit(0). */
void process_reap(struct process *p, char *how, unsigned size);

#endif

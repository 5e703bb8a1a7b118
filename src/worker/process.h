/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SM_WORKER_PROCESS_H
#define SM_WORKER_PROCESS_H

#include "base/err.h"

struct process {
    int pid;
    int pidfd;   /* owned */
    int control; /* owned: our end of the socket pair */
};

#define PROCESS_MAX_FILES 35 /* of a snapshot, and two of each volume */

/*
 * Start a program with argv, no environment, its end of a socket pair as CONTROL_FD, copies of n
 * files from CONTROL_FD + 1 on, and no other descriptor but a standard three that lead nowhere; in
 * a session of its own, so that the owner's terminal is not its.
 */
int process_start(char *const *argv, const int *files, unsigned n, struct process *out,
                  struct sm_error *err);

/* Wait for its end and say how it came: text for a message, "" if it was exit(0). */
void process_reap(struct process *p, char *how, unsigned size);

#endif

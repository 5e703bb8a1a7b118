/* SPDX-License-Identifier: Apache-2.0 */
/* The process that runs the host's side of the oracle (oracle_host), and its batches. */
#ifndef SM_ORACLE_CHILD_H
#define SM_ORACLE_CHILD_H

#include <sys/types.h>

#include "oracle_case.h"

struct oracle_child {
    struct oc_shared *shared;
    int shared_fd;
    pid_t pid; /* 0: none */
    int requests, replies;
};

enum child_end {
    CHILD_DONE,
    CHILD_HANGS, /* shared->running goes on for ever; the process was killed */
    CHILD_DIED,  /* of shared->running */
};

/* Make the shared memory. The process starts with the first batch, after the pristine image was
 * written. 0, or -1 with errno. */
int child_new(struct oracle_child *c);
void child_end(struct oracle_child *c);

/* Start on the cases [first, n) of the shared memory. 0, or -1. */
int child_ask(struct oracle_child *c, uint32_t first, uint32_t n);
/* Wait for their end, or for seconds without one. */
enum child_end child_wait(struct oracle_child *c, unsigned seconds);

#endif

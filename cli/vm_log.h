/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a detached command wrote, with the stream and the time of each piece. The newest
 * VM_LOG_BYTES at least are kept, twice that at most: a full `log` becomes `log.1`.
 */
#ifndef CLI_VM_LOG_H
#define CLI_VM_LOG_H

#include <pthread.h>
#include <stdbool.h>

#include "record.h"

#define VM_LOG_BYTES (16u << 20)

struct vm_log {
    int dir; /* borrowed: the record's */
    int file;
    int pipes[2]; /* read ends: stdout, stderr */
    size_t size;  /* of file */
    pthread_t thread;
};

/* Start to write what comes through out[0] (stdout) and out[1] (stderr), which the caller closes
 * when nothing more will come. 0, or an errno. */
int vm_log_start(struct vm_log *l, const struct record *r, int out[2]);
/* After out was closed: wait until all is written. */
void vm_log_finish(struct vm_log *l);

struct vm_log_view {
    bool follow;     /* go on until the VM has ended */
    bool timestamps; /* RFC 3339, UTC, before each piece that begins a line */
    long tail;       /* the last lines only; -1: all */
};
/* Print it: stdout to stdout, stderr to stderr. 0, or an errno. */
int vm_log_show(const struct record *r, const struct vm_log_view *view);

#endif

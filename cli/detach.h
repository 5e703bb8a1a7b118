/* SPDX-License-Identifier: Apache-2.0 */
/* Going on in the background: the parent waits until the VM runs, then prints its name and ends. */
#ifndef CLI_DETACH_H
#define CLI_DETACH_H

#include "record.h"

struct detach {
    const char *command; /* whose messages they are */
    const char *shown;   /* printed when it is ready, in place of the record's name; or NULL */
    int ready;           /* end of a pipe between the two; -1: not detached */
    pid_t child;         /* the parent's */
};

/* Fork, before any thread is there. DETACH_CHILD goes on; DETACH_PARENT is to wait; else EXIT_OURS,
 * after a message. */
enum { DETACH_CHILD = -1, DETACH_PARENT = -2 };
int detach_begin(struct detach *d);
/* The exit code, once the child is ready, and its name printed, or has failed (its messages came
 * out on stderr). */
int detach_wait(struct detach *d);
/* Both: DETACH_CHILD in the child; in the parent the exit code. */
int detach_fork(struct detach *d);
/* In the child: the VM runs. Leave the terminal and its session; messages go to the record's file
 * from now on. Nothing when not detached. */
void detach_ready(struct detach *d, const struct record *r);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Going on in the background: the parent waits until the VM runs, then prints its name and ends. */
#ifndef CLI_DETACH_H
#define CLI_DETACH_H

#include "record.h"

struct detach {
    int ready; /* write end of a pipe to the parent; -1: not detached */
};

/* Fork, before any thread is there. -1 in the child, which goes on; in the parent the exit code,
 * once the child is ready or has failed (its messages came out on stderr). */
int detach_fork(struct detach *d);
/* In the child: the VM runs. Leave the terminal and its session; messages go to the record's file
 * from now on. Nothing when not detached. */
void detach_ready(struct detach *d, const struct record *r);

#endif

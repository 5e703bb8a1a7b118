/* SPDX-License-Identifier: Apache-2.0 */
/* A clone of a named VM, in a process of its own that owns it as `run -d` does. */
#ifndef CLI_CLONE_H
#define CLI_CLONE_H

#include <supermachine.h>

#include "detach.h"

struct clone {
    sm_store *store;
    sm_image *image;  /* the VM as it was */
    const char *name; /* NULL: one is made up */
    const char *of;   /* the VM's name */
    char *image_name; /* what the VM was started from */
    uint32_t engine;  /* and what it was asked to run on: enum sm_engine */
    struct detach detach;
};

/* In the child of detach_begin(): start the VM, serve others until it ends. All of c is borrowed.
 * The exit code of the process, which then is to end: a thread of its signals is left. */
int clone_own(struct clone *c);

#endif

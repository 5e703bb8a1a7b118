/* SPDX-License-Identifier: Apache-2.0 */
/* The process that a pool of VMs lives in. */
#ifndef CLI_POOL_OWNER_H
#define CLI_POOL_OWNER_H

#include "detach.h"
#include "machine_opts.h"

struct pool_owner {
    struct machine_opts machine;
    struct sm_pool_config config; /* but for the machine */
    const char **insecure;        /* NULL-terminated, or NULL */
    char *image;                  /* as of pool_image_ref(); owned */
    char *kernel;                 /* absolute; owned, or NULL */
    struct detach detach;
};

/* In the child of detach_begin(): start the pool, and serve others until somebody ends it. The exit
 * code of the process, which then is to end: a thread of its signals is left. */
int pool_own(struct pool_owner *p);

#endif

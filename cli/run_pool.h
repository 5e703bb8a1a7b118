/* SPDX-License-Identifier: Apache-2.0 */
/* supermachine run --pool. */
#ifndef CLI_RUN_POOL_H
#define CLI_RUN_POOL_H

#include "run_opts.h"
#include "signals.h"

/* Run the command in a VM of the image's pool. The exit code. */
int run_in_pool(const struct run_opts *o, struct signals *signals);

#endif

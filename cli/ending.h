/* SPDX-License-Identifier: Apache-2.0 */
/* Signals that ask a long command to end, taken between its steps. */
#ifndef CLI_ENDING_H
#define CLI_ENDING_H

#include <signal.h>

/* Block SIGINT, SIGTERM and SIGHUP, but those that our parent ignores. Before threads are started.
 */
void ending_block(sigset_t *set);
/* The one of set that has come, or 0. */
int ending_signal(const sigset_t *set);

#endif

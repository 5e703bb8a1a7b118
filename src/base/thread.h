/* SPDX-License-Identifier: Apache-2.0 */
/* Threads of a library: the application's signals are for the application's own threads. */
#ifndef SM_BASE_THREAD_H
#define SM_BASE_THREAD_H

#include <pthread.h>

/* pthread_create with every signal blocked in the new thread, but those that report its own faults.
 * To be joined. 0, or -1 with errno. */
int thread_start(pthread_t *out, void *(*run)(void *opaque), void *opaque);

#endif

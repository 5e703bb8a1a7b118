/* SPDX-License-Identifier: Apache-2.0 */
#include "base/thread.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>

int thread_start(pthread_t *out, void *(*run)(void *opaque), void *opaque)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    sigset_t blocked, old;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        sigdelset(&blocked, faults[i]);
    }
    /* The new thread has the mask of its maker from its first moment. */
    pthread_sigmask(SIG_SETMASK, &blocked, &old);
    int rc = pthread_create(out, NULL, run, opaque);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = rc;
    return rc ? -1 : 0;
}

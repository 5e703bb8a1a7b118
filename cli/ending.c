// SPDX-License-Identifier: Apache-2.0
#include "ending.h"

#include <stddef.h>
#include <time.h>

void ending_block(sigset_t *set)
{
    static const int ending[] = {SIGINT, SIGTERM, SIGHUP};
    sigemptyset(set);
    for (size_t i = 0; i < sizeof ending / sizeof ending[0]; i++) {
        struct sigaction old;
        if (sigaction(ending[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaddset(set, ending[i]);
    }
    sigprocmask(SIG_BLOCK, set, NULL);
}

int ending_signal(const sigset_t *set)
{
    struct timespec now = {0};
    int signal = sigtimedwait(set, NULL, &now);
    return signal > 0 ? signal : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signals of a run or exec, on a thread of their own. Before there is a command they end the
 * process (a pull is asked to stop first); then they go to the command, and SIGWINCH becomes a
 * resize. A second SIGINT, SIGTERM, SIGHUP or SIGQUIT of the same kind makes an end.
 */
#ifndef CLI_SIGNALS_H
#define CLI_SIGNALS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Where signals go: a command. */
struct signal_target {
    void (*signal)(void *opaque, int signal);
    void (*resize)(void *opaque, uint16_t rows, uint16_t columns); /* NULL: it has no terminal */
    void (*end)(void *opaque);                                     /* at once: it does not listen */
    void *opaque;
};

struct signals {
    pthread_mutex_t lock;               /* of what follows */
    const struct signal_target *target; /* borrowed; NULL: none yet, or no longer */
    bool over;                          /* the command has ended */
    bool pulling;                       /* an image is on its way */
    int stop;                           /* the signal that is to end the pull, or 0 */
    bool asked[32];                     /* by signal: it went to the command once */
    int ended_by;                       /* the signal that made an end, or 0 */
};

/* Block the signals, in the caller and in all threads it will start, and start the thread. Once per
 * process; s lives until the process ends. 0, or an errno. */
int signals_start(struct signals *s);
/* From now on signals go there; NULL: nowhere. */
void signals_direct(struct signals *s, const struct signal_target *target);
int signals_ended_by(struct signals *s);
/* A pull begins or is over. */
void signals_pulling(struct signals *s, bool pulling);
/* The signal that asks the pull to stop, or 0. */
int signals_stop_pull(struct signals *s);

#endif

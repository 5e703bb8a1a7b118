/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signals of a run, on a thread of their own. Before there is a command they end the process (a
 * pull is asked to stop first); then they go to the command, and SIGWINCH becomes a resize. A
 * second SIGINT, SIGTERM, SIGHUP or SIGQUIT of the same kind ends the VM.
 */
#ifndef CLI_SIGNALS_H
#define CLI_SIGNALS_H

#include <pthread.h>
#include <stdbool.h>
#include <supermachine.h>

struct signals {
    pthread_mutex_t lock; /* of what follows */
    sm_vm *vm;            /* borrowed; NULL: none yet, or no longer */
    sm_exec *exec;        /* borrowed; as vm */
    bool tty;
    bool over;      /* the command has ended */
    bool pulling;   /* an image is on its way */
    int stop;       /* the signal that is to end the pull, or 0 */
    bool asked[32]; /* by signal: it went to the command once */
    int ended_by;   /* the signal that ended the VM, or 0 */
};

/* Block the signals, in the caller and in all threads it will start, and start the thread. Once per
 * process; s lives until the process ends. 0, or an errno. */
int signals_start(struct signals *s);
/* From now on signals go to exec in vm; NULLs: nowhere. */
void signals_direct(struct signals *s, sm_vm *vm, sm_exec *exec);
int signals_ended_by(struct signals *s);
/* A pull begins or is over. */
void signals_pulling(struct signals *s, bool pulling);
/* The signal that asks the pull to stop, or 0. */
int signals_stop_pull(struct signals *s);

#endif

// SPDX-License-Identifier: Apache-2.0
#include "signals.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "terminal.h"

/* Docker's rule, all but these: what only the host's side is about, faults, and what cannot be
 * caught. */
static bool is_ours(int signal)
{
    static const int not_ours[] = {SIGCHLD, SIGPIPE, SIGURG,  SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT,
                                   SIGSEGV, SIGBUS,  SIGFPE,  SIGILL,  SIGTRAP, SIGABRT, SIGSYS,
                                   SIGKILL, SIGSTOP, SIGPROF, SIGIO,   SIGXCPU, SIGXFSZ};
    for (size_t i = 0; i < sizeof not_ours / sizeof not_ours[0]; i++)
        if (signal == not_ours[i])
            return false;
    return true;
}

/* Not what we were started to ignore (nohup, background jobs): a blocked signal would come. */
static void make_set(sigset_t *set)
{
    sigemptyset(set);
    for (int i = 1; i < 32; i++) {
        struct sigaction old;
        if (is_ours(i) && sigaction(i, NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaddset(set, i);
    }
}

static bool asks_to_end(int signal)
{
    return signal == SIGINT || signal == SIGTERM || signal == SIGHUP || signal == SIGQUIT;
}

/* With the lock held. */
static void pass_on(struct signals *s, int signal)
{
    const struct signal_target *to = s->target;
    uint16_t rows, columns;
    if (signal == SIGWINCH) {
        if (to && to->resize && terminal_size(&rows, &columns))
            to->resize(to->opaque, rows, columns);
        return;
    }
    if (!to) {
        if (!asks_to_end(signal) || s->over)
            return;
        if (s->pulling && !s->stop) {
            s->stop = signal;
            return;
        }
        /* Nothing to save: the store is safe against a kill, and a VM ends with its process. */
        terminal_restore();
        _exit(128 + signal);
    }
    if (asks_to_end(signal) && s->asked[signal]) { /* the command would not hear, or cannot */
        s->ended_by = s->ended_by ? s->ended_by : signal;
        to->end(to->opaque);
        return;
    }
    s->asked[signal] = true;
    to->signal(to->opaque, signal);
}

static void *take_signals(void *opaque)
{
    struct signals *s = opaque;
    sigset_t set;
    make_set(&set);
    for (;;) {
        int signal;
        if (sigwait(&set, &signal) != 0)
            continue;
        pthread_mutex_lock(&s->lock);
        pass_on(s, signal);
        pthread_mutex_unlock(&s->lock);
    }
    return NULL;
}

int signals_start(struct signals *s)
{
    sigset_t set;
    pthread_t thread;
    pthread_mutex_init(&s->lock, NULL);
    make_set(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    int rc = pthread_create(&thread, NULL, take_signals, s);
    if (rc == 0)
        pthread_detach(thread);
    return rc;
}

void signals_direct(struct signals *s, const struct signal_target *target)
{
    pthread_mutex_lock(&s->lock);
    s->target = target;
    s->over = !target;
    pthread_mutex_unlock(&s->lock);
}

int signals_ended_by(struct signals *s)
{
    pthread_mutex_lock(&s->lock);
    int signal = s->ended_by;
    pthread_mutex_unlock(&s->lock);
    return signal;
}

void signals_pulling(struct signals *s, bool pulling)
{
    pthread_mutex_lock(&s->lock);
    s->pulling = pulling;
    pthread_mutex_unlock(&s->lock);
}

int signals_stop_pull(struct signals *s)
{
    pthread_mutex_lock(&s->lock);
    int signal = s->stop;
    pthread_mutex_unlock(&s->lock);
    return signal;
}

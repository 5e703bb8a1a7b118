// SPDX-License-Identifier: Apache-2.0
/*
 * The owner's side. One thread reads all that the process says and keeps it under the lock, where
 * the callers wait; when it sees the end of the socket it collects the process and is done.
 */
#include "worker/worker_impl.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"
#include "vm/snapshot.h"
#include "worker/args.h"

/* With the lock held. */
static void on_ended(struct worker *w, const struct control_msg *m)
{
    w->told = true;
    w->reason =
        m->arg > VM_RUNNING && m->arg <= VM_END_FAILED ? (enum vm_end)m->arg : VM_END_FAILED;
    control_get_error(m, &w->end_error);
}

static void on_message(struct worker *w, const struct control_msg *m, int fd)
{
    if (m->type == CONTROL_CONSOLE) {
        if (w->console)
            w->console(w->console_opaque, (const uint8_t *)m->text, m->len);
    } else if (m->type == CONTROL_DEBUG) {
        if (w->debug)
            w->debug(w->debug_opaque, m->text, m->len);
    } else if (m->type == CONTROL_WARNING) {
        struct sm_error err;
        control_get_error(m, &err);
        if (w->warning)
            w->warning(w->warning_opaque, err.text);
    } else {
        pthread_mutex_lock(&w->lock);
        if (m->type == CONTROL_READY && !w->ready) {
            w->ready = true;
            w->ready_code = m->code ? control_get_error(m, &w->ready_error) : 0;
        } else if (m->type == CONTROL_ENDED && !w->told) {
            on_ended(w, m);
        } else if (m->type == CONTROL_REPLY && !w->replied && m->id == w->id) {
            w->replied = true;
            w->reply = *m;
            w->reply_fd = fd;
            fd = -1;
        }
        pthread_cond_broadcast(&w->changed);
        pthread_mutex_unlock(&w->lock);
    }
    if (fd >= 0)
        close(fd);
}

/* The socket is closed: the process ends, or has broken the protocol and has to. */
static void on_close(struct worker *w)
{
    char how[128];
    pidfd_send_signal(w->process.pidfd, SIGKILL, NULL, 0);
    process_reap(&w->process, how, sizeof how);
    pthread_mutex_lock(&w->lock);
    if (w->stopping && !w->told) {
        w->reason = VM_END_STOPPED;
        err_set(&w->end_error, SM_EINTR, "the VM was stopped");
    } else if (!w->told) {
        w->reason = VM_END_FAILED;
        err_set(&w->end_error, SM_EENGINE, "the VM's process %d died: %s", w->process.pid,
                how[0] ? how : "it left without a word");
    }
    w->ended = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

static void *reader_main(void *opaque)
{
    struct worker *w = opaque;
    struct control_msg m;
    int fd;
    while (control_receive(w->process.control, &m, &fd) > 0)
        on_message(w, &m, fd);
    on_close(w);
    return NULL;
}

static int start_reader(struct worker *w, struct sm_error *err)
{
    w->reading = thread_start(&w->reader, reader_main, w) == 0;
    return w->reading ? 0 : err_sys(err, "cannot start a thread");
}

/* What the process gets besides its socket, in the order of control.h. */
static unsigned list_files(const struct vm_config *config, int files[PROCESS_MAX_FILES])
{
    _Static_assert(PROCESS_MAX_FILES >= 3 + 2 * VM_MAX_VOLUMES, "all fit");
    unsigned n = 0;
    if (config->snapshot) {
        files[n++] = config->snapshot->state_fd;
        files[n++] = config->snapshot->ram_fd;
        if (config->snapshot->base_fd >= 0)
            files[n++] = config->snapshot->base_fd;
    }
    for (unsigned i = 0; i < config->n_volumes; i++) { /* args_make() has counted them */
        files[n++] = config->volumes[i].fd;
        if (config->volumes[i].over)
            files[n++] = config->volumes[i].base_fd;
    }
    return n;
}

int worker_new(const char *program, const struct vm_config *config, struct worker **out,
               struct sm_error *err)
{
    struct args args;
    *out = NULL;
    struct worker *w = calloc(1, sizeof *w);
    if (!w)
        return err_set(err, SM_ENOMEM, "out of memory");
    w->process = (struct process){.pidfd = -1, .control = -1};
    w->reply_fd = -1;
    w->replied = true;
    w->console = config->console;
    w->console_opaque = config->console_opaque;
    w->debug = config->debug.text;
    w->debug_opaque = config->debug.opaque;
    w->warning = config->warning;
    w->warning_opaque = config->warning_opaque;
    pthread_mutex_init(&w->calls, NULL);
    pthread_mutex_init(&w->lock, NULL);
    clock_cond_init(&w->changed);
    int rc = args_make(&args, program, config, err);
    if (!rc) {
        int files[PROCESS_MAX_FILES];
        unsigned n = list_files(config, files);
        rc = process_start(args.argv, files, n, &w->process, err);
        args_fini(&args);
    }
    if (!rc)
        rc = start_reader(w, err);
    if (rc) {
        worker_free(w);
        return rc;
    }
    *out = w;
    return 0;
}

void worker_free(struct worker *w)
{
    char how[128];
    if (!w)
        return;
    worker_stop(w);
    if (w->reading)
        pthread_join(w->reader, NULL);
    else if (w->process.pidfd >= 0)
        process_reap(&w->process, how, sizeof how);
    if (w->reply_fd >= 0)
        close(w->reply_fd);
    if (w->process.control >= 0)
        close(w->process.control);
    if (w->process.pidfd >= 0)
        close(w->process.pidfd);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    pthread_mutex_destroy(&w->calls);
    free(w);
}

void worker_stop(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    if (!w->ended) /* the descriptor names the process until it is collected, and after */
        w->stopping = true;
    pthread_mutex_unlock(&w->lock);
    if (w->process.pidfd >= 0)
        pidfd_send_signal(w->process.pidfd, SIGKILL, NULL, 0);
}

bool worker_wait_for(struct worker *w, const bool *flag, int timeout_ms)
{
    int64_t until = timeout_ms < 0 ? -1 : clock_ms() + timeout_ms;
    while (!*flag && !w->ended)
        if (clock_wait(&w->changed, &w->lock, until) == ETIMEDOUT)
            return *flag || w->ended;
    return true;
}

int worker_ended_error(const struct worker *w, struct sm_error *err)
{
    if (err)
        *err = w->end_error;
    return w->end_error.code;
}

int worker_wait_ready(struct worker *w, int timeout_ms, struct sm_error *err)
{
    int rc;
    pthread_mutex_lock(&w->lock);
    if (!worker_wait_for(w, &w->ready, timeout_ms)) {
        rc = err_set(err, SM_ETIMEDOUT, "the guest's agent was not ready within %d ms", timeout_ms);
    } else if (!w->ready) {
        rc = worker_ended_error(w, err);
    } else {
        rc = w->ready_code;
        if (rc && err)
            *err = w->ready_error;
    }
    pthread_mutex_unlock(&w->lock);
    return rc;
}

int worker_wait(struct worker *w, int timeout_ms, enum vm_end *end, struct sm_error *err)
{
    pthread_mutex_lock(&w->lock);
    bool done = worker_wait_for(w, &w->ended, timeout_ms);
    *end = done ? w->reason : VM_RUNNING;
    if (done && w->reason == VM_END_FAILED && err)
        *err = w->end_error;
    pthread_mutex_unlock(&w->lock);
    return done ? 0 : err_set(err, SM_ETIMEDOUT, "the VM still runs");
}

enum vm_end worker_state(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    enum vm_end end = w->ended ? w->reason : w->stopping ? VM_END_STOPPED : VM_RUNNING;
    pthread_mutex_unlock(&w->lock);
    return end;
}

// SPDX-License-Identifier: Apache-2.0
/*
 * The owner's side. One thread reads all that the process says and keeps it under the lock, where
 * the callers wait; when it sees the end of the socket it collects the process and is done.
 */
#include "worker/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "worker/args.h"
#include "worker/control.h"
#include "worker/process.h"

#define CONNECT_MS 10000 /* the worker answers at once, unless its host is badly overloaded */

struct worker {
    struct process process;
    void (*console)(void *opaque, const uint8_t *data, size_t len);
    void *console_opaque; /* borrowed */
    pthread_t reader;
    bool reading; /* reader is to be joined */

    pthread_mutex_t calls; /* one request at a time; taken before lock */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    bool ready; /* READY was seen, and how it went: */
    int ready_code;
    struct sm_error ready_error;
    bool stopping; /* worker_stop was called */
    bool told;     /* ENDED was seen */
    bool ended;    /* the process is gone: reason and end_error hold */
    enum vm_end reason;
    struct sm_error end_error; /* for who wanted it alive */
    uint32_t id;               /* of the latest request */
    bool replied;              /* it has its answer, or is given up */
    struct control_msg reply;
    int reply_fd; /* owned; -1: none */
};

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
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    errno = pthread_create(&w->reader, NULL, reader_main, w);
    w->reading = errno == 0;
    int rc = w->reading ? 0 : err_sys(err, "cannot start a thread");
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

int worker_new(const char *program, const struct vm_config *config, struct worker **out,
               struct sm_error *err)
{
    struct args args;
    pthread_condattr_t attr;
    *out = NULL;
    struct worker *w = calloc(1, sizeof *w);
    if (!w)
        return err_set(err, SM_ENOMEM, "out of memory");
    w->process = (struct process){.pidfd = -1, .control = -1};
    w->reply_fd = -1;
    w->replied = true;
    w->console = config->console;
    w->console_opaque = config->console_opaque;
    pthread_mutex_init(&w->calls, NULL);
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &attr);
    pthread_condattr_destroy(&attr);
    int rc = args_make(&args, program, config, err);
    if (!rc) {
        rc = process_start(args.argv, &w->process, err);
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

/* Wait with the lock held until *flag or the end; false when the time is up first. */
static bool wait_for(struct worker *w, const bool *flag, int timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + (int64_t)(timeout_ms < 0 ? 0 : timeout_ms) % 1000 * 1000000;
    until.tv_sec += (timeout_ms < 0 ? 0 : timeout_ms) / 1000 + ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    while (!*flag && !w->ended) {
        int rc = timeout_ms < 0 ? pthread_cond_wait(&w->changed, &w->lock)
                                : pthread_cond_timedwait(&w->changed, &w->lock, &until);
        if (rc == ETIMEDOUT)
            return *flag || w->ended;
    }
    return true;
}

/* With the lock held, after the end. */
static int ended_error(const struct worker *w, struct sm_error *err)
{
    if (err)
        *err = w->end_error;
    return w->end_error.code;
}

int worker_wait_ready(struct worker *w, int timeout_ms, struct sm_error *err)
{
    int rc;
    pthread_mutex_lock(&w->lock);
    if (!wait_for(w, &w->ready, timeout_ms)) {
        rc = err_set(err, SM_ETIMEDOUT, "the guest's agent was not ready within %d ms", timeout_ms);
    } else if (!w->ready) {
        rc = ended_error(w, err);
    } else {
        rc = w->ready_code;
        if (rc && err)
            *err = w->ready_error;
    }
    pthread_mutex_unlock(&w->lock);
    return rc;
}

/* Send a request and wait for its reply. */
static int call(struct worker *w, struct control_msg *m, int *fd, struct sm_error *err)
{
    int rc = 0;
    pthread_mutex_lock(&w->calls);
    pthread_mutex_lock(&w->lock);
    m->id = ++w->id;
    w->replied = false;
    if (w->ended)
        rc = ended_error(w, err);
    pthread_mutex_unlock(&w->lock);
    /* EPIPE: it is ending, and the reader will know how */
    if (!rc && control_send(w->process.control, m, -1) != 0 && errno != EPIPE)
        rc = err_sys(err, "cannot reach the VM's process");
    pthread_mutex_lock(&w->lock);
    if (!rc && !wait_for(w, &w->replied, CONNECT_MS))
        rc = err_set(err, SM_ETIMEDOUT, "the VM's process %d does not answer", w->process.pid);
    else if (!rc && !w->replied)
        rc = ended_error(w, err);
    else if (!rc && w->reply.code)
        rc = control_get_error(&w->reply, err);
    if (!rc)
        *fd = w->reply_fd;
    else if (w->reply_fd >= 0)
        close(w->reply_fd);
    w->reply_fd = -1;
    w->replied = true; /* a late answer is nobody's */
    pthread_mutex_unlock(&w->lock);
    pthread_mutex_unlock(&w->calls);
    return rc;
}

int worker_connect(struct worker *w, uint32_t port, int *fd, struct sm_error *err)
{
    struct control_msg m = {.type = CONTROL_CONNECT, .arg = port};
    *fd = -1;
    int rc = call(w, &m, fd, err);
    if (!rc && *fd < 0)
        rc = err_set(err, SM_EENGINE, "the VM's process sent no connection");
    return rc;
}

int worker_wait(struct worker *w, int timeout_ms, enum vm_end *end, struct sm_error *err)
{
    pthread_mutex_lock(&w->lock);
    bool done = wait_for(w, &w->ended, timeout_ms);
    *end = done ? w->reason : VM_RUNNING;
    if (done && w->reason == VM_END_FAILED && err)
        *err = w->end_error;
    pthread_mutex_unlock(&w->lock);
    return done ? 0 : err_set(err, SM_ETIMEDOUT, "the VM still runs");
}

int worker_probe_jail(const char *program, unsigned *layers, struct sm_error *err)
{
    char *argv[] = {(char *)program, (char *)CONTROL_PROBE, NULL}, how[128];
    struct process process;
    struct control_msg m = {0};
    int fd = -1;
    *layers = 0;
    int rc = process_start(argv, &process, err);
    if (rc)
        return rc;
    int n = control_receive(process.control, &m, &fd);
    if (fd >= 0)
        close(fd);
    close(process.control);
    process_reap(&process, how, sizeof how);
    close(process.pidfd);
    if (n != 1 || m.type != CONTROL_READY)
        return err_set(err, SM_EENGINE, "the VM's process %s cannot run: %s", program,
                       how[0] ? how : "it left without a word");
    *layers = m.arg;
    return m.code ? control_get_error(&m, err) : 0;
}

// SPDX-License-Identifier: Apache-2.0
/* What the owner asks of a running worker: one request at a time, each with one reply. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "vm/snapshot.h"
#include "worker/worker_impl.h"

#define ANSWER_MS 10000 /* it answers at once, unless its host is badly overloaded */
#define SAVE_MS 600000  /* as long as writing takes, but not for ever */

/* Send a request and wait for its reply, whose descriptor, if there is one, goes into *reply_fd or
 * is closed when that is NULL. With `calls` held. */
static int call_locked(struct worker *w, struct control_msg *m, int fd, int timeout_ms,
                       struct control_msg *reply, int *reply_fd, struct sm_error *err)
{
    int rc = 0, got = -1;
    pthread_mutex_lock(&w->lock);
    m->id = ++w->id;
    w->replied = false;
    if (w->ended)
        rc = worker_ended_error(w, err);
    pthread_mutex_unlock(&w->lock);
    /* EPIPE: it is ending, and the reader will know how */
    if (!rc && control_send(w->process.control, m, fd) != 0 && errno != EPIPE)
        rc = err_sys(err, "cannot reach the VM's process");
    pthread_mutex_lock(&w->lock);
    if (!rc && !worker_wait_for(w, &w->replied, timeout_ms))
        rc = err_set(err, SM_ETIMEDOUT, "the VM's process %d does not answer", w->process.pid);
    else if (!rc && !w->replied)
        rc = worker_ended_error(w, err);
    else if (!rc && w->reply.code)
        rc = control_get_error(&w->reply, err);
    if (!rc && reply)
        *reply = w->reply;
    got = w->reply_fd;
    w->reply_fd = -1;
    w->replied = true; /* a late answer is nobody's */
    pthread_mutex_unlock(&w->lock);
    if (!rc && reply_fd)
        *reply_fd = got;
    else if (got >= 0)
        close(got);
    return rc;
}

static int call(struct worker *w, struct control_msg *m, struct control_msg *reply, int *reply_fd,
                struct sm_error *err)
{
    pthread_mutex_lock(&w->calls);
    int rc = call_locked(w, m, -1, ANSWER_MS, reply, reply_fd, err);
    pthread_mutex_unlock(&w->calls);
    return rc;
}

/* With a file (-1: none) that is written or read before the answer comes. */
static int call_saving(struct worker *w, struct control_msg *m, int fd, struct control_msg *reply,
                       struct sm_error *err)
{
    pthread_mutex_lock(&w->calls);
    int rc = call_locked(w, m, fd, SAVE_MS, reply, NULL, err);
    pthread_mutex_unlock(&w->calls);
    return rc;
}

int worker_connect(struct worker *w, uint32_t port, int *fd, struct sm_error *err)
{
    struct control_msg m = {.type = CONTROL_CONNECT, .arg = port};
    *fd = -1;
    int rc = call(w, &m, NULL, fd, err);
    if (!rc && *fd < 0)
        rc = err_set(err, SM_EENGINE, "the VM's process sent no connection");
    return rc;
}

int worker_streams(struct worker *w, unsigned *n, struct sm_error *err)
{
    struct control_msg m = {.type = CONTROL_STREAMS}, reply = {0};
    int rc = call(w, &m, &reply, NULL, err);
    *n = reply.arg;
    return rc;
}

int worker_capture(struct worker *w, const struct vm_files *files, uint64_t *pause_ns,
                   struct sm_error *err)
{
    struct control_msg m = {.type = CONTROL_CAPTURE, .arg = files->n_disks}, reply = {0};
    int rc = 0;
    pthread_mutex_lock(&w->calls);
    for (unsigned i = 0; i < files->n_disks && !rc; i++) {
        struct control_msg disk = {.type = CONTROL_DISK, .arg = i};
        rc = call_locked(w, &disk, files->disks[i], ANSWER_MS, NULL, NULL, err);
    }
    rc = rc ? rc : call_locked(w, &m, files->ram, SAVE_MS, &reply, NULL, err);
    pthread_mutex_unlock(&w->calls);
    *pause_ns = reply.arg * 1000ull;
    return rc;
}

int worker_save_state(struct worker *w, int fd, const uint8_t digest[STATE_DIGEST_SIZE],
                      struct sm_error *err)
{
    struct control_msg m = {.type = CONTROL_SAVE_STATE, .len = STATE_DIGEST_SIZE};
    memcpy(m.text, digest, STATE_DIGEST_SIZE);
    return call_saving(w, &m, fd, NULL, err);
}

int worker_share(struct worker *w, int ram_fd, struct sm_error *err)
{
    struct control_msg m = {.type = CONTROL_SHARE};
    return call_saving(w, &m, ram_fd, NULL, err);
}

// SPDX-License-Identifier: Apache-2.0
#include "server.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "exec_request.h"
#include "listener.h"
#include "wire.h"

#define MAX_CLIENTS 64
#define SHUTDOWN_MS 60000 /* the most that sm_vm_shutdown takes */
#define KILL_MS 10000     /* from the command's SIGKILL to the VM's end */

struct server {
    sm_vm *vm;
    sm_exec *main_exec; /* NULL: of a clone, which has none */
    struct listener *listener;
    pthread_mutex_t lock; /* of the VM's calls, and what follows */
    pthread_cond_t changed;
    bool ended;
    int code; /* when ended */
};

/* ---- commands */

static void run_command(struct server *s, int fd, const struct wire *w)
{
    struct exec_request q;
    struct sm_error err = {0};
    sm_exec *exec;
    if (exec_request_parse(&q, w) != 0) {
        wire_answer(fd, EXIT_OURS, false, WIRE_MALFORMED);
        exec_request_fini(&q);
        return;
    }
    pthread_mutex_lock(&s->lock);
    int rc = s->ended ? SM_EGUEST : sm_exec_start(s->vm, &q.spec, &exec, &err);
    pthread_mutex_unlock(&s->lock);
    if (rc) {
        wire_answer(fd, EXIT_OURS, false, err.text[0] ? err.text : "the VM has ended");
    } else {
        exec_request_serve(fd, exec, NULL);
        sm_exec_free(exec);
    }
    exec_request_fini(&q);
}

/* ---- files, snapshots, clones */

static void copy_file(struct server *s, int fd, const struct wire *w)
{
    struct sm_file_spec spec = SM_FILE_SPEC_INIT;
    struct sm_file file = {0};
    struct sm_error err = {0};
    size_t at = 0;
    spec.path = wire_next(w, &at);
    if (!spec.path || w->n_fds != 1) {
        wire_answer(fd, EXIT_OURS, 0, WIRE_MALFORMED);
        return;
    }
    spec.fd = w->fds[0];
    spec.mode = (uint32_t)w->a & 07777;
    int rc = w->type == WIRE_PUT ? sm_vm_write_file(s->vm, &spec, -1, &err)
                                 : sm_vm_read_file(s->vm, &spec, -1, &file, &err);
    wire_answer(fd, rc ? EXIT_OURS : 0, w->type == WIRE_PUT ? rc == SM_EINVAL : (int32_t)file.mode,
                err.text);
}

static void take_snapshot(struct server *s, int fd, const struct wire *w)
{
    struct sm_snapshot_info info = {0};
    struct sm_error err = {0};
    size_t at = 0;
    const char *folder = wire_next(w, &at);
    if (!folder || folder[0] != '/') {
        wire_answer(fd, EXIT_OURS, 0, WIRE_MALFORMED);
        return;
    }
    pthread_mutex_lock(&s->lock);
    int rc = s->ended ? SM_EGUEST : sm_vm_snapshot(s->vm, folder, &info, &err);
    pthread_mutex_unlock(&s->lock);
    wire_answer(fd, rc ? EXIT_OURS : 0, (int32_t)(info.pause_ns / 1000000),
                rc && !err.text[0] ? "the VM has ended" : err.text);
}

static void give_image(struct server *s, int fd)
{
    struct sm_snapshot_info info = {0};
    struct sm_error err = {0};
    sm_image *image = NULL;
    pthread_mutex_lock(&s->lock);
    int rc = s->ended ? SM_EGUEST : sm_image_from_vm(s->vm, &image, &info, &err);
    pthread_mutex_unlock(&s->lock);
    wire_answer(fd, rc ? EXIT_OURS : 0, (int32_t)(info.pause_ns / 1000000),
                rc && !err.text[0] ? "the VM has ended" : err.text);
    if (!rc)
        sm_image_send(image, fd, NULL); /* nobody there: nobody to tell */
    sm_image_free(image);
}

/* ---- the end */

/* Signal the command and wait for the end, with the lock held. */
static void ask_end(struct server *s, int signal, int wait_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + (int64_t)wait_ms * 1000000;
    until.tv_sec += ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    if (!s->ended)
        sm_exec_signal(s->main_exec, signal);
    while (!s->ended && pthread_cond_clockwait(&s->changed, &s->lock, CLOCK_MONOTONIC, &until) == 0)
        ;
}

static void stop_vm(struct server *s, int fd, int grace_ms)
{
    if (!s->main_exec && grace_ms > 0)
        sm_vm_shutdown(s->vm, grace_ms < SHUTDOWN_MS ? (uint32_t)grace_ms : SHUTDOWN_MS, NULL);
    pthread_mutex_lock(&s->lock);
    if (s->main_exec) {
        if (grace_ms > 0)
            ask_end(s, SIGTERM, grace_ms);
        ask_end(s, SIGKILL, KILL_MS); /* then the volumes are still unmounted */
    }
    if (!s->ended)
        sm_vm_stop(s->vm);
    while (!s->ended)
        pthread_cond_wait(&s->changed, &s->lock);
    int code = s->code;
    pthread_mutex_unlock(&s->lock);
    wire_answer(fd, code, true, "");
}

static void serve(void *opaque, int fd)
{
    struct server *s = opaque;
    struct wire w;
    int rc = wire_receive(fd, &w);
    if (rc == 0 && w.type == WIRE_EXEC)
        run_command(s, fd, &w);
    else if (rc == 0 && (w.type == WIRE_PUT || w.type == WIRE_GET))
        copy_file(s, fd, &w);
    else if (rc == 0 && w.type == WIRE_SNAPSHOT)
        take_snapshot(s, fd, &w);
    else if (rc == 0 && w.type == WIRE_FORK)
        give_image(s, fd);
    else if (rc == 0 && w.type == WIRE_STOP)
        stop_vm(s, fd, w.a);
    else if (rc != EPIPE)
        wire_answer(fd, EXIT_OURS, false, WIRE_UNKNOWN);
    wire_fini(&w);
}

int server_start(const struct record *r, sm_vm *vm, sm_exec *main_exec, struct server **out)
{
    struct server *s = calloc(1, sizeof *s);
    if (!s)
        return ENOMEM;
    s->vm = vm;
    s->main_exec = main_exec;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    int rc = listener_start(r, MAX_CLIENTS, serve, s, &s->listener);
    if (rc) {
        free(s);
        return rc;
    }
    *out = s;
    return 0;
}

void server_stop(struct server *s, int code)
{
    if (!s)
        return;
    listener_close(s->listener);
    pthread_mutex_lock(&s->lock);
    s->ended = true;
    s->code = code;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    sm_vm_stop(s->vm);
    listener_free(s->listener);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

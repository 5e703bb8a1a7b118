// SPDX-License-Identifier: Apache-2.0
#include "pool_server.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "exec_request.h"
#include "listener.h"
#include "wire.h"

#define CLIENTS_WAITING 256 /* besides those that have a VM */

/* A VM in use. */
struct use {
    sm_vm *vm;
    struct use *next;
};

struct pool_server {
    sm_image *image;
    sm_pool *pool;
    uint32_t min, max;
    struct listener *listener;
    pthread_mutex_t lock; /* of calls on the image, and what follows */
    pthread_cond_t changed;
    bool ending;
    struct use *uses;
};

/* ---- a VM for a command */

static bool begin_use(struct pool_server *s, struct use *u)
{
    pthread_mutex_lock(&s->lock);
    bool may = !s->ending;
    if (may) {
        u->next = s->uses;
        s->uses = u;
    }
    pthread_mutex_unlock(&s->lock);
    return may;
}

static void end_use(struct pool_server *s, struct use *u)
{
    pthread_mutex_lock(&s->lock);
    struct use **at = &s->uses;
    while (*at != u)
        at = &(*at)->next;
    *at = u->next;
    pthread_mutex_unlock(&s->lock);
}

static bool is_gone(int fd)
{
    char byte;
    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static void run_in(struct pool_server *s, int fd, sm_vm *vm, const struct exec_request *q)
{
    struct use use = {.vm = vm};
    struct sm_error err = {0};
    sm_exec *exec;
    if (!begin_use(s, &use)) {
        wire_answer(fd, EXIT_OURS, false, "the pool has been stopped");
        return;
    }
    if (sm_exec_start(vm, &q->spec, &exec, &err) != 0) {
        wire_answer(fd, EXIT_OURS, false, err.text);
    } else {
        exec_request_serve(fd, exec, vm);
        sm_exec_free(exec);
    }
    end_use(s, &use);
}

static void run_command(struct pool_server *s, int fd, const struct wire *w)
{
    struct exec_request q;
    struct sm_error err = {0};
    char **argv = NULL;
    sm_vm *vm = NULL;
    if (exec_request_parse(&q, w) != 0) {
        wire_answer(fd, EXIT_OURS, false, WIRE_MALFORMED);
        exec_request_fini(&q);
        return;
    }
    pthread_mutex_lock(&s->lock);
    int rc = sm_image_command(s->image, q.entrypoint, q.argv, &argv, &err);
    pthread_mutex_unlock(&s->lock);
    q.spec.argv = (const char *const *)argv;
    rc = rc ? rc : sm_pool_acquire(s->pool, &vm, &err);
    if (rc)
        wire_answer(fd, EXIT_OURS, false, err.text);
    else if (!is_gone(fd)) /* while it waited */
        run_in(s, fd, vm, &q);
    sm_pool_release(s->pool, vm, NULL);
    sm_free(argv);
    exec_request_fini(&q);
}

/* ---- other requests */

static void tell_stats(struct pool_server *s, int fd)
{
    struct sm_pool_stats p;
    struct wire w = {.type = WIRE_DONE};
    sm_pool_stats(s->pool, &p);
    const uint64_t numbers[WIRE_STATS_NUMBERS] = {p.ready,    p.used,    p.starting, p.waiting,
                                                  p.acquired, p.started, p.failed,   p.expired,
                                                  s->min,     s->max};
    int rc = wire_add(&w, "");
    for (unsigned i = 0; i < WIRE_STATS_NUMBERS && !rc; i++) {
        char text[24];
        snprintf(text, sizeof text, "%" PRIu64, numbers[i]);
        rc = wire_add(&w, text);
    }
    if (!rc)
        wire_send(fd, &w); /* nobody there: nobody to tell */
    wire_fini(&w);
}

void pool_server_ask_end(struct pool_server *s)
{
    pthread_mutex_lock(&s->lock);
    s->ending = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static void serve(void *opaque, int fd)
{
    struct pool_server *s = opaque;
    struct wire w;
    int rc = wire_receive(fd, &w);
    if (rc == 0 && w.type == WIRE_RUN)
        run_command(s, fd, &w);
    else if (rc == 0 && w.type == WIRE_STATS)
        tell_stats(s, fd);
    else if (rc == 0 && w.type == WIRE_STOP)
        pool_server_ask_end(s);
    else if (rc != EPIPE)
        wire_answer(fd, EXIT_OURS, false, WIRE_UNKNOWN);
    wire_fini(&w);
}

/* ---- its life */

int pool_server_start(const struct record *r, sm_image *image, sm_pool *pool, uint32_t min,
                      uint32_t max, struct pool_server **out)
{
    struct pool_server *s = calloc(1, sizeof *s);
    if (!s)
        return ENOMEM;
    s->image = image;
    s->pool = pool;
    s->min = min;
    s->max = max;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    *out = s; /* requests may come at once */
    int rc = listener_start(r, max + CLIENTS_WAITING, serve, s, &s->listener);
    if (rc) {
        *out = NULL;
        free(s);
    }
    return rc;
}

void pool_server_wait(struct pool_server *s)
{
    pthread_mutex_lock(&s->lock);
    while (!s->ending)
        pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

void pool_server_stop(struct pool_server *s)
{
    listener_close(s->listener);
    pthread_mutex_lock(&s->lock);
    for (const struct use *u = s->uses; u; u = u->next)
        sm_vm_stop(u->vm);
    pthread_mutex_unlock(&s->lock);
    listener_free(s->listener);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

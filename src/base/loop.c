/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The I/O thread: epoll plus one mutex. epoll carries a token (slot and generation) instead of a
 * pointer, because an event may already sit in the thread's batch when another thread removes and
 * frees its source; a token that no longer matches its slot is dropped.
 *
 * A plain mutex lets a busy thread take the lock again before the thread it just woke can; the loop
 * thread therefore yields while others wait, so a vCPU's register access is not starved by I/O.
 */
#include "base/loop.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/thread.h"

#define BATCH 64
#define MAX_YIELDS 64
#define WAKE_TOKEN 0 /* generations start at 1, so no source has it */

struct slot {
    struct loop_source *src; /* borrowed; NULL when free */
    uint32_t generation;
};

struct loop {
    pthread_mutex_t mutex;
    pthread_t thread;
    bool running;        /* thread exists; owner's thread only */
    atomic_bool stop;    /* thread should leave */
    atomic_uint waiters; /* threads in loop_lock() */
    int epoll_fd;        /* owned */
    int wake_fd;         /* owned: eventfd that ends epoll_wait for loop_stop */
    struct slot *slots;  /* owned; under mutex */
    unsigned n_slots;
    void (*on_start)(void *opaque); /* or NULL */
    void *on_start_opaque;          /* borrowed */
};

int loop_new(struct loop **out, struct sm_error *err)
{
    struct loop *l = calloc(1, sizeof *l);
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = WAKE_TOKEN};
    int rc;

    *out = NULL;
    if (l == NULL)
        return err_set(err, SM_ENOMEM, "out of memory");
    pthread_mutex_init(&l->mutex, NULL);
    l->wake_fd = -1;
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (l->epoll_fd >= 0)
        l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->wake_fd < 0 || epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, l->wake_fd, &ev) != 0) {
        rc = err_sys(err, "cannot create an event loop");
        loop_free(l);
        return rc;
    }
    *out = l;
    return 0;
}

void loop_free(struct loop *l)
{
    if (l == NULL)
        return;
    loop_stop(l);
    if (l->wake_fd >= 0)
        close(l->wake_fd);
    if (l->epoll_fd >= 0)
        close(l->epoll_fd);
    pthread_mutex_destroy(&l->mutex);
    free(l->slots);
    free(l);
}

void loop_lock(struct loop *l)
{
    if (pthread_mutex_trylock(&l->mutex) == 0)
        return;
    atomic_fetch_add(&l->waiters, 1);
    pthread_mutex_lock(&l->mutex);
    atomic_fetch_sub(&l->waiters, 1);
}

void loop_unlock(struct loop *l)
{
    pthread_mutex_unlock(&l->mutex);
}

static void dispatch(struct loop *l, const struct epoll_event *ev)
{
    uint32_t at = (uint32_t)ev->data.u64;
    struct slot *s;

    if (ev->data.u64 == WAKE_TOKEN)
        return;
    assert(at < l->n_slots);
    s = &l->slots[at];
    if (s->src != NULL && s->generation == ev->data.u64 >> 32)
        s->src->ready(s->src, ev->events);
}

/* jail(loop): epoll_wait */
int loop_poll(struct loop *l, int timeout_ms)
{
    struct epoll_event batch[BATCH];
    int n = epoll_wait(l->epoll_fd, batch, BATCH, timeout_ms);

    if (n <= 0)
        return 0; /* EINTR, or nothing: the caller comes again */
    for (int i = 0; i < MAX_YIELDS && atomic_load(&l->waiters) != 0; i++)
        sched_yield();
    loop_lock(l);
    for (int i = 0; i < n; i++)
        dispatch(l, &batch[i]);
    loop_unlock(l);
    return n;
}

static void *loop_main(void *opaque)
{
    struct loop *l = opaque;

    if (l->on_start)
        l->on_start(l->on_start_opaque);
    while (!atomic_load(&l->stop))
        loop_poll(l, -1);
    return NULL;
}

void loop_on_start(struct loop *l, void (*fn)(void *opaque), void *opaque)
{
    l->on_start = fn;
    l->on_start_opaque = opaque;
}

int loop_start(struct loop *l, struct sm_error *err)
{
    assert(!l->running);
    atomic_store(&l->stop, false);
    if (thread_start(&l->thread, loop_main, l) != 0)
        return err_sys(err, "cannot start the I/O thread");
    l->running = true;
    return 0;
}

void loop_stop(struct loop *l)
{
    uint64_t one = 1;

    if (!l->running)
        return;
    assert(!pthread_equal(pthread_self(), l->thread));
    atomic_store(&l->stop, true);
    while (write(l->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
    pthread_join(l->thread, NULL);
    while (read(l->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
    l->running = false;
}

static int slot_take(struct loop *l, unsigned *at)
{
    struct slot *grown;
    unsigned n = l->n_slots == 0 ? 16 : l->n_slots * 2;

    for (*at = 0; *at < l->n_slots; (*at)++)
        if (l->slots[*at].src == NULL)
            return 0;
    grown = realloc(l->slots, n * sizeof *grown);
    if (grown == NULL)
        return -1;
    for (unsigned i = l->n_slots; i < n; i++)
        grown[i] = (struct slot){.generation = 1};
    l->slots = grown;
    l->n_slots = n;
    return 0;
}

/* jail(main,loop,vcpu): epoll_ctl */
int loop_add(struct loop *l, struct loop_source *src, uint32_t events, struct sm_error *err)
{
    struct epoll_event ev = {.events = events};
    unsigned at;

    src->generation = 0;
    if (slot_take(l, &at) != 0)
        return err_set(err, SM_ENOMEM, "out of memory");
    ev.data.u64 = (uint64_t)l->slots[at].generation << 32 | at;
    if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, src->fd, &ev) != 0)
        return err_sys(err, "cannot watch descriptor %d", src->fd);
    l->slots[at].src = src;
    src->generation = ev.data.u64;
    return 0;
}

void loop_change(struct loop *l, struct loop_source *src, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.u64 = src->generation};

    if (src->generation != 0)
        epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, src->fd, &ev);
}

void loop_remove(struct loop *l, struct loop_source *src)
{
    struct slot *s;

    if (src->generation == 0)
        return;
    s = &l->slots[(uint32_t)src->generation];
    assert(s->src == src);
    epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, src->fd, NULL);
    s->src = NULL;
    if (++s->generation == 0)
        s->generation = 1;
    src->generation = 0;
}

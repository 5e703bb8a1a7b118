/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The I/O thread of a VM: an epoll loop with one lock. Callbacks run on the loop's thread with the
 * lock held; the thread drops it only to wait. Other threads take loop_lock() to touch what the
 * callbacks own (a vCPU's device register access does).
 */
#ifndef SM_BASE_LOOP_H
#define SM_BASE_LOOP_H

#include <stdint.h>

#include "base/err.h"

struct loop;

/* One watched descriptor, embedded in its owner. fd is borrowed. */
struct loop_source {
    int fd;
    void (*ready)(struct loop_source *src, uint32_t events); /* EPOLLIN, EPOLLOUT, EPOLLHUP ... */
    void *opaque;                                            /* borrowed: the owner's */
    uint64_t generation;                                     /* private to loop.c */
};

int loop_new(struct loop **out, struct sm_error *err);
void loop_free(struct loop *l); /* stops the thread first; NULL is fine */

/* Have the thread call fn first, before any callback. Before loop_start(). */
void loop_on_start(struct loop *l, void (*fn)(void *opaque), void *opaque);
int loop_start(struct loop *l, struct sm_error *err); /* start the thread */
void loop_stop(struct loop *l);                       /* stop and join it; idempotent */

/*
 * One turn on the caller's thread, for tests and fuzzing: wait up to timeout_ms (-1 for ever) and
 * run the callbacks that are due. Returns how many events were seen. Not while the thread runs.
 */
int loop_poll(struct loop *l, int timeout_ms);

void loop_lock(struct loop *l);
void loop_unlock(struct loop *l);

/*
 * Add, change, remove a source. Call with the lock held, or before loop_start. After loop_remove
 * returns, src->ready is never called again and src may be freed; remove before closing fd.
 * Removing a source that is not there (generation 0) does nothing. events as for epoll_ctl; a
 * source added with events 0 reports only EPOLLHUP/EPOLLERR.
 */
int loop_add(struct loop *l, struct loop_source *src, uint32_t events, struct sm_error *err);
void loop_change(struct loop *l, struct loop_source *src, uint32_t events);
void loop_remove(struct loop *l, struct loop_source *src);

#endif

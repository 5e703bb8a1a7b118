/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a worker's owner, shared by worker*.c only. */
#ifndef SM_WORKER_WORKER_IMPL_H
#define SM_WORKER_WORKER_IMPL_H

#include <pthread.h>

#include "worker/control.h"
#include "worker/process.h"
#include "worker/worker.h"

struct worker {
    struct process process;
    void (*console)(void *opaque, const uint8_t *data, size_t len);
    void *console_opaque; /* borrowed */
    void (*debug)(void *opaque, const char *text, size_t len);
    void *debug_opaque; /* borrowed */
    void (*warning)(void *opaque, const char *text);
    void *warning_opaque; /* borrowed */
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

/* Wait with the lock held until *flag or the end; false when the time is up first. -1: no limit. */
bool worker_wait_for(struct worker *w, const bool *flag, int timeout_ms);
/* With the lock held, after the end: what it means for who wanted the VM alive. */
int worker_ended_error(const struct worker *w, struct sm_error *err);

#endif

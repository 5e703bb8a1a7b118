/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-fs. The loop's lock guards the queues, f->lock what the thread sleeps on; the first is
 * taken before the second. A request is taken and completed with the loop's lock, and done without.
 */
#include "dev/fs.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/le.h"
#include "base/thread.h"

#define QUEUES 2u /* high priority first */
#define CONFIG_LEN (FS_TAG_LEN + 4)

struct fs {
    struct virtio virtio;
    struct share *share; /* owned; the thread's */
    uint8_t tag[FS_TAG_LEN];

    uint32_t epoch; /* of the queues, counted at each reset; loop's lock */
    bool reset;     /* since the last request; loop's lock */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool kicked; /* there may be requests */
    bool busy;   /* the share and, if there is a request, its memory are in use */
    bool stop;

    pthread_t thread;
    bool running; /* it is to be joined; its owner's thread only */
    void (*on_start)(void *opaque);
    void *on_start_opaque; /* borrowed */

    struct virtq_chain chain; /* the thread's */
};

static void config(void *opaque, uint8_t *out)
{
    const struct fs *f = opaque;

    memcpy(out, f->tag, FS_TAG_LEN);
    le32_put(out + FS_TAG_LEN, 1); /* request queues */
}

static void set_busy(struct fs *f, bool busy)
{
    pthread_mutex_lock(&f->lock);
    f->busy = busy;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static void start(void *opaque)
{
    (void)opaque; /* the session begins with the guest's INIT */
}

static void kick(void *opaque, unsigned queue)
{
    struct fs *f = opaque;

    (void)queue;
    pthread_mutex_lock(&f->lock);
    f->kicked = true;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static void reset(void *opaque)
{
    struct fs *f = opaque;

    f->epoch++;
    f->reset = true;
    pthread_mutex_lock(&f->lock);
    while (f->busy)
        pthread_cond_wait(&f->changed, &f->lock);
    pthread_mutex_unlock(&f->lock);
}

/* Take a chain of any queue, with the loop's lock. */
static bool take(struct fs *f, unsigned *queue)
{
    for (*queue = 0; *queue < QUEUES && virtio_live(&f->virtio); (*queue)++)
        if (f->virtio.queues[*queue].live && virtq_pop(&f->virtio.queues[*queue], &f->chain) > 0)
            return true;
    virtio_check(&f->virtio);
    return false;
}

bool fs_turn(struct fs *f)
{
    struct loop *loop = f->virtio.env.loop;
    const struct virtq_chain *c = &f->chain;
    uint32_t epoch, written;
    unsigned queue;
    bool fresh, found;

    loop_lock(loop);
    epoch = f->epoch;
    found = take(f, &queue);
    fresh = f->reset;
    f->reset = false;
    if (found || fresh)
        set_busy(f, true);
    loop_unlock(loop);
    if (fresh)
        share_reset(f->share);
    written = found ? share_answer(f->share, c->iov, c->n_out, c->iov + c->n_out, c->n_in) : 0;
    if (found || fresh)
        set_busy(f, false);
    if (!found)
        return false;
    loop_lock(loop);
    if (epoch == f->epoch) {
        virtq_push(&f->virtio.queues[queue], c, written);
        virtio_interrupt(&f->virtio, queue);
        virtio_check(&f->virtio);
    }
    loop_unlock(loop);
    return true;
}

/* jail(share): sched_yield write */
static void *serve(void *opaque)
{
    struct fs *f = opaque;
    bool stop = false;

    /* The umask is the process's, unless a thread has one of its own. */
    if (unshare(CLONE_FS) == 0)
        umask(0);
    if (f->on_start != NULL)
        f->on_start(f->on_start_opaque);
    while (!stop) {
        pthread_mutex_lock(&f->lock);
        while (!f->stop && !f->kicked)
            pthread_cond_wait(&f->changed, &f->lock);
        stop = f->stop;
        f->kicked = false;
        pthread_mutex_unlock(&f->lock);
        while (!stop && fs_turn(f)) {
            pthread_mutex_lock(&f->lock);
            stop = f->stop;
            pthread_mutex_unlock(&f->lock);
        }
    }
    return NULL;
}

static const struct virtio_ops fs_ops = {
    .name = "fs",
    .device_id = 26,
    .n_queues = QUEUES,
    .config_len = CONFIG_LEN,
    .config = config,
    .start = start,
    .kick = kick,
    .reset = reset,
};

int fs_new(const struct virtio_env *env, struct share *share, const char *tag, struct fs **out,
           struct sm_error *err)
{
    struct fs *f = calloc(1, sizeof *f);
    int rc;

    *out = NULL;
    if (f == NULL) {
        share_free(share);
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    f->share = share;
    memcpy(f->tag, tag, strnlen(tag, FS_TAG_LEN));
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    loop_lock(env->loop);
    rc = virtio_init(&f->virtio, &fs_ops, f, env, err);
    loop_unlock(env->loop);
    if (rc != 0) {
        fs_free(f);
        return rc;
    }
    *out = f;
    return 0;
}

void fs_free(struct fs *f)
{
    struct loop *loop;

    if (f == NULL)
        return;
    fs_stop(f);
    loop = f->virtio.env.loop;
    if (loop != NULL) {
        loop_lock(loop);
        virtio_fini(&f->virtio);
        loop_unlock(loop);
    }
    share_free(f->share);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

struct virtio *fs_virtio(struct fs *f)
{
    return &f->virtio;
}

int fs_start(struct fs *f, void (*on_start)(void *opaque), void *opaque, struct sm_error *err)
{
    f->on_start = on_start;
    f->on_start_opaque = opaque;
    f->stop = false;
    if (thread_start(&f->thread, serve, f) != 0)
        return err_sys(err, "cannot start a thread for virtio-fs");
    f->running = true;
    return 0;
}

void fs_stop(struct fs *f)
{
    if (!f->running)
        return;
    pthread_mutex_lock(&f->lock);
    f->stop = true;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
    pthread_join(f->thread, NULL);
    f->running = false;
}

void fs_walk(struct state *s, void *object)
{
    struct fs *f = object;
    bool mounted;

    /* With the loop's lock no request begins, and only one that is being done changes the rest. */
    pthread_mutex_lock(&f->lock);
    mounted = f->busy || share_in_use(f->share);
    pthread_mutex_unlock(&f->lock);
    state_bool(s, &mounted);
    state_check(s, !mounted, "a shared folder was in use");
}

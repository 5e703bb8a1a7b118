// SPDX-License-Identifier: Apache-2.0
#include "listener.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "wire.h"

#define BACKLOG 128
#define NO_FILES_MS 20

struct client {
    struct listener *listener;
    int fd; /* -1: the place is free */
    pthread_t thread;
    bool done; /* the thread can be joined */
};

struct listener {
    listener_serve_fn *serve;
    void *opaque;
    int fd;
    pthread_t thread;
    atomic_bool closed;
    pthread_mutex_t lock; /* of the clients */
    unsigned max;
    struct client clients[];
};

/* A path below the record's folder, short enough for an address. */
static socklen_t address(const struct record *r, struct sockaddr_un *a)
{
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(a->sun_path, sizeof a->sun_path, "/proc/self/fd/%d/control", r->dir);
    return sizeof *a;
}

static void *serve_client(void *opaque)
{
    struct client *c = opaque;
    struct listener *l = c->listener;
    l->serve(l->opaque, c->fd);
    pthread_mutex_lock(&l->lock);
    c->done = true;
    shutdown(c->fd, SHUT_RDWR); /* the owner of the place closes it */
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static void reap(struct client *c)
{
    pthread_join(c->thread, NULL);
    close(c->fd);
    c->fd = -1;
}

static bool same_user(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
           (peer.uid == geteuid() || peer.uid == 0);
}

static void admit(struct listener *l, int fd)
{
    struct client *place = NULL;
    pthread_mutex_lock(&l->lock);
    for (unsigned i = 0; i < l->max; i++) {
        struct client *c = &l->clients[i];
        if (c->fd >= 0 && c->done)
            reap(c);
        if (c->fd < 0 && !place)
            place = c;
    }
    if (place && same_user(fd)) {
        *place = (struct client){.listener = l, .fd = fd};
        if (pthread_create(&place->thread, NULL, serve_client, place) == 0)
            fd = -1;
        else
            place->fd = -1;
    }
    pthread_mutex_unlock(&l->lock);
    if (fd >= 0) {
        wire_answer(fd, EXIT_OURS, false, place ? "refused" : "too many requests at once");
        close(fd);
    }
}

static void *listen_on(void *opaque)
{
    struct listener *l = opaque;
    while (!atomic_load(&l->closed)) {
        int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            admit(l, fd);
        else if (errno == EMFILE || errno == ENFILE)
            poll(NULL, 0, NO_FILES_MS); /* the connection waits, and so do we */
        else if (errno != EINTR && errno != ECONNABORTED)
            break;
    }
    return NULL;
}

/* The socket's mode is its file's, whatever the umask leaves. */
static int bind_to(int fd, const struct record *r)
{
    struct sockaddr_un a;
    socklen_t len = address(r, &a);
    return fd < 0 || fchmod(fd, 0600) != 0 || bind(fd, (struct sockaddr *)&a, len) != 0 ||
                   listen(fd, BACKLOG) != 0
               ? errno
               : 0;
}

int listener_start(const struct record *r, unsigned max, listener_serve_fn *serve, void *opaque,
                   struct listener **out)
{
    struct listener *l = calloc(1, sizeof *l + max * sizeof l->clients[0]);
    if (!l)
        return ENOMEM;
    l->serve = serve;
    l->opaque = opaque;
    l->max = max;
    for (unsigned i = 0; i < max; i++)
        l->clients[i].fd = -1;
    pthread_mutex_init(&l->lock, NULL);
    l->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    int rc = bind_to(l->fd, r);
    rc = rc ? rc : pthread_create(&l->thread, NULL, listen_on, l);
    if (rc) {
        if (l->fd >= 0)
            close(l->fd);
        pthread_mutex_destroy(&l->lock);
        free(l);
        return rc;
    }
    *out = l;
    return 0;
}

void listener_close(struct listener *l)
{
    atomic_store(&l->closed, true);
    shutdown(l->fd, SHUT_RDWR);
    pthread_join(l->thread, NULL);
    close(l->fd);
}

void listener_free(struct listener *l)
{
    for (unsigned i = 0; i < l->max; i++)
        if (l->clients[i].fd >= 0) {
            shutdown(l->clients[i].fd, SHUT_RD); /* one that has not asked yet */
            reap(&l->clients[i]);
        }
    pthread_mutex_destroy(&l->lock);
    free(l);
}

int listener_connect(const struct record *r)
{
    struct sockaddr_un a;
    socklen_t len = address(r, &a);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, len) == 0)
        return fd;
    int rc = errno;
    close(fd);
    errno = rc;
    return -1;
}

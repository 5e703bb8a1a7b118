// SPDX-License-Identifier: Apache-2.0
#include "server.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "wire.h"

#define MAX_CLIENTS 64
#define SHUTDOWN_MS 60000 /* the most that sm_vm_shutdown takes */
#define KILL_MS 10000     /* from the command's SIGKILL to the VM's end */

struct client {
    struct server *server;
    int fd; /* -1: the place is free */
    sm_exec *exec;
    pthread_t thread;
    bool done; /* the thread can be joined */
};

struct server {
    sm_vm *vm;
    sm_exec *main_exec; /* NULL: of a clone, which has none */
    int listen_fd;
    pthread_t thread;
    pthread_mutex_t lock; /* of the VM's calls, and what follows */
    pthread_cond_t changed;
    bool ended;
    int code; /* when ended */
    struct client clients[MAX_CLIENTS];
};

static void answer(int fd, int code, int32_t more, const char *text)
{
    struct wire w = {.type = WIRE_DONE, .a = code, .b = more};
    if (wire_add(&w, text) == 0)
        wire_send(fd, &w); /* nobody there: nobody to tell */
    wire_fini(&w);
}

/* ---- commands */

struct command {
    sm_exec *exec;
    int fd;
};

static void *wait_for(void *opaque)
{
    struct command *c = opaque;
    struct sm_outcome outcome = {0};
    struct sm_error err = {0};
    int rc = sm_exec_wait(c->exec, -1, &outcome, &err);
    if (rc && !outcome.code)
        outcome.code = EXIT_OURS;
    answer(c->fd, outcome.code, outcome.started, rc ? err.text : "");
    shutdown(c->fd, SHUT_RD); /* ends the client's thread */
    return NULL;
}

/* Strings of w from *at on as an array in list; n: how many, or SIZE_MAX for the rest. */
static bool take_list(const struct wire *w, size_t *at, size_t n, const char ***list)
{
    size_t have = 0;
    const char *s = NULL;
    *list = NULL;
    while (have < n && (s = wire_next(w, at)))
        if (add_string(list, &have, s))
            return false;
    return n == SIZE_MAX || have == n;
}

static int start_command(struct client *c, const struct wire *w, const char **argv,
                         const char **env, const char *cwd, const char *user)
{
    struct sm_exec_spec spec = SM_EXEC_SPEC_INIT;
    struct sm_error err = {0};
    unsigned first = w->a & WIRE_EXEC_STDIN ? 1 : 0;
    spec.argv = argv;
    spec.env = env;
    spec.cwd = cwd[0] ? cwd : NULL;
    spec.user = user[0] ? user : NULL;
    spec.tty = w->a & WIRE_EXEC_TTY;
    spec.rows = (uint16_t)((uint32_t)w->b >> 16);
    spec.columns = (uint16_t)w->b;
    spec.stdin_fd = first ? w->fds[0] : -1;
    spec.stdout_fd = w->fds[first];
    spec.stderr_fd = w->fds[first + 1];
    pthread_mutex_lock(&c->server->lock);
    int rc = c->server->ended ? SM_EGUEST : sm_exec_start(c->server->vm, &spec, &c->exec, &err);
    pthread_mutex_unlock(&c->server->lock);
    if (rc)
        answer(c->fd, EXIT_OURS, false, err.text[0] ? err.text : "the VM has ended");
    return rc;
}

/* What comes while the command runs. A client that goes away takes its command with it. */
static void pass_on(struct client *c)
{
    for (;;) {
        struct wire w;
        int rc = wire_receive(c->fd, &w);
        if (rc == 0 && w.type == WIRE_SIGNAL)
            sm_exec_signal(c->exec, w.a);
        else if (rc == 0 && w.type == WIRE_RESIZE)
            sm_exec_resize(c->exec, (uint16_t)((uint32_t)w.b >> 16), (uint16_t)w.b);
        wire_fini(&w);
        if (rc) {
            sm_exec_signal(c->exec, SIGKILL); /* nothing, when it has ended */
            return;
        }
    }
}

static void run_command(struct client *c, const struct wire *w)
{
    struct command command = {.fd = c->fd};
    pthread_t waiter;
    size_t at = 0;
    const char *count = wire_next(w, &at), *cwd = wire_next(w, &at), *user = wire_next(w, &at);
    long n = count ? strtol(count, NULL, 10) : 0;
    const char **argv = NULL, **env = NULL;
    unsigned fds = w->a & WIRE_EXEC_STDIN ? 3 : 2;
    bool good = user && n > 0 && w->n_fds == fds && take_list(w, &at, (size_t)n, &argv) &&
                take_list(w, &at, SIZE_MAX, &env);
    if (!good)
        answer(c->fd, EXIT_OURS, false, "a malformed request");
    else if (start_command(c, w, argv, env, cwd, user) == 0) {
        command.exec = c->exec;
        if (pthread_create(&waiter, NULL, wait_for, &command) == 0) {
            pass_on(c);
            pthread_join(waiter, NULL);
        } else
            answer(c->fd, EXIT_OURS, false, "cannot start a thread");
        sm_exec_free(c->exec);
    }
    free(argv);
    free(env);
}

/* ---- files, snapshots, clones */

static void copy_file(struct client *c, const struct wire *w)
{
    struct sm_file_spec spec = SM_FILE_SPEC_INIT;
    struct sm_file file = {0};
    struct sm_error err = {0};
    size_t at = 0;
    spec.path = wire_next(w, &at);
    if (!spec.path || w->n_fds != 1) {
        answer(c->fd, EXIT_OURS, 0, "a malformed request");
        return;
    }
    spec.fd = w->fds[0];
    spec.mode = (uint32_t)w->a & 07777;
    int rc = w->type == WIRE_PUT ? sm_vm_write_file(c->server->vm, &spec, -1, &err)
                                 : sm_vm_read_file(c->server->vm, &spec, -1, &file, &err);
    answer(c->fd, rc ? EXIT_OURS : 0, w->type == WIRE_PUT ? rc == SM_EINVAL : (int32_t)file.mode,
           err.text);
}

static void take_snapshot(struct client *c, const struct wire *w)
{
    struct sm_snapshot_info info = {0};
    struct sm_error err = {0};
    size_t at = 0;
    const char *folder = wire_next(w, &at);
    if (!folder || folder[0] != '/') {
        answer(c->fd, EXIT_OURS, 0, "a malformed request");
        return;
    }
    pthread_mutex_lock(&c->server->lock);
    int rc = c->server->ended ? SM_EGUEST : sm_vm_snapshot(c->server->vm, folder, &info, &err);
    pthread_mutex_unlock(&c->server->lock);
    answer(c->fd, rc ? EXIT_OURS : 0, (int32_t)(info.pause_ns / 1000000),
           rc && !err.text[0] ? "the VM has ended" : err.text);
}

static void give_image(struct client *c)
{
    struct sm_snapshot_info info = {0};
    struct sm_error err = {0};
    sm_image *image = NULL;
    pthread_mutex_lock(&c->server->lock);
    int rc = c->server->ended ? SM_EGUEST : sm_image_from_vm(c->server->vm, &image, &info, &err);
    pthread_mutex_unlock(&c->server->lock);
    answer(c->fd, rc ? EXIT_OURS : 0, (int32_t)(info.pause_ns / 1000000),
           rc && !err.text[0] ? "the VM has ended" : err.text);
    if (!rc)
        sm_image_send(image, c->fd, NULL); /* nobody there: nobody to tell */
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

static void stop_vm(struct client *c, int grace_ms)
{
    struct server *s = c->server;
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
    answer(c->fd, code, true, "");
}

static void *serve(void *opaque)
{
    struct client *c = opaque;
    struct wire w;
    int rc = wire_receive(c->fd, &w);
    if (rc == 0 && w.type == WIRE_EXEC)
        run_command(c, &w);
    else if (rc == 0 && (w.type == WIRE_PUT || w.type == WIRE_GET))
        copy_file(c, &w);
    else if (rc == 0 && w.type == WIRE_SNAPSHOT)
        take_snapshot(c, &w);
    else if (rc == 0 && w.type == WIRE_FORK)
        give_image(c);
    else if (rc == 0 && w.type == WIRE_STOP)
        stop_vm(c, w.a);
    else if (rc != EPIPE)
        answer(c->fd, EXIT_OURS, false, "an unknown request: is it another version's?");
    wire_fini(&w);
    pthread_mutex_lock(&c->server->lock);
    c->done = true;
    shutdown(c->fd, SHUT_RDWR); /* the owner of the place closes it */
    pthread_mutex_unlock(&c->server->lock);
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

static void admit(struct server *s, int fd)
{
    struct client *place = NULL;
    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < MAX_CLIENTS; i++) {
        struct client *c = &s->clients[i];
        if (c->fd >= 0 && c->done)
            reap(c);
        if (c->fd < 0)
            place = c;
    }
    if (place && same_user(fd)) {
        *place = (struct client){.server = s, .fd = fd};
        if (pthread_create(&place->thread, NULL, serve, place) == 0)
            fd = -1;
        else
            place->fd = -1;
    }
    pthread_mutex_unlock(&s->lock);
    if (fd >= 0) {
        answer(fd, EXIT_OURS, false, place ? "refused" : "too many requests at once");
        close(fd);
    }
}

static void *listen_on(void *opaque)
{
    struct server *s = opaque;
    int fd;
    while ((fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC)) >= 0 || errno == EINTR ||
           errno == ECONNABORTED || errno == EMFILE)
        if (fd >= 0)
            admit(s, fd);
    return NULL;
}

int server_start(const struct record *r, sm_vm *vm, sm_exec *main_exec, struct server **out)
{
    struct server *s = calloc(1, sizeof *s);
    struct sockaddr_un a;
    socklen_t len = server_address(r, &a);
    if (!s)
        return ENOMEM;
    s->vm = vm;
    s->main_exec = main_exec;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    for (unsigned i = 0; i < MAX_CLIENTS; i++)
        s->clients[i].fd = -1;
    s->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    int rc = s->listen_fd < 0 || bind(s->listen_fd, (struct sockaddr *)&a, len) != 0 ||
                     listen(s->listen_fd, MAX_CLIENTS) != 0
                 ? errno
                 : pthread_create(&s->thread, NULL, listen_on, s);
    if (rc) {
        if (s->listen_fd >= 0)
            close(s->listen_fd);
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
    shutdown(s->listen_fd, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->listen_fd);
    pthread_mutex_lock(&s->lock);
    s->ended = true;
    s->code = code;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    sm_vm_stop(s->vm);
    for (unsigned i = 0; i < MAX_CLIENTS; i++)
        if (s->clients[i].fd >= 0) {
            shutdown(s->clients[i].fd, SHUT_RD); /* one that has not asked yet */
            reap(&s->clients[i]);
        }
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

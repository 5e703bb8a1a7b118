/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions are freed between rounds of epoll_wait only, so an event of this round never meets a
 * freed source. Shutting down is a state of the loop: SIGTERM, wait for no children or the
 * deadline, SIGKILL.
 */
#include "server.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "klog.h"
#include "session.h"
#include "vsock_addr.h"

#define SESSIONS_MAX 512u
#define KILL_WAIT_MS 2000u

enum server_phase { SERVING, TERMINATING, KILLING, DONE };

struct server {
    struct server_config config;
    int epoll_fd;
    struct source listener, signals;
    struct session *sessions; /* owned */
    size_t session_count;
    bool wrote_machine_id;
    enum server_phase phase;
    uint64_t deadline_ms; /* of the phase */
};

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

bool *server_wrote_machine_id(struct server *s)
{
    return &s->wrote_machine_id;
}

bool server_is_init(const struct server *s)
{
    return s->config.is_init;
}

void server_watch(struct server *s, struct source *src, uint32_t events, bool even_if_none)
{
    struct epoll_event e = {.events = events, .data.ptr = src};
    bool wanted = src->fd >= 0 && (events || even_if_none);

    if (wanted == src->watched && (!wanted || events == src->events))
        return;
    if (src->fd < 0) {
        src->watched = false;
        return;
    }
    /* Cannot fail but for memory; the next change of interest tries again. */
    if (epoll_ctl(s->epoll_fd,
                  !wanted ? EPOLL_CTL_DEL : (src->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD), src->fd,
                  &e) == 0) {
        src->watched = wanted;
        src->events = events;
    }
}

void server_unwatch(struct server *s, struct source *src)
{
    server_watch(s, src, 0, false);
    if (src->fd >= 0)
        close(src->fd);
    src->fd = -1;
    src->watched = false;
}

void server_retire(struct server *s, struct session *session)
{
    session->retired = true;
}

static void free_retired(struct server *s)
{
    struct session **link = &s->sessions;

    while (*link) {
        struct session *session = *link;
        if (!session->retired) {
            link = &session->next;
            continue;
        }
        *link = session->next;
        session_free(session);
        s->session_count--;
    }
}

static bool peer_allowed(const struct server *s, int fd)
{
    struct vsock_addr a = {0};
    socklen_t len = sizeof a;

    if (!s->config.only_cid)
        return true;
    return getpeername(fd, (struct sockaddr *)&a, &len) == 0 && a.cid == s->config.only_cid;
}

static void on_connection(struct source *src, uint32_t events)
{
    struct server *s = src->owner;
    struct session *session;
    int fd = accept4(src->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0)
        return;
    if (s->session_count >= SESSIONS_MAX || s->phase != SERVING || !peer_allowed(s, fd)) {
        klog_error("connection refused (%zu sessions)", s->session_count);
        close(fd);
        return;
    }
    session = session_new(s, fd); /* takes fd */
    if (!session) {
        klog_error("connection refused: out of memory");
        return;
    }
    session->next = s->sessions;
    s->sessions = session;
    s->session_count++;
}

/* Reap everything that is dead. True when no child at all is left. */
static bool reap(struct server *s)
{
    struct rusage usage;
    int status;
    pid_t pid;

    while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0) {
        for (struct session *i = s->sessions; i; i = i->next)
            if (!i->retired && i->pid == pid)
                session_reaped(i, status, &usage);
    }
    return pid < 0 && errno == ECHILD;
}

/* What a guest process sends to PID 1 is meant for the image's command, as with `docker run
 * --init`. SIGKILL and SIGSTOP never arrive: the kernel shields PID 1. */
static const int passed_on[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

static void on_signal(struct source *src, uint32_t events)
{
    struct server *s = src->owner;
    struct signalfd_siginfo info[8];
    ssize_t n = read(src->fd, info, sizeof info);

    for (size_t k = 0; n > 0 && k < (size_t)n / sizeof info[0]; k++)
        for (struct session *i = s->sessions; i && info[k].ssi_signo != SIGCHLD; i = i->next)
            if (!i->retired && i->pid > 0)
                kill(i->pid, (int)info[k].ssi_signo);
    reap(s); /* however many SIGCHLD there were */
}

static void signal_everyone(struct server *s, int signal)
{
    if (s->config.is_init) {
        kill(-1, signal);
        return;
    }
    for (struct session *i = s->sessions; i; i = i->next)
        session_signal(i, signal);
}

void server_shutdown(struct server *s, uint32_t grace_ms)
{
    if (s->phase != SERVING)
        return;
    s->phase = TERMINATING;
    s->deadline_ms = now_ms() + grace_ms;
    signal_everyone(s, SIGTERM);
    signal_everyone(s, SIGCONT); /* a stopped process could not act on it */
}

/* Move the shutdown on; returns how long epoll may wait. */
static int shutdown_step(struct server *s)
{
    uint64_t now = now_ms();

    if (s->phase == SERVING)
        return -1;
    if (reap(s)) {
        s->phase = DONE;
        return 0;
    }
    if (now >= s->deadline_ms) {
        if (s->phase == KILLING)
            klog_error("some processes did not die");
        s->phase = s->phase == KILLING ? DONE : KILLING;
        s->deadline_ms = now + KILL_WAIT_MS;
        signal_everyone(s, SIGKILL);
    }
    return s->phase == DONE ? 0 : (int)(s->deadline_ms - now);
}

static int watch_signals(struct server *s)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    for (size_t i = 0; s->config.is_init && i < sizeof passed_on / sizeof passed_on[0]; i++)
        sigaddset(&set, passed_on[i]);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -1;
    s->signals.fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return s->signals.fd < 0 ? -1 : 0;
}

static void serve(struct server *s)
{
    struct epoll_event events[32];

    for (;;) {
        int timeout = shutdown_step(s), n;

        free_retired(s);
        if (s->phase == DONE)
            return;
        n = epoll_wait(s->epoll_fd, events, 32, timeout);
        for (int i = 0; i < n; i++) {
            struct source *src = events[i].data.ptr;
            if (src->fd >= 0)
                src->ready(src, events[i].events);
        }
    }
}

int server_run(const struct server_config *config)
{
    struct server s = {.config = *config, .signals.fd = -1};
    int status = -1, saved;

    signal(SIGPIPE, SIG_IGN);
    s.listener = (struct source){.fd = config->listen_fd, .ready = on_connection, .owner = &s};
    s.signals = (struct source){.fd = -1, .ready = on_signal, .owner = &s};
    s.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (s.epoll_fd < 0 || watch_signals(&s) < 0)
        goto out;
    server_watch(&s, &s.listener, EPOLLIN, false);
    server_watch(&s, &s.signals, EPOLLIN, false);
    if (!s.listener.watched || !s.signals.watched)
        goto out;
    serve(&s);
    status = 0;
out:
    saved = errno;
    for (struct session *i = s.sessions; i; i = i->next)
        i->retired = true;
    free_retired(&s);
    if (s.signals.fd >= 0)
        close(s.signals.fd);
    if (s.epoll_fd >= 0)
        close(s.epoll_fd);
    errno = saved;
    return status;
}

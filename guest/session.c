/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's side of the protocol as a state machine. Frames change state (session.c); moving
 * bytes between the process and the wire, and saying what is due, is session_pump (stream.c).
 * Whatever the host does wrong ends the connection, and with it the session's processes.
 */
#include "session.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "control.h"
#include "klog.h"
#include "relay.h"
#include "spawn.h"
#include "stream.h"

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void session_signal(struct session *s, int signal)
{
    if (s->pid > 0)
        spawn_signal_all(s->pid, signal);
}

/* The host is gone or broke the protocol: nobody is left to tell. */
static void drop(struct session *s, const char *why)
{
    if (s->retired)
        return;
    if (why)
        klog_error("connection dropped: %s", why);
    session_signal(s, s->writes_file ? SIGTERM : SIGKILL);
    stream_close(s);
    server_unwatch(s->server, &s->report);
    server_unwatch(s->server, &s->conn);
    server_retire(s->server, s);
}

/* ERROR is the last frame; the process, if there was one, has not started. */
static void refuse(struct session *s, uint32_t class, uint32_t os_errno, const char *text)
{
    size_t len;

    if (wire_room(&s->wire) < CODEC_ERROR) {
        drop(s, "the host does not read");
        return;
    }
    len = codec_error_build(wire_tail(&s->wire), class, os_errno, text);
    wire_added(&s->wire, len);
    stream_close(s);
    server_unwatch(s->server, &s->report);
    s->phase = SESSION_CLOSING;
}

static void start(struct session *s)
{
    struct launch_report r = {.class = PROTO_ERR_PROTOCOL, .text = "malformed EXEC"};
    struct codec_exec x;
    struct spawn child;

    if (codec_exec_parse((char *)s->blob, s->blob_len, &x) < 0) {
        refuse(s, r.class, 0, r.text);
        return;
    }
    s->started_ns = now_ns();
    if (spawn_start(&x, &child, &r) < 0) {
        refuse(s, r.class, r.os_errno, r.text);
    } else {
        s->pid = child.pid;
        s->tty = x.flags & PROTO_EXEC_TTY;
        s->writes_file = x.flags & PROTO_EXEC_WRITE;
        s->several = x.n_chain > 0;
        s->input.fd = child.in_fd;
        s->out[0].src.fd = s->tty ? child.tty_fd : child.out_fd[0];
        s->out[1].src.fd = child.out_fd[1];
        s->out[0].open = true;
        s->out[1].open = !s->tty;
        s->input_open = x.flags & PROTO_EXEC_STDIN;
        s->input_refused = s->input_ended = !s->input_open;
        s->report.fd = child.report_fd;
        server_watch(s->server, &s->report, EPOLLIN, false);
        s->phase = SESSION_STARTING;
    }
    codec_exec_fini(&x);
    free(s->blob);
    s->blob = NULL;
}

/* Joins the fragments; memory grows with what came, not with what is announced. */
static void on_exec(struct session *s, const struct codec_frame *f)
{
    uint8_t *grown;

    if (s->phase != SESSION_REQUEST || f->length > PROTO_EXEC_MAX - s->blob_len) {
        drop(s, "EXEC out of place, or too big");
        return;
    }
    grown = realloc(s->blob, s->blob_len + f->length);
    if (!grown) {
        refuse(s, PROTO_ERR_RESOURCE, ENOMEM, "out of memory for the arguments");
        return;
    }
    s->blob = grown;
    memcpy(grown + s->blob_len, f->payload, f->length);
    s->blob_len += f->length;
    if (!(f->flags & PROTO_MORE))
        start(s);
}

static void on_hello(struct session *s, const struct codec_frame *f)
{
    uint32_t version;

    if (f->type != PROTO_HELLO || codec_hello_parse(f, &version) < 0)
        drop(s, "no HELLO");
    else if (version != PROTO_VERSION)
        refuse(s, PROTO_ERR_VERSION, 0, "the agent speaks another version of the protocol");
    else
        s->phase = SESSION_REQUEST;
}

/* The connection goes to a process of its own; the session is over. What the host sends before it
 * has the answer would be lost, and is against the protocol. */
static void on_connect(struct session *s, const struct codec_frame *f)
{
    struct codec_frame early;
    uint16_t port;

    if (s->phase != SESSION_REQUEST || codec_connect_parse(f, &port) < 0 ||
        codec_reader_next(&s->wire.in, &early) != 0 || s->wire.in.start != s->wire.in.end)
        drop(s, "bad CONNECT");
    else if (wire_flush(&s->wire) < 0 || wire_queued(&s->wire))
        drop(s, "the host does not read");
    else if (relay_start(s->conn.fd, port) < 0)
        refuse(s, PROTO_ERR_RESOURCE, (uint32_t)errno, "cannot create a process");
    else
        drop(s, NULL);
}

static void on_request(struct session *s, const struct codec_frame *f)
{
    struct launch_report r = {0};

    if (f->type == PROTO_EXEC) {
        on_exec(s, f);
        return;
    }
    if (f->type == PROTO_CONNECT && !s->blob_len) {
        on_connect(s, f);
        return;
    }
    /* Half an EXEC cannot turn into something else. */
    if (s->blob_len || wire_room(&s->wire) < CODEC_ERROR) {
        drop(s, "request out of place");
        return;
    }
    s->phase = SESSION_CONTROL;
    if (control_request(s->server, f, &r) < 0)
        drop(s, "unexpected frame");
    else if (r.class)
        wire_added(&s->wire, codec_error_build(wire_tail(&s->wire), r.class, r.os_errno, r.text));
    else
        wire_added(&s->wire, codec_empty_build(wire_tail(&s->wire), PROTO_OK, 0));
}

static void on_signal(struct session *s, const struct codec_frame *f)
{
    uint32_t signal, flags;

    if (codec_signal_parse(f, &signal, &flags) < 0)
        drop(s, "bad SIGNAL");
    else if (flags & PROTO_SIGNAL_ALL || s->several)
        session_signal(s, (int)signal);
    else if (s->pid > 0 && (!s->tty || kill(-s->pid, (int)signal) < 0))
        kill(s->pid, (int)signal);
}

static void on_resize(struct session *s, const struct codec_frame *f)
{
    uint16_t rows, cols;

    codec_resize_parse(f, &rows, &cols);
    if (!s->tty)
        drop(s, "RESIZE without a terminal");
    else if (s->out[0].src.fd >= 0)
        spawn_resize(s->out[0].src.fd, rows, cols);
}

/* A frame of an exec session that has begun. */
static void on_session_frame(struct session *s, const struct codec_frame *f)
{
    switch (f->type) {
    case PROTO_SIGNAL:
        on_signal(s, f);
        break;
    case PROTO_RESIZE:
        on_resize(s, f);
        break;
    case PROTO_DATA:
    case PROTO_EOF:
    case PROTO_CREDIT:
        if (stream_frame(s, f) < 0)
            drop(s, "stream frame out of turn");
        break;
    default:
        drop(s, "frame out of turn");
    }
}

static void on_frame(struct session *s, const struct codec_frame *f)
{
    switch (s->phase) {
    case SESSION_HELLO:
        on_hello(s, f);
        break;
    case SESSION_REQUEST:
    case SESSION_CONTROL:
        on_request(s, f);
        break;
    case SESSION_STARTING:
    case SESSION_RUNNING:
        on_session_frame(s, f);
        break;
    case SESSION_CLOSING:
        break; /* sent before the host could know */
    }
}

/* What is due goes out; then the session may be over. */
static void pump(struct session *s)
{
    if (s->retired)
        return;
    if (stream_pump(s) < 0)
        drop(s, NULL); /* the host closed it: its right at any time */
    else if (s->phase == SESSION_CLOSING && wire_queued(&s->wire) == 0)
        drop(s, NULL);
}

static void on_conn(struct source *src, uint32_t events)
{
    struct session *s = src->owner;
    struct codec_frame f;
    int got = 1;

    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        got = wire_fill(&s->wire);
    while (!s->retired && got > 0) {
        int more = codec_reader_next(&s->wire.in, &f);
        if (more == 0)
            break;
        if (more < 0)
            drop(s, "bad frame");
        else
            on_frame(s, &f);
    }
    if (got < 0)
        drop(s, NULL);
    pump(s);
}

/* The child's word: an error, or by its silence that execve succeeded. */
static void on_report(struct source *src, uint32_t events)
{
    struct session *s = src->owner;
    struct launch_report r;
    ssize_t n = read(src->fd, &r, sizeof r);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    server_unwatch(s->server, src);
    if (n == (ssize_t)sizeof r) {
        r.text[sizeof r.text - 1] = 0;
        refuse(s, r.class, r.os_errno, r.text);
    } else {
        s->phase = SESSION_RUNNING;
        if (wire_room(&s->wire) < CODEC_SMALL)
            drop(s, "the host does not read");
        else
            wire_added(&s->wire,
                       codec_u32_build(wire_tail(&s->wire), PROTO_STARTED, 0, (uint32_t)s->pid));
    }
    pump(s);
}

static uint64_t timeval_ns(struct timeval t)
{
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_usec * 1000u;
}

void session_reaped(struct session *s, int status, const struct rusage *usage)
{
    /* The report may be waiting behind the same wake-up: it decides whether there is an exit at
     * all. */
    if (s->phase == SESSION_STARTING && s->report.fd >= 0)
        on_report(&s->report, EPOLLIN);
    s->pid = 0;
    if (s->retired || s->phase != SESSION_RUNNING)
        return;
    s->reaped = true;
    s->exit.signal = WIFSIGNALED(status) ? (uint32_t)WTERMSIG(status) : 0;
    s->exit.code = s->exit.signal ? 128 + s->exit.signal : (uint32_t)WEXITSTATUS(status);
    s->exit.core = WIFSIGNALED(status) && WCOREDUMP(status);
    s->exit.wall_ns = now_ns() - s->started_ns;
    s->exit.user_ns = timeval_ns(usage->ru_utime);
    s->exit.system_ns = timeval_ns(usage->ru_stime);
    s->exit.peak_rss_bytes = (uint64_t)usage->ru_maxrss * 1024;
    stream_drain(s);
    pump(s);
}

/* Descriptors of the process. */
static void on_stream(struct source *src, uint32_t events)
{
    struct session *s = src->owner;

    stream_ready(s, src, events);
    pump(s);
}

struct session *session_new(struct server *server, int fd)
{
    struct session *s = calloc(1, sizeof *s);

    if (!s) {
        close(fd);
        return NULL;
    }
    s->server = server;
    wire_init(&s->wire, fd, CODEC_HOST);
    s->conn = (struct source){.fd = fd, .ready = on_conn, .owner = s};
    s->report = (struct source){.fd = -1, .ready = on_report, .owner = s};
    s->input = (struct source){.fd = -1, .ready = on_stream, .owner = s};
    for (int i = 0; i < 2; i++) {
        s->out[i].src = (struct source){.fd = -1, .ready = on_stream, .owner = s};
        s->out[i].credit = PROTO_WINDOW;
    }
    s->host_credit = PROTO_WINDOW;
    wire_added(&s->wire, codec_hello_build(wire_tail(&s->wire)));
    pump(s);
    return s;
}

void session_free(struct session *s)
{
    if (!s)
        return;
    stream_close(s);
    server_unwatch(s->server, &s->report);
    server_unwatch(s->server, &s->conn);
    ring_fini(&s->pending);
    free(s->blob);
    free(s);
}

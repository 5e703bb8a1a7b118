/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A poll loop over the connection, the three descriptors and an eventfd through which other threads
 * get in. Output that its descriptor does not take waits in a ring of one window; credit goes back
 * as bytes leave it, so a slow reader slows the guest and costs nothing else. What the guest sends
 * is judged in session order: each frame is allowed by the state, or ends the session.
 */
#include "agent/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/pages.h"
#include "agent/ring.h"
#include "agent/wire.h"
#include "base/clock.h"

/* What a pipe that polls writable takes without blocking (pipe(7), PIPE_BUF). */
#define CAREFUL_WRITE 4096u

enum phase { PHASE_HELLO, PHASE_REQUESTED, PHASE_RUNNING, PHASE_ENDED };
enum slot { SLOT_CONN, SLOT_WAKE, SLOT_IN, SLOT_OUT, SLOT_ERR, SLOTS };

struct output {
    int fd;            /* borrowed; -1: discard */
    bool whole_writes; /* a write of any size cannot block */
    bool ended;        /* the guest said EOF */
    bool gone;         /* nobody reads it any more */
    bool gone_told;
    uint32_t granted; /* bytes the guest may still send */
    uint32_t owed;    /* bytes delivered, credit not yet given back */
    struct ring ring;
};

struct client {
    struct wire wire;
    enum phase phase;
    bool deaf;        /* sending fails: the guest has closed, its last words may still be there */
    bool refused;     /* ended by ERROR */
    const char *what; /* static: what an ERROR is about */
    bool tty;
    uint8_t *blob; /* owned: EXEC, sent up to blob_sent */
    size_t blob_len, blob_sent;
    bool hello_sent;

    int in_fd; /* borrowed; -1: none, or done with */
    bool in_ended;
    bool in_eof_told, in_refused;
    uint32_t in_credit;
    struct output out[2];
    int (*output)(void *opaque, int stream, const void *data, size_t len);
    void *opaque; /* borrowed */

    struct codec_exit exit;
    int refusal; /* exit code, when refused */
    struct sm_error error;

    /* Written by any thread, taken by client_run. */
    int wake_fd;
    _Atomic uint64_t signals, signals_all; /* bit n-1: signal n */
    _Atomic uint32_t winsize;              /* rows << 16 | cols */
    _Atomic bool resized, interrupted;
};

static bool never_blocks(int fd)
{
    struct stat st;
    int flags = fcntl(fd, F_GETFL);

    if (flags >= 0 && flags & O_NONBLOCK)
        return true;
    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

/* One more than there may be is enough to be refused. */
static uint16_t count_chain(const char *const *const *chain)
{
    uint16_t n = 0;

    while (chain && chain[n] && n <= PROTO_EXEC_CHAIN)
        n++;
    return n;
}

int client_new(struct client **out, int fd, const struct client_spec *spec, struct sm_error *err)
{
    struct codec_exec x = {
        .rows = spec->rows,
        .cols = spec->cols,
        .argv = (char **)(uintptr_t)spec->argv,
        .env = (char **)(uintptr_t)spec->env,
        .cwd = spec->cwd,
        .user = spec->user,
        .chain = (char ***)(uintptr_t)spec->chain,
        .n_chain = count_chain(spec->chain),
        .files = (struct codec_file *)(uintptr_t)spec->files,
        .n_files =
            (uint16_t)(spec->n_files > PROTO_EXEC_FILES ? PROTO_EXEC_FILES + 1 : spec->n_files)};
    const int fds[2] = {spec->stdout_fd, spec->stderr_fd};
    struct client *c = pages_new(sizeof *c);
    int status;

    if (!c)
        return err_set(err, SM_ENOMEM, "out of memory for an exec session");
    c->wake_fd = -1;
    x.flags = (spec->stdin_fd >= 0 ? PROTO_EXEC_STDIN : 0) | (spec->tty ? PROTO_EXEC_TTY : 0) |
              (spec->make_cwd ? PROTO_EXEC_MKCWD : 0) |
              (spec->what == CLIENT_WRITE ? PROTO_EXEC_WRITE : 0) |
              (spec->what == CLIENT_READ ? PROTO_EXEC_READ : 0);
    c->what = spec->what == CLIENT_EXEC ? "cannot start the command: " : "";
    status = codec_exec_build(&x, &c->blob, &c->blob_len);
    if (status < 0) {
        client_free(c);
        return status == -2 ? err_set(err, SM_ENOMEM, "out of memory for the arguments")
                            : err_set(err, SM_EINVAL,
                                      "no command or an empty path, or arguments, environment and "
                                      "files above %u MiB, %u strings, %u files or %u commands",
                                      PROTO_EXEC_MAX >> 20, PROTO_EXEC_STRINGS, PROTO_EXEC_FILES,
                                      PROTO_EXEC_CHAIN + 1);
    }
    c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->wake_fd < 0) {
        status = err_sys(err, "eventfd");
        client_free(c);
        return status;
    }
    wire_init(&c->wire, fd, CODEC_GUEST);
    c->tty = spec->tty;
    c->in_fd = spec->stdin_fd;
    c->in_ended = c->in_eof_told = spec->stdin_fd < 0;
    c->in_credit = PROTO_WINDOW;
    c->output = spec->output;
    c->opaque = spec->opaque;
    for (int i = 0; i < 2; i++) {
        c->out[i].fd = spec->output ? -1 : fds[i];
        c->out[i].whole_writes = c->out[i].fd >= 0 && never_blocks(c->out[i].fd);
        c->out[i].granted = PROTO_WINDOW;
    }
    c->out[1].ended = spec->tty;
    *out = c;
    return 0;
}

void client_free(struct client *c)
{
    if (!c)
        return;
    ring_fini(&c->out[0].ring);
    ring_fini(&c->out[1].ring);
    if (c->wake_fd >= 0)
        close(c->wake_fd);
    free(c->blob);
    pages_free(c, sizeof *c);
}

static void wake(struct client *c)
{
    uint64_t one = 1;
    int saved = errno; /* may be a signal handler */

    if (write(c->wake_fd, &one, sizeof one) < 0) {
        /* the counter is full, so the loop is awake already */
    }
    errno = saved;
}

void client_signal(struct client *c, int signal, bool all)
{
    if (signal < 1 || signal > 64)
        return;
    atomic_fetch_or(all ? &c->signals_all : &c->signals, UINT64_C(1) << (signal - 1));
    wake(c);
}

void client_resize(struct client *c, uint16_t rows, uint16_t cols)
{
    atomic_store(&c->winsize, (uint32_t)rows << 16 | cols);
    atomic_store(&c->resized, true);
    wake(c);
}

void client_interrupt(struct client *c)
{
    atomic_store(&c->interrupted, true);
    wake(c);
}

/* --- what the guest says --- */

static int broken(struct sm_error *err, const char *what)
{
    return err_set(err, SM_EGUEST, "the guest's agent broke the protocol: %s", what);
}

/* ERROR instead of STARTED. The exit codes are the shell's. */
static int on_error(struct client *c, const struct codec_frame *f, struct sm_error *err)
{
    char text[PROTO_TEXT_MAX + 1];
    enum proto_error class;
    uint32_t os_errno;
    int code = SM_EGUEST;

    if (codec_error_parse(f, &class, &os_errno, text) < 0)
        return broken(err, "unknown error class");
    c->refusal = 125;
    if (class == PROTO_ERR_NOT_FOUND) {
        code = SM_ENOTFOUND;
        c->refusal = 127;
    } else if (class == PROTO_ERR_NOT_EXECUTABLE) {
        code = SM_EINVAL;
        c->refusal = 126;
    } else if (class == PROTO_ERR_USER || class == PROTO_ERR_CWD) {
        code = SM_EINVAL;
    } else if (class == PROTO_ERR_FILE) {
        code = os_errno == ENOSPC ? SM_ENOSPC : os_errno == ENOENT ? SM_ENOTFOUND : SM_EINVAL;
    }
    c->refused = true;
    c->phase = PHASE_ENDED;
    err_set(&c->error, code, "%s%.400s", c->what, text);
    return 0;
}

static int on_data(struct client *c, const struct codec_frame *f, struct sm_error *err)
{
    struct output *o = &c->out[f->stream - 1];
    int status;

    if (o->ended || f->length > o->granted)
        return broken(err, "output after its end, or beyond its credit");
    o->granted -= f->length;
    if (o->gone)
        return 0;
    if (c->output) {
        status = c->output(c->opaque, f->stream, f->payload, f->length);
        if (status)
            return err_set(err, status, "the receiver of the output stopped");
    }
    if (o->fd < 0) {
        o->owed += f->length;
        return 0;
    }
    if (ring_put(&o->ring, f->payload, f->length) < 0)
        return err_set(err, SM_ENOMEM, "out of memory for output");
    return 0;
}

/* Frames between STARTED and EXIT. */
static int on_running(struct client *c, const struct codec_frame *f, struct sm_error *err)
{
    uint32_t bytes;

    switch (f->type) {
    case PROTO_DATA:
        return on_data(c, f, err);
    case PROTO_EOF:
        if (f->stream == PROTO_STDIN ? c->in_refused : c->out[f->stream - 1].ended)
            return broken(err, "end of a stream twice");
        if (f->stream == PROTO_STDIN)
            c->in_refused = true;
        else
            c->out[f->stream - 1].ended = true;
        return 0;
    case PROTO_CREDIT:
        if (codec_credit_parse(f, &bytes) < 0 || bytes > PROTO_WINDOW - c->in_credit)
            return broken(err, "too much credit");
        c->in_credit += bytes;
        return 0;
    case PROTO_EXIT:
        if (!c->out[0].ended || !c->out[1].ended || codec_exit_parse(f, &c->exit) < 0)
            return broken(err, "bad exit");
        c->phase = PHASE_ENDED;
        return 0;
    default:
        return broken(err, "frame out of turn");
    }
}

static int on_frame(struct client *c, const struct codec_frame *f, struct sm_error *err)
{
    uint32_t version;

    switch (c->phase) {
    case PHASE_HELLO:
        if (f->type != PROTO_HELLO || codec_hello_parse(f, &version) < 0)
            return broken(err, "no hello");
        if (version != PROTO_VERSION)
            return err_set(err, SM_EGUEST,
                           "the guest's agent speaks protocol version %u, this is version %u: bake "
                           "the image again",
                           version, PROTO_VERSION);
        c->phase = PHASE_REQUESTED;
        return 0;
    case PHASE_REQUESTED:
        if (f->type == PROTO_ERROR)
            return on_error(c, f, err);
        if (f->type != PROTO_STARTED)
            return broken(err, "frame before the start");
        c->phase = PHASE_RUNNING;
        return 0;
    case PHASE_RUNNING:
        return on_running(c, f, err);
    case PHASE_ENDED:
        return 0; /* not reached: nothing is parsed after the end */
    }
    return 0;
}

static int receive(struct client *c, struct sm_error *err)
{
    struct codec_frame f;
    int got = wire_fill(&c->wire);

    while (c->phase != PHASE_ENDED) {
        int more = codec_reader_next(&c->wire.in, &f), status;
        if (more < 0)
            return broken(err, "bad frame");
        if (more == 0)
            break;
        status = on_frame(c, &f, err);
        if (status)
            return status;
    }
    if (got < 0 && c->phase != PHASE_ENDED) {
        /* Deliver what came before; then this is how it ended. */
        c->phase = PHASE_ENDED;
        err_set(&c->error, SM_EGUEST, "the guest closed the connection before the command ended");
    }
    return 0;
}

/* --- what we say --- */

static bool small_fits(struct client *c)
{
    return wire_room(&c->wire) >= CODEC_SMALL;
}

static void queue_exec(struct client *c)
{
    if (!c->hello_sent) {
        wire_added(&c->wire, codec_hello_build(wire_tail(&c->wire)));
        c->hello_sent = true;
    }
    while (c->blob_sent < c->blob_len) {
        size_t len = c->blob_len - c->blob_sent, room = wire_room(&c->wire);
        uint8_t *frame = wire_tail(&c->wire);

        if (room <= WIRE_RESERVE + PROTO_HEADER_SIZE)
            return;
        room -= WIRE_RESERVE + PROTO_HEADER_SIZE;
        len = len < PROTO_PAYLOAD_MAX ? len : PROTO_PAYLOAD_MAX;
        len = len < room ? len : room;
        codec_header_build(frame, PROTO_EXEC, 0, c->blob_sent + len < c->blob_len ? PROTO_MORE : 0,
                           (uint32_t)len);
        memcpy(frame + PROTO_HEADER_SIZE, c->blob + c->blob_sent, len);
        wire_added(&c->wire, PROTO_HEADER_SIZE + len);
        c->blob_sent += len;
    }
    free(c->blob);
    c->blob = NULL;
    c->blob_len = c->blob_sent = 0;
}

static void queue_signals(struct client *c, _Atomic uint64_t *set, uint32_t flags)
{
    for (uint32_t n = 1; n <= 64 && atomic_load(set) && small_fits(c); n++)
        if (atomic_fetch_and(set, ~(UINT64_C(1) << (n - 1))) & UINT64_C(1) << (n - 1))
            wire_added(&c->wire, codec_signal_build(wire_tail(&c->wire), n, flags));
}

/* Everything that is due and fits; called again after each flush. */
static void queue_due(struct client *c)
{
    queue_exec(c);
    if (c->blob)
        return;
    queue_signals(c, &c->signals, 0);
    queue_signals(c, &c->signals_all, PROTO_SIGNAL_ALL);
    if (c->tty && atomic_load(&c->resized) && small_fits(c)) {
        atomic_store(&c->resized, false);
        uint32_t size = atomic_load(&c->winsize);
        wire_added(&c->wire,
                   codec_resize_build(wire_tail(&c->wire), (uint16_t)(size >> 16), (uint16_t)size));
    }
    if (c->in_ended && !c->in_eof_told && small_fits(c)) {
        c->in_eof_told = true;
        if (!c->in_refused)
            wire_added(&c->wire, codec_empty_build(wire_tail(&c->wire), PROTO_EOF, PROTO_STDIN));
    }
    for (unsigned i = 0; i < 2; i++) {
        struct output *o = &c->out[i];
        if (o->gone && !o->gone_told && !o->ended && small_fits(c)) {
            o->gone_told = true;
            wire_added(&c->wire,
                       codec_empty_build(wire_tail(&c->wire), PROTO_EOF, PROTO_STDOUT + i));
        }
        if (o->owed >= PROTO_WINDOW / 4 && !o->ended && small_fits(c)) {
            wire_added(&c->wire, codec_u32_build(wire_tail(&c->wire), PROTO_CREDIT,
                                                 PROTO_STDOUT + i, o->owed));
            o->granted += o->owed;
            o->owed = 0;
        }
    }
}

static void flush(struct client *c)
{
    if (!c->deaf && c->phase != PHASE_ENDED)
        queue_due(c);
    if (!c->deaf && wire_flush(&c->wire) < 0)
        c->deaf = true; /* the reason comes by reading */
}

/* --- the descriptors --- */

static bool wants_input(struct client *c)
{
    return c->phase == PHASE_RUNNING && !c->in_ended && !c->in_refused && !c->deaf &&
           c->in_credit > 0 && wire_queued(&c->wire) == 0;
}

/* One read into one frame. */
static void take_input(struct client *c)
{
    size_t max = c->in_credit < PROTO_PAYLOAD_MAX ? c->in_credit : PROTO_PAYLOAD_MAX;
    uint8_t *frame;
    ssize_t n;

    if (wire_room(&c->wire) < WIRE_OUT_SIZE) /* always whole: nothing is queued */
        return;
    frame = wire_tail(&c->wire);
    n = read(c->in_fd, frame + PROTO_HEADER_SIZE, max);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) { /* its end; an unreadable one is no different to the command */
        c->in_ended = true;
        return;
    }
    codec_header_build(frame, PROTO_DATA, PROTO_STDIN, 0, (uint32_t)n);
    wire_added(&c->wire, PROTO_HEADER_SIZE + (size_t)n);
    c->in_credit -= (uint32_t)n;
}

static void reader_gone(struct output *o)
{
    o->gone = true;
    ring_fini(&o->ring);
}

static int deliver(struct output *o, struct sm_error *err)
{
    size_t len;
    const uint8_t *p = ring_head(&o->ring, &len);
    ssize_t n;

    if (!p)
        return 0;
    if (!o->whole_writes && len > CAREFUL_WRITE)
        len = CAREFUL_WRITE;
    n = write(o->fd, p, len);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return 0;
    if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) {
        reader_gone(o);
        return 0;
    }
    if (n < 0)
        return err_sys(err, "cannot write the command's output");
    ring_drop(&o->ring, (size_t)n);
    o->owed += (uint32_t)n;
    return 0;
}

static bool finished(const struct client *c)
{
    return c->phase == PHASE_ENDED && c->out[0].ring.len == 0 && c->out[1].ring.len == 0;
}

static void prepare(struct client *c, struct pollfd p[SLOTS])
{
    bool ended = c->phase == PHASE_ENDED;
    bool sending = !c->deaf && (wire_queued(&c->wire) > 0 || c->blob);

    p[SLOT_CONN] =
        (struct pollfd){ended ? -1 : c->wire.fd, (short)(POLLIN | (sending ? POLLOUT : 0)), 0};
    p[SLOT_WAKE] = (struct pollfd){c->wake_fd, POLLIN, 0};
    p[SLOT_IN] = (struct pollfd){wants_input(c) ? c->in_fd : -1, POLLIN, 0};
    for (int i = 0; i < 2; i++) {
        struct output *o = &c->out[i];
        /* With nothing to write it still tells that the reader is gone. */
        p[SLOT_OUT + i] =
            (struct pollfd){o->gone ? -1 : o->fd, (short)(o->ring.len ? POLLOUT : 0), 0};
    }
}

static int step(struct client *c, const struct pollfd p[SLOTS], struct sm_error *err)
{
    uint64_t count;
    int status = 0;

    if (p[SLOT_WAKE].revents && read(c->wake_fd, &count, sizeof count) < 0) {
        /* somebody else's wake-up already taken */
    }
    for (int i = 0; i < 2 && status == 0; i++) {
        struct output *o = &c->out[i];
        if (p[SLOT_OUT + i].revents & POLLOUT)
            status = deliver(o, err);
        else if (p[SLOT_OUT + i].revents & (POLLERR | POLLHUP | POLLNVAL))
            reader_gone(o);
    }
    if (status == 0 && p[SLOT_CONN].revents & (POLLIN | POLLHUP | POLLERR | POLLNVAL))
        status = receive(c, err);
    if (status == 0 && p[SLOT_IN].revents && wants_input(c))
        take_input(c);
    return status;
}

static int run(struct client *c, int timeout_ms, struct sm_error *err)
{
    int64_t deadline = clock_ms() + timeout_ms;
    struct pollfd p[SLOTS];

    while (!finished(c)) {
        int wait = -1, status;

        if (atomic_exchange(&c->interrupted, false))
            return err_set(err, SM_EINTR, "interrupted");
        flush(c);
        if (timeout_ms >= 0) {
            int64_t left = deadline - clock_ms();
            if (left <= 0)
                return err_set(err, SM_ETIMEDOUT, "the command still runs after %d ms", timeout_ms);
            wait = (int)left;
        }
        prepare(c, p);
        if (poll(p, SLOTS, wait) < 0) {
            if (errno != EINTR)
                return err_sys(err, "poll");
            continue;
        }
        status = step(c, p, err);
        if (status)
            return status;
    }
    return 0;
}

int client_run(struct client *c, int timeout_ms, struct client_result *result, struct sm_error *err)
{
    sigset_t sigpipe, pending, saved;
    const struct timespec zero = {0};
    bool was_pending;
    int status;

    /* A write to a pipe without readers must be an EPIPE to us and nothing to the process. */
    sigemptyset(&sigpipe);
    sigaddset(&sigpipe, SIGPIPE);
    sigpending(&pending);
    was_pending = sigismember(&pending, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &sigpipe, &saved);
    status = run(c, timeout_ms, err);
    while (!was_pending && sigtimedwait(&sigpipe, NULL, &zero) < 0 && errno == EINTR)
        ;
    pthread_sigmask(SIG_SETMASK, &saved, NULL);
    memset(result, 0, sizeof *result);
    if (status)
        return status;
    result->refused = c->refused;
    result->code = c->refused ? c->refusal : (int)c->exit.code;
    result->signal = (int)c->exit.signal;
    result->core = c->exit.core;
    result->wall_ns = c->exit.wall_ns;
    result->user_ns = c->exit.user_ns;
    result->system_ns = c->exit.system_ns;
    result->peak_rss_bytes = c->exit.peak_rss_bytes;
    return c->error.code ? err_set(err, c->error.code, "%s", c->error.text) : 0;
}

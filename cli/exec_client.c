// SPDX-License-Identifier: Apache-2.0
#include "exec_client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "terminal.h"

static int add_all(struct wire *w, char **strings)
{
    int rc = 0;
    for (; strings && *strings && !rc; strings++)
        rc = wire_add(w, *strings);
    return rc;
}

/* A descriptor that was closed for us cannot be passed on. */
static int stream(int fd)
{
    return fcntl(fd, F_GETFD) >= 0 ? fd : open("/dev/null", O_RDWR | O_CLOEXEC);
}

static int32_t size_now(void)
{
    uint16_t rows, columns;
    terminal_size(&rows, &columns);
    return (int32_t)((uint32_t)rows << 16 | columns);
}

static int fill(const struct exec_client *c, struct wire *w)
{
    const struct command_opts *o = c->opts;
    char count[16];
    int n = 0;
    while (c->argv[n])
        n++;
    snprintf(count, sizeof count, "%d", n);
    w->a = (o->tty ? WIRE_EXEC_TTY : 0) | (o->interactive ? WIRE_EXEC_STDIN : 0) |
           (c->entrypoint ? WIRE_RUN_ENTRYPOINT : 0);
    w->b = o->tty ? size_now() : 0;
    int rc = wire_add(w, count);
    rc = rc ? rc : wire_add(w, o->cwd ? o->cwd : "");
    rc = rc ? rc : wire_add(w, o->user ? o->user : "");
    rc = rc || !c->entrypoint ? rc : wire_add(w, c->entrypoint);
    rc = rc ? rc : add_all(w, c->argv);
    return rc ? rc : add_all(w, o->env);
}

static int ask(struct exec_client *c)
{
    struct wire w = {.type = c->type};
    int rc = fill(c, &w);
    if (c->opts->interactive)
        w.fds[w.n_fds++] = stream(STDIN_FILENO);
    w.fds[w.n_fds++] = stream(STDOUT_FILENO);
    w.fds[w.n_fds++] = stream(STDERR_FILENO);
    rc = rc ? rc : wire_send(c->fd, &w);
    w.n_fds = 0; /* ours, not the message's */
    wire_fini(&w);
    if (rc == E2BIG || rc == EMSGSIZE)
        return say("%s: the command and its environment are longer than %u KiB", c->command,
                   WIRE_MAX_TEXT >> 10);
    return rc ? say("%s: cannot ask %s: %s", c->command, c->whom, strerror(rc)) : 0;
}

static void signal_command(void *opaque, int signal)
{
    const struct exec_client *c = opaque;
    wire_send(c->fd, &(struct wire){.type = WIRE_SIGNAL, .a = signal});
}

static void resize_command(void *opaque, uint16_t rows, uint16_t columns)
{
    const struct exec_client *c = opaque;
    wire_send(c->fd,
              &(struct wire){.type = WIRE_RESIZE, .b = (int32_t)((uint32_t)rows << 16 | columns)});
}

/* Of the command; a VM that is ours alone ends with it. */
static void end_command(void *opaque)
{
    const struct exec_client *c = opaque;
    if (c->type == WIRE_RUN)
        shutdown(c->fd, SHUT_RDWR);
    else
        signal_command(opaque, SIGKILL);
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The answer, or ETIMEDOUT. */
static int receive(const struct exec_client *c, struct wire *w)
{
    struct pollfd answer = {.fd = c->fd, .events = POLLIN};
    int64_t until = now_ms() + c->timeout_ms, left = c->timeout_ms;
    *w = (struct wire){0};
    for (int n = 0; c->timeout_ms && n <= 0; left = until - now_ms()) {
        if (left <= 0)
            return ETIMEDOUT;
        n = poll(&answer, 1, left > INT32_MAX ? INT32_MAX : (int)left);
    }
    return wire_receive(c->fd, w);
}

/* As an exit code. */
static int judge(const struct exec_client *c, int rc, const struct wire *w, int signal)
{
    size_t at = 0;
    const char *text = rc || w->type != WIRE_DONE ? NULL : wire_next(w, &at);
    if (rc == ETIMEDOUT) {
        say("%s: %s: timed out after %g s (--timeout); the VM was ended", c->command, c->whom,
            (double)c->timeout_ms / 1000);
        return EXIT_TIMED_OUT;
    }
    if (!text && signal) {
        say("%s: %s: SIG%s came twice; the VM was ended", c->command, c->whom,
            sigabbrev_np(signal));
        return 128 + signal;
    }
    if (!text)
        return say("%s: %s: the VM ended before the command did", c->command, c->whom);
    if (text[0])
        say("%s: %s", c->command, text);
    return w->a;
}

int exec_client_run(struct exec_client *c, struct signals *signals)
{
    struct signal_target target = {.signal = signal_command,
                                   .resize = c->opts->tty ? resize_command : NULL,
                                   .end = end_command,
                                   .opaque = c};
    struct wire w;
    int code = ask(c);
    if (code)
        return code;
    if (c->opts->tty && c->opts->interactive)
        terminal_raw();
    signals_direct(signals, &target);
    int rc = receive(c, &w);
    signals_direct(signals, NULL);
    terminal_restore();
    code = judge(c, rc, &w, signals_ended_by(signals));
    wire_fini(&w);
    return code;
}

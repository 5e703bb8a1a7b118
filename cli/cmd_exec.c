// SPDX-License-Identifier: Apache-2.0
/* supermachine exec: a command in a VM that runs already. Its owner (server.h) gets our streams. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "command_opts.h"
#include "server.h"
#include "signals.h"
#include "terminal.h"
#include "wire.h"

const struct opt exec_options[] = {COMMAND_OPTIONS, {0}};

struct asked {
    struct command_opts command;
    const char *vm;
    char **argv;
    struct signals signals;
    int fd; /* to the owner */
};

static int parse(struct asked *a, const struct cmd *cmd, char **argv)
{
    struct opts o;
    int id;
    opts_init(&o, cmd, argv);
    while ((id = opts_next(&o)) >= 0)
        if (command_opts_take(&a->command, "exec", id, o.value))
            return EXIT_OURS;
    if (id == OPTS_HELP)
        return 0;
    if (id == OPTS_BAD)
        return EXIT_OURS;
    a->vm = argv[o.next];
    if (!a->vm)
        return say("exec: no VM given; see `supermachine help exec`");
    a->argv = &argv[o.next + 1];
    if (!a->argv[0])
        return say("exec: no command given; see `supermachine help exec`");
    return command_opts_check(&a->command, "exec") ? EXIT_OURS : -1;
}

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

static int ask(struct asked *a)
{
    const struct command_opts *c = &a->command;
    struct wire w = {.type = WIRE_EXEC};
    char count[16];
    int n = 0;
    while (a->argv[n])
        n++;
    snprintf(count, sizeof count, "%d", n);
    w.a = (c->tty ? WIRE_EXEC_TTY : 0) | (c->interactive ? WIRE_EXEC_STDIN : 0);
    w.b = c->tty ? size_now() : 0;
    int rc = wire_add(&w, count);
    rc = rc ? rc : wire_add(&w, c->cwd ? c->cwd : "");
    rc = rc ? rc : wire_add(&w, c->user ? c->user : "");
    rc = rc ? rc : add_all(&w, a->argv);
    rc = rc ? rc : add_all(&w, c->env);
    if (c->interactive)
        w.fds[w.n_fds++] = stream(STDIN_FILENO);
    w.fds[w.n_fds++] = stream(STDOUT_FILENO);
    w.fds[w.n_fds++] = stream(STDERR_FILENO);
    rc = rc ? rc : wire_send(a->fd, &w);
    w.n_fds = 0; /* ours, not the message's */
    wire_fini(&w);
    if (rc == E2BIG || rc == EMSGSIZE)
        return say("exec: the command and its environment are longer than %u KiB",
                   WIRE_MAX_TEXT >> 10);
    return rc ? say("exec: cannot ask %s: %s", a->vm, strerror(rc)) : 0;
}

static void signal_command(void *opaque, int signal)
{
    const struct asked *a = opaque;
    wire_send(a->fd, &(struct wire){.type = WIRE_SIGNAL, .a = signal});
}

static void resize_command(void *opaque, uint16_t rows, uint16_t columns)
{
    const struct asked *a = opaque;
    wire_send(a->fd,
              &(struct wire){.type = WIRE_RESIZE, .b = (int32_t)((uint32_t)rows << 16 | columns)});
}

static void end_command(void *opaque)
{
    signal_command(opaque, SIGKILL);
}

static int wait_done(struct asked *a)
{
    const struct command_opts *c = &a->command;
    struct signal_target target = {.signal = signal_command,
                                   .resize = c->tty ? resize_command : NULL,
                                   .end = end_command,
                                   .opaque = a};
    struct wire w;
    size_t at = 0;
    if (c->tty && c->interactive)
        terminal_raw();
    signals_direct(&a->signals, &target);
    int rc = wire_receive(a->fd, &w);
    signals_direct(&a->signals, NULL);
    terminal_restore();
    const char *text = rc || w.type != WIRE_DONE ? NULL : wire_next(&w, &at);
    int code = w.a;
    if (!text)
        code = say("exec: %s: the VM ended before the command did", a->vm);
    else if (text[0])
        say("exec: %s", text);
    wire_fini(&w);
    return code;
}

static int run(struct asked *a)
{
    a->fd = server_connect_name(a->vm, "exec");
    if (a->fd < 0)
        return EXIT_OURS;
    int code = ask(a);
    if (!code)
        code = wait_done(a);
    close(a->fd);
    return code;
}

int cmd_exec(const struct cmd *cmd, int argc, char **argv)
{
    struct asked *a = calloc(1, sizeof *a);
    if (!a)
        return say("exec: out of memory");
    int code = parse(a, cmd, argv);
    if (code < 0) {
        int rc = signals_start(&a->signals);
        code = rc ? say("exec: cannot start a thread: %s", strerror(rc)) : run(a);
        command_opts_fini(&a->command);
        return code; /* a belongs to the signal thread now */
    }
    command_opts_fini(&a->command);
    free(a);
    return code;
}

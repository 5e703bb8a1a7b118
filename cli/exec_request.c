// SPDX-License-Identifier: Apache-2.0
#include "exec_request.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "cli.h"

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

int exec_request_parse(struct exec_request *q, const struct wire *w)
{
    size_t at = 0;
    unsigned first = w->a & WIRE_EXEC_STDIN ? 1 : 0;
    bool named = w->type == WIRE_RUN && w->a & WIRE_RUN_ENTRYPOINT;
    const char *count = wire_next(w, &at), *cwd = wire_next(w, &at), *user = wire_next(w, &at);
    *q = (struct exec_request){.entrypoint = named ? wire_next(w, &at) : NULL};
    long n = count ? strtol(count, NULL, 10) : -1;
    if (!user || (named && !q->entrypoint) || n < (w->type == WIRE_EXEC) || w->n_fds != 2 + first ||
        !take_list(w, &at, (size_t)n, &q->argv) || !take_list(w, &at, SIZE_MAX, &q->env))
        return EBADMSG;
    q->spec = (struct sm_exec_spec)SM_EXEC_SPEC_INIT;
    q->spec.argv = q->argv;
    q->spec.env = q->env;
    q->spec.cwd = cwd[0] ? cwd : NULL;
    q->spec.user = user[0] ? user : NULL;
    q->spec.tty = w->a & WIRE_EXEC_TTY;
    q->spec.rows = (uint16_t)((uint32_t)w->b >> 16);
    q->spec.columns = (uint16_t)w->b;
    q->spec.stdin_fd = first ? w->fds[0] : -1;
    q->spec.stdout_fd = w->fds[first];
    q->spec.stderr_fd = w->fds[first + 1];
    return 0;
}

void exec_request_fini(struct exec_request *q)
{
    free(q->argv);
    free(q->env);
}

struct command {
    sm_exec *exec;
    int fd;
    atomic_bool ended;
};

static void *wait_for(void *opaque)
{
    struct command *c = opaque;
    struct sm_outcome outcome = {0};
    struct sm_error err = {0};
    int rc = sm_exec_wait(c->exec, -1, &outcome, &err);
    if (rc && !outcome.code)
        outcome.code = EXIT_OURS;
    atomic_store(&c->ended, true);
    wire_answer(c->fd, outcome.code, outcome.started, rc ? err.text : "");
    shutdown(c->fd, SHUT_RD); /* ends the client's thread */
    return NULL;
}

/* What comes while the command runs. A client that goes away takes its command with it. */
static void pass_on(struct command *c, sm_vm *vm)
{
    for (;;) {
        struct wire w;
        int rc = wire_receive(c->fd, &w);
        if (rc == 0 && w.type == WIRE_SIGNAL)
            sm_exec_signal(c->exec, w.a);
        else if (rc == 0 && w.type == WIRE_RESIZE)
            sm_exec_resize(c->exec, (uint16_t)((uint32_t)w.b >> 16), (uint16_t)w.b);
        wire_fini(&w);
        if (rc)
            break;
    }
    if (atomic_load(&c->ended))
        return;
    if (vm)
        sm_vm_stop(vm);
    else
        sm_exec_signal(c->exec, SIGKILL);
}

void exec_request_serve(int fd, sm_exec *exec, sm_vm *vm)
{
    struct command command = {.exec = exec, .fd = fd};
    pthread_t waiter;
    if (pthread_create(&waiter, NULL, wait_for, &command) != 0) {
        wire_answer(fd, EXIT_OURS, false, "cannot start a thread");
        return;
    }
    pass_on(&command, vm);
    pthread_join(waiter, NULL);
}

// SPDX-License-Identifier: Apache-2.0
/*
 * supermachine run: store -> image -> VM -> command, and how it ended. What was asked for is parsed
 * by run_opts.c. Main thread: all of it; signals have their own thread (signals.c).
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "get_image.h"
#include "named.h"
#include "run_opts.h"
#include "run_pool.h"
#include "signals.h"
#include "terminal.h"

#define TAIL_LINES 20
#define MS_FOR_EVER INT64_MAX

struct run {
    struct run_opts opts;
    struct signals signals;
    int64_t deadline_ms; /* of CLOCK_MONOTONIC; MS_FOR_EVER: none */
    sm_store *store;
    sm_image *image;
    sm_vm *vm;
    struct named named;
    char tail[4096]; /* last console bytes; written by the VM's thread until it has ended */
    size_t tail_len;
    bool in_order; /* the command ended, or never began: the VM may end in good order */
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void keep_console(void *opaque, const void *data, size_t len)
{
    struct run *r = opaque;
    const char *bytes = data;
    size_t max = sizeof r->tail;
    if (len > max) {
        bytes += len - max;
        len = max;
    }
    if (r->tail_len + len > max) {
        size_t drop = r->tail_len + len - max;
        memmove(r->tail, r->tail + drop, r->tail_len - drop);
        r->tail_len -= drop;
    }
    memcpy(r->tail + r->tail_len, bytes, len);
    r->tail_len += len;
}

static void show_warning(void *opaque, const char *text)
{
    (void)opaque;
    say("run: %s", text);
}

/* The guest kernel's last lines, harmless to a terminal. */
static void show_tail(const struct run *r)
{
    size_t start = r->tail_len, lines = 0;
    while (start > 0 &&
           !(r->tail[start - 1] == '\n' && start < r->tail_len && ++lines >= TAIL_LINES))
        start--;
    for (size_t i = start; i < r->tail_len; i++) {
        unsigned char c = (unsigned char)r->tail[i];
        if (c == '\n' || c == '\t' || (c >= ' ' && c < 127))
            fputc(c, stderr);
        else if (c != '\r')
            fputc('?', stderr);
    }
    if (r->tail_len > start && r->tail[r->tail_len - 1] != '\n')
        fputc('\n', stderr);
}

/* An int of milliseconds until the deadline, for calls that take -1 for ever. */
static int left_ms(const struct run *r)
{
    if (r->deadline_ms == MS_FOR_EVER)
        return -1;
    int64_t left = r->deadline_ms - now_ms();
    return left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left;
}

static int timed_out(const struct run *r)
{
    say("run: %s: timed out after %g s (--timeout); the VM was ended", r->opts.image,
        (double)r->opts.timeout_ms / 1000);
    return EXIT_TIMED_OUT;
}

static int start_vm(struct run *r)
{
    struct sm_vm_config config = SM_VM_CONFIG_INIT;
    struct sm_error err = {0};
    machine_opts_fill(&r->opts.machine, &config);
    config.snapshots = r->opts.cold ? SM_SNAPSHOTS_NEVER : SM_SNAPSHOTS_AUTO;
    config.console = keep_console;
    config.console_opaque = r;
    config.volumes = r->opts.volume_list;
    config.warning = show_warning;
    if (debug_opts_fill(&r->opts.debug, "run", &config) != 0)
        return EXIT_OURS;
    if (r->opts.timeout_ms) {
        r->deadline_ms = now_ms() + r->opts.timeout_ms;
        config.start_ms = r->opts.timeout_ms < UINT32_MAX ? (uint32_t)r->opts.timeout_ms : 0;
    }
    int rc = sm_vm_start(r->image, &config, &r->vm, &err);
    if (rc == SM_ETIMEDOUT && left_ms(r) == 0)
        return timed_out(r);
    if (rc == SM_EGUEST)
        show_tail(r);
    if (rc && r->opts.machine.kernel && !strstr(err.text, r->opts.machine.kernel))
        return say("run: cannot start a VM with the kernel %s: %s", r->opts.machine.kernel,
                   err.text);
    return rc ? say("run: cannot start a VM: %s", err.text) : 0;
}

/* How a wait for the command ended, as an exit code. */
static int judge(struct run *r, int rc, const struct sm_outcome *outcome,
                 const struct sm_error *err)
{
    int signal = signals_ended_by(&r->signals);
    terminal_restore();
    r->in_order = rc == 0 || (!outcome->started && outcome->code);
    if (rc == 0)
        return outcome->code;
    if (signal) {
        say("run: %s: SIG%s came twice; the VM was ended", r->opts.image, sigabbrev_np(signal));
        return 128 + signal;
    }
    if (rc == SM_ETIMEDOUT)
        return timed_out(r);
    if (!outcome->started && outcome->code) {
        say("run: %s", err->text);
        return outcome->code;
    }
    enum sm_vm_state state = sm_vm_state(r->vm);
    if (state == SM_VM_PANICKED || state == SM_VM_FAILED)
        show_tail(r);
    if (rc == SM_EGUEST && state != SM_VM_RUNNING)
        return say("run: the VM ended before the command did: %s", err->text);
    return say("run: %s", err->text);
}

/* Where signals go. */
struct live {
    sm_vm *vm;
    sm_exec *exec;
};

static void signal_command(void *opaque, int signal)
{
    const struct live *l = opaque;
    sm_exec_signal(l->exec, signal);
}

static void resize_command(void *opaque, uint16_t rows, uint16_t columns)
{
    const struct live *l = opaque;
    sm_exec_resize(l->exec, rows, columns);
}

static void end_vm(void *opaque)
{
    const struct live *l = opaque;
    sm_vm_stop(l->vm);
}

static int wait_command(struct run *r, sm_exec *exec)
{
    const struct command_opts *c = &r->opts.command;
    struct live live = {r->vm, exec};
    struct signal_target target = {.signal = signal_command,
                                   .resize = c->tty ? resize_command : NULL,
                                   .end = end_vm,
                                   .opaque = &live};
    struct sm_outcome outcome = {0};
    struct sm_error err = {0};
    if (named_serve(&r->named, r->vm, exec))
        return EXIT_OURS;
    if (c->tty && c->interactive && !r->opts.detach)
        terminal_raw();
    signals_direct(&r->signals, &target);
    int rc = sm_exec_wait(exec, left_ms(r), &outcome, &err);
    signals_direct(&r->signals, NULL);
    return judge(r, rc, &outcome, &err);
}

/* What the guest has not written to its volumes yet would be lost with it. */
static int let_go(struct run *r, int code)
{
    struct sm_error err = {0};
    if (!r->opts.n_volumes || !r->in_order || sm_vm_shutdown(r->vm, 0, &err) == 0)
        return code;
    return say("run: the volumes may lack what was written last: the VM did not shut down: %s",
               err.text);
}

static int run_command(struct run *r, char **argv)
{
    const struct command_opts *c = &r->opts.command;
    struct sm_exec_spec spec = SM_EXEC_SPEC_INIT;
    struct sm_error err = {0};
    sm_exec *exec;
    spec.argv = (const char *const *)argv;
    spec.env = (const char *const *)c->env;
    spec.cwd = c->cwd;
    spec.user = c->user;
    spec.tty = c->tty;
    spec.stdin_fd = c->interactive ? STDIN_FILENO : -1;
    spec.stdout_fd = STDOUT_FILENO;
    spec.stderr_fd = STDERR_FILENO;
    if (named_streams(&r->named, &spec))
        return EXIT_OURS;
    if (c->tty)
        terminal_size(&spec.rows, &spec.columns);
    int rc = sm_exec_start(r->vm, &spec, &exec, &err);
    if (rc)
        return say("run: cannot run a command in the VM: %s", err.text);
    int code = let_go(r, wait_command(r, exec));
    named_end(&r->named, code);
    sm_exec_free(exec);
    return code;
}

static int run(struct run *r)
{
    struct sm_error err = {0};
    char **argv;
    if (r->opts.pool)
        return run_in_pool(&r->opts, &r->signals);
    if (sm_store_open(NULL, &r->store, &err) != 0)
        return say("run: %s", err.text);
    int failed = get_image(r->store, r->opts.image, (const char *const *)r->opts.insecure,
                           &r->signals, &r->image, &err);
    if (failed && signals_stop_pull(&r->signals))
        return 128 + signals_stop_pull(&r->signals);
    if (failed)
        return say("run: %s", err.text);
    if (sm_image_command(r->image, r->opts.entrypoint, (const char *const *)r->opts.args, &argv,
                         &err) != 0)
        return say("run: %s: %s", r->opts.image, err.text);
    int code = named_begin(&r->named, sm_store_path(r->store), argv);
    if (code == 0)
        code = start_vm(r);
    if (code == 0)
        code = run_command(r, argv);
    named_end(&r->named, code);
    sm_free(argv);
    return code;
}

int cmd_run(const struct cmd *cmd, int argc, char **argv)
{
    struct run *r = calloc(1, sizeof *r);
    if (!r)
        return say("run: out of memory");
    r->deadline_ms = MS_FOR_EVER;
    named_init(&r->named, &r->opts);
    int code = run_opts_parse(&r->opts, cmd, argv);
    if (code == RUN_OPTS_GO && r->opts.detach) {
        int parent = detach_fork(&r->named.detach);
        code = parent < 0 ? RUN_OPTS_GO : parent;
    }
    if (code == RUN_OPTS_GO) {
        int rc = signals_start(&r->signals);
        code = rc ? say("run: cannot start a thread: %s", strerror(rc)) : run(r);
        sm_vm_free(r->vm);
        sm_image_free(r->image);
        sm_store_free(r->store);
        run_opts_fini(&r->opts);
        return code; /* r belongs to the signal thread now */
    }
    run_opts_fini(&r->opts);
    free(r);
    return code;
}

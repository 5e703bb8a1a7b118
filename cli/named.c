// SPDX-License-Identifier: Apache-2.0
#include "named.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void named_init(struct named *n, const struct run_opts *opts)
{
    *n = (struct named){.opts = opts,
                        .detach = {.command = "run", .ready = -1},
                        .record = RECORD_NONE,
                        .out = {-1, -1},
                        .stdin_fd = -1,
                        .stdin_hold = -1};
}

/* For people to read: no quotes. */
static char *joined(char **argv)
{
    size_t len = 1;
    for (char **a = argv; *a; a++)
        len += strlen(*a) + 1;
    char *text = malloc(len), *at = text;
    for (char **a = argv; text && *a; a++)
        at += sprintf(at, "%s%s", a == argv ? "" : " ", *a);
    return text;
}

int named_begin(struct named *n, const char *store, char **argv)
{
    if (!n->opts->detach && !n->opts->name)
        return 0;
    struct record_info info = {.image = (char *)n->opts->image,
                               .command = joined(argv),
                               .created_s = time(NULL),
                               .owner = getpid(),
                               .detached = n->opts->detach,
                               .engine = n->opts->machine.engine};
    int code = info.command ? record_create(&n->record, "run", store, n->opts->name, &info)
                            : say("run: out of memory");
    free(info.command);
    return code;
}

int named_streams(struct named *n, struct sm_exec_spec *spec)
{
    int fds[2] = {-1, -1};
    if (!n->opts->detach)
        return 0;
    if (n->opts->command.interactive && pipe2(fds, O_CLOEXEC) != 0)
        return say("run: cannot make a pipe: %s", strerror(errno));
    n->stdin_fd = spec->stdin_fd = fds[0];
    n->stdin_hold = fds[1];
    int rc = vm_log_start(&n->log, &n->record, n->out);
    if (rc)
        return say("run: cannot write the log of %s: %s", n->record.name, strerror(rc));
    spec->stdout_fd = n->out[0];
    spec->stderr_fd = n->out[1];
    return 0;
}

int named_serve(struct named *n, sm_vm *vm, sm_exec *exec)
{
    if (n->record.dir < 0)
        return 0;
    int rc = server_start(&n->record, vm, exec, &n->server);
    if (rc)
        return say("run: cannot take requests for %s: %s", n->record.name, strerror(rc));
    detach_ready(&n->detach, &n->record);
    return 0;
}

void named_end(struct named *n, int code)
{
    bool ran = n->server != NULL;
    if (n->record.dir < 0)
        return;
    if (n->out[0] >= 0) {
        close(n->out[0]);
        close(n->out[1]);
        vm_log_finish(&n->log);
    }
    if (n->stdin_fd >= 0) {
        close(n->stdin_fd);
        close(n->stdin_hold);
    }
    if (ran)
        record_end(&n->record, code);
    server_stop(n->server, code);
    if (!ran || !n->opts->detach || n->opts->remove)
        record_remove(&n->record);
    record_close(&n->record);
}

// SPDX-License-Identifier: Apache-2.0
/* supermachine exec: a command in a VM that runs already. Its owner (server.h) gets our streams. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "exec_client.h"
#include "server.h"

const struct opt exec_options[] = {COMMAND_OPTIONS, {0}};

struct asked {
    struct command_opts command;
    const char *vm;
    char **argv;
    struct signals signals;
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

static int run(struct asked *a)
{
    struct exec_client client = {.command = "exec",
                                 .whom = a->vm,
                                 .opts = &a->command,
                                 .argv = a->argv,
                                 .type = WIRE_EXEC,
                                 .fd = server_connect_name(a->vm, "exec")};
    if (client.fd < 0)
        return EXIT_OURS;
    int code = exec_client_run(&client, &a->signals);
    close(client.fd);
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

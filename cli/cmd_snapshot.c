// SPDX-License-Identifier: Apache-2.0
/* supermachine snapshot: a VM that runs, saved by its owner. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server.h"
#include "wire.h"

/* The owner has another working directory. */
static int add_folder(struct wire *w, const char *folder)
{
    char path[PATH_MAX], here[PATH_MAX];
    if (folder[0] == '/')
        return wire_add(w, folder);
    if (!getcwd(here, sizeof here))
        return errno;
    if (snprintf(path, sizeof path, "%s/%s", here, folder) >= (int)sizeof path)
        return ENAMETOOLONG;
    return wire_add(w, path);
}

static int ask(int fd, const char *vm, const char *folder)
{
    struct wire w = {.type = WIRE_SNAPSHOT}, reply = {0};
    size_t at = 0;
    int rc = add_folder(&w, folder);
    rc = rc ? rc : wire_send(fd, &w);
    rc = rc ? rc : wire_receive(fd, &reply);
    const char *text = rc ? NULL : wire_next(&reply, &at);
    int code = 0;
    if (rc)
        code = say("snapshot: %s: %s", vm, rc == EPIPE ? "the VM has ended" : strerror(rc));
    else if (reply.a)
        code = say("snapshot: %s: %s", vm, text ? text : "its process gave no reason");
    else
        printf("%s stood still for %d ms\n", vm, reply.b);
    wire_fini(&w);
    wire_fini(&reply);
    return code;
}

int cmd_snapshot(const struct cmd *cmd, int argc, char **argv)
{
    struct opts o;
    opts_init(&o, cmd, argv);
    int id = opts_next(&o);
    if (id != OPTS_END)
        return id == OPTS_HELP ? 0 : EXIT_OURS;
    char **args = argv + o.next;
    if (!args[0] || !args[1] || args[2] || !args[1][0])
        return say("snapshot: give a VM and a new folder; see `supermachine help snapshot`");
    int fd = server_connect_name(args[0], "snapshot");
    if (fd < 0)
        return EXIT_OURS;
    int code = ask(fd, args[0], args[1]);
    close(fd);
    return code;
}

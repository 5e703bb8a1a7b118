// SPDX-License-Identifier: Apache-2.0
/* supermachine cp: one file into a VM that runs, or out of it. Its owner reads or writes ours. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server.h"
#include "wire.h"

struct place {
    char vm[RECORD_NAME_MAX + 1]; /* "": on the host */
    const char *path;
};

/* NAME:PATH, where NAME could name a VM; ./a:b and the like are host files. */
static struct place parse(const char *arg)
{
    struct place p = {.path = arg};
    size_t len = strcspn(arg, ":/");
    if (arg[len] == ':' && len > 0 && len <= RECORD_NAME_MAX) {
        memcpy(p.vm, arg, len);
        p.path = arg + len + 1;
    }
    return p;
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* reply: wire_fini by the caller. 0, or EXIT_OURS after a message: the VM is not there, or is gone.
 */
static int ask(const char *vm, uint32_t type, uint32_t mode, const char *path, int file,
               struct wire *reply)
{
    struct wire w = {.type = type, .a = (int32_t)mode, .fds = {file}, .n_fds = 1};
    int fd = server_connect_name(vm, "cp");
    *reply = (struct wire){0};
    if (fd < 0)
        return EXIT_OURS;
    int rc = wire_add(&w, path);
    rc = rc ? rc : wire_send(fd, &w);
    w.n_fds = 0; /* ours, not the message's */
    wire_fini(&w);
    rc = rc ? rc : wire_receive(fd, reply);
    close(fd);
    return rc ? say("cp: cannot ask %s: %s", vm, rc == EPIPE ? "the VM has ended" : strerror(rc))
              : 0;
}

static int fail(const struct wire *reply)
{
    size_t at = 0;
    const char *text = wire_next(reply, &at);
    return say("cp: %s", text ? text : "the VM's process gave no reason");
}

/* ---- in */

static int put(int file, uint32_t mode, const char *name, const struct place *to)
{
    struct wire first, second = {0};
    char path[4096];
    size_t len = strlen(to->path);
    bool slash = len && to->path[len - 1] == '/';
    int n = snprintf(path, sizeof path, "%s%s%s", to->path, slash ? "" : "/", name);
    int code = ask(to->vm, WIRE_PUT, mode, slash ? path : to->path, file, &first);
    if (!code && first.a) {
        /* Not as a file: then perhaps it is a folder. What that says to a file is worth nothing. */
        bool again = first.b && !slash && n < (int)sizeof path && lseek(file, 0, SEEK_SET) == 0 &&
                     ask(to->vm, WIRE_PUT, mode, path, file, &second) == 0 && !second.a;
        code = again ? 0 : fail(&first);
    }
    wire_fini(&first);
    wire_fini(&second);
    return code;
}

static int copy_in(const char *from, const struct place *to)
{
    struct stat st;
    bool is_stdin = strcmp(from, "-") == 0;
    int file = is_stdin ? dup(STDIN_FILENO) : open(from, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &st) != 0)
        return say("cp: cannot read %s: %s", from, strerror(errno));
    int code;
    if (S_ISDIR(st.st_mode))
        code = say("cp: %s is a folder; see `supermachine help cp`", from);
    else
        code = put(file, is_stdin ? 0644 : st.st_mode & 07777, is_stdin ? "stdin" : last_part(from),
                   to);
    close(file);
    return code;
}

/* ---- out */

/* Whole or not at all: what was there stays until it is complete. */
static int get(const struct place *from, const char *to)
{
    struct wire reply;
    char temp[4096];
    if (snprintf(temp, sizeof temp, "%s.XXXXXX", to) >= (int)sizeof temp)
        return say("cp: %.60s...: the name is too long", to);
    int file = mkostemp(temp, O_CLOEXEC);
    if (file < 0)
        return say("cp: cannot write %s: %s", to, strerror(errno));
    int code = ask(from->vm, WIRE_GET, 0, from->path, file, &reply);
    if (!code && reply.a)
        code = fail(&reply);
    if (!code && fchmod(file, (mode_t)reply.b & 0777) != 0)
        code = say("cp: cannot write %s: %s", to, strerror(errno));
    if (close(file) != 0 && !code)
        code = say("cp: cannot write %s: %s", to, strerror(errno));
    if (!code && rename(temp, to) != 0)
        code = say("cp: cannot write %s: %s", to, strerror(errno));
    if (code)
        unlink(temp);
    wire_fini(&reply);
    return code;
}

static int copy_out(const struct place *from, const char *to)
{
    struct stat st;
    struct wire reply;
    char path[4096];
    if (strcmp(to, "-") == 0) {
        int code = ask(from->vm, WIRE_GET, 0, from->path, STDOUT_FILENO, &reply);
        if (!code && reply.a)
            code = fail(&reply);
        wire_fini(&reply);
        return code;
    }
    if (stat(to, &st) != 0 || !S_ISDIR(st.st_mode))
        return get(from, to);
    if (snprintf(path, sizeof path, "%s/%s", to, last_part(from->path)) >= (int)sizeof path)
        return say("cp: %.60s...: the name is too long", to);
    return get(from, path);
}

int cmd_cp(const struct cmd *cmd, int argc, char **argv)
{
    struct opts o;
    opts_init(&o, cmd, argv);
    int id = opts_next(&o);
    if (id != OPTS_END)
        return id == OPTS_HELP ? 0 : EXIT_OURS;
    char **args = argv + o.next;
    if (!args[0] || !args[1] || args[2])
        return say("cp: give one source and one target; see `supermachine help cp`");
    struct place from = parse(args[0]), to = parse(args[1]);
    if (!from.vm[0] == !to.vm[0])
        return say("cp: one of both must be in a VM, as NAME:PATH, and the other on this host");
    const struct place *guest = from.vm[0] ? &from : &to;
    if (guest->path[0] != '/')
        return say("cp: %s:%s: the path in the VM must begin with /", guest->vm, guest->path);
    return from.vm[0] ? copy_out(&from, to.path) : copy_in(from.path, &to);
}

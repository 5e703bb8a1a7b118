/* SPDX-License-Identifier: Apache-2.0 */
/* See agent_fixture.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/request.h"
#include "agent_fixture.h"

static size_t count_fds(pid_t pid)
{
    char path[64];
    size_t n = 0;
    DIR *d;

    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    d = opendir(path);
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

int fixture_setup(void **state)
{
    const char *program = getenv("AGENT_HOST");
    struct fixture *f = calloc(1, sizeof *f);
    int ready[2], fd;
    char line[8] = "";

    if (!program)
        print_error("AGENT_HOST must name the agent_host program\n");
    if (!program || !f || pipe(ready) < 0)
        return -1;
    strcpy(f->dir, "/tmp/sm-agent-XXXXXX");
    if (!mkdtemp(f->dir))
        return -1;
    snprintf(f->socket, sizeof f->socket, "%s/s", f->dir);
    f->pid = fork();
    if (f->pid == 0) {
        dup2(ready[1], 1);
        close(ready[0]);
        close(ready[1]);
        execl(program, program, f->socket, (char *)NULL);
        _exit(127);
    }
    close(ready[1]);
    if (read(ready[0], line, 6) != 6 || strcmp(line, "ready\n") != 0)
        return -1;
    close(ready[0]);
    *state = f;
    /* Its loop runs once it answers; the connection for that is closed a moment later. */
    fd = fixture_connect(f);
    if (request_ping(fd, 10000, NULL))
        return -1;
    close(fd);
    usleep(100000);
    f->base_fds = count_fds(f->pid);
    return 0;
}

int fixture_teardown(void **state)
{
    struct fixture *f = *state;
    struct sm_error err = {0};
    int fd, status = 0, asked;

    if (!f)
        return -1;
    fd = fixture_connect(f);
    asked = request_shutdown(fd, 2000, 10000, &err);
    close(fd);
    if (asked)
        print_error("shutdown: %s\n", err.text);
    waitpid(f->pid, &status, 0);
    unlink(f->socket);
    rmdir(f->dir);
    free(f);
    return asked || !WIFEXITED(status) || WEXITSTATUS(status) ? -1 : 0;
}

int fixture_connect(const struct fixture *f)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    strcpy(a.sun_path, f->socket);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static int collect(void *opaque, int stream, const void *data, size_t len)
{
    struct outcome *o = opaque;

    return buf_append(&o->out[stream - 1], data, len) < 0 ? SM_ENOMEM : 0;
}

void outcome_fini(struct outcome *o)
{
    buf_fini(&o->out[0]);
    buf_fini(&o->out[1]);
}

void fixture_run(const struct fixture *f, struct client_spec spec, struct outcome *o)
{
    int fd = fixture_connect(f);
    struct client *c;

    memset(o, 0, sizeof *o);
    spec.output = collect;
    spec.opaque = o;
    o->status = client_new(&c, fd, &spec, &o->err);
    if (o->status == 0) {
        o->status = client_run(c, 60000, &o->result, &o->err);
        client_free(c);
    }
    close(fd);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(buf_append(&o->out[i], "", 1), 0);
        o->out[i].len--;
    }
}

void fixture_shell(const struct fixture *f, const char *script, struct outcome *o)
{
    const char *argv[] = {"/bin/sh", "-c", script, NULL};
    struct client_spec spec = CLIENT_SPEC_INIT;

    spec.argv = argv;
    fixture_run(f, spec, o);
}

void fixture_expect_idle(const struct fixture *f)
{
    char path[64], children[16] = "";

    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)f->pid, (int)f->pid);
    for (int i = 0; i < 400; i++, usleep(5000)) {
        FILE *list = fopen(path, "re");
        size_t n = list ? fread(children, 1, sizeof children - 1, list) : 0;

        if (list)
            fclose(list);
        if (n == 0 && count_fds(f->pid) == f->base_fds)
            return;
        children[n] = 0;
    }
    fail_msg("agent_host has %zu descriptors, not %zu; children: %s", count_fds(f->pid),
             f->base_fds, children);
}

size_t fixture_status_kb(pid_t pid, const char *field)
{
    char path[64], line[256];
    size_t kb = 0, len = strlen(field);
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    f = fopen(path, "re");
    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        if (strncmp(line, field, len) == 0 && line[len] == ':')
            kb = strtoul(line + len + 1, NULL, 10);
    fclose(f);
    return kb;
}

bool fixture_wait_gone(pid_t pid, int timeout_ms)
{
    for (int ms = 0; ms < timeout_ms; ms += 5) {
        if (kill(pid, 0) < 0 && errno == ESRCH)
            return true;
        usleep(5000);
    }
    return false;
}

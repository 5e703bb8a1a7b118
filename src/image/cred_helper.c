/* SPDX-License-Identifier: Apache-2.0 */
#include "image/cred_helper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"

#define POLL_MS 50

extern char **environ;

struct helper {
    const char *name;
    pid_t pid;
    int out; /* its stdout */
};

/* A file that holds the server's name: with it the helper needs no writer. */
static int server_file(const char *server)
{
    int pipe_fd[2];
    if (strlen(server) > 4096 || pipe2(pipe_fd, O_CLOEXEC)) { /* a pipe takes 4096 at once */
        return -1;
    }
    if (io_write_full(pipe_fd[1], server, strlen(server))) {
        close(pipe_fd[0]);
        pipe_fd[0] = -1;
    }
    close(pipe_fd[1]);
    return pipe_fd[0];
}

static int spawn(struct helper *h, int in, int out, struct sm_error *err)
{
    char program[64 + sizeof "docker-credential-"];
    char get[] = "get";
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, all;
    snprintf(program, sizeof program, "docker-credential-%s", h->name);
    char *argv[] = {program, get, NULL};
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attr);
    posix_spawn_file_actions_adddup2(&files, in, 0);
    posix_spawn_file_actions_adddup2(&files, out, 1);
    posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
    /* Its own process group, so that what it starts can be killed with it. */
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                        POSIX_SPAWN_SETSIGDEF);
    int rc = posix_spawnp(&h->pid, program, &files, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    if (rc) {
        errno = rc;
        err_sys(err, "cannot run the credential helper %s, which Docker's config.json names",
                program);
        if (err) {
            err->code = SM_EIO;
        }
        return SM_EIO;
    }
    return SM_OK;
}

/* All it writes, until it closes its end. */
static int listen_to(struct helper *h, unsigned limit_ms, const atomic_bool *cancel,
                     struct buf *out, struct sm_error *err)
{
    int64_t end = clock_ms() + limit_ms;
    size_t start = out->len;
    for (;;) {
        struct pollfd p = {.fd = h->out, .events = POLLIN};
        if (cancel && atomic_load(cancel)) {
            return err_set(err, SM_EINTR, "interrupted");
        }
        if (clock_ms() > end) {
            return err_set(err, SM_ETIMEDOUT,
                           "the credential helper docker-credential-%s did not end within %u ms",
                           h->name, limit_ms);
        }
        if (poll(&p, 1, POLL_MS) <= 0) {
            continue;
        }
        if (buf_reserve(out, 4096)) {
            return err_set(err, SM_ENOMEM, "out of memory");
        }
        ssize_t n = read(h->out, out->data + out->len, 4096);
        if (n < 0 && errno != EINTR) {
            return err_sys(err, "cannot read from docker-credential-%s", h->name);
        }
        if (n == 0) {
            return SM_OK;
        }
        out->len += n > 0 ? (size_t)n : 0;
        if (out->len - start > CRED_HELPER_OUTPUT_MAX) {
            return err_set(err, SM_ECORRUPT,
                           "the credential helper docker-credential-%s writes more than %u KiB",
                           h->name, CRED_HELPER_OUTPUT_MAX >> 10);
        }
    }
}

/* Its end, which must come soon after its output's. */
static int reap(struct helper *h, int rc, int *status, struct sm_error *err)
{
    int64_t end = clock_ms() + (rc ? 0 : 2000);
    pid_t got;
    while ((got = waitpid(h->pid, status, WNOHANG)) == 0 && clock_ms() < end) {
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    if (got == 0) {
        kill(-h->pid, SIGKILL);
        while (waitpid(h->pid, status, 0) < 0 && errno == EINTR) {
        }
        return rc ? rc
                  : err_set(err, SM_ETIMEDOUT,
                            "the credential helper docker-credential-%s does not end", h->name);
    }
    if (got < 0) {
        *status = 0; /* the program reaps all its children by itself */
    }
    return rc;
}

static int check_end(const struct helper *h, int status, const struct buf *out, size_t start,
                     struct sm_error *err)
{
    static const char none[] = "credentials not found";
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        return SM_OK;
    }
    if (memmem(out->data + start, out->len - start, none, sizeof none - 1)) {
        return err_set(err, SM_ENOTFOUND, "docker-credential-%s has no credentials", h->name);
    }
    return err_set(err, SM_EIO, "the credential helper docker-credential-%s failed (%s %d)",
                   h->name, WIFEXITED(status) ? "exit code" : "signal",
                   WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}

int cred_helper_get(const char *name, const char *server, unsigned limit_ms,
                    const atomic_bool *cancel, struct buf *out, struct sm_error *err)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    struct helper h = {.name = name};
    size_t start = out->len;
    int pipe_fd[2], status = 0;
    if (!name[0] || strlen(name) > 64 || name[strspn(name, allowed)]) {
        return err_set(err, SM_EINVAL,
                       "Docker's config.json names the credential helper \"%.64s\", which is no "
                       "program's name",
                       name);
    }
    int in = server_file(server);
    if (in < 0 || pipe2(pipe_fd, O_CLOEXEC)) {
        int rc = err_sys(err, "cannot talk to a credential helper");
        if (in >= 0) {
            close(in);
        }
        return rc;
    }
    h.out = pipe_fd[0];
    int rc = spawn(&h, in, pipe_fd[1], err);
    close(in);
    close(pipe_fd[1]);
    if (!rc) {
        rc = listen_to(&h, limit_ms, cancel, out, err);
        rc = reap(&h, rc, &status, err);
        rc = rc ? rc : check_end(&h, status, out, start, err);
    }
    close(h.out);
    return rc;
}

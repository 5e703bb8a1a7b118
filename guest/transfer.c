/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent ends a session by SIGTERM where a file is being written (session.c), and then closes
 * its stdin. Here that signal is blocked and looked for at the end of stdin: so an end that is no
 * end leaves nothing behind, without a handler.
 */
#include "transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"

#define CHUNK 65536

static void refuse(const struct launch *l, const char *what, const char *path, int error)
    __attribute__((noreturn));

static void refuse(const struct launch *l, const char *what, const char *path, int error)
{
    launch_fail(l, PROTO_ERR_FILE, error, "cannot %s \"%.200s\"", what, path);
}

static void hold_sigterm(int how)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(how, &set, NULL);
}

static bool told_to_end(void)
{
    sigset_t set;

    return sigpending(&set) == 0 && sigismember(&set, SIGTERM);
}

static int copy_in(struct file *f)
{
    char chunk[CHUNK];
    int error = 0;

    while (!error) {
        ssize_t n = read(0, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : told_to_end() ? EINTR : 0;
        error = file_write(f, chunk, (size_t)n);
    }
    return error;
}

static void write_file(const struct launch *l) __attribute__((noreturn));

static void write_file(const struct launch *l)
{
    const struct codec_file *what = &l->exec->files[0];
    struct file f;
    int error;

    hold_sigterm(SIG_BLOCK);
    error = file_create(&f, what->path);
    if (error) {
        file_discard(&f);
        refuse(l, "write", what->path, error);
    }
    if (f.in_place) /* a write to a pipe may never end */
        hold_sigterm(SIG_UNBLOCK);
    close(l->report_fd); /* STARTED */
    error = copy_in(&f);
    if (!error)
        error = file_commit(&f, what->mode);
    if (error)
        file_discard(&f);
    _exit(error);
}

static void read_file(const struct launch *l) __attribute__((noreturn));

static void read_file(const struct launch *l)
{
    const char *path = l->exec->files[0].path;
    char chunk[CHUNK];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    struct file out = {.fd = 1};
    struct stat st;
    int error = 0;

    if (fd < 0 || fstat(fd, &st) < 0 || (S_ISDIR(st.st_mode) && (errno = EISDIR)))
        refuse(l, "read", path, errno);
    close(l->report_fd);
    if (dprintf(2, "%o\n", (unsigned)st.st_mode & PROTO_MODE_MAX) < 0)
        _exit(EIO);
    while (!error) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n == 0)
            break;
        if (n > 0)
            error = file_write(&out, chunk, (size_t)n);
        else if (errno != EINTR)
            error = errno;
    }
    _exit(error);
}

void transfer_file(const struct launch *l)
{
    if (l->exec->flags & PROTO_EXEC_WRITE)
        write_file(l);
    read_file(l);
}

void transfer_stage(const struct launch *l)
{
    struct file f;

    for (unsigned i = 0; i < l->exec->n_files; i++) {
        const struct codec_file *what = &l->exec->files[i];
        int error = file_create(&f, what->path);
        if (!error)
            error = file_write(&f, what->data, what->length);
        if (!error)
            error = file_commit(&f, what->mode);
        if (error) {
            file_discard(&f);
            refuse(l, "write", what->path, error);
        }
    }
}

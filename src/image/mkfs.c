/* SPDX-License-Identifier: Apache-2.0 */
#include "image/mkfs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"

#define FEATURES                                                                                   \
    "none,has_journal,ext_attr,dir_index,filetype,extent,flex_bg,sparse_super,large_file,"         \
    "huge_file,dir_nlink,extra_isize,64bit,metadata_csum"

/* Its messages go to out. posix_spawn's way: 0 or an errno. */
static int spawn(const char *program, const char *path, int out, pid_t *pid)
{
    const char *const argv[] = {"mke2fs", "-q", "-F", "-m0", "-b4096", "-I256", "-i16384",
                                "-O" FEATURES,
                                /* The file is all holes: nothing has to be zeroed, now or later. */
                                "-Eroot_owner=0:0,nodiscard,assume_storage_prezeroed=1,"
                                "lazy_journal_init=1,lazy_itable_init=0",
                                path, NULL};
    /* No defaults of this host's: the guest's kernel has to know every feature. */
    const char *const env[] = {"MKE2FS_CONFIG=/dev/null", "LC_ALL=C", NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attr);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, out, 1);
    posix_spawn_file_actions_adddup2(&files, out, 2);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    int rc = posix_spawnp(pid, program, &files, &attr, (char *const *)argv, (char *const *)env);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    return rc;
}

/* The first of where it may be; users other than root often have no sbin in PATH. */
static int spawn_found(const char *path, int out, pid_t *pid)
{
    static const char *const places[] = {"mke2fs", "/usr/sbin/mke2fs", "/sbin/mke2fs"};
    int rc = ENOENT;
    for (unsigned i = 0; i < 3 && rc == ENOENT; i++) {
        rc = spawn(places[i], path, out, pid);
    }
    return rc;
}

/* The end of what it says, until it closes its end; one line. */
static void listen_to(int fd, char *said, size_t size)
{
    char block[512];
    ssize_t n;
    said[0] = '\0';
    while ((n = read(fd, block, sizeof block - 1)) > 0 || (n < 0 && errno == EINTR)) {
        if (n > 0) {
            block[n] = '\0';
            block[strcspn(block, "\n")] = '\0';
            snprintf(said, size, "%.*s", (int)size - 1, block);
        }
    }
}

int mkfs_ext4(const char *path, struct sm_error *err)
{
    char said[160];
    int pipe_fd[2], status = 0;
    pid_t pid, got;
    if (pipe2(pipe_fd, O_CLOEXEC)) {
        return err_sys(err, "cannot create a pipe");
    }
    int rc = spawn_found(path, pipe_fd[1], &pid);
    close(pipe_fd[1]);
    if (rc) {
        close(pipe_fd[0]);
        errno = rc;
        return rc == ENOENT
                   ? err_set(err, SM_ENOTFOUND,
                             "mke2fs, which makes file systems, is not there: install e2fsprogs")
                   : err_sys(err, "cannot run mke2fs");
    }
    listen_to(pipe_fd[0], said, sizeof said);
    close(pipe_fd[0]);
    do {
        got = waitpid(pid, &status, 0);
    } while (got < 0 && errno == EINTR);
    /* ECHILD: the program reaps all its children by itself; a silent one was content. */
    if ((got == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0) || (got < 0 && !said[0])) {
        return SM_OK;
    }
    return err_set(err, strstr(said, "No space left") ? SM_ENOSPC : SM_EIO,
                   "mke2fs cannot make a file system in %s: %s", path,
                   said[0] ? said : "it was killed");
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks by name in locks/. flock() dies with its holder, so nothing a killed process held stays
 * locked. The file's time is the holder's sign of life, its contents say who that is; both are
 * advice for those who wait.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "image/store_impl.h"

#define POLL_NS 20000000

static int open_lock(struct store *s, const char *name, int *fd, struct sm_error *err)
{
    *fd = -1;
    char *path = io_format("%s/%s", s->locks, name);
    if (!path) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    int rc = *fd < 0 ? store_fail(s->path, "locking it", err) : SM_OK;
    free(path);
    return rc;
}

static struct timespec life_sign(int fd)
{
    struct stat st = {0};
    fstat(fd, &st);
    return st.st_mtim;
}

static int out_of_patience(struct store *s, int fd, const char *what, struct sm_error *err)
{
    char who[32] = "?";
    ssize_t n = pread(fd, who, sizeof who - 1, 0);
    who[n > 0 ? n : 0] = '\0';
    return err_set(err, SM_ETIMEDOUT,
                   "another process (%s) is %s and has made no progress for %u s; end it and try "
                   "again",
                   n > 0 ? who : "?", what, s->patience_ms / 1000);
}

static int wait_for_lock(struct store *s, int fd, const char *what, struct sm_error *err)
{
    struct timespec seen = {0};
    uint64_t since = clock_ns();
    while (flock(fd, LOCK_EX | LOCK_NB)) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            return err_sys(err, "store %s: cannot lock for %s", s->path, what);
        }
        struct timespec life = life_sign(fd);
        uint64_t now = clock_ns();
        if (life.tv_sec != seen.tv_sec || life.tv_nsec != seen.tv_nsec) {
            seen = life;
            since = now;
        } else if (now - since > (uint64_t)s->patience_ms * 1000000u) {
            return out_of_patience(s, fd, what, err);
        }
        nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
    }
    return SM_OK;
}

/* A lock's file may be cleared away (gc.h) between its opening and its locking. */
static bool is_cleared(int fd)
{
    struct stat st;
    return fstat(fd, &st) != 0 || st.st_nlink == 0;
}

int store_lock_take(struct store *s, const char *name, const char *what, int *fd,
                    struct sm_error *err)
{
    for (;;) {
        int rc = open_lock(s, name, fd, err);
        rc = rc ? rc : wait_for_lock(s, *fd, what, err);
        if (!rc && !is_cleared(*fd)) {
            return SM_OK;
        }
        if (*fd >= 0) {
            close(*fd);
        }
        *fd = -1;
        if (rc) {
            return rc;
        }
    }
}

int store_lock_try(struct store *s, const char *name, int *fd, struct sm_error *err)
{
    int rc = open_lock(s, name, fd, err);
    if (!rc && (flock(*fd, LOCK_EX | LOCK_NB) != 0 || is_cleared(*fd))) {
        close(*fd);
        *fd = -1;
    }
    return rc;
}

void store_lock_sign(int fd)
{
    if (ftruncate(fd, 0) == 0) {
        dprintf(fd, "pid %d", (int)getpid());
    }
}

int store_sync_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 ? -1 : fsync(fd);
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}

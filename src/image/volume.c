/* SPDX-License-Identifier: Apache-2.0 */
#include "image/volume.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/io.h"
#include "image/store_volume.h"

#define SECTOR 512

/* Whether /proc/PID/fdinfo/FD shows a lock. */
static bool has_lock(int fdinfo, const char *fd)
{
    char text[1024];
    int file = openat(fdinfo, fd, O_RDONLY | O_CLOEXEC);
    ssize_t n = file < 0 ? 0 : io_read_full(file, text, sizeof text - 1);
    if (file >= 0) {
        close(file);
    }
    text[n > 0 ? n : 0] = '\0';
    return strstr(text, "\nlock:") != NULL;
}

/* Whether this process has the file open and locked. */
static bool holds(const char *pid, const struct stat *st)
{
    char path[300];
    struct dirent *e;
    struct stat here;
    bool found = false;
    snprintf(path, sizeof path, "/proc/%.20s/fdinfo", pid);
    int fdinfo = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    snprintf(path, sizeof path, "/proc/%.20s/fd", pid);
    DIR *d = fdinfo < 0 ? NULL : opendir(path);
    while (d && !found && (e = readdir(d))) {
        found = fstatat(dirfd(d), e->d_name, &here, 0) == 0 && here.st_ino == st->st_ino &&
                here.st_dev == st->st_dev && has_lock(fdinfo, e->d_name);
    }
    if (d) {
        closedir(d);
    }
    if (fdinfo >= 0) {
        close(fdinfo);
    }
    return found;
}

/* Who has it locked: a process id, or 0. Locks of open files name no process; their descriptors do.
 */
static long holder(int fd)
{
    struct stat st;
    struct dirent *e;
    long pid = 0;
    DIR *proc = fstat(fd, &st) == 0 ? opendir("/proc") : NULL;
    while (proc && !pid && (e = readdir(proc))) {
        if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && holds(e->d_name, &st)) {
            pid = strtol(e->d_name, NULL, 10);
        }
    }
    if (proc) {
        closedir(proc);
    }
    return pid;
}

int volume_lock(int fd, bool shared, const char *path, struct sm_error *err)
{
    struct flock lock = {.l_type = shared ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0) {
        return SM_OK;
    }
    if (errno != EAGAIN && errno != EACCES) {
        return err_sys(err, "cannot lock %s", path);
    }
    long pid = holder(fd);
    if (pid) {
        return err_set(err, SM_EINVAL, "%s is in use by process %ld%s", path, pid,
                       shared ? ", which may write to it" : "");
    }
    return err_set(err, SM_EINVAL, "%s is in use by another process", path);
}

static bool in_group(gid_t gid)
{
    gid_t groups[NGROUPS_MAX];
    int n = getgroups(NGROUPS_MAX, groups);
    for (int i = 0; i < n; i++) {
        if (groups[i] == gid) {
            return true;
        }
    }
    return gid == getegid();
}

/* Root may do anything, but the VM's process gives that up: say so now, or the guest is told of
 * each file that permission is denied. Who has access by a list of its own (ACL) is not looked at.
 */
static int check_folder(const char *path, const struct stat *st, struct sm_error *err)
{
    mode_t want = S_IRUSR | S_IXUSR;
    if (st->st_uid != geteuid()) {
        want = in_group(st->st_gid) ? S_IRGRP | S_IXGRP : S_IROTH | S_IXOTH;
    }
    if ((st->st_mode & want) == want || getxattr(path, "system.posix_acl_access", NULL, 0) >= 0) {
        return SM_OK;
    }
    return err_set(err, SM_EINVAL,
                   "%s is closed to the VM's process, which is user %u without root's privileges: "
                   "it belongs to user %u and has mode %o",
                   path, geteuid(), st->st_uid, st->st_mode & 07777);
}

static int check(int fd, const char *path, struct volume *v, struct sm_error *err)
{
    struct stat st;
    if (fstat(fd, &st)) {
        return err_sys(err, "cannot use %s as a volume", path);
    }
    if (S_ISDIR(st.st_mode)) {
        v->folder = true;
        return check_folder(path, &st, err);
    }
    if (!S_ISREG(st.st_mode)) {
        return err_set(err, SM_EINVAL, "%s is neither a folder nor a regular file", path);
    }
    if (st.st_size == 0) {
        return err_set(err, SM_EINVAL,
                       "%s is empty: give it a size, and a file system by mkfs.ext4", path);
    }
    if (st.st_size % SECTOR) {
        return err_set(err, SM_EINVAL,
                       "%s cannot be a disk: its size, %lld bytes, is not a multiple of %d", path,
                       (long long)st.st_size, SECTOR);
    }
    v->size_bytes = (uint64_t)st.st_size;
    return SM_OK;
}

static int open_file(const char *path, bool read_only, struct volume *v, struct sm_error *err)
{
    v->fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (v->fd < 0 && errno == ENOTDIR) {
        /* O_NONBLOCK: a fifo must not hold us up before it is refused. */
        v->fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    }
    if (v->fd < 0) {
        bool denied = !read_only && (errno == EACCES || errno == EROFS || errno == EPERM);
        return err_sys(err, "cannot open %s%s", path,
                       denied ? " for writing (\":ro\" would only read)" : "");
    }
    int rc = check(v->fd, path, v, err);
    if (!rc && !v->folder) {
        rc = volume_lock(v->fd, read_only, path, err);
    }
    v->read_only = read_only;
    return rc;
}

/* It may be removed between being found and being locked. */
static bool is_gone(const struct volume *v)
{
    struct stat st;
    return fstat(v->fd, &st) == 0 && st.st_nlink == 0;
}

static int open_named(struct store *store, const char *name, bool read_only, struct volume *v,
                      struct sm_error *err)
{
    for (;;) {
        char *path;
        bool made;
        int rc = store_volume_path(store, name, &path, &made, err);
        if (rc) {
            return rc;
        }
        rc = open_file(path, read_only, v, err);
        free(path);
        if (rc == SM_OK && is_gone(v)) {
            volume_close(v);
            continue;
        }
        return rc;
    }
}

int volume_open(struct store *store, const char *source, bool read_only, struct volume *out,
                struct sm_error *err)
{
    *out = (struct volume){.fd = -1};
    int rc = source[0] == '/' ? open_file(source, read_only, out, err)
                              : open_named(store, source, read_only, out, err);
    if (rc) {
        volume_close(out);
    }
    return rc;
}

void volume_close(struct volume *v)
{
    if (v->fd >= 0) {
        close(v->fd);
    }
    v->fd = -1;
}

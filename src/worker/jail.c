// SPDX-License-Identifier: Apache-2.0
#include "worker/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_FILES 4096 /* two per vsock stream, and room */

/* An empty file system as root: nothing of the host's can be named any more. */
static int empty_root(void)
{
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("jail", "/proc", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY,
              "mode=755,nr_inodes=2") != 0 ||
        chdir("/proc") != 0 || syscall(SYS_pivot_root, ".", ".") != 0)
        return -1;
    /* the old root lies on top of the new one */
    return umount2(".", MNT_DETACH) == 0 && chdir("/") == 0 ? 0 : -1;
}

static int write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));
    if (fd >= 0)
        close(fd);
    return n < 0 ? -1 : 0;
}

/* Whose files are ours is still to be seen. */
static int keep_ids(unsigned uid, unsigned gid)
{
    char uids[40], gids[40];
    snprintf(uids, sizeof uids, "%u %u 1", uid, uid);
    snprintf(gids, sizeof gids, "%u %u 1", gid, gid);
    return write_file("/proc/self/setgroups", "deny") == 0 &&
                   write_file("/proc/self/gid_map", gids) == 0 &&
                   write_file("/proc/self/uid_map", uids) == 0
               ? 0
               : -1;
}

/* Exchange a descriptor of a folder for one of the same folder as a file system of its own, without
 * a parent: ".." leads nowhere. */
static int cut_off(int fd)
{
    char link[40], path[4096];
    struct stat was, is;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0)
        return -1;
    path[n] = 0;
    int tree = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    if (tree < 0)
        return -1;
    int rc = fstat(fd, &was) == 0 && fstat(tree, &is) == 0 && was.st_dev == is.st_dev &&
                     was.st_ino == is.st_ino
                 ? dup3(tree, fd, O_CLOEXEC)
                 : -1;
    close(tree);
    return rc < 0 ? -1 : 0;
}

static unsigned enter_namespaces(const struct jail_reach *reach)
{
    unsigned uid = geteuid(), gid = getegid();
    bool good = true;
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) != 0)
        return 0;
    if (reach->n)
        good = keep_ids(uid, gid) == 0 && cut_off(reach->self_fd) == 0;
    for (unsigned i = 0; i < reach->n; i++)
        good = cut_off(reach->folders[i].fd) == 0 && good;
    return empty_root() == 0 && good ? JAIL_NAMESPACES : 0;
}

#define ALL_OF_ABI_1 ((LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1)
#define MAY_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define MAY_WRITE                                                                                  \
    (MAY_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |                    \
     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |  \
     LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_SYM |   \
     LANDLOCK_ACCESS_FS_REFER)

static long allow(int ruleset, int fd, bool read_only)
{
    struct landlock_path_beneath_attr rule = {.allowed_access = read_only ? MAY_READ : MAY_WRITE,
                                              .parent_fd = fd};
    return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
}

/* Landlock without a rule, but for the folders: every access that it knows of is refused. Its first
 * version cannot allow a file to be moved to another folder. */
static unsigned enter_landlock(const struct jail_reach *reach)
{
    struct landlock_ruleset_attr attr = {.handled_access_fs = ALL_OF_ABI_1};
    if (reach->n)
        attr.handled_access_fs |= LANDLOCK_ACCESS_FS_REFER;
    long fd = syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
    if (fd < 0)
        return 0;
    long rc = 0;
    for (unsigned i = 0; i < reach->n && rc == 0; i++)
        rc = allow((int)fd, reach->folders[i].fd, reach->folders[i].read_only);
    rc = rc ? rc : syscall(SYS_landlock_restrict_self, (int)fd, 0);
    close((int)fd);
    return rc == 0 ? JAIL_LANDLOCK : 0;
}

static unsigned drop_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        prctl(PR_CAPBSET_DROP, cap, 0, 0, 0); /* refused to who has none to drop */
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return syscall(SYS_capset, &header, none) == 0 ? JAIL_CAPABILITIES : 0;
}

static int set_limits(unsigned more, struct sm_error *err)
{
    struct rlimit files, none = {0};
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return err_sys(err, "jail: cannot read the limit of open files");
    if (files.rlim_max > MAX_FILES + more)
        files.rlim_max = MAX_FILES + more;
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) != 0 || setrlimit(RLIMIT_CORE, &none) != 0)
        return err_sys(err, "jail: cannot set resource limits");
    return 0;
}

int jail_process(const struct jail_reach *reach, unsigned *layers, struct sm_error *err)
{
    *layers = 0;
#ifndef SM_SANITIZED
    *layers = JAIL_SECCOMP;
#endif
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return err_sys(err, "jail: cannot set no-new-privileges");
    *layers |= JAIL_NO_NEW_PRIVS;
    if (getpid() == 1) /* as which the owner has it started where it can (birth.h) */
        *layers |= JAIL_PIDS;
    int rc = set_limits(reach->files, err);
    *layers |= enter_namespaces(reach);
    *layers |= enter_landlock(reach);
    *layers |= drop_capabilities();
    return rc;
}

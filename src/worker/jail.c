// SPDX-License-Identifier: Apache-2.0
#include "worker/jail.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
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

static unsigned enter_namespaces(void)
{
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) != 0)
        return 0;
    return empty_root() == 0 ? JAIL_NAMESPACES : 0;
}

/* Landlock without a rule: every access that it knows of is refused. */
static unsigned enter_landlock(void)
{
    struct landlock_ruleset_attr attr = {.handled_access_fs =
                                             (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1};
    long fd = syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
    if (fd < 0)
        return 0;
    long rc = syscall(SYS_landlock_restrict_self, (int)fd, 0);
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

static int set_limits(struct sm_error *err)
{
    struct rlimit files, none = {0};
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return err_sys(err, "jail: cannot read the limit of open files");
    if (files.rlim_max > MAX_FILES)
        files.rlim_max = MAX_FILES;
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) != 0 || setrlimit(RLIMIT_CORE, &none) != 0)
        return err_sys(err, "jail: cannot set resource limits");
    return 0;
}

int jail_process(unsigned *layers, struct sm_error *err)
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
    int rc = set_limits(err);
    *layers |= enter_namespaces();
    *layers |= enter_landlock();
    *layers |= drop_capabilities();
    return rc;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What containers rest on: seccomp, namespaces, overlayfs. Run as root. */
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>

#include "observe.h"

static void trapped(int n, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    printf("SIGSYS: code %d, call %d, arch %#x\n", info->si_code, info->si_syscall, info->si_arch);
    uc->uc_mcontext.gregs[REG_RAX] = 4711;
}

static int filtered(void *arg)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 42),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgrp, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getsid, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, 3),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 30, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 7),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    on_signal(SIGSYS, trapped, 0);
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    long got = syscall(SYS_getppid);
    printf("getppid: %ld errno %d\n", got, errno);
    printf("getpgrp: %ld\n", syscall(SYS_getpgrp));
    got = syscall(SYS_getsid, 10);
    printf("getsid(10): %ld errno %d\n", got, errno);
    fflush(stdout);
    syscall(SYS_getsid, 11);
    return 1;
}

static int own_host_name(void *arg)
{
    struct utsname u;
    MUST(unshare(CLONE_NEWUTS) == 0 && sethostname("inner", 5) == 0 && uname(&u) == 0);
    printf("host name inside: %s\n", u.nodename);
    return 0;
}

static int first_process(void *arg)
{
    int status;
    printf("process inside: %d, parent %d\n", getpid(), getppid());
    fflush(stdout);
    kill(getpid(), SIGKILL); /* process 1 is shielded from itself */
    pid_t orphan = fork();
    if (orphan == 0) {
        if (fork() == 0) {
            usleep(20000);
            _exit(33);
        }
        _exit(0);
    }
    waitpid(orphan, &status, 0);
    pid_t adopted = wait(&status);
    printf("adopted: process %d ended with %d\n", adopted, WEXITSTATUS(status));
    return 5;
}

static int process_space(void *arg)
{
    MUST(unshare(CLONE_NEWPID) == 0);
    printf("first process ended with %d\n", in_child(first_process, NULL));
    return 0;
}

static int user_space(void *arg)
{
    MUST(setresgid(1000, 1000, 1000) == 0 && setresuid(1000, 1000, 1000) == 0);
    MUST(prctl(PR_SET_DUMPABLE, 1) == 0); /* or /proc/self is root's */
    if (unshare(CLONE_NEWUSER) != 0) {
        printf("user space: %s\n", strerror(errno));
        return 1;
    }
    printf("user inside, unmapped: %d\n", getuid());
    int fd = open("/proc/self/uid_map", O_WRONLY);
    MUST(fd >= 0 && write(fd, "0 1000 1", 8) == 8);
    printf("user inside: %d, may set host name: %s\n", getuid(),
           unshare(CLONE_NEWUTS) == 0 && sethostname("x", 1) == 0 ? "yes" : strerror(errno));
    return 0;
}

static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    MUST(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

static void show(const char *path)
{
    char text[64] = "";
    struct stat st;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || read(fd, text, sizeof text - 1) < 0)
        strcpy(text, strerror(errno));
    if (fd >= 0)
        close(fd);
    if (lstat(path, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0))
        strcpy(text, "(whiteout)");
    printf("  %s: %s\n", path, text);
}

static int overlay(void *arg)
{
    MUST(unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    MUST(mount("t", "/tmp", "tmpfs", 0, NULL) == 0 && chdir("/tmp") == 0);
    static const char *const dirs[] = {"low", "low/dir", "mid", "mid/dir", "up", "work", "all"};
    for (unsigned i = 0; i < sizeof dirs / sizeof dirs[0]; i++)
        MUST(mkdir(dirs[i], 0755) == 0);
    put("low/a", "low a");
    put("low/b", "low b");
    put("low/dir/c", "low c");
    put("mid/b", "mid b");
    put("mid/dir/d", "mid d");
    MUST(mknod("mid/a", S_IFCHR, makedev(0, 0)) == 0);
    if (mount("o", "all", "overlay", 0, "lowerdir=mid:low,upperdir=up,workdir=work") != 0) {
        printf("overlay: %s\n", strerror(errno));
        return 1;
    }
    put("all/e", "new e");
    MUST(unlink("all/b") == 0);
    put("all/dir/c", "changed c");
    MUST(rename("all/dir/d", "all/d") == 0);
    static const char *const files[] = {"all/a",    "all/b", "all/dir/c", "all/dir/d",
                                        "all/d",    "all/e", "up/b",      "up/dir/c",
                                        "up/dir/d", "up/d",  "low/dir/c", "mid/b"};
    for (unsigned i = 0; i < sizeof files / sizeof files[0]; i++)
        show(files[i]);
    int rc = rmdir("all/dir");
    printf("rmdir of a folder in use: %d %s\n", rc, strerror(errno));
    return 0;
}

int main(void)
{
    printf("seccomp: ended with %d\n", in_child(filtered, NULL));
    printf("host name: ended with %d\n", in_child(own_host_name, NULL));
    printf("processes: ended with %d\n", in_child(process_space, NULL));
    printf("users: ended with %d\n", in_child(user_space, NULL));
    printf("overlay: ended with %d\n", in_child(overlay, NULL));
    return 0;
}

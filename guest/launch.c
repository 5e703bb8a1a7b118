/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order is runc's: session and terminal, account, working directory as root, identity, and only
 * then the search in PATH, so that what the user may not execute is not found executable by root's
 * eyes.
 */
#include "launch.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "account.h"
#include "file.h"
#include "transfer.h"

#define FALLBACK_FDS 65536
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

void launch_fail(const struct launch *l, enum proto_error class, int os_errno, const char *fmt, ...)
{
    struct launch_report r = {.class = class, .os_errno = (uint32_t)os_errno};
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(r.text, sizeof r.text, fmt, ap);
    va_end(ap);
    if (os_errno) {
        size_t used = strlen(r.text);
        snprintf(r.text + used, sizeof r.text - used, ": %s", strerror(os_errno));
    }
    if (l->report_fd < 0) {
        dprintf(2, "%s\n", r.text);
        _exit(class == PROTO_ERR_NOT_FOUND ? 127 : class == PROTO_ERR_NOT_EXECUTABLE ? 126 : 125);
    }
    /* One write below PIPE_BUF: whole or, if the agent is gone, nobody's concern. */
    _exit(write(l->report_fd, &r, sizeof r) == (ssize_t)sizeof r ? 127 : 126);
}

/* By the system call: the C library keeps its own two signals from sigaction() and sigprocmask(),
 * but an ignored one would be inherited all the same. */
static void set_signals(uint64_t handler)
{
    /* struct kernel_sigaction: handler, flags, restorer, mask */
    const uint64_t action[4] = {handler};

    for (int n = 1; n <= 64; n++)
        syscall(SYS_rt_sigaction, n, action, NULL,
                sizeof action[3]); /* SIGKILL, SIGSTOP: refused */
}

static void reset_signals(void)
{
    const uint64_t none = 0;

    set_signals((uintptr_t)SIG_DFL);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
}

static void set_stdio(const struct launch *l, const struct account *who)
{
    if (l->exec->flags & PROTO_EXEC_TTY && ioctl(l->stdio[0], TIOCSCTTY, 0) < 0)
        launch_fail(l, PROTO_ERR_INTERNAL, errno, "cannot take the terminal");
    for (int i = 0; i < 3; i++) {
        struct stat st;
        /* So that /dev/stdout can be reopened by who owns it now (moby#6880). */
        if (fstat(l->stdio[i], &st) == 0 && (S_ISFIFO(st.st_mode) || isatty(l->stdio[i])) &&
            fchown(l->stdio[i], who->uid, (gid_t)-1) < 0 && errno != EPERM)
            launch_fail(l, PROTO_ERR_INTERNAL, errno, "cannot give descriptor %d to the user", i);
        if (dup2(l->stdio[i], i) < 0)
            launch_fail(l, PROTO_ERR_INTERNAL, errno, "cannot set descriptor %d", i);
    }
}

/* What exec would close. A process that goes on without it would hold ends of other sessions'
 * pipes, and of its own, open. 0 or an errno. */
static int close_others(int *fd)
{
    if (*fd != 3 && dup3(*fd, 3, O_CLOEXEC) < 0)
        return errno;
    *fd = 3;
    if (syscall(SYS_close_range, 4u, ~0u, 0u) < 0)
        for (int other = 4; other < FALLBACK_FDS; other++) /* Linux before 5.9 */
            close(other);
    return 0;
}

void launch_detach(int *fd)
{
    reset_signals();
    setsid();
    if (close_others(fd))
        _exit(1);
}

static void set_limits(void)
{
    /* systemd's and current Docker's: a soft limit of a million makes fork-and-close loops crawl.
     */
    struct rlimit files = {1024, 524288};

    setrlimit(RLIMIT_NOFILE, &files);
    umask(022);
}

static void enter_cwd(const struct launch *l)
{
    const char *cwd = *l->exec->cwd ? l->exec->cwd : "/";

    if (*cwd != '/')
        launch_fail(l, PROTO_ERR_CWD, 0, "working directory \"%.200s\" is not an absolute path",
                    cwd);
    if (chdir(cwd) == 0)
        return;
    if (errno == ENOENT && l->exec->flags & PROTO_EXEC_MKCWD) {
        int error = file_make_folders(cwd);
        if (error)
            launch_fail(l, PROTO_ERR_CWD, error, "cannot create working directory \"%.200s\"", cwd);
        if (chdir(cwd) == 0)
            return;
    }
    launch_fail(l, PROTO_ERR_CWD, errno, "working directory \"%.200s\"", cwd);
}

static void become(const struct launch *l, const struct account *who)
{
    gid_t groups[ACCOUNT_GROUPS_MAX + 1];
    size_t n = 0;

    /* Only where the agent is not root, which is in tests on the host: nothing to change, or to
     * gain. */
    if (geteuid() != 0 && who->uid == geteuid() && who->gid == getegid())
        return;
    /* The primary group among the others, as Docker since CVE-2022-36109: or a set-group-id program
     * could drop what denies its caller. */
    groups[n++] = who->gid;
    for (size_t i = 0; i < who->group_count; i++)
        if (who->groups[i] != who->gid)
            groups[n++] = who->groups[i];
    if (setgroups(n, groups) < 0 || setresgid(who->gid, who->gid, who->gid) < 0 ||
        setresuid(who->uid, who->uid, who->uid) < 0)
        launch_fail(l, PROTO_ERR_USER, errno, "cannot become user %u:%u", who->uid, who->gid);
    if (getuid() != who->uid || geteuid() != who->uid || getgid() != who->gid)
        launch_fail(l, PROTO_ERR_USER, 0, "did not become user %u:%u", who->uid, who->gid);
}

static const char *env_get(char *const *env, const char *name)
{
    size_t len = strlen(name);

    for (; *env; env++)
        if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
            return *env + len + 1;
    return NULL;
}

/* Appends NAME=value to a list with room for it, unless NAME is set. False when out of memory. */
static bool env_default(char **env, const char *name, const char *value)
{
    size_t n = 0, size = strlen(name) + strlen(value) + 2;

    if (env_get(env, name))
        return true;
    while (env[n])
        n++;
    env[n] = malloc(size);
    if (!env[n])
        return false;
    snprintf(env[n], size, "%s=%s", name, value);
    return true;
}

/* The given environment and what Docker adds to it: PATH, HOSTNAME, TERM with a terminal, HOME. */
static char **make_env(const struct launch *l, const struct account *who)
{
    char hostname[PROTO_HOSTNAME_MAX + 1] = "";
    char *const *given = l->exec->env;
    size_t n = 0;
    char **env;

    while (given[n])
        n++;
    env = calloc(n + 5, sizeof *env);
    if (env)
        memcpy(env, given, n * sizeof *env);
    gethostname(hostname, sizeof hostname - 1);
    if (!env || !env_default(env, "PATH", DEFAULT_PATH) ||
        !env_default(env, "HOSTNAME", hostname) ||
        (l->exec->flags & PROTO_EXEC_TTY && !env_default(env, "TERM", "xterm")) ||
        !env_default(env, "HOME", who->home))
        launch_fail(l, PROTO_ERR_RESOURCE, ENOMEM, "cannot build the environment");
    return env;
}

static void exec_failed(const struct launch *l, const char *path, int e) __attribute__((noreturn));

static void exec_failed(const struct launch *l, const char *path, int e)
{
    switch (e) {
    case ENOENT:
        if (access(path, F_OK) == 0)
            launch_fail(l, PROTO_ERR_NOT_FOUND, e, "\"%.200s\": its interpreter is missing", path);
        /* fallthrough */
    case ENOTDIR:
    case ELOOP:
    case ENAMETOOLONG:
        launch_fail(l, PROTO_ERR_NOT_FOUND, e, "\"%.200s\"", path);
    case E2BIG:
    case ENOMEM:
    case EAGAIN:
    case EMFILE:
    case ENFILE:
        launch_fail(l, PROTO_ERR_RESOURCE, e, "\"%.200s\"", path);
    case ENOEXEC:
        launch_fail(l, PROTO_ERR_NOT_EXECUTABLE, 0,
                    "\"%.200s\": not a program for this machine, nor a script with #!", path);
    default:
        launch_fail(l, PROTO_ERR_NOT_EXECUTABLE, e, "\"%.200s\"", path);
    }
}

/* As execvp, but PATH is the new environment's, ENOEXEC is no shell script, and errors stay apart.
 */
static void exec_search(const struct launch *l, char **argv, char **env) __attribute__((noreturn));

static void exec_search(const struct launch *l, char **argv, char **env)
{
    const char *name = argv[0], *dir = env_get(env, "PATH");
    char path[PATH_MAX], refused[PATH_MAX] = "";

    if (strchr(name, '/')) {
        execve(name, argv, env);
        exec_failed(l, name, errno);
    }
    while (*name && dir) {
        size_t len = strcspn(dir, ":");
        int size = snprintf(path, sizeof path, "%.*s%s%s", (int)len, dir, len ? "/" : "./", name);

        if (size > 0 && (size_t)size < sizeof path) {
            struct stat st;
            execve(path, argv, env);
            if (errno == EACCES && !*refused && stat(path, &st) == 0 && S_ISREG(st.st_mode))
                strcpy(refused, path);
            else if (errno != ENOENT && errno != ENOTDIR && errno != EACCES && errno != ELOOP)
                exec_failed(l, path, errno);
            else if (errno == ENOENT && access(path, F_OK) == 0)
                exec_failed(l, path, ENOENT);
        }
        dir = dir[len] ? dir + len + 1 : NULL;
    }
    if (*refused)
        exec_failed(l, refused, EACCES);
    launch_fail(l, PROTO_ERR_NOT_FOUND, 0, "\"%.200s\": executable file not found in $PATH", name);
}

/* Blocked signals are reset too: what the next command's parent keeps off is the parent's. */
static pid_t start_one(struct launch *l, char **argv, char **env)
{
    pid_t pid = fork();

    if (pid < 0)
        launch_fail(l, PROTO_ERR_RESOURCE, errno, "cannot create a process");
    if (pid == 0) {
        reset_signals();
        exec_search(l, argv, env);
    }
    if (l->report_fd >= 0)
        close(l->report_fd);
    l->report_fd = -1;
    return pid;
}

/* End as the command did, unless that was well. */
static void wait_one(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            _exit(125);
    set_signals((uintptr_t)SIG_IGN); /* forgets those that were for the command */
    set_signals((uintptr_t)SIG_DFL);
    if (WIFSIGNALED(status)) {
        struct rlimit none = {0};
        setrlimit(RLIMIT_CORE, &none);
        reset_signals();
        raise(WTERMSIG(status));
        _exit(128 + WTERMSIG(status));
    }
    if (WEXITSTATUS(status))
        _exit(WEXITSTATUS(status));
}

/*
 * The commands, one after the other; the last takes this process's place. Signals for the session
 * go to all its processes, and here they wait: how the command takes them is what counts.
 */
static void exec_all(struct launch *l, char **env) __attribute__((noreturn));

static void exec_all(struct launch *l, char **env)
{
    const struct codec_exec *x = l->exec;
    char **argv = x->argv;
    sigset_t all;

    sigfillset(&all);
    for (unsigned i = 0; i < x->n_chain; i++) {
        sigprocmask(SIG_BLOCK, &all, NULL);
        wait_one(start_one(l, argv, env));
        argv = x->chain[i];
    }
    reset_signals();
    exec_search(l, argv, env);
}

void launch_child(struct launch *l)
{
    struct account who;
    char why[300];

    reset_signals();
    setsid();
    if (account_lookup("/etc/passwd", "/etc/group", l->exec->user, &who, why, sizeof why) < 0)
        launch_fail(l, PROTO_ERR_USER, 0, "%s", why);
    set_stdio(l, &who);
    if (l->exec->n_chain || l->exec->flags & (PROTO_EXEC_WRITE | PROTO_EXEC_READ)) {
        int error = close_others(&l->report_fd);
        if (error)
            launch_fail(l, PROTO_ERR_RESOURCE, error, "cannot keep the report");
    }
    set_limits();
    enter_cwd(l);
    become(l, &who);
    if (l->exec->flags & (PROTO_EXEC_WRITE | PROTO_EXEC_READ))
        transfer_file(l);
    transfer_stage(l);
    exec_all(l, make_env(l, &who));
}

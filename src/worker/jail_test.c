// SPDX-License-Identifier: Apache-2.0
/*
 * Each system call is tried from inside, by each role: a call that is not on the role's list must
 * kill the process, one that is must not. And the other layers, without the filter: what a process
 * that is started as a worker is can have of the host.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "jail_rules.h"
#include "worker/control.h"
#include "worker/jail.h"
#include "worker/process.h"

#define CALLS 512 /* more than there are */

/* uretprobe and uprobe: Linux exempts them from every filter (kernel/seccomp.c), and answers SIGILL
 * to who is not in a probe. */
#define EXEMPT(n) ((n) == 335 || (n) == 336)

static bool listed(enum jail_role role, bool kvm, int number)
{
    for (size_t i = 0; i < sizeof jail_calls / sizeof jail_calls[0]; i++)
        if (jail_calls[i].number == number)
            return jail_calls[i].roles[kvm] >> role & 1;
    return false;
}

/* Make one call, with arguments that do nothing, in a jailed child; how the child ended. first: 0
 * stands for the child's process id. */
static int try_call(enum jail_role role, bool kvm, long number, long first, long third)
{
    int status = 0;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct sm_error err;
        alarm(20); /* some calls sleep */
        if (jail_thread(role, kvm, &err) != 0)
            _exit(99);
        syscall(number, first ? first : getpid(), -1L, third, -1L, -1L, -1L);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 99);
    return status;
}

static bool killed(int status)
{
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}

static void try_every_call(enum jail_role role, bool kvm)
{
    unsigned allowed = 0;
    for (int n = 0; n < CALLS; n++) {
        if (EXEMPT(n))
            continue;
        bool may = listed(role, kvm, n);
        if (killed(try_call(role, kvm, n, n == SYS_tgkill ? 0 : -1, 0)) == may)
            fail_msg("role %d, system call %d: listed %d, but the jail says otherwise", role, n,
                     may);
        allowed += may;
    }
    assert_in_range(allowed, 10, 70);
}

static void test_every_call(void **state)
{
    for (int role = 0; role < JAIL_ROLES; role++)
        try_every_call((enum jail_role)role, false);
    try_every_call(JAIL_VCPU, true);
}

static void test_no_new_code(void **state)
{
    assert_true(killed(try_call(JAIL_VCPU, false, SYS_mmap, -1, PROT_READ | PROT_EXEC)));
    assert_true(killed(try_call(JAIL_VCPU, false, SYS_mprotect, -1, PROT_WRITE | PROT_EXEC)));
    assert_false(killed(try_call(JAIL_VCPU, false, SYS_mprotect, -1, PROT_WRITE)));
}

static void test_no_signal_to_others(void **state)
{
    assert_true(killed(try_call(JAIL_VCPU, true, SYS_tgkill, 1, 0)));
    assert_true(killed(try_call(JAIL_VCPU, true, SYS_tgkill, getpid(), 0)));
    assert_false(killed(try_call(JAIL_VCPU, true, SYS_tgkill, 0, 0)));
}

/* What a guest that has taken over the monitor would try, whatever annotations may come to say. A
 * thread with a folder opens files: beneath that, as test_folders() shows. */
static void test_compromised(void **state)
{
    static const int calls[] = {
        SYS_open,
        SYS_openat,
        SYS_openat2,
        SYS_creat,
        SYS_open_by_handle_at,
        SYS_memfd_create,
        SYS_socket,
        SYS_connect,
        SYS_bind,
        SYS_ptrace,
        SYS_process_vm_readv,
        SYS_process_vm_writev,
        SYS_fork,
        SYS_vfork,
        SYS_clone,
        SYS_clone3,
        SYS_execve,
        SYS_execveat,
        SYS_kill,
        SYS_tkill,
        SYS_pidfd_send_signal,
        SYS_pidfd_getfd,
        SYS_rt_sigqueueinfo,
        SYS_setns,
        SYS_unshare,
        SYS_mount,
        SYS_bpf,
        SYS_io_uring_setup,
        SYS_perf_event_open,
        SYS_userfaultfd,
        SYS_prctl,
        SYS_seccomp,
        SYS_prlimit64,
    };
    for (int role = 0; role < JAIL_ROLES; role++)
        for (int kvm = 0; kvm < 2; kvm++)
            for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
                if (!(role == JAIL_SHARE && (calls[i] == SYS_openat || calls[i] == SYS_openat2)) &&
                    !killed(try_call((enum jail_role)role, kvm, calls[i], -1, 0)))
                    fail_msg("role %d, kvm %d: system call %d is there", role, kvm, calls[i]);
}

/* ---- the other layers, in a process started as a worker is ---- */

/* What was to be had without the filter; each is a bit. */
enum {
    OPENED = 1,
    CONNECTED = 2,
    PRIVILEGED = 4,
    NO_JAIL = 8,
    SIGNALLED = 16,
    TRACED = 32,
    EXECUTED = 64,
    READ_MEMORY = 128
};

struct found {
    unsigned what, layers;
    int pid;
};

static bool can_connect(uint16_t port, const char *name)
{
    struct sockaddr_in tcp = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un local = {.sun_family = AF_UNIX}; /* in no file system */
    snprintf(local.sun_path + 1, sizeof local.sun_path - 1, "%s", name);
    int a = socket(AF_INET, SOCK_STREAM, 0), b = socket(AF_UNIX, SOCK_STREAM, 0);
    return (a >= 0 && connect(a, (struct sockaddr *)&tcp, sizeof tcp) == 0) ||
           (b >= 0 && connect(b, (struct sockaddr *)&local, sizeof local) == 0);
}

/* The owner, by the number that it has outside. */
static unsigned try_owner(pid_t owner)
{
    char byte;
    struct iovec to = {&byte, 1}, from = {&environ, 1};
    unsigned found = kill(owner, 0) == 0 || kill(-1, 0) == 0 ? SIGNALLED : 0;
    if (ptrace(PTRACE_SEIZE, owner, NULL, NULL) == 0)
        found |= TRACED;
    if (process_vm_readv(owner, &to, 1, &from, 1, 0) == 1)
        found |= READ_MEMORY;
    return found;
}

static unsigned try_programs(void)
{
    static const char *const programs[] = {"/bin/true", "/proc/self/exe", "/usr/bin/env"};
    char x[] = "x", *argv[] = {x, NULL}, *none[] = {NULL};
    unsigned found = 0;
    for (size_t i = 0; i < sizeof programs / sizeof programs[0]; i++) {
        int status = 0;
        pid_t pid = fork();
        if (pid == 0) {
            execve(programs[i], argv, none);
            _exit(66);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
            WEXITSTATUS(status) != 66)
            found = EXECUTED;
    }
    return found;
}

/* The program that this test starts: argv: --inside, port, name and process id of the owner. */
static int inside(char **argv)
{
    const struct jail_reach nothing = {0};
    struct found f = {.pid = getpid()};
    struct sm_error err;
    if (jail_process(&nothing, &f.layers, &err) != 0)
        f.what |= NO_JAIL;
    if (open("/proc/self/exe", O_RDONLY) >= 0 || open("/", O_RDONLY | O_DIRECTORY) >= 0)
        f.what |= OPENED;
    if (can_connect((uint16_t)atoi(argv[2]), argv[3]))
        f.what |= CONNECTED;
    if (setuid(1) == 0 || sethostname("x", 1) == 0)
        f.what |= PRIVILEGED;
    f.what |= try_owner(atoi(argv[4]));
    f.what |= try_programs();
    return send(CONTROL_FD, &f, sizeof f, MSG_NOSIGNAL) != sizeof f;
}

static int listen_on(struct sockaddr *at, socklen_t len)
{
    int fd = socket(at->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, at, len), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static void look_around(struct found *f)
{
    struct sockaddr_in tcp = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    socklen_t len = sizeof tcp;
    char port[8], name[32], owner[16], how[128];
    char self[] = "/proc/self/exe", mode[] = "--inside";
    char *argv[] = {self, mode, port, name, owner, NULL};
    struct process process;
    struct sm_error err;
    snprintf(name, sizeof name, "sm-jail-test-%d", (int)getpid());
    snprintf(owner, sizeof owner, "%d", (int)getpid());
    strcpy(local.sun_path + 1, name);
    int a = listen_on((struct sockaddr *)&tcp, sizeof tcp);
    int b = listen_on((struct sockaddr *)&local, sizeof local);
    assert_int_equal(getsockname(a, (struct sockaddr *)&tcp, &len), 0);
    snprintf(port, sizeof port, "%u", ntohs(tcp.sin_port));
    if (process_start(argv, NULL, 0, &process, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(recv(process.control, f, sizeof *f, 0), sizeof *f);
    process_reap(&process, how, sizeof how);
    assert_string_equal(how, "");
    close(process.control);
    close(process.pidfd);
    close(a);
    close(b);
}

static void test_layers(void **state)
{
    struct found f = {0};
    look_around(&f);
    assert_false(f.what & NO_JAIL);
    assert_true(f.layers & JAIL_NO_NEW_PRIVS);
    assert_true(f.layers & JAIL_CAPABILITIES);
    assert_false(f.what & (PRIVILEGED | TRACED | READ_MEMORY));
    assert_int_equal(f.pid == 1, (f.layers & JAIL_PIDS) != 0);
    if (f.layers & JAIL_PIDS)
        assert_false(f.what & SIGNALLED);
    else
        print_message("SKIP signals: no PID namespace here, or a build with sanitizers\n");
    if (f.layers & JAIL_NAMESPACES)
        assert_false(f.what & CONNECTED);
    if (f.layers & (JAIL_NAMESPACES | JAIL_LANDLOCK))
        assert_false(f.what & (OPENED | EXECUTED));
    else
        print_message("SKIP files: this host offers neither user namespaces nor Landlock\n");
}

/* What is within reach of a process that keeps two folders; each answer is a bit. */
enum {
    ABOVE = 1,       /* something beside the folders */
    WROTE = 2,       /* into the one that is read-only */
    STRANGER = 4,    /* files do not look like one's own */
    UNREACHABLE = 8, /* what shall be */
};

static bool opens(int at, const char *path, int flags)
{
    int fd = openat(at, path, flags | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static unsigned look_around_folders(const char *base, unsigned *layers)
{
    struct jail_reach reach = {.n = 2, .files = 100};
    int here = open(base, O_PATH | O_DIRECTORY | O_CLOEXEC), outside;
    struct sm_error err;
    struct stat st;
    char number[16];
    unsigned found = 0;
    reach.self_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
    reach.folders[0].fd = openat(here, "rw", O_PATH | O_DIRECTORY | O_CLOEXEC);
    reach.folders[1].fd = openat(here, "ro", O_PATH | O_DIRECTORY | O_CLOEXEC);
    reach.folders[1].read_only = true;
    outside = openat(here, "outside", O_RDONLY | O_CLOEXEC);
    close(here);
    if (jail_process(&reach, layers, &err) != 0)
        return NO_JAIL << 8;
    int rw = reach.folders[0].fd, ro = reach.folders[1].fd;
    if (opens(rw, "../outside", O_RDONLY) || opens(rw, "../ro/f", O_RDONLY) ||
        opens(rw, "../../../../../etc/passwd", O_RDONLY) ||
        opens(reach.self_fd, "../../../etc/passwd", O_RDONLY) || opens(rw, "l", O_RDONLY))
        found |= ABOVE;
    snprintf(number, sizeof number, "%d", outside); /* it was only for reading */
    if (*layers & JAIL_LANDLOCK && opens(reach.self_fd, number, O_RDWR))
        found |= ABOVE;
    if (*layers & JAIL_LANDLOCK &&
        (opens(ro, "f", O_RDWR) || opens(ro, "g", O_RDWR | O_CREAT) || unlinkat(ro, "f", 0) == 0))
        found |= WROTE;
    if (!opens(rw, "f", O_RDWR) || !opens(rw, "g", O_RDWR | O_CREAT) || !opens(ro, "f", O_RDONLY) ||
        renameat(rw, "g", rw, "sub/g") != 0)
        found |= UNREACHABLE;
    int path = openat(rw, "f", O_PATH | O_CLOEXEC);
    snprintf(number, sizeof number, "%d", path);
    if (!opens(reach.self_fd, number, O_RDWR) || fstat(path, &st) != 0)
        found |= UNREACHABLE;
    if (st.st_uid != geteuid() || st.st_gid != getegid())
        found |= STRANGER;
    return found;
}

/* The layers of a jail without folders. */
static unsigned plain_layers(void)
{
    const struct jail_reach nothing = {0};
    unsigned layers = 0;
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(jail_process(&nothing, &layers, NULL) != 0 ? 255 : (int)layers);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return (unsigned)WEXITSTATUS(status);
}

static void test_folders(void **state)
{
    char base[] = "/tmp/jail_test.XXXXXX", command[400];
    unsigned told[2] = {0};
    int pipes[2], status;
    assert_non_null(mkdtemp(base));
    snprintf(command, sizeof command,
             "cd %s && mkdir rw ro rw/sub && touch rw/f ro/f outside && ln -s %s/outside rw/l",
             base, base);
    assert_int_equal(system(command), 0);
    assert_int_equal(pipe(pipes), 0);
    pid_t pid = fork();
    if (pid == 0) {
        told[0] = look_around_folders(base, &told[1]);
        _exit(write(pipes[1], told, sizeof told) != sizeof told);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(read(pipes[0], told, sizeof told), sizeof told);
    close(pipes[0]);
    close(pipes[1]);
    snprintf(command, sizeof command, "rm -rf %s", base);
    assert_int_equal(system(command), 0);
    assert_int_equal(told[1], plain_layers()); /* none is given up for them */
    if (told[1] & (JAIL_NAMESPACES | JAIL_LANDLOCK))
        assert_int_equal(told[0], 0);
    else
        assert_int_equal(told[0] & ~(unsigned)ABOVE, 0);
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "--inside") == 0)
        _exit(inside(argv)); /* without a look for leaks, which needs files */
    const struct CMUnitTest tests[] = {
#ifdef SM_SANITIZED
        cmocka_unit_test(test_layers),
        cmocka_unit_test(test_folders),
#else
        cmocka_unit_test(test_every_call),
        cmocka_unit_test(test_no_new_code),
        cmocka_unit_test(test_no_signal_to_others),
        cmocka_unit_test(test_compromised),
        cmocka_unit_test(test_layers),
        cmocka_unit_test(test_folders),
#endif
    };
#ifdef SM_SANITIZED
    (void)test_every_call;
    (void)test_no_new_code;
    (void)test_no_signal_to_others;
    (void)test_compromised;
    print_message("SKIP system calls: sanitizers make calls of their own\n");
#endif
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: Apache-2.0
/*
 * Each system call is tried from inside, by each role: a call that is not on the role's list must
 * kill the process, one that is must not. And the other layers, without the filter: what is there
 * to be had from the host.
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
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "jail_rules.h"
#include "worker/jail.h"

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
    assert_in_range(allowed, 10, 60);
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

/* What a layer is worth alone; each answer is a bit. */
enum { OPENED = 1, CONNECTED = 2, PRIVILEGED = 4, NO_JAIL = 8 };

static unsigned look_around(const char *file, uint16_t port, unsigned *layers)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sm_error err;
    unsigned found = 0;
    if (jail_process(layers, &err) != 0)
        return NO_JAIL;
    if (open(file, O_RDONLY) >= 0 || open("/", O_RDONLY | O_DIRECTORY) >= 0)
        found |= OPENED;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
        found |= CONNECTED;
    if (setuid(1) == 0 || sethostname("x", 1) == 0)
        found |= PRIVILEGED;
    return found;
}

static void test_layers(void **state)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    unsigned told[2] = {0};
    int pipes[2], status;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
    assert_int_equal(pipe(pipes), 0);
    pid_t pid = fork();
    if (pid == 0) {
        told[0] = look_around("/proc/self/exe", ntohs(at.sin_port), &told[1]);
        _exit(write(pipes[1], told, sizeof told) != sizeof told);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(read(pipes[0], told, sizeof told), sizeof told);
    close(pipes[0]);
    close(pipes[1]);
    close(listener);
    assert_false(told[0] & NO_JAIL);
    assert_true(told[1] & JAIL_NO_NEW_PRIVS);
    assert_true(told[1] & JAIL_CAPABILITIES);
    assert_false(told[0] & PRIVILEGED);
    if (told[1] & JAIL_NAMESPACES)
        assert_false(told[0] & CONNECTED);
    if (told[1] & (JAIL_NAMESPACES | JAIL_LANDLOCK))
        assert_false(told[0] & OPENED);
    else
        print_message("SKIP files: this host offers neither user namespaces nor Landlock\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifdef SM_SANITIZED
        cmocka_unit_test(test_layers),
#else
        cmocka_unit_test(test_every_call),
        cmocka_unit_test(test_no_new_code),
        cmocka_unit_test(test_no_signal_to_others),
        cmocka_unit_test(test_layers),
#endif
    };
#ifdef SM_SANITIZED
    (void)test_every_call;
    (void)test_no_new_code;
    (void)test_no_signal_to_others;
    print_message("SKIP system calls: sanitizers make calls of their own\n");
#endif
    return cmocka_run_group_tests(tests, NULL, NULL);
}

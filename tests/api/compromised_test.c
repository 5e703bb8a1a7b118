// SPDX-License-Identifier: Apache-2.0
/*
 * A guest that has taken over the process of its VM: each of its threads, as it is while the guest
 * runs, is made to call the host (by a debugger, which stands for the guest's code). What is not on
 * the thread's list must end that VM and nothing else.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api_fixture.h"

#define PATIENCE_MS 60000
#define RED_ZONE 512 /* and room for a path below it */

/* How a call from inside went, as a helper's exit code. */
enum { KILLED = 10, FAILED, SUCCEEDED, NO_TRACING, NOT_TRIED };

struct call {
    const char *what;
    long number, args[4];
    const char *path; /* in place of the argument path_at */
    unsigned path_at;
};

static const struct call calls[] = {
    {"open", SYS_open, .path = "/etc/passwd"},
    {"openat", SYS_openat, {AT_FDCWD}, "/etc/passwd", 1},
    {"socket", SYS_socket, {AF_UNIX, SOCK_STREAM}},
    {"connect", SYS_connect, {3}},
    {"ptrace", SYS_ptrace, {PTRACE_TRACEME}},
    {"fork", SYS_fork},
    {"clone", SYS_clone, {SIGCHLD}},
    {"execve", SYS_execve, .path = "/bin/true"},
    {"kill", SYS_kill, {1, 0}},
    {"make code", SYS_mmap, {0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS}},
};
#define CALLS (sizeof calls / sizeof calls[0])

static const char *const roles[] = {"main", "sm-loop", "sm-vcpu0", "sm-share"};

/* ---- the process of a VM ---- */

static bool read_line(const char *path, char *line, size_t size)
{
    FILE *f = fopen(path, "re");
    bool good = f && fgets(line, (int)size, f);
    if (f)
        fclose(f);
    return good;
}

/* Of the only VM that this process has; 0 when there is none. */
static pid_t find_vm(void)
{
    char path[64], line[512];
    pid_t found = 0;
    DIR *dir = opendir("/proc");
    for (struct dirent *e; (e = readdir(dir));) {
        int parent = 0;
        snprintf(path, sizeof path, "/proc/%.20s/stat", e->d_name);
        if (atoi(e->d_name) > 0 && read_line(path, line, sizeof line) && strrchr(line, ')') &&
            strstr(line, "(supermachine-v") &&
            sscanf(strrchr(line, ')') + 1, " %*c %d", &parent) == 1 && parent == getpid())
            found = atoi(e->d_name);
    }
    closedir(dir);
    return found;
}

/* The first is the main thread, whose name is the program's. 0: there is none. */
static pid_t find_thread(pid_t vm, const char *role)
{
    char path[64], line[64];
    pid_t found = 0;
    if (strcmp(role, "main") == 0)
        return vm;
    snprintf(path, sizeof path, "/proc/%d/task", vm);
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        snprintf(path, sizeof path, "/proc/%d/task/%.20s/comm", vm, e->d_name);
        if (atoi(e->d_name) > 0 && read_line(path, line, sizeof line) &&
            strncmp(line, role, strlen(role)) == 0 && line[strlen(role)] == '\n')
            found = atoi(e->d_name);
    }
    if (dir)
        closedir(dir);
    return found;
}

/* How many lists of system calls hold a thread; in a container there are some around it, too. */
static unsigned count_filters(const char *status)
{
    char line[256];
    unsigned n = 0;
    FILE *f = fopen(status, "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "Seccomp: %u", &n) != 1) /* before Linux 5.9 there is only that */
            sscanf(line, "Seccomp_filters: %u", &n);
    if (f)
        fclose(f);
    return n;
}

/* Is there such a thread, and does it have its own list? */
static bool is_confined(pid_t vm, const char *role)
{
    char path[64];
    pid_t tid = find_thread(vm, role);
    snprintf(path, sizeof path, "/proc/%d/task/%d/status", vm, tid);
    return tid && count_filters(path) > count_filters("/proc/self/status");
}

/* ---- a call from inside, in a helper process ---- */

static void give_path(pid_t tid, unsigned long at, const char *path)
{
    char bytes[64] = "";
    snprintf(bytes, sizeof bytes, "%s", path);
    for (size_t i = 0; i < sizeof bytes; i += sizeof(long)) {
        long word;
        memcpy(&word, bytes + i, sizeof word);
        ptrace(PTRACE_POKEDATA, tid, at + i, word);
    }
}

/* Stop it where it has just made a system call. */
static bool stop_at_call(pid_t tid, struct user_regs_struct *regs)
{
    int status;
    for (int i = 0; i < 2000; i++) {
        if (ptrace(PTRACE_INTERRUPT, tid, 0, 0) != 0 || waitpid(tid, &status, __WALL) != tid ||
            !WIFSTOPPED(status) || ptrace(PTRACE_GETREGS, tid, 0, regs) != 0)
            return false;
        unsigned long code = (unsigned long)ptrace(PTRACE_PEEKTEXT, tid, regs->rip - 2, 0);
        if ((code & 0xffff) == 0x050f)
            return true;
        ptrace(PTRACE_CONT, tid, 0, 0); /* the guest's code */
        usleep(1000);
    }
    return false;
}

static int call_inside(pid_t tid, const struct call *c)
{
    struct user_regs_struct old, regs;
    int status;
    if (ptrace(PTRACE_SEIZE, tid, 0, 0) != 0)
        return NO_TRACING;
    if (!stop_at_call(tid, &old))
        return NOT_TRIED;
    unsigned long args[4], path = (old.rsp - RED_ZONE) & ~15ul;
    memcpy(args, c->args, sizeof args);
    if (c->path) {
        give_path(tid, path, c->path);
        args[c->path_at] = path;
    }
    regs = old;
    regs.rip -= 2;
    regs.rax = (unsigned long)c->number;
    regs.orig_rax = ~0ul; /* no system call to restart */
    regs.rdi = args[0];
    regs.rsi = args[1];
    regs.rdx = args[2];
    regs.r10 = args[3];
    if (ptrace(PTRACE_SETREGS, tid, 0, &regs) != 0 || ptrace(PTRACE_SINGLESTEP, tid, 0, 0) != 0 ||
        waitpid(tid, &status, __WALL) != tid)
        return NOT_TRIED;
    if (WIFSIGNALED(status))
        return WTERMSIG(status) == SIGSYS ? KILLED : NOT_TRIED;
    if (!WIFSTOPPED(status) || ptrace(PTRACE_GETREGS, tid, 0, &regs) != 0)
        return NOT_TRIED;
    int result = (long)regs.rax < 0 ? FAILED : SUCCEEDED;
    ptrace(PTRACE_SETREGS, tid, 0, &old);
    ptrace(PTRACE_DETACH, tid, 0, 0);
    return result;
}

static int try_call(pid_t vm, const char *role, const struct call *c)
{
    int status;
    pid_t tid = find_thread(vm, role);
    if (!tid)
        fail_msg("there is no thread %s", role);
    pid_t helper = fork();
    if (helper == 0) {
        alarm(60);
        _exit(call_inside(tid, c));
    }
    assert_int_equal(waitpid(helper, &status, 0), helper);
    return WIFEXITED(status) ? WEXITSTATUS(status) : NOT_TRIED;
}

/* ---- the tests ---- */

struct jailed {
    struct fixture fixture;
    char folder[80];
    struct sm_volume volume;
    const struct sm_volume *volumes[2];
    struct sm_vm_config config;
};

static int set_up(void **state)
{
    static struct jailed j = {.volume = SM_VOLUME_INIT, .config = SM_VM_CONFIG_INIT};
    *state = &j;
    if (fixture_open(&j.fixture) != 0)
        return -1;
    snprintf(j.folder, sizeof j.folder, "%s/folder", j.fixture.home);
    if (mkdir(j.folder, 0755) != 0)
        return -1;
    j.volume.source = j.folder;
    j.volume.path = "/shared";
    j.volumes[0] = &j.volume;
    j.config.volumes = j.volumes;
    return 0;
}

static int tear_down(void **state)
{
    struct jailed *j = *state;
    return fixture_close(&j->fixture);
}

static void expect_alive(sm_vm *vm)
{
    struct sm_output out;
    output(vm, "echo x >/shared/f; cat /shared/f", &out);
    assert_string_equal(out.out, "x\n");
    sm_output_fini(&out);
}

static void expect_failed(sm_vm *vm, const char *role, const char *what)
{
    struct sm_error err = {0};
    if (sm_vm_wait(vm, PATIENCE_MS, &err) != 0 || sm_vm_state(vm) != SM_VM_FAILED)
        fail_msg("%s, %s: the VM has not ended so: %d %s", role, what, sm_vm_state(vm), err.text);
}

/* Whoever shares folders opens files: those and no others. */
static bool may_fail_only(const char *role, const struct call *c)
{
    return strcmp(role, "sm-share") == 0 && c->number == SYS_openat;
}

static void test_each_thread(void **state)
{
    static const struct call harmless = {"sched_yield", SYS_sched_yield};
    struct jailed *j = *state;
    for (unsigned r = 0; r < sizeof roles / sizeof roles[0]; r++) {
        sm_vm *vm = start(&j->fixture, &j->config);
        int found = try_call(find_vm(), roles[r], &harmless);
        if (found == NO_TRACING) {
            print_message("SKIP calls from inside: no debugger may be used here\n");
            sm_vm_free(vm);
            skip();
        }
        assert_int_equal(found, SUCCEEDED); /* it is the debugger's way that works */
        for (unsigned i = 0; i < CALLS; i++) {
            const struct call *c = &calls[i];
            int wanted = may_fail_only(roles[r], c) ? FAILED : KILLED;
            expect_alive(vm);
            found = try_call(find_vm(), roles[r], c);
            if (found != wanted)
                fail_msg("%s, %s: %d instead of %d", roles[r], c->what, found, wanted);
            if (found != KILLED)
                continue;
            expect_failed(vm, roles[r], c->what);
            sm_vm_free(vm);
            vm = start(&j->fixture, &j->config);
        }
        expect_alive(vm);
        sm_vm_free(vm);
    }
}

/* Paths and descriptors that could lead out of the folder. */
static void test_share_stays_inside(void **state)
{
    static const char *const paths[] = {"/",     "/proc/self/exe", "/proc/1/root",
                                        "../..", "/tmp",           "."};
    struct jailed *j = *state;
    sm_vm *vm = start(&j->fixture, &j->config);
    expect_alive(vm);
    for (unsigned i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        const struct call c = {"openat", SYS_openat, {AT_FDCWD}, paths[i], 1};
        int found = try_call(find_vm(), "sm-share", &c);
        if (found == NO_TRACING)
            break;
        if (found != FAILED)
            fail_msg("%s: %d", paths[i], found);
    }
    expect_alive(vm);
    sm_vm_free(vm);
}

struct booting {
    struct jailed *j;
    sm_vm *vm;
    int rc;
};

static void *boot(void *opaque)
{
    struct booting *b = opaque;
    struct sm_vm_config config = SM_VM_CONFIG_INIT;
    config.snapshots = SM_SNAPSHOTS_NEVER;
    b->rc = sm_vm_start(b->j->fixture.image, &config, &b->vm, NULL);
    return NULL;
}

/* The thread that waits for the agent's first word, during a boot. */
static void test_beacon(void **state)
{
    for (unsigned i = 0; i < CALLS; i++) {
        struct booting b = {.j = *state};
        pthread_t thread;
        pid_t vm = 0;
        assert_int_equal(pthread_create(&thread, NULL, boot, &b), 0);
        for (int ms = 0; !(vm && is_confined(vm, "sm-beacon")); ms++) {
            assert_true(ms < PATIENCE_MS);
            usleep(1000);
            vm = find_vm();
        }
        int found = try_call(vm, "sm-beacon", &calls[i]);
        pthread_join(thread, NULL);
        sm_vm_free(b.vm);
        if (found == NO_TRACING)
            skip();
        if (found != KILLED)
            fail_msg("beacon, %s: %d", calls[i].what, found);
        assert_int_not_equal(b.rc, 0);
    }
}

#ifdef SM_SANITIZED
#define SANITIZED true
#else
#define SANITIZED false
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_thread),
        cmocka_unit_test(test_share_stays_inside),
        cmocka_unit_test(test_beacon),
    };
    if (SANITIZED) {
        print_message("SKIP calls from inside: sanitizers make calls of their own\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

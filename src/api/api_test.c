// SPDX-License-Identifier: Apache-2.0
/* The library as an application uses it: public header, shared library, real VMs on the built-in
 * image. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api_fixture.h"

static int set_up(void **state)
{
    static struct fixture f;
    *state = &f;
    return fixture_open(&f);
}

static int tear_down(void **state)
{
    return fixture_close(*state);
}

static void test_output(void **state)
{
    struct sm_output out;
    sm_vm *vm = start(*state, NULL);
    output(vm, "echo out; echo err >&2; exit 7", &out);
    assert_int_equal(out.outcome.code, 7);
    assert_true(out.outcome.started);
    assert_string_equal(out.out, "out\n");
    assert_string_equal(out.err, "err\n");
    assert_int_equal(out.out_len, 4);
    sm_output_fini(&out);
    output(vm, "kill -TERM $$", &out); /* the same VM again */
    assert_int_equal(out.outcome.code, 128 + SIGTERM);
    assert_int_equal(out.outcome.signal, SIGTERM);
    sm_output_fini(&out);
    assert_int_equal(sm_vm_state(vm), SM_VM_RUNNING);
    sm_vm_free(vm);
}

static void test_refusals(void **state)
{
    const char *const missing[] = {"/nosuch", NULL}, *const folder[] = {"/tmp", NULL};
    const char *const env[] = {"=x", NULL}, *const none[] = {NULL};
    struct sm_exec_spec spec = SM_EXEC_SPEC_INIT;
    struct sm_output out;
    struct sm_error err = {0};
    sm_vm *vm = start(*state, NULL);
    spec.argv = missing;
    assert_int_equal(sm_exec_output(vm, &spec, 0, -1, &out, &err), SM_ENOTFOUND);
    assert_int_equal(out.outcome.code, 127);
    assert_false(out.outcome.started);
    assert_non_null(strstr(err.text, "/nosuch"));
    assert_null(out.out);
    spec.argv = folder;
    assert_int_equal(sm_exec_output(vm, &spec, 0, -1, &out, &err), SM_EINVAL);
    assert_int_equal(out.outcome.code, 126);
    spec.env = env;
    assert_int_equal(sm_exec_output(vm, &spec, 0, -1, &out, &err), SM_EINVAL);
    spec.env = NULL;
    spec.argv = none;
    assert_int_equal(sm_exec_output(vm, &spec, 0, -1, &out, &err), SM_EINVAL);
    spec.argv = missing;
    spec.size = 0;
    assert_int_equal(sm_exec_output(vm, &spec, 0, -1, &out, NULL), SM_EINVAL);
    sm_vm_free(vm);
}

/* Too much output, and a timeout: the call ends, the VM goes on. */
static void test_limits_of_output(void **state)
{
    const char *const endless[] = {"yes", NULL}, *const still[] = {"sleep", "1000", NULL};
    struct sm_exec_spec spec = SM_EXEC_SPEC_INIT;
    struct sm_output out;
    struct sm_error err = {0};
    sm_vm *vm = start(*state, NULL);
    spec.argv = endless;
    assert_int_equal(sm_exec_output(vm, &spec, 100000, -1, &out, &err), SM_ENOMEM);
    assert_null(out.out);
    spec.argv = still;
    assert_int_equal(sm_exec_output(vm, &spec, 0, 100, &out, &err), SM_ETIMEDOUT);
    output(vm, "echo alive", &out);
    assert_string_equal(out.out, "alive\n");
    sm_output_fini(&out);
    sm_vm_free(vm);
}

static void test_environment(void **state)
{
    const char *const argv[] = {"sh", "-c", "echo $A-${PATH:+p}-$(pwd)-$(id -u):$(id -g)", NULL};
    const char *const env[] = {"A=b", "B=c", "B", NULL};
    struct sm_exec_spec spec = SM_EXEC_SPEC_INIT;
    struct sm_output out;
    struct sm_error err = {0};
    sm_vm *vm = start(*state, NULL);
    spec.argv = argv;
    spec.env = env;
    spec.cwd = "/made/here";
    spec.user = "1000:7";
    if (sm_exec_output(vm, &spec, 0, -1, &out, &err))
        fail_msg("%s", err.text);
    assert_string_equal(out.out, "b-p-/made/here-1000:7\n");
    sm_output_fini(&out);
    sm_vm_free(vm);
}

static void test_two_vms(void **state)
{
    struct sm_output a, b;
    sm_vm *one = start(*state, NULL), *two = start(*state, NULL);
    output(one, "echo one > /name", &a);
    sm_output_fini(&a);
    output(two, "echo two > /name", &b);
    sm_output_fini(&b);
    output(one, "cat /name", &a);
    sm_vm_free(one);
    output(two, "cat /name", &b);
    assert_string_equal(a.out, "one\n");
    assert_string_equal(b.out, "two\n");
    sm_output_fini(&a);
    sm_output_fini(&b);
    sm_vm_free(two);
}

/* Several commands at once in one VM, from several threads. */
static void *count_up(void *vm)
{
    struct sm_output out;
    output(vm, "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo $i; done", &out);
    size_t len = out.out_len;
    sm_output_fini(&out);
    return (void *)(uintptr_t)len;
}

static void test_parallel(void **state)
{
    pthread_t threads[4];
    sm_vm *vm = start(*state, NULL);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count_up, vm), 0);
    for (int i = 0; i < 4; i++) {
        void *len;
        pthread_join(threads[i], &len);
        assert_int_equal((uintptr_t)len, 9 * 2 + 90 * 3 + 201 * 4);
    }
    sm_vm_free(vm);
}

static void *stop_soon(void *vm)
{
    usleep(300000);
    sm_vm_stop(vm);
    return NULL;
}

static void test_stop(void **state)
{
    const char *const argv[] = {"sleep", "1000", NULL};
    struct sm_exec_spec spec = SM_EXEC_SPEC_INIT;
    struct sm_outcome outcome;
    struct sm_error err = {0};
    pthread_t thread;
    sm_exec *exec;
    sm_vm *vm = start(*state, NULL);
    spec.argv = argv;
    assert_int_equal(sm_exec_start(vm, &spec, &exec, &err), 0);
    pthread_create(&thread, NULL, stop_soon, vm);
    assert_int_equal(sm_exec_wait(exec, -1, &outcome, &err), SM_EINTR);
    pthread_join(thread, NULL);
    assert_int_equal(sm_vm_state(vm), SM_VM_STOPPED);
    sm_exec_free(exec);
    assert_int_equal(sm_exec_start(vm, &spec, &exec, &err), SM_EINTR);
    assert_null(exec);
    sm_vm_free(vm);
}

static void collect(void *opaque, const void *data, size_t len)
{
    char *text = opaque;
    strncat(text, data, len < 4000 - strlen(text) ? len : 4000 - strlen(text));
}

static void test_guest_ends(void **state)
{
    static const struct {
        const char *command;
        enum sm_vm_state state;
        const char *says;
    } cases[] = {
        {"poweroff -f", SM_VM_POWERED_OFF, "powered"},
        {"reboot -f", SM_VM_RESET, "rebooted"},
        {"echo c > /proc/sysrq-trigger", SM_VM_PANICKED, "panicked"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *const argv[] = {"sh", "-c", cases[i].command, NULL};
        struct sm_vm_config config = SM_VM_CONFIG_INIT;
        struct sm_exec_spec spec = SM_EXEC_SPEC_INIT;
        struct sm_output out;
        struct sm_error err = {0};
        char console[4096] = "";
        config.console = collect;
        config.console_opaque = console;
        sm_vm *vm = start(*state, &config);
        spec.argv = argv;
        assert_int_equal(sm_exec_output(vm, &spec, 0, 60000, &out, &err), SM_EGUEST);
        assert_int_equal(sm_vm_state(vm), cases[i].state);
        assert_non_null(strstr(err.text, cases[i].says));
        sm_vm_free(vm);
        if (cases[i].state == SM_VM_PANICKED)
            assert_non_null(strstr(console, "sysrq"));
    }
}

/* The first child of this process. */
static pid_t find_child(void)
{
    char text[64] = "";
    FILE *f = fopen("/proc/thread-self/children", "r");
    assert_non_null(f);
    assert_non_null(fgets(text, sizeof text, f));
    fclose(f);
    return (pid_t)strtol(text, NULL, 10);
}

/* A VM's process that is killed is an error on that VM, and the other goes on. */
static void test_killed_process(void **state)
{
    const char *const argv[] = {"sleep", "1000", NULL};
    struct sm_exec_spec spec = SM_EXEC_SPEC_INIT;
    struct sm_outcome outcome;
    struct sm_output out;
    struct sm_error err = {0};
    sm_exec *exec;
    sm_vm *vm = start(*state, NULL);
    pid_t pid = find_child();
    sm_vm *other = start(*state, NULL);
    spec.argv = argv;
    assert_int_equal(sm_exec_start(vm, &spec, &exec, &err), 0);
    assert_int_equal(sm_exec_wait(exec, 200, &outcome, &err), SM_ETIMEDOUT);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(sm_exec_wait(exec, -1, &outcome, &err), SM_EENGINE);
    assert_non_null(strstr(err.text, "killed by signal 9"));
    sm_exec_free(exec);
    assert_int_equal(sm_vm_state(vm), SM_VM_FAILED);
    assert_int_equal(sm_exec_start(vm, &spec, &exec, &err), SM_EENGINE);
    output(other, "echo alive", &out);
    assert_string_equal(out.out, "alive\n");
    sm_output_fini(&out);
    sm_vm_free(vm);
    sm_vm_free(other);
}

/* The value of a line of a thread's status; -1 if there is none. */
static long long status_of(const char *path, const char *name)
{
    char line[256];
    long long value = -1;
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':')
            value = strtoll(line + strlen(name) + 1, NULL, 16);
    fclose(f);
    return value;
}

static int count_entries(const char *path, void (*each)(const char *path, unsigned jail),
                         unsigned jail)
{
    char file[512];
    int n = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *d; (d = readdir(dir));) {
        if (d->d_name[0] == '.')
            continue;
        snprintf(file, sizeof file, "%s/%s", path, d->d_name);
        if (each)
            each(file, jail);
        n++;
    }
    closedir(dir);
    return n;
}

static void check_thread(const char *path, unsigned jail)
{
    char file[600];
    snprintf(file, sizeof file, "%s/status", path);
    assert_int_equal(status_of(file, "NoNewPrivs"), 1);
    assert_int_equal(status_of(file, "Seccomp"), jail & SM_JAIL_SECCOMP ? 2 : 0);
    assert_int_equal(status_of(file, "CapEff"), 0);
    assert_int_equal(status_of(file, "CapPrm"), 0);
    assert_int_equal(status_of(file, "CapBnd"), 0);
}

/* Nothing but what a VM needs: no file that can be read, no socket but to us. */
static void check_file(const char *path, unsigned jail)
{
    static const char *const known[] = {"/dev/null", "/dev/kvm", "socket:[", "anon_inode:",
                                        "/memfd:",   "/pagemap", "/ram",     "/state"};
    char to[512];
    ssize_t len = readlink(path, to, sizeof to - 1);
    if (!(jail & SM_JAIL_SECCOMP) && strcmp(strrchr(path, '/'), "/2") == 0)
        return; /* a sanitizer reports there */
    assert_true(len > 0);
    to[len] = 0;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strstr(to, known[i]))
            return;
    fail_msg("%s is %s", path, to);
}

/* The jail of a VM that runs, seen from outside: every thread, every descriptor. */
static void test_jailed_process(void **state)
{
    struct fixture *f = *state;
    struct sm_error err = {0};
    struct sm_vm_config config = SM_VM_CONFIG_INIT;
    struct sm_output out;
    unsigned jail;
    char path[64];
    config.vcpus = 2;
    assert_int_equal(sm_jail_probe(f->store, &jail, &err), 0);
    for (int boot = 0; boot < 2; boot++) {
        config.snapshots = boot ? SM_SNAPSHOTS_NEVER : SM_SNAPSHOTS_AUTO;
        sm_vm *vm = start(f, &config);
        output(vm, "true", &out);
        sm_output_fini(&out);
        pid_t pid = find_child();
        snprintf(path, sizeof path, "/proc/%d/task", pid);
        assert_true(count_entries(path, check_thread, jail) >= 4);
        snprintf(path, sizeof path, "/proc/%d/fd", pid);
        assert_true(count_entries(path, check_file, jail) > 4);
        snprintf(path, sizeof path, "/proc/%d/root", pid);
        if (jail & SM_JAIL_NAMESPACES)
            assert_int_equal(count_entries(path, NULL, jail), 0);
        if (jail & SM_JAIL_SECCOMP) { /* a sanitizer reads its options from there */
            snprintf(path, sizeof path, "/proc/%d/environ", pid);
            FILE *environment = fopen(path, "r");
            assert_non_null(environment);
            assert_int_equal(fgetc(environment), EOF);
            fclose(environment);
        }
        sm_vm_free(vm);
    }
}

/* The owner's death is the VM's, however it comes. */
static void test_owner_dies(void **state)
{
    struct fixture *f = *state;
    int pipes[2];
    pid_t child = -1;
    char byte;
    assert_int_equal(pipe(pipes), 0);
    pid_t owner = fork();
    if (owner == 0) {
        struct sm_error err;
        sm_vm *vm;
        if (sm_vm_start(f->image, NULL, &vm, &err) != 0)
            _exit(1);
        pid_t pid = find_child();
        if (write(pipes[1], &pid, sizeof pid) != sizeof pid)
            _exit(1);
        pause();
    }
    close(pipes[1]);
    assert_int_equal(read(pipes[0], &child, sizeof child), sizeof child);
    int pidfd = pidfd_open(child, 0);
    assert_true(pidfd >= 0);
    kill(owner, SIGKILL);
    waitpid(owner, NULL, 0);
    assert_int_equal(read(pipes[0], &byte, 1), 0);
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 20000), 1);
    close(pidfd);
    close(pipes[0]);
}

static void test_bad_configs(void **state)
{
    struct fixture *f = *state;
    struct sm_limits limits;
    struct sm_error err = {0};
    sm_vm *vm;
    sm_limits(&limits);
    struct sm_vm_config bad[] = {
        {.size = sizeof *bad, .memory_mib = limits.memory_min_mib - 2},
        {.size = sizeof *bad, .memory_mib = limits.memory_max_mib + 2},
        {.size = sizeof *bad, .vcpus = limits.vcpus_max + 1},
        {.size = sizeof *bad, .engine = 99},
        {.size = sizeof *bad, .engine = SM_ENGINE_KVM},
        {.size = sizeof *bad, .kernel = "/nonexistent"},
        {.size = sizeof *bad, .kernel = "/dev/null"},
        {.size = sizeof *bad, .start_ms = 1},
        {.size = 0},
    };
    const int codes[] = {SM_EINVAL,    SM_EINVAL, SM_EINVAL,    SM_EINVAL, SM_EENGINE,
                         SM_ENOTFOUND, 0,         SM_ETIMEDOUT, SM_EINVAL};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        err.text[0] = 0;
        int rc = sm_vm_start(f->image, &bad[i], &vm, &err);
        assert_true(rc < 0);
        if (codes[i])
            assert_int_equal(rc, codes[i]);
        assert_int_equal(rc, err.code);
        assert_true(err.text[0] && !strchr(err.text, '\n'));
        assert_null(vm);
    }
}

static void test_commands_of_images(void **state)
{
    struct fixture *f = *state;
    const char *const args[] = {"a", "b", NULL}, *const none[] = {NULL};
    struct sm_error err = {0};
    char **argv;
    assert_int_equal(sm_image_command(f->image, NULL, args, &argv, &err), 0);
    assert_string_equal(argv[0], "a");
    assert_string_equal(argv[1], "b");
    assert_null(argv[2]);
    sm_free(argv);
    assert_int_equal(sm_image_command(f->image, "e", args, &argv, &err), 0);
    assert_string_equal(argv[0], "e");
    assert_string_equal(argv[2], "b");
    sm_free(argv);
    assert_int_equal(sm_image_command(f->image, "e", NULL, &argv, &err), 0);
    assert_null(argv[1]);
    sm_free(argv);
    assert_int_equal(sm_image_command(f->image, "", none, &argv, &err), SM_EINVAL);
    assert_null(argv);
}

static void test_jail(void **state)
{
    struct fixture *f = *state;
    struct sm_error err = {0};
    unsigned layers;
    if (sm_jail_probe(f->store, &layers, &err) != 0)
        fail_msg("%s", err.text);
    assert_true(layers & SM_JAIL_NO_NEW_PRIVS);
    assert_true(layers & SM_JAIL_CAPABILITIES);
}

static void test_engines(void **state)
{
    struct sm_engine_info info;
    int automatic = 0, n = 0;
    for (unsigned i = 0; sm_engine_info(i, &info) == 0; i++, n++) {
        assert_non_null(info.name);
        automatic += info.automatic;
        assert_int_equal(info.usable, info.error.code == 0);
        assert_true(info.usable || info.error.text[0]);
    }
    assert_int_equal(n, 2);
    assert_int_equal(automatic, 1);
    assert_non_null(sm_version());
}

static int count_fds(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* A VM leaves nothing behind: descriptors, threads, a process. */
static void test_nothing_left(void **state)
{
    struct sm_output out;
    int before = count_fds();
    sm_vm *vm = start(*state, NULL);
    output(vm, "true", &out);
    sm_output_fini(&out);
    sm_vm_free(vm);
    assert_int_equal(count_fds(), before);
    DIR *dir = opendir("/proc/self/task");
    int tasks = 0;
    for (struct dirent *d; (d = readdir(dir));)
        tasks += d->d_name[0] != '.';
    closedir(dir);
#ifndef __SANITIZE_ADDRESS__
    assert_int_equal(tasks, 1);
#endif
    assert_true(tasks >= 1);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_engines),
        cmocka_unit_test(test_commands_of_images),
        cmocka_unit_test(test_output),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_limits_of_output),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_two_vms),
        cmocka_unit_test(test_parallel),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_guest_ends),
        cmocka_unit_test(test_killed_process),
        cmocka_unit_test(test_jailed_process),
        cmocka_unit_test(test_owner_dies),
        cmocka_unit_test(test_jail),
        cmocka_unit_test(test_bad_configs),
        cmocka_unit_test(test_nothing_left),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

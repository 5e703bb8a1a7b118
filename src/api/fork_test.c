// SPDX-License-Identifier: Apache-2.0
/* Clones of VMs that run: what goes on in them, what is their own, and that nothing is left. */
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "api_fixture.h"

#define CLONES 3

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

static void line_of(sm_vm *vm, const char *text, char *line, size_t size)
{
    struct sm_output out;
    output(vm, text, &out);
    assert_int_equal(out.outcome.code, 0);
    snprintf(line, size, "%s", out.out);
    line[strcspn(line, "\n")] = 0;
    sm_output_fini(&out);
}

static int64_t number(sm_vm *vm, const char *command)
{
    char line[64];
    line_of(vm, command, line, sizeof line);
    return strtoll(line, NULL, 10);
}

/* A counter in the background, which writes each value by rename: there is always one to read. */
static sm_vm *start_counting(struct fixture *f)
{
    sm_vm *vm = start(f, NULL);
    assert_int_equal(number(vm, "(i=0; while :; do i=$((i+1)); echo $i >/n.new; mv /n.new /n; "
                                "sleep 0.05; done) >/dev/null 2>&1 </dev/null & sleep 0.3; echo 1"),
                     1);
    return vm;
}

static void fork_vm(sm_vm *vm, uint32_t n, sm_vm **clones, struct sm_snapshot_info *info)
{
    struct sm_error err = {0};
    if (sm_vm_fork(vm, NULL, n, clones, info, &err))
        fail_msg("%s", err.text);
}

static void expect_progress(sm_vm *vm, int64_t from, int64_t most)
{
    int64_t a = number(vm, "cat /n"), b = a;
    assert_in_range(a, from, from + most);
    for (int i = 0; i < 100 && b <= a; i++) {
        usleep(50000);
        b = number(vm, "cat /n");
    }
    assert_true(b > a);
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

/* Files in the store's tmp/, which is empty but for what a kill would leave. */
static int count_temp_files(struct fixture *f)
{
    char path[96];
    int n = -2;
    snprintf(path, sizeof path, "%s/tmp", f->home);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* One round: from the same value on in each clone and in the VM; nobody sees another's writes; each
 * is somebody else. */
static void check_family(sm_vm *vm, sm_vm **clones, unsigned n, int64_t from)
{
    static const char *const own[] = {"hostname", "cat /etc/machine-id",
                                      "head -c 16 /dev/urandom | sha256sum",
                                      "cat /proc/sys/kernel/random/uuid"};
    char lines[CLONES + 1][4][80], mark[80], wanted[16];
    for (unsigned i = 0; i <= n; i++) {
        sm_vm *one = i < n ? clones[i] : vm;
        int64_t now = number(one, "date +%s"), host = time(NULL);
        assert_in_range(now, host - 2, host + 2);
        expect_progress(one, from, 1200);
        snprintf(mark, sizeof mark, "echo %u >>/mark; echo 0", i);
        assert_int_equal(number(one, mark), 0);
        for (unsigned k = 0; k < 4; k++) {
            line_of(one, own[k], lines[i][k], sizeof lines[i][k]);
            for (unsigned j = 0; j < i; j++)
                assert_string_not_equal(lines[i][k], lines[j][k]);
        }
    }
    for (unsigned i = 0; i <= n; i++) {
        line_of(i < n ? clones[i] : vm, "cat /mark", mark, sizeof mark);
        snprintf(wanted, sizeof wanted, "%u", i);
        assert_string_equal(mark, wanted);
    }
}

struct watch {
    sm_vm *volatile *clones;
    atomic_bool over, together;
};

/* Processes of VMs that this one started; a process still counts when nobody has waited for it. */
static unsigned count_children(void)
{
    char line[512];
    unsigned n = 0;
    DIR *dir = opendir("/proc");
    for (struct dirent *e; (e = readdir(dir));) {
        int parent = 0;
        snprintf(line, sizeof line, "/proc/%.20s/stat", e->d_name);
        FILE *f = e->d_name[0] >= '1' && e->d_name[0] <= '9' ? fopen(line, "r") : NULL;
        if (f && fgets(line, sizeof line, f) && strrchr(line, ')'))
            sscanf(strrchr(line, ')') + 1, " %*c %d", &parent);
        if (f)
            fclose(f);
        n += parent == getpid();
    }
    closedir(dir);
    return n;
}

/* Two clones' processes, and neither clone is there yet. */
static void *watch_starts(void *opaque)
{
    struct watch *w = opaque;
    while (!atomic_load(&w->over))
        if (count_children() >= 3 && !w->clones[0] && !w->clones[1])
            atomic_store(&w->together, true);
    return NULL;
}

static void test_starts_at_once(void **state)
{
    sm_vm *clones[2] = {0};
    struct watch w = {.clones = clones};
    pthread_t watcher;
    if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
        skip();
    sm_vm *vm = start(*state, NULL);
    assert_int_equal(count_children(), 1);
    for (int round = 0; round < 20 && !atomic_load(&w.together); round++) {
        atomic_store(&w.over, false);
        assert_int_equal(pthread_create(&watcher, NULL, watch_starts, &w), 0);
        fork_vm(vm, 2, clones, NULL);
        atomic_store(&w.over, true);
        pthread_join(watcher, NULL);
        for (int i = 0; i < 2; i++) {
            sm_vm_free(clones[i]);
            clones[i] = NULL;
        }
    }
    assert_true(atomic_load(&w.together));
    sm_vm_free(vm);
}

/* Of a VM that was booted, then of one that was restored, then of a clone. */
static void test_clones(void **state)
{
    struct fixture *f = *state;
    int fds = 0;
    for (int round = 0; round < 3; round++) { /* the first boots, and then keeps a snapshot */
        sm_vm *clones[CLONES], *grandchild;
        struct sm_snapshot_info info = {0};
        sm_vm *vm = start_counting(f);
        int64_t from = number(vm, "cat /n");
        fork_vm(vm, CLONES, clones, &info);
        assert_true(info.pause_ns > 0);
        print_message("fork of a %s VM: pause %.1f ms\n", round ? "restored" : "booted",
                      (double)info.pause_ns / 1e6);
        check_family(vm, clones, CLONES, from);
        from = number(clones[1], "cat /n");
        fork_vm(clones[1], 1, &grandchild, NULL);
        sm_vm_free(vm); /* a clone does not need it, or another one */
        for (int i = 0; i < CLONES; i++)
            sm_vm_free(clones[i]);
        char line[16];
        expect_progress(grandchild, from, 1200);
        line_of(grandchild, "cat /mark", line, sizeof line);
        assert_string_equal(line, "1");
        sm_vm_free(grandchild);
        if (round == 1)
            fds = count_fds();
        assert_int_equal(count_temp_files(f), 0);
    }
    assert_int_equal(count_fds(), fds);
}

/* A command goes on in the VM, with its streams; in a clone it is gone. */
static void test_command_under_way(void **state)
{
    const char *const argv[] = {
        "sh", "-c", "echo begun; while ! [ -e /end ]; do sleep 0.05; done; echo done", NULL};
    struct sm_exec_spec spec = SM_EXEC_SPEC_INIT;
    struct sm_outcome outcome;
    struct sm_error err = {0};
    sm_vm *vm = start(*state, NULL), *clone;
    sm_exec *exec;
    char text[64] = "";
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    spec.argv = argv;
    spec.stdout_fd = pipes[1];
    assert_int_equal(sm_exec_start(vm, &spec, &exec, &err), 0);
    assert_int_equal(sm_exec_wait(exec, 500, &outcome, &err), SM_ETIMEDOUT);
    fork_vm(vm, 1, &clone, NULL);
    for (int i = 0; i < 100 && number(clone, "ps | grep -c '[e]cho begun'; true") > 0; i++)
        usleep(50000);
    assert_int_equal(number(clone, "ps | grep -c '[e]cho begun'; true"), 0);
    assert_int_equal(number(vm, "touch /end; echo 5"), 5);
    assert_int_equal(sm_exec_wait(exec, -1, &outcome, &err), 0);
    assert_int_equal(outcome.code, 0);
    assert_int_equal(read(pipes[0], text, sizeof text), 11);
    assert_string_equal(text, "begun\ndone\n");
    close(pipes[0]);
    close(pipes[1]);
    sm_exec_free(exec);
    sm_vm_free(clone);
    sm_vm_free(vm);
}

/* An image of a VM serves as often as one likes, in a pool too, and is as the VM was. */
static void test_image(void **state)
{
    struct sm_pool_config config = SM_POOL_CONFIG_INIT;
    struct sm_error err = {0};
    sm_vm *vm = start(*state, NULL), *one;
    sm_image *image;
    sm_pool *pool;
    assert_int_equal(number(vm, "echo 1 >/x; cat /x"), 1);
    assert_int_equal(sm_image_from_vm(vm, &image, NULL, &err), 0);
    assert_int_equal(number(vm, "echo 2 >/x; cat /x"), 2);
    config.max = 2;
    assert_int_equal(sm_pool_new(image, &config, &pool, &err), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sm_pool_acquire(pool, &one, &err), 0);
        assert_int_equal(number(one, "cat /x; echo 3 >/x"), 1);
        assert_int_equal(sm_pool_release(pool, one, &err), 0);
    }
    sm_pool_free(pool);
    sm_image_free(image);
    sm_vm_free(vm);
}

/* The memory that a clone of a booted VM began with has no name, and nobody has hashed it: a
 * snapshot of the clone gives it both. */
static void test_snapshot_of_a_clone(void **state)
{
    struct fixture *f = *state;
    struct sm_vm_config config = SM_VM_CONFIG_INIT;
    struct sm_error err = {0};
    char folder[96], base[128], line[16];
    sm_image *image;
    sm_vm *clone, *again;
    config.snapshots = SM_SNAPSHOTS_NEVER;
    sm_vm *vm = start(f, &config);
    fork_vm(vm, 1, &clone, NULL);
    sm_vm_free(vm);
    for (int i = 0; i < 2; i++) {
        line_of(clone, "echo x >>/xs; sync", line, sizeof line);
        snprintf(folder, sizeof folder, "%s/of-clone%d", f->home, i);
        if (sm_vm_snapshot(clone, folder, NULL, &err) ||
            sm_image_from_snapshot(f->store, folder, &image, &err))
            fail_msg("%s", err.text);
        snprintf(base, sizeof base, "%s/base", folder);
        assert_int_equal(access(base, F_OK), 0);
        again = start_image(image, NULL);
        assert_int_equal(number(again, "wc -l </xs"), i + 1);
        sm_vm_free(again);
        sm_image_free(image);
    }
    sm_vm_free(clone);
}

/* Another process, which then can do without this one. */
static void test_another_process(void **state)
{
    struct fixture *f = *state;
    struct sm_error err = {0};
    sm_image *image;
    int pair[2], status;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    pid_t child = fork();
    if (child == 0) {
        struct sm_store_config config = SM_STORE_CONFIG_INIT;
        sm_store *store;
        sm_vm *vm;
        char byte;
        fixture_config(f, &config);
        close(pair[0]);
        if (sm_store_open(&config, &store, &err) || sm_image_receive(store, pair[1], &image, &err))
            _exit(1);
        if (read(pair[1], &byte, 1) != 0) /* until the other one is gone */
            _exit(2);
        _exit(sm_vm_start(image, NULL, &vm, &err) ? 3 : number(vm, "cat /x") != 7);
    }
    close(pair[1]);
    sm_vm *vm = start(f, NULL);
    assert_int_equal(number(vm, "echo 7 >/x; cat /x"), 7);
    assert_int_equal(sm_image_from_vm(vm, &image, NULL, &err), 0);
    sm_vm_free(vm);
    assert_int_equal(sm_image_send(image, pair[0], &err), 0);
    sm_image_free(image);
    close(pair[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* Workers whose command line has a file of this store in it; *last: one of them. */
static int count_workers(const struct fixture *f, pid_t *last)
{
    char path[64], line[4096];
    int found = 0;
    DIR *proc = opendir("/proc");
    assert_non_null(proc);
    for (struct dirent *d; (d = readdir(proc));) {
        snprintf(path, sizeof path, "/proc/%.20s/cmdline", d->d_name);
        FILE *file = d->d_name[0] >= '1' && d->d_name[0] <= '9' ? fopen(path, "re") : NULL;
        if (!file)
            continue;
        size_t len = fread(line, 1, sizeof line, file);
        fclose(file);
        if (!memmem(line, len, f->home, strlen(f->home)) || !memmem(line, len, "-vmm", 4))
            continue;
        *last = atoi(d->d_name);
        found++;
    }
    closedir(proc);
    return found;
}

/* A kill of the process that has a VM and its clones leaves no process and no file. */
static void test_killed(void **state)
{
    struct fixture *f = *state;
    struct sm_error err = {0};
    int pair[2], status;
    char byte;
    pid_t worker;
    assert_int_equal(pipe(pair), 0);
    pid_t child = fork();
    if (child == 0) {
        struct sm_store_config config = SM_STORE_CONFIG_INIT;
        sm_store *store;
        sm_image *image;
        sm_vm *vm, *clones[2];
        fixture_config(f, &config);
        if (sm_store_open(&config, &store, &err) ||
            sm_image_from_oci(store, "busybox", &image, &err) ||
            sm_vm_start(image, NULL, &vm, &err) || sm_vm_fork(vm, NULL, 2, clones, NULL, &err) ||
            write(pair[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(pair[1]);
    assert_int_equal(read(pair[0], &byte, 1), 1);
    assert_int_equal(count_workers(f, &worker), 3);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    for (int i = 0; i < 400 && count_workers(f, &worker); i++)
        usleep(50000);
    assert_int_equal(count_workers(f, &worker), 0);
    assert_int_equal(count_temp_files(f), 0);
    close(pair[0]);
}

/* A VM whose process can write no more than 4 MiB into a file is neither forked nor saved; it goes
 * on, and nothing is left of the attempt. */
static void test_cannot_be_written(void **state)
{
    struct fixture *f = *state;
    const struct rlimit few = {.rlim_cur = 4 << 20, .rlim_max = 4 << 20};
    struct sm_error err = {0};
    char folder[128], parent[96], line[16];
    sm_vm *vm = start(f, NULL), *clone;
    pid_t worker;
    assert_int_equal(count_workers(f, &worker), 1);
    assert_int_equal(prlimit(worker, RLIMIT_FSIZE, &few, NULL), 0);
    line_of(vm, "head -c 6000000 /dev/urandom >/x", line, sizeof line);
    snprintf(parent, sizeof parent, "%s/full", f->home);
    snprintf(folder, sizeof folder, "%s/it", parent);
    assert_int_equal(mkdir(parent, 0700), 0);
    int fds = count_fds();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sm_vm_fork(vm, NULL, 1, &clone, NULL, &err), SM_EIO);
        assert_non_null(strstr(err.text, "cannot write the guest's memory"));
        assert_null(clone);
        assert_int_equal(sm_vm_snapshot(vm, folder, NULL, &err), SM_EIO);
        assert_non_null(strstr(err.text, "cannot write the guest's memory"));
        line_of(vm, "wc -c </x", line, sizeof line);
        assert_string_equal(line, "6000000");
    }
    assert_int_equal(count_fds(), fds);
    assert_int_equal(count_temp_files(f), 0);
    assert_int_equal(rmdir(parent), 0); /* it is empty */
    sm_vm_free(vm);
}

static void test_bad_messages(void **state)
{
    struct fixture *f = *state;
    struct sm_error err = {0};
    sm_image *image;
    int pair[2], fds = count_fds();
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(sm_image_send(f->image, pair[0], &err), SM_EINVAL);
    assert_non_null(strstr(err.text, "snapshot"));
    assert_int_equal(write(pair[0], "SMIMAGE1", 9), 9); /* without descriptors */
    assert_int_equal(sm_image_receive(f->store, pair[1], &image, &err), SM_ECORRUPT);
    assert_int_equal(write(pair[0], "SMI", 3), 3);
    assert_int_equal(sm_image_receive(f->store, pair[1], &image, &err), SM_ECORRUPT);
    assert_null(image);
    for (int n = 1; n <= 4; n++) { /* of this program, a socket and nothing else that fits */
        char text[] = "SMIMAGE1", room[CMSG_SPACE(4 * sizeof(int))] = {0};
        struct iovec part = {text, sizeof text};
        struct msghdr msg = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room};
        int files[4] = {pair[0], pair[0], pair[0], pair[0]};
        msg.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
        memcpy(CMSG_DATA(c), files, (size_t)n * sizeof(int));
        assert_int_equal(sendmsg(pair[0], &msg, 0), sizeof text);
        assert_int_equal(sm_image_receive(f->store, pair[1], &image, &err), SM_ECORRUPT);
    }
    close(pair[0]);
    assert_int_equal(sm_image_receive(f->store, pair[1], &image, &err), SM_ECORRUPT);
    close(pair[1]);
    assert_int_equal(count_fds(), fds);
}

static void test_refusals(void **state)
{
    struct fixture *f = *state;
    struct sm_volume volume = SM_VOLUME_INIT;
    const struct sm_volume *const volumes[] = {&volume, NULL};
    struct sm_vm_config config = SM_VM_CONFIG_INIT;
    struct sm_error err = {0};
    sm_vm *clones[2];
    volume.source = f->home;
    volume.path = "/data";
    config.volumes = volumes;
    sm_vm *vm = start(f, &config);
    assert_int_equal(sm_vm_fork(vm, NULL, 2, clones, NULL, &err), SM_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "shared folders"));
    assert_null(clones[0]);
    sm_vm_free(vm);

    vm = start(f, NULL);
    config.volumes = NULL;
    config.memory_mib = 512; /* which a clone cannot have: nothing is started */
    assert_int_equal(sm_vm_fork(vm, &config, 2, clones, NULL, &err), SM_EINVAL);
    assert_true(!clones[0] && !clones[1]);
    assert_int_equal(sm_vm_wait(vm, 0, &err), SM_ETIMEDOUT);
    sm_vm_stop(vm);
    assert_int_equal(sm_vm_wait(vm, -1, &err), 0);
    assert_int_equal(sm_vm_fork(vm, NULL, 1, clones, NULL, &err), SM_EINTR);
    sm_vm_free(vm);
    assert_int_equal(count_temp_files(f), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clones),
        cmocka_unit_test(test_starts_at_once),
        cmocka_unit_test(test_command_under_way),
        cmocka_unit_test(test_image),
        cmocka_unit_test(test_another_process),
        cmocka_unit_test(test_snapshot_of_a_clone),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_cannot_be_written),
        cmocka_unit_test(test_bad_messages),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

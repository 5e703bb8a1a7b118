// SPDX-License-Identifier: Apache-2.0
/*
 * Snapshots of a VM that is busy: streams with data both ways, a console that is flooded, four
 * processors that spin, an armed timer, a disk with 128 requests in flight. The VM does not notice,
 * and each clone goes on rightly. 5 of each; SM_LONG=1: 50.
 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "api_fixture.h"

#define PATIENCE_S 120
#define BLOCK 16384
#define CPUS 4

struct busy {
    struct fixture f;
    unsigned rounds;
};

static int set_up(void **state)
{
    static struct busy b;
    *state = &b;
    b.rounds = getenv("SM_LONG") ? 50 : 5;
#ifdef __SANITIZE_ADDRESS__ /* which makes four spinning processors slow */
    b.rounds = 2;
#endif
    return fixture_open(&b.f);
}

static int tear_down(void **state)
{
    struct busy *b = *state;
    return fixture_close(&b->f);
}

/* ---- a VM and its clones ---- */

static void on_console(void *opaque, const void *data, size_t len)
{
    atomic_fetch_add((_Atomic uint64_t *)opaque, len);
}

/* Start from an image, with its console's bytes counted unless count is NULL. */
static sm_vm *start_counted(sm_image *image, unsigned cpus, _Atomic uint64_t *count)
{
    struct sm_vm_config config = SM_VM_CONFIG_INIT;
    config.vcpus = cpus;
    config.console = count ? on_console : NULL;
    config.console_opaque = (void *)count;
    return start_image(image, &config);
}

static void shell(sm_vm *vm, const char *command)
{
    struct sm_output out;
    output(vm, command, &out);
    if (out.outcome.code != 0)
        fail_msg("%s: %d %s", command, out.outcome.code, out.err);
    sm_output_fini(&out);
}

static double number(sm_vm *vm, const char *command)
{
    struct sm_output out;
    double n = -1;
    output(vm, command, &out);
    sscanf(out.out, "%lf", &n);
    sm_output_fini(&out);
    return n;
}

/* Wait until what the command prints is more than before. */
static void expect_grows(sm_vm *vm, const char *command)
{
    double before = number(vm, command), now = before;
    for (int i = 0; i < PATIENCE_S * 10 && now <= before; i++) {
        usleep(100000);
        now = number(vm, command);
    }
    if (now <= before)
        fail_msg("%s: %f, and it does not grow", command, now);
}

/* A clone of the VM as it is now. */
static sm_vm *clone_of(struct busy *b, sm_vm *vm, _Atomic uint64_t *count)
{
    char folder[96], command[128];
    struct sm_error err = {0};
    sm_image *image;
    snprintf(folder, sizeof folder, "%s/busy", b->f.home);
    if (sm_vm_snapshot(vm, folder, NULL, &err) != 0 ||
        sm_image_from_snapshot(b->f.store, folder, &image, &err) != 0)
        fail_msg("%s", err.text);
    sm_vm *clone = start_counted(image, 0, count);
    sm_image_free(image);
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
    return clone;
}

/* ---- streams ---- */

/* Bytes of which none repeats where a lost or doubled block would put it. */
static uint8_t byte_at(uint64_t at)
{
    return (uint8_t)((at * 0x9e3779b97f4a7c15ull) >> 40);
}

struct pump {
    int in, out; /* what the guest's cat reads from, and writes to */
    pthread_t threads[2];
    atomic_bool stop;
    _Atomic uint64_t written, read;
    atomic_bool wrong;
};

static void *write_all(void *opaque)
{
    struct pump *p = opaque;
    uint8_t block[BLOCK];
    while (!atomic_load(&p->stop)) {
        uint64_t at = atomic_load(&p->written);
        for (unsigned i = 0; i < BLOCK; i++)
            block[i] = byte_at(at + i);
        for (size_t done = 0; done < BLOCK;) {
            ssize_t n = write(p->in, block + done, BLOCK - done);
            if (n <= 0)
                return NULL;
            done += (size_t)n;
            atomic_fetch_add(&p->written, (uint64_t)n);
        }
    }
    return NULL;
}

static void *read_all(void *opaque)
{
    struct pump *p = opaque;
    uint8_t block[BLOCK];
    ssize_t n;
    while ((n = read(p->out, block, BLOCK)) > 0) {
        uint64_t at = atomic_load(&p->read);
        for (ssize_t i = 0; i < n; i++)
            if (block[i] != byte_at(at + (uint64_t)i))
                atomic_store(&p->wrong, true);
        atomic_fetch_add(&p->read, (uint64_t)n);
    }
    return NULL;
}

/* More goes through, by at least a few windows. */
static void expect_flows(struct pump *p)
{
    uint64_t before = atomic_load(&p->read);
    for (int i = 0; i < PATIENCE_S * 100 && atomic_load(&p->read) < before + (1u << 20); i++)
        usleep(10000);
    assert_true(atomic_load(&p->read) >= before + (1u << 20));
    assert_false(atomic_load(&p->wrong));
}

static void *wait_for_exec(void *opaque)
{
    struct sm_outcome outcome;
    return (void *)(intptr_t)(sm_exec_wait(opaque, -1, &outcome, NULL) || outcome.code != 0);
}

/* Its stream is gone in the clone: the agent ends the command that hung on it. */
static void expect_no_cat(sm_vm *clone)
{
    shell(clone,
          "i=0; while pidof cat && [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done; ! pidof cat");
}

static void test_streams(void **state)
{
    static const char *const argv[] = {"cat", NULL};
    struct busy *b = *state;
    struct sm_exec_spec spec = SM_EXEC_SPEC_INIT;
    struct sm_error err = {0};
    struct pump p = {0};
    sm_exec *exec;
    pthread_t waiter;
    void *failed;
    int in[2], out[2];
    sm_vm *vm = start(&b->f, NULL);
    assert_int_equal(pipe(in) | pipe(out), 0);
    p.in = in[1];
    p.out = out[0];
    spec.argv = argv;
    spec.stdin_fd = in[0];
    spec.stdout_fd = out[1];
    if (sm_exec_start(vm, &spec, &exec, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(pthread_create(&waiter, NULL, wait_for_exec, exec), 0);
    assert_int_equal(pthread_create(&p.threads[0], NULL, write_all, &p), 0);
    assert_int_equal(pthread_create(&p.threads[1], NULL, read_all, &p), 0);
    expect_flows(&p);
    for (unsigned i = 0; i < b->rounds; i++) {
        sm_vm *clone = clone_of(b, vm, NULL);
        expect_no_cat(clone);
        sm_vm_free(clone);
        expect_flows(&p);
    }
    atomic_store(&p.stop, true);
    pthread_join(p.threads[0], NULL);
    close(in[1]);
    pthread_join(waiter, &failed);
    assert_null(failed);
    close(out[1]);
    pthread_join(p.threads[1], NULL);
    assert_false(atomic_load(&p.wrong));
    assert_true(atomic_load(&p.read) == atomic_load(&p.written));
    sm_exec_free(exec);
    close(in[0]);
    close(out[0]);
    sm_vm_free(vm);
}

/* ---- console, timer ---- */

static void expect_flood(_Atomic uint64_t *count)
{
    uint64_t before = atomic_load(count);
    for (int i = 0; i < PATIENCE_S * 100 && atomic_load(count) < before + 20000; i++)
        usleep(10000);
    assert_true(atomic_load(count) >= before + 20000);
}

static void test_console(void **state)
{
    struct busy *b = *state;
    _Atomic uint64_t count = 0, cloned = 0;
    sm_vm *vm = start_counted(b->f.image, 1, &count);
    shell(vm, "yes 'the console is flooded' >/dev/console 2>&1 </dev/null &");
    expect_flood(&count);
    for (unsigned i = 0; i < b->rounds; i++) {
        sm_vm *clone = clone_of(b, vm, &cloned);
        expect_flood(&cloned);
        expect_flood(&count);
        shell(clone, "pidof yes");
        sm_vm_free(clone);
    }
    sm_vm_free(vm);
}

/* The sleep takes two seconds of the guest's own time, of which some pass before the snapshot and
 * the rest in each that goes on from it. */
static void expect_fires(sm_vm *vm)
{
    shell(vm, "i=0; until [ -s /fired ] || [ $i -ge 600 ]; do sleep 0.1; i=$((i+1)); done");
    double slept = number(vm, "cat /fired") - number(vm, "cat /armed");
    if (slept < 1.99 || slept > 10) /* /proc/uptime counts hundredths */
        fail_msg("a sleep of 2 s took %f s", slept);
}

static void test_timer(void **state)
{
    struct busy *b = *state;
    sm_vm *vm = start(&b->f, NULL);
    for (unsigned i = 0; i < b->rounds; i++) {
        shell(vm, "rm -f /fired; (cut -d' ' -f1 /proc/uptime >/armed; sleep 2;"
                  "cut -d' ' -f1 /proc/uptime >/fired) >/dev/null 2>&1 </dev/null &");
        usleep(200000 * (i % 5));
        sm_vm *clone = clone_of(b, vm, NULL);
        expect_fires(clone);
        sm_vm_free(clone);
        expect_fires(vm);
    }
    sm_vm_free(vm);
}

/* ---- processors ---- */

static void test_processors(void **state)
{
    struct busy *b = *state;
    char command[CPUS][32];
    sm_vm *vm = start_counted(b->f.image, CPUS, NULL);
    for (int cpu = 0; cpu < CPUS; cpu++) {
        char spin[256];
        snprintf(command[cpu], sizeof command[cpu], "tail -n 1 /spin%d", cpu);
        snprintf(
            spin, sizeof spin,
            "taskset -c %d sh -c 'i=0; while :; do i=$((i+1)); [ $((i %% 2000)) = 0 ] && echo $i "
            ">>/spin%d; done' >/dev/null 2>&1 </dev/null &",
            cpu, cpu);
        shell(vm, spin);
    }
    for (int cpu = 0; cpu < CPUS; cpu++)
        expect_grows(vm, command[cpu]);
    for (unsigned i = 0; i < b->rounds; i++) {
        sm_vm *clone = clone_of(b, vm, NULL);
        for (int cpu = 0; cpu < CPUS; cpu++)
            expect_grows(clone, command[cpu]);
        sm_vm_free(clone);
        expect_grows(vm, command[i % CPUS]);
    }
    sm_vm_free(vm);
}

/* ---- disks ---- */

/* What the blk device's queue was like when this snapshot of a VM that had booted was taken: how
 * many requests the guest had made that the device had not taken yet. docs/formats/snapshot.md,
 * mmio_walk() and VIRTIO 1.2 section 2.7.6. */
static unsigned waiting_requests(const char *folder)
{
    enum { HEADER = 48, SECTION = 56, DEVICE = 12, AVAIL = 60, NEXT_AVAIL = 79, LEN = 85 };
    static uint8_t state[1 << 20];
    char path[128];
    uint16_t made, taken;
    uint64_t avail, device;
    uint32_t len;
    snprintf(path, sizeof path, "%s/state", folder);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = read(fd, state, sizeof state);
    close(fd);
    for (ssize_t at = HEADER; at + SECTION < size; at += SECTION + len) {
        const uint8_t *body = state + at + SECTION;
        memcpy(&len, state + at + 20, sizeof len);
        memcpy(&device, body + DEVICE, sizeof device);
        if (strncmp((char *)state + at, "mmio", 4) != 0 || device != 2)
            continue;
        assert_int_equal(len, LEN);
        memcpy(&avail, body + AVAIL, sizeof avail);
        memcpy(&taken, body + NEXT_AVAIL, sizeof taken);
        snprintf(path, sizeof path, "%s/ram", folder);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_int_equal(pread(fd, &made, sizeof made, (off_t)avail + 2), sizeof made);
        close(fd);
        return (uint16_t)(made - taken);
    }
    fail_msg("%s has no disk", folder);
    return 0;
}

static void send_program(sm_vm *vm, const char *from, const char *to)
{
    struct sm_file_spec spec = SM_FILE_SPEC_INIT;
    struct sm_error err = {0};
    spec.path = to;
    spec.mode = 0755;
    spec.fd = open(from, O_RDONLY | O_CLOEXEC);
    assert_true(spec.fd >= 0);
    if (sm_vm_write_file(vm, &spec, 60000, &err) != 0)
        fail_msg("%s", err.text);
    close(spec.fd);
}

/* It booted, so that its snapshots have all of its memory, with a disk at /data. */
static sm_vm *start_with_disk(struct busy *b)
{
    struct sm_volume volume = SM_VOLUME_INIT;
    const struct sm_volume *const list[] = {&volume, NULL};
    struct sm_vm_config config = SM_VM_CONFIG_INIT;
    volume.source = "busy";
    volume.path = "/data";
    config.volumes = list;
    config.snapshots = SM_SNAPSHOTS_NEVER;
    return start_image(b->f.image, &config);
}

/* The only child of this process that there is: the VM's. */
static pid_t find_worker(void)
{
    char path[64], text[512];
    pid_t found = 0;
    DIR *proc = opendir("/proc");
    for (struct dirent *d; !found && (d = readdir(proc));) {
        int parent = 0;
        snprintf(path, sizeof path, "/proc/%.20s/stat", d->d_name);
        FILE *file = d->d_name[0] >= '1' && d->d_name[0] <= '9' ? fopen(path, "re") : NULL;
        if (file && fgets(text, sizeof text, file) && strrchr(text, ')'))
            sscanf(strrchr(text, ')') + 1, " %*c %d", &parent);
        if (file)
            fclose(file);
        found = parent == getpid() ? atoi(d->d_name) : 0;
    }
    closedir(proc);
    return found;
}

/* As a slow disk would have it: the thread that answers requests gets what the guest's processor
 * leaves of the one that both run on, so that requests wait. */
static void slow_down(pid_t worker)
{
    char path[96], name[32];
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_getaffinity(0, sizeof one, &one);
    for (int cpu = 0, seen = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &one) && seen++)
            CPU_CLR(cpu, &one);
    snprintf(path, sizeof path, "/proc/%d/task", worker);
    DIR *tasks = opendir(path);
    assert_non_null(tasks);
    for (struct dirent *d; (d = readdir(tasks));) {
        snprintf(path, sizeof path, "/proc/%d/task/%.20s/comm", worker, d->d_name);
        FILE *file = fopen(path, "re");
        bool loop = false, vcpu = false;
        if (file && fgets(name, sizeof name, file)) {
            loop = strncmp(name, "sm-loop", 7) == 0;
            vcpu = strncmp(name, "sm-vcpu", 7) == 0;
        }
        if (file)
            fclose(file);
        if (loop || vcpu)
            assert_int_equal(sched_setaffinity(atoi(d->d_name), sizeof one, &one), 0);
        if (loop)
            assert_int_equal(setpriority(PRIO_PROCESS, (id_t)atoi(d->d_name), 19), 0);
    }
    closedir(tasks);
}

/* It goes on, and then finds all on the disk that it has written, before and after. */
static void expect_verified(sm_vm *vm, bool last)
{
    struct sm_output out;
    output(vm,
           "p=$(cat /progress); i=0; until [ -s /result ] || [ $(cat /progress) -gt $p ] ||"
           "[ $i -ge 1200 ]; do sleep 0.1; i=$((i+1)); done;"
           "touch /stop; until [ -s /result ] || [ $i -ge 1200 ]; do sleep 0.1; i=$((i+1)); done;"
           "cat /result",
           &out);
    if (strncmp(out.out, "OK 1024 blocks", 14) != 0 || !strstr(out.out, "128 in flight"))
        fail_msg("\"%s\"", out.out);
    if (last)
        print_message("%s", out.out);
    sm_output_fini(&out);
}

/* 128 requests in flight: the program sees to that, and each clone goes on with those that were. */
static void test_disk(void **state)
{
    struct busy *b = *state;
    struct sm_snapshot_info info;
    struct sm_error err = {0};
    unsigned sum = 0, most = 0, rounds = 0, done = 0;
    uint64_t pause_ns = 0;
    char folder[96], command[128];
    sm_image *image;
    if (access("/sbin/mke2fs", X_OK) != 0 && access("/usr/sbin/mke2fs", X_OK) != 0) {
        print_message("SKIP disks: no mke2fs\n");
        skip();
    }
    snprintf(folder, sizeof folder, "%s/disk", b->f.home);
    snprintf(command, sizeof command, "rm -r %s", folder);
    sm_vm *vm = start_with_disk(b);
    slow_down(find_worker());
    send_program(vm, getenv("SM_DISK_LOAD"), "/disk_load");
    /* So that copying takes as long as many requests do. */
    shell(vm, "head -c 50000000 /dev/urandom >/data/first; sync; echo 3 >/proc/sys/vm/drop_caches");
    shell(vm, "/disk_load /data/f / >/dev/null 2>&1 </dev/null &");
    expect_grows(vm, "cat /progress");
    for (; done < b->rounds || (!rounds && done < b->rounds + 20); done++) {
        if (sm_vm_snapshot(vm, folder, &info, &err) != 0 ||
            sm_image_from_snapshot(b->f.store, folder, &image, &err) != 0)
            fail_msg("%s", err.text);
        unsigned waiting = waiting_requests(folder);
        sm_vm *clone = start_image(image, NULL);
        sm_image_free(image);
        assert_int_equal(system(command), 0);
        expect_verified(clone, done == 0);
        sm_vm_free(clone);
        expect_grows(vm, "cat /progress");
        sum += waiting;
        most = waiting > most ? waiting : most;
        rounds += waiting > 0;
        pause_ns = info.pause_ns > pause_ns ? info.pause_ns : pause_ns;
    }
    expect_verified(vm, true);
    print_message(
        "%u snapshots: in %u of them requests waited for the device, %u on average, at most "
        "%u; longest pause %.1f ms\n",
        done, rounds, sum / done, most, (double)pause_ns / 1e6);
    assert_true(rounds > 0);
    sm_vm_free(vm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streams), cmocka_unit_test(test_console),
        cmocka_unit_test(test_timer),   cmocka_unit_test(test_processors),
        cmocka_unit_test(test_disk),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

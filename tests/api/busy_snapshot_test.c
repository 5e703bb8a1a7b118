// SPDX-License-Identifier: Apache-2.0
/*
 * Snapshots of a VM that is busy: streams with data both ways, a console that is flooded, four
 * processors that spin, an armed timer, a disk in use. The VM does not notice, and each clone goes
 * on rightly. 5 of each; SM_LONG=1: 50.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

/* What is on a disk would not be what memory says: refused, and what reads goes on. Requests in
 * flight are waited for in any case (vm_pause). */
static void test_disk(void **state)
{
    struct busy *b = *state;
    struct sm_volume volume = SM_VOLUME_INIT;
    const struct sm_volume *const list[] = {&volume, NULL};
    struct sm_vm_config config = SM_VM_CONFIG_INIT;
    struct sm_output out;
    struct sm_error err = {0};
    char folder[96];
    if (access("/sbin/mke2fs", X_OK) != 0 && access("/usr/sbin/mke2fs", X_OK) != 0) {
        print_message("SKIP disks: no mke2fs\n");
        skip();
    }
    volume.source = "busy";
    volume.path = "/data";
    config.volumes = list;
    sm_vm *vm = start_image(b->f.image, &config);
    shell(vm,
          "head -c 8000000 /dev/urandom >/data/f; sync; md5sum </data/f >/sum; "
          "(while :; do echo 3 >/proc/sys/vm/drop_caches; md5sum </data/f | cmp - /sum || echo bad "
          ">>/bad; echo 1 >>/read; done) >/dev/null 2>&1 </dev/null &");
    expect_grows(vm, "wc -l </read");
    snprintf(folder, sizeof folder, "%s/refused", b->f.home);
    for (unsigned i = 0; i < b->rounds; i++) {
        assert_int_equal(sm_vm_snapshot(vm, folder, NULL, &err), SM_EUNSUPPORTED);
        assert_non_null(strstr(err.text, "volumes"));
        assert_int_equal(access(folder, F_OK), -1);
        expect_grows(vm, "wc -l </read");
    }
    output(vm, "ls /bad 2>/dev/null", &out);
    assert_string_equal(out.out, "");
    sm_output_fini(&out);
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

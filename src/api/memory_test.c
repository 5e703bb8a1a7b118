// SPDX-License-Identifier: Apache-2.0
/* Memory that a guest does not need any more is soon the host's again, however the VM was started.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "api_fixture.h"

#define FREED_MIB 128
#define BACK_MS 5000

static int parent_of(const char *pid)
{
    char path[64], line[512] = "";
    int parent = 0;
    snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    FILE *f = fopen(path, "re");
    if (f && fgets(line, sizeof line, f) && strrchr(line, ')'))
        sscanf(strrchr(line, ')') + 1, " %*c %d", &parent);
    if (f)
        fclose(f);
    return parent;
}

/* What the VM's process, the only child of this one, has written: not what it shares with a file.
 */
static long vm_mib(void)
{
    long kib = 0, n;
    DIR *proc = opendir("/proc");
    assert_non_null(proc);
    for (struct dirent *d; (d = readdir(proc));) {
        char path[64], line[256];
        if (atoi(d->d_name) <= 0 || parent_of(d->d_name) != getpid())
            continue;
        snprintf(path, sizeof path, "/proc/%.20s/smaps_rollup", d->d_name);
        FILE *f = fopen(path, "re");
        while (f && fgets(line, sizeof line, f))
            if (sscanf(line, "Private_Dirty: %ld kB", &n) == 1)
                kib += n;
        if (f)
            fclose(f);
    }
    closedir(proc);
    return kib / 1024;
}

static void run(sm_vm *vm, const char *text)
{
    struct sm_output out;
    output(vm, text, &out);
    assert_int_equal(out.outcome.code, 0);
    sm_output_fini(&out);
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void frees(struct fixture *f, uint32_t snapshots)
{
    struct sm_vm_config config = SM_VM_CONFIG_INIT;
    config.snapshots = snapshots;
    sm_vm *vm = start(f, &config);
    run(vm, "mkdir /ram && mount -t tmpfs -o size=200m none /ram && cd /ram && "
            "head -c 8m /dev/urandom > kept && md5sum kept > sum");
    for (int round = 0; round < 2; round++) { /* what came back can be used again */
        long before = vm_mib(), full, now = 0;
        run(vm, "head -c 128m /dev/zero > /ram/big");
        full = vm_mib();
        assert_true(full >= before + FREED_MIB - 16);
        run(vm, "rm /ram/big");
        for (int64_t end = now_ms() + BACK_MS; now_ms() < end; usleep(100000))
            if ((now = vm_mib()) <= full - FREED_MIB * 95 / 100)
                break;
        print_message("%ld MiB, %ld with the file, %ld after it\n", before, full, now);
        assert_true(now <= full - FREED_MIB * 95 / 100);
    }
    run(vm, "cd /ram && md5sum -c sum"); /* and what did not, is still there */
    sm_vm_free(vm);
}

static void test_booted(void **state)
{
    frees(*state, SM_SNAPSHOTS_NEVER);
}

static void test_restored(void **state)
{
    struct fixture *f = *state;
    struct sm_error err = {0};
    char *folder;
    assert_int_equal(sm_image_bake(f->image, NULL, &folder, &err), 0);
    sm_free(folder);
    frees(f, SM_SNAPSHOTS_AUTO);
}

/* What every VM that boots this image has, each does not have for itself, once there is a snapshot;
 * and it can be saved like another. */
static void test_shared(void **state)
{
    struct fixture *f = *state;
    struct sm_vm_config config = SM_VM_CONFIG_INIT;
    struct sm_error err = {0};
    sm_image *image;
    char path[96];
    config.snapshots = SM_SNAPSHOTS_NEVER;
    config.memory_mib = 128; /* there is none of such a machine yet */
    sm_vm *alone = start(f, &config);
    long own = vm_mib();
    sm_vm_free(alone);
    config.snapshots = SM_SNAPSHOTS_AUTO;
    sm_vm_free(start(f, &config));
    config.snapshots = SM_SNAPSHOTS_NEVER;
    sm_vm *vm = start(f, &config);
    long shared = vm_mib();
    print_message("%ld MiB alone, %ld shared\n", own, shared);
    assert_true(shared <= own - 20);
    run(vm, "head -c 4m /dev/urandom > /kept && md5sum /kept > /sum && md5sum -c /sum");
    snprintf(path, sizeof path, "%s/saved", f->home);
    if (sm_vm_snapshot(vm, path, NULL, &err) ||
        sm_image_from_snapshot(f->store, path, &image, &err))
        fail_msg("%s", err.text);
    run(vm, "md5sum -c /sum");
    sm_vm_free(vm);
    vm = start_image(image, NULL);
    run(vm, "md5sum -c /sum && busybox sha256sum /bin/busybox && ls -lR /proc/sys >/dev/null; :");
    run(vm, "md5sum -c /sum");
    sm_vm_free(vm);
    sm_image_free(image);
}

/* Nor does a guest that has come to rest keep what the software CPU made of its code. */
static void test_rests(void **state)
{
    struct fixture *f = *state;
    struct sm_vm_config config = SM_VM_CONFIG_INIT;
    long before, now = 0;
    config.engine = SM_ENGINE_SOFT;
    sm_vm *vm = start(f, &config);
    run(vm, "busybox --list | head -n 60 | while read n; do $n --help; done >/dev/null 2>&1; :");
    before = vm_mib();
    for (int64_t end = now_ms() + 4 * BACK_MS; now_ms() < end; usleep(100000))
        if ((now = vm_mib()) <= before - 4)
            break;
    print_message("%ld MiB, %ld at rest\n", before, now);
    assert_true(now <= before - 4);
    run(vm, "echo 1 | sha256sum");
    sm_vm_free(vm);
}

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_booted),
        cmocka_unit_test(test_restored),
        cmocka_unit_test(test_shared),
        cmocka_unit_test(test_rests),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

// SPDX-License-Identifier: Apache-2.0
/*
 * Snapshots as an application uses them, with real VMs: what goes on, what is new in each clone,
 * and what a damaged snapshot does.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "api_fixture.h"

#define CLONES 6

struct baked {
    struct fixture base;
    char *folder; /* a snapshot that counts in the background */
    sm_image *snapshot;
};

static const char ticker[] =
    "mkfifo /hold; (i=0; while [ $i -lt 100000 ]; do echo $i > /count; i=$((i+1)); sleep 0.05; "
    "done) >/dev/null 2>&1 </dev/null & (sleep 1; echo woke > /woke) >/dev/null 2>&1 </dev/null &";

static int set_up(void **state)
{
    static struct baked f;
    const char *const warmup[] = {ticker, NULL};
    struct sm_bake_config bake = SM_BAKE_CONFIG_INIT;
    struct sm_error err = {0};
    *state = &f;
    if (fixture_open(&f.base))
        return -1;
    bake.warmup = warmup;
    if (sm_image_bake(f.base.image, &bake, &f.folder, &err) ||
        sm_image_from_snapshot(f.base.store, f.folder, &f.snapshot, &err)) {
        print_error("%s\n", err.text);
        return -1;
    }
    return 0;
}

static int tear_down(void **state)
{
    struct baked *f = *state;
    sm_image_free(f->snapshot);
    sm_free(f->folder);
    return fixture_close(&f->base);
}

/* What a shell command prints, which is its only line or part of one. */
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

/* Processes that ran, and one that slept, go on; the clock is right, and uptime goes on. */
static void test_goes_on(void **state)
{
    struct baked *f = *state;
    char line[64];
    sm_vm *vm = start_image(f->snapshot, NULL);
    int64_t now = number(vm, "date +%s"), host = time(NULL);
    assert_in_range(now, host - 2, host + 2);
    int64_t a = number(vm, "cat /count"), up = number(vm, "cut -d. -f1 /proc/uptime");
    usleep(1500000);
    int64_t b = number(vm, "cat /count");
    assert_true(b > a + 5);
    line_of(vm, "cat /woke", line, sizeof line);
    assert_string_equal(line, "woke");
    assert_in_range(number(vm, "cut -d. -f1 /proc/uptime"), up + 1, up + 30);
    sm_vm_free(vm);
}

/* A sleep in a fresh clone takes what it should. */
static void test_timers(void **state)
{
    struct baked *f = *state;
    struct timespec t0, t1;
    sm_vm *vm = start_image(f->snapshot, NULL);
    clock_gettime(CLOCK_MONOTONIC, &t0);
    int64_t took = number(vm, "a=$(date +%s); sleep 1; b=$(date +%s); echo $((b-a))");
    clock_gettime(CLOCK_MONOTONIC, &t1);
    assert_in_range(took, 1, 3);
    assert_true(t1.tv_sec - t0.tv_sec >= 1 || t1.tv_nsec > t0.tv_nsec);
    sm_vm_free(vm);
}

/* What must differ from clone to clone. */
static void test_identity(void **state)
{
    static const char *const sources[] = {
        "head -c 16 /dev/urandom | sha256sum",
        "cat /proc/sys/kernel/random/boot_id",
        "cat /proc/sys/kernel/random/uuid",
        "hostname",
        "cat /etc/machine-id",
        "mktemp -u",
    };
    static char seen[CLONES][sizeof sources / sizeof sources[0]][80];
    struct baked *f = *state;
    for (int i = 0; i < CLONES; i++) {
        sm_vm *vm = start_image(f->snapshot, NULL);
        for (size_t s = 0; s < sizeof sources / sizeof sources[0]; s++) {
            line_of(vm, sources[s], seen[i][s], sizeof seen[i][s]);
            assert_true(seen[i][s][0]);
            for (int j = 0; j < i; j++)
                assert_string_not_equal(seen[i][s], seen[j][s]);
        }
        sm_vm_free(vm);
    }
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

static uint64_t own_kib(void)
{
    char line[128];
    unsigned long kib = 0;
    FILE *f = fopen("/proc/self/smaps_rollup", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "Private_Dirty: %lu kB", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib;
}

/* Restores leave nothing behind: no descriptor, no memory. */
static void test_many(void **state)
{
    struct baked *f = *state;
    int rounds = getenv("SM_RESTORES") ? atoi(getenv("SM_RESTORES")) : 12;
    uint64_t kib = 0;
    int fds = 0;
    for (int i = 0; i < rounds; i++) {
        sm_vm *vm = start_image(f->snapshot, NULL);
        assert_int_equal(number(vm, "echo $((6*7))"), 42);
        sm_vm_free(vm);
        if (i == 4) {
            kib = own_kib();
            fds = count_fds();
        }
    }
    assert_int_equal(count_fds(), fds);
#ifdef __SANITIZE_ADDRESS__ /* which keeps freed memory for a while */
    print_message("SKIP memory after restores: built with a sanitizer (then %llu KiB)\n",
                  (unsigned long long)kib);
#else
    assert_true(own_kib() <= kib + kib / 100 + 512);
#endif
}

/* Clones see each other's writes as little as the file does. */
static void test_copy_on_write(void **state)
{
    struct baked *f = *state;
    char path[256], line[64];
    struct stat before, after;
    snprintf(path, sizeof path, "%s/ram", f->folder);
    assert_int_equal(stat(path, &before), 0);
    sm_vm *a = start_image(f->snapshot, NULL), *b = start_image(f->snapshot, NULL);
    line_of(a, "dd if=/dev/urandom of=/big bs=1M count=50 2>/dev/null; echo a > /who", line,
            sizeof line);
    line_of(b, "echo b > /who; cat /who", line, sizeof line);
    assert_string_equal(line, "b");
    line_of(a, "cat /who", line, sizeof line);
    assert_string_equal(line, "a");
    sm_vm_free(a);
    line_of(b, "ls /big 2>/dev/null; cat /who", line, sizeof line);
    assert_string_equal(line, "b");
    sm_vm_free(b);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
    assert_int_equal(before.st_blocks, after.st_blocks);
}

/* The folder may go while a VM runs from it. */
static void test_folder_goes(void **state)
{
    struct baked *f = *state;
    char copy[96], command[512];
    struct sm_error err = {0};
    sm_image *image;
    snprintf(copy, sizeof copy, "%s/copy", f->base.home);
    snprintf(command, sizeof command, "cp -r --sparse=always %s %s", f->folder, copy);
    assert_int_equal(system(command), 0);
    assert_int_equal(sm_image_from_snapshot(f->base.store, copy, &image, &err), 0);
    sm_vm *vm = start_image(image, NULL);
    snprintf(command, sizeof command, "rm -rf %s", copy);
    assert_int_equal(system(command), 0);
    assert_int_equal(number(vm, "find / -xdev -type f | xargs cat >/dev/null 2>&1; echo 5"), 5);
    sm_vm_free(vm);
    sm_image_free(image);
    assert_int_equal(sm_image_from_snapshot(f->base.store, copy, &image, &err), SM_ENOTFOUND);
}

/* The second start of an image does not boot; what is broken in the store is made anew. */
static void test_store(void **state)
{
    struct baked *f = *state;
    struct sm_vm_config config = SM_VM_CONFIG_INIT;
    struct sm_bake_config bake = SM_BAKE_CONFIG_INIT;
    struct sm_error err = {0};
    char *folder, path[300], other[300];
    config.memory_mib = 192;
    bake.vm = &config;
    for (int round = 0; round < 3; round++) {
        sm_vm *vm;
        assert_int_equal(sm_vm_start(f->base.image, &config, &vm, &err), 0);
        assert_int_equal(number(vm, "echo 3"), 3);
        sm_vm_free(vm);
        assert_int_equal(sm_image_bake(f->base.image, &bake, &folder, &err), 0);
        snprintf(path, sizeof path, "%s/state", folder);
        snprintf(other, sizeof other, "%s/manifest.json", folder);
        sm_free(folder);
        struct stat st;
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 077, 0);
        if (round == 0) /* the next start finds it unusable, and replaces it */
            assert_int_equal(truncate(path, 100), 0);
        else
            assert_true(st.st_size > 1000);
    }
}

/* Several processes bake one image: one does the work. */
static void test_concurrent_bakes(void **state)
{
    struct baked *f = *state;
    pid_t children[8];
    for (int i = 0; i < 8; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            struct sm_store_config store_of = SM_STORE_CONFIG_INIT;
            struct sm_vm_config config = SM_VM_CONFIG_INIT;
            struct sm_bake_config bake = SM_BAKE_CONFIG_INIT;
            struct sm_error err = {0};
            sm_store *store;
            sm_image *image;
            char *folder;
            fixture_config(&f->base, &store_of);
            config.memory_mib = 128;
            bake.vm = &config;
            _exit(sm_store_open(&store_of, &store, &err) ||
                  sm_image_from_oci(store, "busybox", &image, &err) ||
                  sm_image_bake(image, &bake, &folder, &err));
        }
    }
    for (int i = 0; i < 8; i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    char path[96];
    snprintf(path, sizeof path, "%s/tmp", f->base.home);
    assert_int_equal(rmdir(path), 0); /* nothing is left there */
    assert_int_equal(mkdir(path, 0700), 0);
}

/* A folder with copies of the small files and a link to the memory, to be damaged. */
static void make_copy(const struct baked *f, char *copy, size_t size)
{
    char command[512];
    snprintf(copy, size, "%s/damaged", f->base.home);
    snprintf(command, sizeof command,
             "rm -rf %s && mkdir %s && cp %s/manifest.json %s/state %s && ln %s/ram %s/ram", copy,
             copy, f->folder, f->folder, copy, f->folder, copy);
    assert_int_equal(system(command), 0);
}

static int open_copy(const struct baked *f, const char *copy, struct sm_error *err)
{
    sm_image *image;
    int rc = sm_image_from_snapshot(f->base.store, copy, &image, err);
    sm_image_free(image);
    return rc;
}

/* Every cut and every changed bit of manifest and state is seen, before memory is read. */
static void test_damage(void **state)
{
    static const char *const names[] = {"manifest.json", "state"};
    struct baked *f = *state;
    char copy[96], path[128];
    for (int n = 0; n < 2; n++) {
        struct stat st;
        make_copy(f, copy, sizeof copy);
        snprintf(path, sizeof path, "%s/%s", copy, names[n]);
        int fd = open(path, O_RDWR);
        assert_true(fd >= 0 && fstat(fd, &st) == 0);
        for (off_t bit = 0; bit < st.st_size * 8; bit++) {
            uint8_t byte;
            assert_int_equal(pread(fd, &byte, 1, bit / 8), 1);
            byte ^= (uint8_t)(1 << bit % 8);
            assert_int_equal(pwrite(fd, &byte, 1, bit / 8), 1);
            struct sm_error err = {0};
            int rc = open_copy(f, copy, &err);
            if (rc != SM_ECORRUPT && rc != SM_EUNSUPPORTED)
                fail_msg("%s, bit %lld: %d %s", names[n], (long long)bit, rc, err.text);
            byte ^= (uint8_t)(1 << bit % 8);
            assert_int_equal(pwrite(fd, &byte, 1, bit / 8), 1);
        }
        while (st.st_size-- > 0) {
            assert_int_equal(ftruncate(fd, st.st_size), 0);
            assert_int_equal(open_copy(f, copy, NULL), SM_ECORRUPT);
        }
        close(fd);
    }
}

/* Memory that was cut, changed in one bit, or is another snapshot's. */
static void test_damaged_memory(void **state)
{
    struct baked *f = *state;
    char copy[96], path[128], command[512];
    struct sm_error err = {0};
    struct stat st;
    make_copy(f, copy, sizeof copy);
    snprintf(path, sizeof path, "%s/ram", copy);
    snprintf(command, sizeof command, "rm %s && cp --sparse=always %s/ram %s", path, f->folder,
             path);
    assert_int_equal(system(command), 0);
    assert_int_equal(open_copy(f, copy, &err), 0);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    for (int i = 0; i < 4; i++) {
        off_t at = st.st_size / 5 * i + 12345;
        uint8_t byte = 0;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 0x10;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        assert_int_equal(open_copy(f, copy, &err), SM_ECORRUPT);
        assert_non_null(strstr(err.text, "checksum"));
        byte ^= 0x10;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    for (off_t size = st.st_size - 4096; size >= 0; size -= size > 1 << 20 ? 1 << 20 : 4096) {
        assert_int_equal(ftruncate(fd, size), 0);
        assert_int_equal(open_copy(f, copy, &err), SM_ECORRUPT);
        assert_non_null(strstr(err.text, "truncated"));
    }
    close(fd);
}

/* Files of the store's folder whose names say that they are half-made snapshots. */
static int half_made(const struct baked *f)
{
    int n = 0;
    DIR *dir = opendir(f->base.home);
    assert_non_null(dir);
    for (struct dirent *d; (d = readdir(dir));)
        n += strstr(d->d_name, ".new-") != NULL;
    closedir(dir);
    return n;
}

/* A command under way does not notice, and gives all of its output. */
static void snapshot_beside_a_command(sm_vm *vm, const char *folder)
{
    const char *const argv[] = {
        "sh", "-c", "i=0; while [ $i -lt 60 ]; do echo $i; i=$((i+1)); sleep 0.02; done; exit 7",
        NULL};
    struct sm_exec_spec spec = SM_EXEC_SPEC_INIT;
    struct sm_snapshot_info info;
    struct sm_outcome outcome;
    struct sm_error err = {0};
    sm_exec *exec;
    char text[512] = "";
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    spec.argv = argv;
    spec.stdout_fd = pipes[1];
    assert_int_equal(sm_exec_start(vm, &spec, &exec, &err), 0);
    assert_int_equal(sm_exec_wait(exec, 300, &outcome, &err), SM_ETIMEDOUT);
    if (sm_vm_snapshot(vm, folder, &info, &err))
        fail_msg("%s", err.text);
    assert_true(info.pause_ns > 0);
    assert_int_equal(sm_exec_wait(exec, -1, &outcome, &err), 0);
    assert_int_equal(outcome.code, 7);
    sm_exec_free(exec);
    close(pipes[1]);
    ssize_t len = read(pipes[0], text, sizeof text - 1); /* it has all been written */
    close(pipes[0]);
    assert_int_equal(len, 10 * 2 + 50 * 3);
    assert_non_null(strstr(text, "\n58\n59\n"));
}

static void check_counts_of(sm_vm *vm, const char *file)
{
    char command[64];
    snprintf(command, sizeof command, "cat %s", file);
    int64_t a = number(vm, command), b = a;
    for (int i = 0; i < 100 && b <= a; i++) { /* the file is empty at times */
        usleep(100000);
        b = number(vm, command);
    }
    assert_true(b > a);
}

static void check_counts(sm_vm *vm)
{
    check_counts_of(vm, "/live");
}

/* Both go on from the same point: the VM, and what is started from its snapshot. */
static void test_live(void **state)
{
    struct baked *f = *state;
    char folder[96], other[96], line[64], name[64];
    struct sm_error err = {0};
    struct stat st;
    sm_image *image;
    for (int restored = 0; restored < 2; restored++) {
        snprintf(folder, sizeof folder, "%s/live%d", f->base.home, restored);
        snprintf(other, sizeof other, "%s/other%d", f->base.home, restored);
        sm_vm *vm = start_image(restored ? f->snapshot : f->base.image, NULL);
        line_of(vm,
                "echo mine >/mark; (i=0; while :; do echo $i >/live; i=$((i+1)); sleep 0.05; done) "
                ">/dev/null 2>&1 </dev/null &",
                line, sizeof line);
        snapshot_beside_a_command(vm, folder);
        line_of(vm, "echo later >/mark; hostname", name, sizeof name);
        if (sm_image_from_snapshot(f->base.store, folder, &image, &err))
            fail_msg("%s", err.text);
        sm_vm *clone = start_image(image, NULL);
        line_of(clone, "cat /mark", line, sizeof line);
        assert_string_equal(line, "mine");
        line_of(clone, "hostname", line, sizeof line);
        assert_string_not_equal(line, name);
        check_counts(clone);
        check_counts(vm);
        assert_int_equal(sm_vm_snapshot(clone, other, NULL, &err), 0); /* of a clone's clone */
        sm_vm_free(clone);
        sm_image_free(image);

        assert_int_equal(sm_vm_snapshot(vm, folder, NULL, &err), SM_EINVAL);
        assert_non_null(strstr(err.text, "exists"));
        assert_int_equal(sm_vm_snapshot(vm, "/nonexistent/it", NULL, &err), SM_ENOTFOUND);
        assert_int_equal(stat(folder, &st), 0);
        assert_int_equal(st.st_mode & 077, 0);
        sm_vm_stop(vm);
        strcat(other, "x/"); /* the slash is no part of the name */
        assert_int_equal(sm_vm_snapshot(vm, other, NULL, &err), SM_EINTR);
        assert_int_equal(stat(other, &st), -1);
        assert_int_equal(half_made(f), 0);
        sm_vm_free(vm);
    }
}

/* ---- what differs from a base ---- */

static void name_in(char *path, size_t size, const char *folder, const char *name)
{
    snprintf(path, size, "%s/%s", folder, name);
}

static void stat_in(const char *folder, const char *name, struct stat *st)
{
    char path[300];
    name_in(path, sizeof path, folder, name);
    if (stat(path, st) != 0)
        fail_msg("%s is not there", path);
}

static void save_vm(sm_vm *vm, const char *folder)
{
    struct sm_error err = {0};
    if (sm_vm_snapshot(vm, folder, NULL, &err))
        fail_msg("%s", err.text);
}

static sm_vm *start_folder(struct baked *f, const char *folder)
{
    struct sm_error err = {0};
    sm_image *image;
    if (sm_image_from_snapshot(f->base.store, folder, &image, &err))
        fail_msg("%s", err.text);
    sm_vm *vm = start_image(image, NULL);
    sm_image_free(image); /* which a VM does without */
    return vm;
}

/* A VM from a snapshot is saved as what differs, over a link to the memory that it began with; so
 * is one that was started from that, over the same; and all of it outlives the first snapshot. */
static void test_difference(void **state)
{
    struct baked *f = *state;
    char one[96], two[96], away[300], sum[80], line[80];
    struct stat base, link, ram;
    snprintf(one, sizeof one, "%s/difference1", f->base.home);
    snprintf(two, sizeof two, "%s/difference2", f->base.home);
    sm_vm *vm = start_image(f->snapshot, NULL);
    line_of(vm, "head -c 9000000 /dev/urandom >/big; sha256sum </big", sum, sizeof sum);
    save_vm(vm, one);
    sm_vm_free(vm);
    stat_in(f->folder, "ram", &base);
    stat_in(one, "base", &link);
    stat_in(one, "ram", &ram);
    assert_true(link.st_ino == base.st_ino && link.st_dev == base.st_dev);
    assert_in_range(ram.st_size, 9000000, 9000000 + (16 << 20));

    vm = start_folder(f, one);
    line_of(vm, "sha256sum </big", line, sizeof line);
    assert_string_equal(line, sum);
    line_of(vm, "echo second >/second; rm /big; sync", line, sizeof line);
    save_vm(vm, two);
    sm_vm_free(vm);
    stat_in(two, "base", &link);
    assert_true(link.st_ino == base.st_ino);

    snprintf(away, sizeof away, "%s-away", f->folder);
    assert_int_equal(rename(f->folder, away), 0);
    vm = start_folder(f, two);
    line_of(vm, "cat /second; ls /big 2>/dev/null; true", line, sizeof line);
    assert_string_equal(line, "second");
    sm_vm_free(vm);
    vm = start_folder(f, one);
    line_of(vm, "sha256sum </big", line, sizeof line);
    assert_string_equal(line, sum);
    sm_vm_free(vm);
    assert_int_equal(rename(away, f->folder), 0);
}

/* On another file system there can be no link: all of memory is written. */
static void test_difference_elsewhere(void **state)
{
    struct baked *f = *state;
    struct stat here, there;
    char folder[] = "/dev/shm/sm-api-test-XXXXXX", inside[64], command[96], line[64], path[80];
    stat_in(f->base.home, ".", &here);
    if (!mkdtemp(folder) || stat(folder, &there) != 0 || here.st_dev == there.st_dev) {
        print_message("SKIP: /dev/shm is no other file system\n");
        rmdir(folder);
        skip();
    }
    snprintf(inside, sizeof inside, "%s/it", folder);
    sm_vm *vm = start_image(f->snapshot, NULL);
    line_of(vm, "echo there >/mark", line, sizeof line);
    save_vm(vm, inside);
    sm_vm_free(vm);
    name_in(path, sizeof path, inside, "base");
    assert_int_equal(access(path, F_OK), -1);
    stat_in(inside, "ram", &there);
    assert_int_equal(there.st_size, 256 << 20);
    vm = start_folder(f, inside);
    line_of(vm, "cat /mark", line, sizeof line);
    assert_string_equal(line, "there");
    check_counts_of(vm, "/count");
    sm_vm_free(vm);
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

static void expect_refusal(struct baked *f, const char *folder, int code, const char *word)
{
    struct sm_error err = {0};
    assert_int_equal(open_copy(f, folder, &err), code);
    if (!strstr(err.text, word))
        fail_msg("\"%s\" does not say \"%s\"", err.text, word);
}

/* Change bytes of a file, look, change them back. */
static void expect_change_seen(struct baked *f, const char *folder, const char *name, off_t at,
                               uint64_t value, const char *word)
{
    char path[300];
    uint64_t before;
    name_in(path, sizeof path, folder, name);
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &before, sizeof before, at), sizeof before);
    assert_int_equal(pwrite(fd, &value, sizeof value, at), sizeof value);
    expect_refusal(f, folder, SM_ECORRUPT, word);
    assert_int_equal(pwrite(fd, &before, sizeof before, at), sizeof before);
    close(fd);
}

static void test_damaged_difference(void **state)
{
    struct baked *f = *state;
    char folder[96], ram[128], base[128], kept[128], command[600];
    struct stat st;
    snprintf(folder, sizeof folder, "%s/difference3", f->base.home);
    name_in(ram, sizeof ram, folder, "ram");
    name_in(base, sizeof base, folder, "base");
    name_in(kept, sizeof kept, folder, "kept");
    sm_vm *vm = start_image(f->snapshot, NULL);
    save_vm(vm, folder);
    sm_vm_free(vm);
    assert_int_equal(open_copy(f, folder, NULL), 0);
    expect_change_seen(f, folder, "ram", 16, 1 << 20, "beyond");      /* a page beyond memory */
    expect_change_seen(f, folder, "ram", 24, UINT64_MAX, "beyond");   /* a run, likewise */
    expect_change_seen(f, folder, "ram", 8, 1 << 30, "too many");     /* runs */
    expect_change_seen(f, folder, "ram", 16384 + 999, 7, "checksum"); /* what is in a page */
    assert_int_equal(rename(base, kept), 0);
    expect_refusal(f, folder, SM_ENOTFOUND, "/base");
    assert_int_equal(link(ram, base), 0); /* a base that has itself a base would have no end */
    expect_refusal(f, folder, SM_ECORRUPT, "another machine's");
    assert_int_equal(unlink(base), 0);
    snprintf(command, sizeof command, "cp --sparse=always %s %s", kept, base);
    assert_int_equal(system(command), 0);
    assert_int_equal(open_copy(f, folder, NULL), 0); /* a copy is as good */
    expect_change_seen(f, folder, "base", 100 << 20, UINT64_MAX, "the base is damaged");
    assert_int_equal(truncate(base, 128 << 20), 0);
    expect_refusal(f, folder, SM_ECORRUPT, "truncated");
    assert_int_equal(rename(kept, base), 0);
    snprintf(command, sizeof command,
             "sed -i 's/\\(base_digest\": \"sha256:\\)..../\\1feed/' %s/manifest.json", folder);
    assert_int_equal(system(command), 0);
    expect_refusal(f, folder, SM_ECORRUPT, "checksum");
    stat_in(folder, "ram", &st);
    for (off_t size = 0; size < st.st_size; size += 333333) {
        assert_int_equal(truncate(ram, size), 0);
        assert_int_equal(open_copy(f, folder, NULL), SM_ECORRUPT);
    }
}

static void test_refusals(void **state)
{
    struct baked *f = *state;
    struct sm_vm_config config = SM_VM_CONFIG_INIT;
    struct sm_bake_config bake = SM_BAKE_CONFIG_INIT;
    const char *const fails[] = {"exit 3", NULL};
    struct sm_error err = {0};
    sm_image *image;
    sm_vm *vm;
    char *folder;
    config.memory_mib = 512;
    assert_int_equal(sm_vm_start(f->snapshot, &config, &vm, &err), SM_EINVAL);
    assert_non_null(strstr(err.text, "256 MiB"));
    assert_int_equal(sm_image_bake(f->snapshot, NULL, &folder, &err), SM_EINVAL);
    assert_null(folder);
    bake.warmup = fails;
    assert_int_equal(sm_image_bake(f->base.image, &bake, &folder, &err), SM_EGUEST);
    assert_non_null(strstr(err.text, "exit 3"));
    assert_int_equal(sm_image_from_snapshot(f->base.store, "/tmp", &image, &err), SM_ENOTFOUND);
    assert_null(image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goes_on),
        cmocka_unit_test(test_timers),
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_copy_on_write),
        cmocka_unit_test(test_folder_goes),
        cmocka_unit_test(test_store),
        cmocka_unit_test(test_concurrent_bakes),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_damaged_memory),
        cmocka_unit_test(test_live),
        cmocka_unit_test(test_difference),
        cmocka_unit_test(test_difference_elsewhere),
        cmocka_unit_test(test_damaged_difference),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

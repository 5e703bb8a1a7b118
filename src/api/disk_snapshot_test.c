// SPDX-License-Identifier: Apache-2.0
/* Snapshots and clones of VMs whose disks are in use: each goes on with what was on them at that
 * moment, alone; the volume is never touched again. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api_fixture.h"

#define CLONES 3

static int set_up(void **state)
{
    static struct fixture f;
    *state = &f;
    setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
    return fixture_open(&f);
}

static int tear_down(void **state)
{
    return fixture_close(*state);
}

/* ---- VMs ---- */

static void shell(sm_vm *vm, const char *command)
{
    struct sm_output out;
    output(vm, command, &out);
    if (out.outcome.code != 0)
        fail_msg("%s: %d %s%s", command, out.outcome.code, out.out, out.err);
    sm_output_fini(&out);
}

static void expect_output(sm_vm *vm, const char *command, const char *want)
{
    struct sm_output out;
    output(vm, command, &out);
    if (strcmp(out.out, want) != 0)
        fail_msg("%s: \"%s\", not \"%s\"; %s", command, out.out, want, out.err);
    sm_output_fini(&out);
}

/* A VM with this at /data and, unless that is NULL, that read-only at /other. */
static sm_vm *start_on(struct fixture *f, const char *source, const char *other)
{
    struct sm_volume data = SM_VOLUME_INIT, more = SM_VOLUME_INIT;
    const struct sm_volume *const list[] = {&data, other ? &more : NULL, NULL};
    struct sm_vm_config config = SM_VM_CONFIG_INIT;
    data.source = source;
    data.path = "/data";
    more.source = other;
    more.path = "/other";
    more.read_only = 1;
    config.volumes = list;
    return start(f, &config);
}

static void end(sm_vm *vm)
{
    struct sm_error err = {0};
    if (sm_vm_shutdown(vm, 0, &err) != 0)
        fail_msg("%s", err.text);
    sm_vm_free(vm);
}

static sm_vm *start_folder(struct fixture *f, const char *folder)
{
    struct sm_error err = {0};
    sm_image *image;
    if (sm_image_from_snapshot(f->store, folder, &image, &err))
        fail_msg("%s", err.text);
    sm_vm *vm = start_image(image, NULL);
    sm_image_free(image); /* which a VM does without */
    return vm;
}

static void save(sm_vm *vm, const char *folder)
{
    struct sm_error err = {0};
    if (sm_vm_snapshot(vm, folder, NULL, &err))
        fail_msg("%s", err.text);
}

static void name_in(const struct fixture *f, const char *name, char path[128])
{
    snprintf(path, 128, "%s/%s", f->home, name);
}

/* Its last number is of the moment of the snapshot. */
static const char count[] =
    "(i=0; while :; do i=$((i+1)); echo $i >>/data/log; echo $i >/new; mv /new /now; sync; "
    "done) >/dev/null 2>&1 </dev/null & echo $! >/pid";
/* What is on the disk, not in memory, is what was written: the same number, or one more. */
static const char check_count[] =
    "kill $(cat /pid); sync; a=$(tail -n 1 /data/log); echo 3 "
    ">/proc/sys/vm/drop_caches; "
    "b=$(tail -n 1 /data/log); n=$(wc -l </data/log); now=$(cat /now); "
    "[ $a = $b ] && [ $a = $n ] && { [ $now = $a ] || [ $((now+1)) = $a ]; } || "
    "{ echo \"$a $b $n $now\"; exit 1; }";

/* ---- files ---- */

static void run(const char *format, const char *a, const char *b)
{
    char command[512];
    snprintf(command, sizeof command, format, a, b);
    if (system(command) != 0)
        fail_msg("%s", command);
}

static void digest_of(const char *path, char out[80])
{
    char command[256];
    snprintf(command, sizeof command, "sha256sum <%s", path);
    FILE *f = popen(command, "re");
    assert_non_null(f);
    assert_non_null(fgets(out, 80, f));
    assert_int_equal(pclose(f), 0);
}

/* A file system of 64 MiB. */
static void make_disk(const char *path)
{
    run("mke2fs -q -t ext4 %s 64m >/dev/null%s", path, "");
}

static int count_temp_files(const struct fixture *f)
{
    char path[128];
    int n = -2;
    name_in(f, "tmp", path);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static int half_made(const struct fixture *f)
{
    int n = 0;
    DIR *dir = opendir(f->home);
    assert_non_null(dir);
    for (struct dirent *d; (d = readdir(dir));)
        n += strstr(d->d_name, ".new-") != NULL;
    closedir(dir);
    return n;
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

/* The processes of VMs: the children of this one; their number. */
static unsigned find_workers(pid_t *pids, unsigned most)
{
    char path[64], text[512];
    unsigned n = 0;
    DIR *proc = opendir("/proc");
    for (struct dirent *d; n < most && (d = readdir(proc));) {
        int parent = 0;
        snprintf(path, sizeof path, "/proc/%.20s/stat", d->d_name);
        FILE *file = d->d_name[0] >= '1' && d->d_name[0] <= '9' ? fopen(path, "re") : NULL;
        if (file && fgets(text, sizeof text, file) && strrchr(text, ')'))
            sscanf(strrchr(text, ')') + 1, " %*c %d", &parent);
        if (file)
            fclose(file);
        if (parent == getpid())
            pids[n++] = atoi(d->d_name);
    }
    closedir(proc);
    return n;
}

/* ---- what a snapshot has ---- */

/* The journal is replayed, if there is one; then nothing is wrong. */
static void expect_file_system(const char *folder)
{
    char copy[160];
    snprintf(copy, sizeof copy, "%s-checked", folder);
    run("cp --sparse=always %s/disk0 %s", folder, copy);
    run("e2fsck -fy -E journal_only %s >/dev/null 2>&1; e2fsck -fn %s >/dev/null 2>&1", copy, copy);
    unlink(copy);
}

/* A disk that is written all the time, and one that is only read. */
static void test_as_it_was(void **state)
{
    struct fixture *f = *state;
    char one[128], two[128], disk[128], rom[128], before[80], after[80];
    struct stat st;
    name_in(f, "one", one);
    name_in(f, "two", two);
    name_in(f, "disk.img", disk);
    name_in(f, "rom.img", rom);
    make_disk(disk);
    make_disk(rom);
    sm_vm *vm = start_on(f, rom, NULL);
    shell(vm, "echo rom >/data/f");
    end(vm);
    vm = start_on(f, disk, rom);
    shell(vm,
          "head -c 3000000 /dev/urandom >/data/big; sha256sum </data/big >/sum; echo a >/data/f");
    shell(vm, count);
    save(vm, one);
    shell(vm, "echo later >/data/f; rm /data/big");
    end(vm);
    digest_of(disk, before);
    expect_file_system(one);

    vm = start_folder(f, one);
    expect_output(vm, "cat /data/f /other/f; sha256sum </data/big | cmp - /sum", "a\nrom\n");
    expect_output(vm, check_count, "");
    shell(vm, "echo b >>/data/f; sync; echo 3 >/proc/sys/vm/drop_caches");
    expect_output(vm, "cat /data/f; sha256sum </data/big | cmp - /sum", "a\nb\n");
    expect_output(vm,
                  "blockdev --setrw /dev/vdb 2>/dev/null;"
                  "dd if=/dev/zero of=/dev/vdb count=1 conv=fsync 2>/dev/null || echo no",
                  "no\n");
    digest_of(disk, after);
    assert_string_equal(before, after);

    assert_int_equal(unlink(disk) | unlink(rom), 0); /* which no snapshot needs */
    save(vm, two);                                   /* of a VM with views of one's disks */
    run("rm -r %s%s", one, "");
    shell(vm, "rm /data/f");
    sm_vm_free(vm);
    assert_int_equal(stat(two, &st), 0);
    vm = start_folder(f, two);
    expect_output(vm,
                  "echo 3 >/proc/sys/vm/drop_caches; cat /data/f /other/f;"
                  "sha256sum </data/big | cmp - /sum; fstrim /data; cat /data/f",
                  "a\nb\nrom\na\nb\n");
    sm_vm_free(vm);
    assert_int_equal(count_temp_files(f) + half_made(f), 0);
}

/* Clones of a VM that goes on writing; a clone's clone; and none sees another's writes. */
static void test_family(void **state)
{
    struct fixture *f = *state;
    struct sm_error err = {0};
    sm_vm *clones[CLONES + 1], *child;
    struct sm_snapshot_info info;
    char command[200], want[16];
    int fds = 0;
    for (int round = 0; round < 2; round++) {
        sm_vm *vm = start_on(f, "family", NULL);
        shell(vm, "rm -f /data/log /data/who; head -c 5000000 /dev/urandom >/data/big;"
                  "sha256sum </data/big >/sum");
        shell(vm, count);
        if (sm_vm_fork(vm, NULL, CLONES, clones, &info, &err) != 0)
            fail_msg("%s", err.text);
        print_message("fork with a disk: pause %.1f ms\n", (double)info.pause_ns / 1e6);
        clones[CLONES] = vm;
        for (int i = 0; i <= CLONES; i++) {
            shell(clones[i], check_count);
            snprintf(command, sizeof command,
                     "echo %d >>/data/who; dd if=/dev/urandom of=/data/big bs=4096 seek=%d count=9 "
                     "conv=notrunc 2>/dev/null; sha256sum </data/big >/sum; sync",
                     i, i * 7);
            shell(clones[i], command);
        }
        if (sm_vm_fork(clones[1], NULL, 1, &child, NULL, &err) != 0)
            fail_msg("%s", err.text);
        shell(child, "rm /data/big; sync");
        for (int i = 0; i <= CLONES; i++) {
            snprintf(want, sizeof want, "%d\n", i);
            expect_output(clones[i],
                          "echo 3 >/proc/sys/vm/drop_caches; cat /data/who;"
                          "sha256sum </data/big | cmp - /sum",
                          want);
        }
        for (int i = CLONES; i >= 0; i--)
            sm_vm_free(clones[i]);
        expect_output(child, "echo 3 >/proc/sys/vm/drop_caches; cat /data/who; ls /data/big 2>&-",
                      "1\n");
        sm_vm_free(child);
        if (round == 0)
            fds = count_fds();
    }
    assert_int_equal(count_fds(), fds);
    assert_int_equal(count_temp_files(f), 0);
}

struct open_file {
    pid_t pid;
    dev_t dev;
    ino_t ino;
    bool writable;
};

/* The regular files that processes of VMs have open; their number. */
static unsigned list_open_files(struct open_file *list, unsigned most)
{
    unsigned n = 0;
    pid_t pids[16];
    unsigned n_pids = find_workers(pids, 16);
    for (unsigned i = 0; i < n_pids; i++) {
        for (int fd = 3; fd < 64; fd++) {
            char path[64], line[128];
            struct stat st;
            unsigned flags = 0;
            snprintf(path, sizeof path, "/proc/%d/fd/%d", pids[i], fd);
            if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
                continue;
            snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", pids[i], fd);
            FILE *f = fopen(path, "re");
            while (f && fgets(line, sizeof line, f))
                sscanf(line, "flags: %o", &flags);
            if (f)
                fclose(f);
            assert_true(n < most);
            list[n++] =
                (struct open_file){pids[i], st.st_dev, st.st_ino, (flags & O_ACCMODE) != O_RDONLY};
        }
    }
    return n;
}

/* A guest that has taken over its process can write to no file that another VM reads. */
static void test_files_are_private(void **state)
{
    struct open_file list[64];
    struct sm_error err = {0};
    unsigned writable = 0, shared = 0;
    sm_vm *vm = start_on(*state, "private", NULL), *clones[2];
    assert_int_equal(sm_vm_fork(vm, NULL, 2, clones, NULL, &err), 0);
    unsigned n = list_open_files(list, 64);
    for (unsigned i = 0; i < n; i++) {
        writable += list[i].writable;
        for (unsigned j = 0; j < n; j++) {
            bool same = list[i].pid != list[j].pid && list[i].dev == list[j].dev &&
                        list[i].ino == list[j].ino;
            shared += same;
            if (same && list[i].writable)
                fail_msg("process %d can write to a file of %d", list[i].pid, list[j].pid);
        }
    }
    if (n == 0) {
        print_message("SKIP: what files a VM's process has open cannot be seen here\n");
    } else {
        assert_int_equal(writable, 3); /* the volume, and two views */
        assert_true(shared >= 3 * 2);  /* state, memory and disk of the clones */
    }
    for (int i = 0; i < 2; i++)
        sm_vm_free(clones[i]);
    sm_vm_free(vm);
}

/* An image of such a VM serves a pool; and has its own disks. */
static void test_image(void **state)
{
    struct fixture *f = *state;
    struct sm_pool_config config = SM_POOL_CONFIG_INIT;
    struct sm_vm_config given = SM_VM_CONFIG_INIT;
    struct sm_volume volume = SM_VOLUME_INIT;
    const struct sm_volume *const list[] = {&volume, NULL};
    struct sm_error err = {0};
    sm_vm *vm = start_on(f, "image", NULL), *one;
    sm_image *image;
    sm_pool *pool;
    shell(vm, "echo 1 >/data/x");
    assert_int_equal(sm_image_from_vm(vm, &image, NULL, &err), 0);
    volume.source = "another";
    volume.path = "/more";
    given.volumes = list;
    assert_int_equal(sm_vm_start(image, &given, &one, &err), SM_EINVAL);
    assert_non_null(strstr(err.text, "has its own disks"));
    config.max = 2;
    assert_int_equal(sm_pool_new(image, &config, &pool, &err), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sm_pool_acquire(pool, &one, &err), 0);
        expect_output(one, "cat /data/x; echo 3 >>/data/x; sync", "1\n");
        assert_int_equal(sm_pool_release(pool, one, &err), 0);
    }
    sm_pool_free(pool);
    sm_image_free(image);
    expect_output(vm, "cat /data/x", "1\n");
    end(vm);
    assert_int_equal(count_temp_files(f), 0);
}

/* ---- damage ---- */

static void expect_refusal(struct fixture *f, const char *folder, int code, const char *word)
{
    struct sm_error err = {0};
    sm_image *image;
    sm_vm *vm = NULL;
    int rc = sm_image_from_snapshot(f->store, folder, &image, &err);
    rc = rc ? rc : sm_vm_start(image, NULL, &vm, &err);
    sm_image_free(image);
    assert_null(vm);
    if (rc != code || !strstr(err.text, word))
        fail_msg("%d \"%s\", not %d \"%s\"", rc, err.text, code, word);
}

/* A change of the manifest that the state vouches for. */
static void change_manifest(const char *folder, const char *edit)
{
    run("sed -i -z '%2$s' %1$s/manifest.json", folder, edit);
    run("python3 -c \"import hashlib,sys; d=sys.argv[1]; f=open(d+'/state','r+b'); f.seek(16);"
        "f.write(hashlib.sha256(open(d+'/manifest.json','rb').read()).digest())\" %s%s",
        folder, "");
}

static void expect_bit_seen(struct fixture *f, const char *folder, const char *disk, off_t at)
{
    uint8_t byte;
    int fd = open(disk, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    expect_refusal(f, folder, SM_ECORRUPT, "disk0 is damaged (checksum)");
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void test_damage(void **state)
{
    struct fixture *f = *state;
    char folder[128], disk[144], kept[144];
    struct stat st;
    name_in(f, "damaged", folder);
    name_in(f, "damage.img", disk);
    make_disk(disk);
    sm_vm *vm = start_on(f, disk, NULL);
    shell(vm, "head -c 100000 /dev/urandom >/data/f; sync");
    save(vm, folder);
    end(vm);
    snprintf(disk, sizeof disk, "%s/disk0", folder);
    snprintf(kept, sizeof kept, "%s/kept", folder);
    assert_int_equal(stat(disk, &st), 0);
    assert_int_equal(st.st_mode & 077, 0);
    expect_bit_seen(f, folder, disk, 1024 + 0x70);    /* the superblock */
    expect_bit_seen(f, folder, disk, st.st_size - 1); /* a hole */
    assert_int_equal(truncate(disk, st.st_size - 4096), 0);
    expect_refusal(f, folder, SM_ECORRUPT, "disk0 is truncated");
    assert_int_equal(truncate(disk, st.st_size + 512), 0);
    expect_refusal(f, folder, SM_ECORRUPT, "disk0 is truncated, or another machine's");
    assert_int_equal(truncate(disk, st.st_size), 0);
    sm_vm_free(start_folder(f, folder));
    assert_int_equal(rename(disk, kept), 0);
    expect_refusal(f, folder, SM_ENOTFOUND, "/disk0");
    assert_int_equal(rename(kept, disk), 0);

    change_manifest(folder, "s/\"read_only\": false/\"read_only\": true/");
    expect_refusal(f, folder, SM_ECORRUPT, "device's status"); /* it discards, or did */
    change_manifest(folder, "s/\"read_only\": true/\"read_only\": false/");
    change_manifest(folder, "s/\"bytes\": 67108864/\"bytes\": 67112960/");
    assert_int_equal(truncate(disk, st.st_size + 4096), 0);
    expect_refusal(f, folder, SM_EUNSUPPORTED, "another size");
    change_manifest(folder, "s/\"bytes\": 67112960/\"bytes\": 67108864/");
    assert_int_equal(truncate(disk, st.st_size), 0);
    sm_vm_free(start_folder(f, folder));
    change_manifest(folder, "s/\"format\": 3/\"format\": 4/");
    expect_refusal(f, folder, SM_EUNSUPPORTED, "format version 4");
}

/* ---- what the host cannot do ---- */

/* The volume's file was cut short: said once; nothing is left; and when it is whole again, all is
 * well. */
static void test_cut_short(void **state)
{
    struct fixture *f = *state;
    struct sm_error err = {0};
    char folder[128], disk[128];
    sm_vm *clone;
    name_in(f, "cut", folder);
    name_in(f, "cut.img", disk);
    make_disk(disk);
    sm_vm *vm = start_on(f, disk, NULL);
    shell(vm, "echo x >/data/f; sync");
    int fds = count_fds();
    assert_int_equal(truncate(disk, 60 << 20), 0);
    assert_int_equal(sm_vm_snapshot(vm, folder, NULL, &err), SM_EIO);
    assert_non_null(strstr(err.text, "cannot copy volume /tmp"));
    assert_int_equal(sm_vm_fork(vm, NULL, 1, &clone, NULL, &err), SM_EIO);
    assert_null(clone);
    assert_int_equal(count_fds(), fds);
    assert_int_equal(half_made(f) + count_temp_files(f), 0);
    assert_int_equal(access(folder, F_OK), -1);
    expect_output(vm, "cat /data/f", "x\n");
    assert_int_equal(truncate(disk, 64 << 20), 0);
    save(vm, folder);
    end(vm);
}

/* A file system that has room for memory, but not for the disk. */
static void test_full(void **state)
{
    struct fixture *f = *state;
    struct sm_error err = {0};
    char small[128], folder[144];
    name_in(f, "small", small);
    snprintf(folder, sizeof folder, "%s/it", small);
    assert_int_equal(mkdir(small, 0700), 0);
    if (mount("sm-test", small, "tmpfs", 0, "size=40m") != 0) {
        print_message("SKIP a full disk: cannot mount one\n");
        skip();
    }
    sm_vm *vm = start_on(f, "full", NULL);
    shell(vm, "head -c 45000000 /dev/urandom >/data/f; sync; echo 3 >/proc/sys/vm/drop_caches");
    int rc = sm_vm_snapshot(vm, folder, NULL, &err);
    bool clean = access(folder, F_OK) != 0;
    DIR *dir = opendir(small);
    for (struct dirent *d; dir && (d = readdir(dir));)
        clean &= d->d_name[0] == '.';
    closedir(dir);
    assert_int_equal(umount2(small, MNT_DETACH), 0);
    assert_int_equal(rc, SM_ENOSPC);
    assert_non_null(strstr(err.text, "cannot copy volume full: No space left"));
    assert_true(clean);
    expect_output(vm, "wc -c </data/f", "45000000\n");
    save(vm, folder);
    end(vm);
}

struct killer {
    pid_t pid;
    unsigned after_us;
};

static void *kill_later(void *opaque)
{
    const struct killer *k = opaque;
    usleep(k->after_us);
    kill(k->pid, SIGKILL);
    return NULL;
}

static void test_killed(void **state)
{
    struct fixture *f = *state;
    char folder[128];
    unsigned failed = 0;
    name_in(f, "killed", folder);
    for (unsigned i = 0; i < 5; i++) {
        struct killer k = {.after_us = i * i * 10000};
        struct sm_error err = {0};
        pthread_t thread;
        sm_vm *vm = start_on(f, "killed", NULL);
        shell(vm, "head -c 30000000 /dev/urandom >/data/f; sync");
        assert_int_equal(find_workers(&k.pid, 1), 1);
        assert_int_equal(pthread_create(&thread, NULL, kill_later, &k), 0);
        int rc = sm_vm_snapshot(vm, folder, NULL, &err);
        pthread_join(thread, NULL);
        if (rc) {
            assert_int_equal(rc, SM_EENGINE);
            assert_non_null(strstr(err.text, "died"));
            assert_int_equal(access(folder, F_OK), -1);
            failed++;
        } else {
            run("rm -r %s%s", folder, "");
        }
        sm_vm_free(vm);
        assert_int_equal(half_made(f) + count_temp_files(f), 0);
    }
    assert_true(failed > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_it_was),
        cmocka_unit_test(test_family),
        cmocka_unit_test(test_files_are_private),
        cmocka_unit_test(test_image),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_cut_short),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_killed),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Volumes: made once and whole, locked against double use, removed only when nobody uses them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "image/store_volume.h"
#include "image/volume.h"

struct box {
    char dir[64];
    struct store *store;
};

static int setup(void **state)
{
    struct box *b = calloc(1, sizeof *b);
    if (!b) {
        return -1;
    }
    strcpy(b->dir, "/tmp/sm-volume-test.XXXXXX");
    *state = b;
    return mkdtemp(b->dir) ? store_open(b->dir, &b->store, NULL) : -1;
}

static int run(const char *fmt, const char *arg)
{
    char command[256];
    snprintf(command, sizeof command, fmt, arg);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int teardown(void **state)
{
    struct box *b = *state;
    store_close(b->store);
    int rc = run("rm -rf '%s'", b->dir);
    free(b);
    return rc;
}

static unsigned files_in(const char *dir, const char *sub)
{
    char path[128];
    unsigned n = 0;
    snprintf(path, sizeof path, "%s/%s", dir, sub);
    DIR *d = opendir(path);
    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
        n += e->d_name[0] != '.';
    }
    if (d) {
        closedir(d);
    }
    return n;
}

static void names(void **state)
{
    struct box *b = *state;
    static const char *const good[] = {"ab", "Data-1.x_y", "0a"};
    static const char *const bad[] = {"",
                                      "a",
                                      ".a",
                                      "-a",
                                      "a/b",
                                      "../x",
                                      "a b",
                                      "a:b",
                                      "\xc3\xa4"
                                      "a"};
    char longest[66];
    for (unsigned i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(store_volume_name_valid(good[i]));
    }
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct volume v;
        struct sm_error err;
        assert_false(store_volume_name_valid(bad[i]));
        assert_int_equal(volume_open(b->store, bad[i], false, &v, &err), SM_EINVAL);
        assert_non_null(strstr(err.text, "cannot be a volume"));
    }
    memset(longest, 'a', 65);
    longest[65] = '\0';
    assert_false(store_volume_name_valid(longest));
    longest[64] = '\0';
    assert_true(store_volume_name_valid(longest));
    assert_int_equal(files_in(b->dir, "volumes"), 0);
}

static void made_once(void **state)
{
    struct box *b = *state;
    char *path, byte = 42;
    bool made;
    struct volume v;
    struct stat st;
    assert_int_equal(store_volume_path(b->store, "data", &path, &made, NULL), 0);
    assert_true(made);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, STORE_VOLUME_BYTES);
    assert_true(st.st_blocks * 512 < 2 << 20); /* sparse */
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(run("/sbin/e2fsck -fn '%s' >/dev/null 2>&1", path), 0);
    assert_int_equal(volume_open(b->store, "data", false, &v, NULL), 0);
    assert_true(v.size_bytes == STORE_VOLUME_BYTES);
    assert_int_equal(pwrite(v.fd, &byte, 1, 77777), 1);
    volume_close(&v);
    free(path);
    assert_int_equal(store_volume_path(b->store, "data", &path, &made, NULL), 0);
    assert_false(made);
    assert_int_equal(volume_open(b->store, path, true, &v, NULL), 0); /* by its path, too */
    byte = 0;
    assert_int_equal(pread(v.fd, &byte, 1, 77777), 1);
    assert_int_equal(byte, 42);
    assert_int_equal(write(v.fd, &byte, 1), -1); /* read-only */
    volume_close(&v);
    free(path);
    assert_int_equal(files_in(b->dir, "tmp"), 0);
}

/* Processes that want the same new volume at once get the same one. */
static void made_by_many(void **state)
{
    struct box *b = *state;
    pid_t pids[6];
    struct volume v;
    for (unsigned i = 0; i < 6; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            _exit(volume_open(b->store, "many", true, &v, NULL) != 0);
        }
    }
    for (unsigned i = 0; i < 6; i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(files_in(b->dir, "volumes"), 1);
    assert_int_equal(files_in(b->dir, "tmp"), 0);
}

/* What a killed maker left goes when the next volume is made. */
static void leftovers(void **state)
{
    struct box *b = *state;
    char path[200];
    char *made_path;
    bool made;
    snprintf(path, sizeof path, "%s/tmp/volume-%064d", b->dir, 7);
    close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    assert_int_equal(store_volume_path(b->store, "data", &made_path, &made, NULL), 0);
    free(made_path);
    assert_int_equal(files_in(b->dir, "tmp"), 0);
}

/* A process that holds the volume until it is killed. */
static pid_t hold(struct box *b, bool read_only)
{
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct volume v;
        if (volume_open(b->store, "data", read_only, &v, NULL) == 0 &&
            write(ready[1], "x", 1) == 1) {
            pause();
        }
        _exit(1);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return pid;
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void locked(void **state)
{
    struct box *b = *state;
    struct volume v, w;
    struct sm_error err;
    char who[32];
    pid_t writer = hold(b, false);
    snprintf(who, sizeof who, "process %d", (int)writer);
    assert_int_equal(volume_open(b->store, "data", false, &v, &err), SM_EINVAL);
    assert_non_null(strstr(err.text, who));
    assert_int_equal(volume_open(b->store, "data", true, &v, &err), SM_EINVAL);
    assert_non_null(strstr(err.text, who));
    assert_int_equal(store_remove_volume(b->store, "data", &err), SM_EINVAL);
    end(writer); /* its lock dies with it */

    pid_t reader = hold(b, true);
    assert_int_equal(volume_open(b->store, "data", true, &v, NULL), 0);
    assert_int_equal(volume_open(b->store, "data", false, &w, &err), SM_EINVAL);
    end(reader);
    assert_int_equal(volume_open(b->store, "data", false, &w, &err), SM_EINVAL); /* by v */
    int copy = dup(v.fd);
    volume_close(&v);
    assert_int_equal(volume_open(b->store, "data", false, &w, &err), SM_EINVAL);
    close(copy); /* the last one */
    assert_int_equal(volume_open(b->store, "data", false, &w, &err), 0);
    volume_close(&w);
}

static void no_volumes(void **state)
{
    struct box *b = *state;
    static const struct {
        const char *make, *says;
        int code;
    } bad[] = {
        {"true", "No such file", SM_ENOTFOUND},
        {"mkdir -m 0 '%s'", "is closed to", SM_EINVAL},
        {"mkfifo '%s'", "neither a folder nor a regular file", SM_EINVAL},
        {": >'%s'", "is empty", SM_EINVAL},
        {"truncate -s 1000 '%s'", "not a multiple of 512", SM_EINVAL},
    };
    char path[100];
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        for (int read_only = 0; read_only < 2; read_only++) {
            struct volume v;
            struct sm_error err;
            snprintf(path, sizeof path, "%s/file%u", b->dir, i);
            if (!read_only) {
                assert_int_equal(run(bad[i].make, path), 0);
            }
            assert_int_equal(volume_open(b->store, path, read_only, &v, &err), bad[i].code);
            assert_non_null(strstr(err.text, bad[i].says));
            assert_non_null(strstr(err.text, path));
            assert_int_equal(v.fd, -1);
        }
    }
}

/* Any number of VMs have a folder, whoever else uses it. */
static void folders(void **state)
{
    struct box *b = *state;
    struct volume v, w;
    char path[100];
    snprintf(path, sizeof path, "%s/folder", b->dir);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(volume_open(b->store, path, false, &v, NULL), 0);
    assert_true(v.folder && !v.read_only && v.size_bytes == 0);
    assert_int_equal(volume_open(b->store, path, true, &w, NULL), 0);
    assert_true(w.folder && w.read_only);
    volume_close(&v);
    volume_close(&w);
}

static int count(void *opaque, const struct store_volume *v)
{
    assert_true(v->size_bytes == STORE_VOLUME_BYTES && v->disk_bytes > 0);
    *(unsigned *)opaque += (unsigned)(v->name[0] - 'a' + 1);
    return 0;
}

static void listed_and_removed(void **state)
{
    struct box *b = *state;
    static const char *const all[] = {"aa", "bb", "dd"};
    struct sm_error err;
    unsigned seen = 0;
    for (unsigned i = 0; i < 3; i++) {
        char *path;
        bool made;
        assert_int_equal(store_volume_path(b->store, all[i], &path, &made, NULL), 0);
        free(path);
    }
    assert_int_equal(store_each_volume(b->store, count, &seen, NULL), 0);
    assert_int_equal(seen, 1 + 2 + 4);
    assert_int_equal(store_remove_volume(b->store, "bb", NULL), 0);
    assert_int_equal(store_remove_volume(b->store, "bb", &err), SM_ENOTFOUND);
    assert_int_equal(store_remove_volume(b->store, "../bb", &err), SM_EINVAL);
    seen = 0;
    assert_int_equal(store_each_volume(b->store, count, &seen, NULL), 0);
    assert_int_equal(seen, 1 + 4);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(names),  T(made_once),  T(made_by_many), T(leftovers),
        T(locked), T(no_volumes), T(folders),      T(listed_and_removed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

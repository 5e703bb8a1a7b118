/* SPDX-License-Identifier: Apache-2.0 */
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
#include "image/seal.h"
#include "image/store.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define ID "sha256:" HEX
#define ID2 "sha256:f123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

struct box {
    char dir[64];
    char path[96];
    struct store *store;
};

static int setup(void **state)
{
    struct box *b = calloc(1, sizeof *b);
    const char *tmp = "/tmp/sm-store-test.XXXXXX";
    if (!b) {
        return -1;
    }
    strcpy(b->dir, tmp);
    if (!mkdtemp(b->dir)) {
        return -1;
    }
    snprintf(b->path, sizeof b->path, "%s/a b/ü", b->dir);
    *state = b;
    return store_open(b->path, &b->store, NULL);
}

static int teardown(void **state)
{
    struct box *b = *state;
    char *command = io_format("rm -rf '%s'", b->dir);
    store_close(b->store);
    int rc = command ? system(command) : -1;
    free(command);
    free(b);
    return rc;
}

static mode_t mode_of(const char *path)
{
    struct stat st;
    return stat(path, &st) ? 0 : st.st_mode & 07777;
}

static int files_in(const char *store, const char *folder)
{
    char path[256];
    int n = 0;
    snprintf(path, sizeof path, "%s/%s", store, folder);
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        n += e->d_name[0] != '.';
    }
    closedir(d);
    return n;
}

static void make(struct store *s, const char *id, const char *text)
{
    struct store_item l;
    struct sm_error err;
    assert_int_equal(store_item_begin(s, STORE_LAYER, id, &l, &err), SM_OK);
    assert_false(l.present);
    assert_int_equal(io_write_full(l.fd, text, strlen(text)), 0);
    store_item_progress(&l);
    assert_int_equal(store_item_commit(&l, NULL, &err), SM_OK);
    store_item_abort(&l);
}

static void layer_life(void **state)
{
    struct box *b = *state;
    struct store_held held;
    struct sm_error err;
    struct store_item l;
    assert_int_equal(store_hold(b->store, STORE_LAYER, ID, &held, &err), SM_ENOTFOUND);
    make(b->store, ID, "hello");
    assert_int_equal(store_hold(b->store, STORE_LAYER, ID, &held, &err), SM_OK);
    assert_int_equal(held.size_bytes, 5 + SEAL_BYTES);
    assert_int_equal(mode_of(held.path), 0600);
    assert_int_equal(seal_check(held.fd, &err), SM_OK);
    store_release(&held);
    /* made already */
    assert_int_equal(store_item_begin(b->store, STORE_LAYER, ID, &l, &err), SM_OK);
    assert_true(l.present);
    store_item_abort(&l);
    /* given up */
    assert_int_equal(store_item_begin(b->store, STORE_LAYER, ID2, &l, &err), SM_OK);
    assert_int_equal(io_write_full(l.fd, "half", 4), 0);
    store_item_abort(&l);
    assert_int_equal(store_hold(b->store, STORE_LAYER, ID2, &held, &err), SM_ENOTFOUND);
    assert_int_equal(files_in(b->path, "layers/sha256"), 1);
    assert_int_equal(files_in(b->path, "tmp"), 0);
    assert_int_equal(mode_of(b->path), 0700);
    static const char *const folders[] = {"layers", "layers/sha256", "blobs", "blobs/sha256",
                                          "images", "locks",         "tmp"};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        char folder[256];
        snprintf(folder, sizeof folder, "%s/%s", b->path, folders[i]);
        assert_int_equal(mode_of(folder), 0700);
    }
}

/* A maker killed with a file half written: the next one takes over, and sweeps other remains too.
 */
static void killed_maker(void **state)
{
    struct box *b = *state;
    for (int i = 0; i < 2; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            struct store_item l;
            if (store_item_begin(b->store, STORE_LAYER, i ? ID2 : ID, &l, NULL) ||
                io_write_full(l.fd, "half", 4)) {
                _exit(1);
            }
            raise(SIGKILL);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
    }
    struct store_held held;
    assert_int_equal(files_in(b->path, "tmp"), 1); /* the second sweeps the first one's file */
    assert_int_equal(store_hold(b->store, STORE_LAYER, ID, &held, NULL), SM_ENOTFOUND);
    make(b->store, ID, "whole");
    assert_int_equal(store_hold(b->store, STORE_LAYER, ID, &held, NULL), SM_OK);
    assert_int_equal(held.size_bytes, 5 + SEAL_BYTES);
    store_release(&held);
    assert_int_equal(files_in(b->path, "tmp"), 0);
}

/* A live maker's file is not swept, its waiter gives up only when nothing moves, and says why. */
static void stopped_maker(void **state)
{
    struct box *b = *state;
    struct store_item maker, other;
    struct sm_error err;
    assert_int_equal(store_item_begin(b->store, STORE_LAYER, ID, &maker, &err), SM_OK);
    make(b->store, ID2, "x");
    assert_int_equal(files_in(b->path, "tmp"), 1);
    store_set_patience(b->store, 200);
    assert_int_equal(store_item_begin(b->store, STORE_LAYER, ID, &other, &err), SM_ETIMEDOUT);
    assert_non_null(strstr(err.text, "no progress"));
    char pid[32];
    snprintf(pid, sizeof pid, "pid %d", (int)getpid());
    assert_non_null(strstr(err.text, pid));
    store_item_abort(&other);
    assert_int_equal(store_item_commit(&maker, NULL, &err), SM_OK);
}

/* Eight processes want one layer: one makes it. */
static void only_one_makes(void **state)
{
    struct box *b = *state;
    pid_t pids[8];
    for (int i = 0; i < 8; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            struct store_item l;
            if (store_item_begin(b->store, STORE_LAYER, ID, &l, NULL)) {
                _exit(2);
            }
            if (l.present) {
                _exit(0);
            }
            usleep(100000);
            int rc = io_write_full(l.fd, "data", 4) || store_item_commit(&l, NULL, NULL);
            _exit(rc ? 2 : 1);
        }
    }
    int makers = 0;
    for (int i = 0; i < 8; i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
        makers += WEXITSTATUS(status);
    }
    assert_int_equal(makers, 1);
}

/* A blob, kept as it is; the seal of a layer tells what became of it. */
static void blobs_and_seals(void **state)
{
    struct box *b = *state;
    struct store_held held;
    struct sm_error err;
    char digest[DIGEST_STR_SIZE], byte;
    hash_bytes("text", 4, digest);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(store_put_blob(b->store, digest, "text", 4, &held, &err), SM_OK);
        assert_int_equal(held.size_bytes, 4);
        store_release(&held);
    }
    assert_int_equal(files_in(b->path, "blobs/sha256"), 1);
    make(b->store, ID, "some bytes");
    assert_int_equal(store_hold(b->store, STORE_LAYER, ID, &held, &err), SM_OK);
    for (off_t at = 0; at < (off_t)held.size_bytes; at += 7) {
        int fd = open(held.path, O_RDWR);
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        assert_int_equal(seal_check(held.fd, &err), SM_ECORRUPT);
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        close(fd);
    }
    assert_int_equal(seal_check(held.fd, &err), SM_OK);
    assert_int_equal(truncate(held.path, 5), 0);
    assert_int_equal(seal_check(held.fd, &err), SM_ECORRUPT);
    store_release(&held);
}

static void version(void **state)
{
    struct box *b = *state;
    static const struct {
        const char *text;
        int rc;
    } table[] = {
        {"supermachine-store 1\n", SM_OK},
        {"supermachine-store 0\n", SM_ECORRUPT},
        {"supermachine-store 2\n", SM_EUNSUPPORTED},
        {"supermachine-store 99999999999999999999999\n", SM_EUNSUPPORTED},
        {"supermachine-store -1\n", SM_ECORRUPT},
        {"supermachine-store 1", SM_ECORRUPT},
        {"", SM_ECORRUPT},
        {"hello\n", SM_ECORRUPT},
    };
    char *file = io_format("%s/version", b->path);
    assert_non_null(file);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct store *s;
        struct sm_error err = {0};
        int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(io_write_full(fd, table[i].text, strlen(table[i].text)), 0);
        close(fd);
        int rc = store_open(b->path, &s, &err);
        if (rc != table[i].rc) {
            fail_msg("row %zu: %d (%s)", i, rc, err.text);
        }
        store_close(s);
    }
    free(file);
}

static void bad_paths(void **state)
{
    struct box *b = *state;
    struct store *s;
    struct sm_error err;
    char path[256];
    assert_int_equal(store_open("", &s, &err), SM_EINVAL);
    snprintf(path, sizeof path, "%s/version", b->path);
    assert_int_equal(store_open(path, &s, &err), SM_EIO);
    assert_int_equal(store_open("/proc/no/store", &s, &err), SM_ENOTFOUND);
    assert_null(s);
    /* a folder planted as a layer */
    struct store_held held;
    snprintf(path, sizeof path, "%s/layers/sha256/" HEX ".erofs", b->path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(store_hold(b->store, STORE_LAYER, ID, &held, &err), SM_ECORRUPT);
}

static void default_path(void **state)
{
    (void)state;
    char *path;
    setenv("SUPERMACHINE_HOME", "/s", 1);
    setenv("XDG_DATA_HOME", "/x", 1);
    setenv("HOME", "/h", 1);
    assert_int_equal(store_default_path(&path, NULL), SM_OK);
    assert_string_equal(path, "/s");
    free(path);
    unsetenv("SUPERMACHINE_HOME");
    assert_int_equal(store_default_path(&path, NULL), SM_OK);
    assert_string_equal(path, "/x/supermachine");
    free(path);
    setenv("XDG_DATA_HOME", "relative", 1); /* to be ignored, says the XDG specification */
    assert_int_equal(store_default_path(&path, NULL), SM_OK);
    assert_string_equal(path, "/h/.local/share/supermachine");
    free(path);
    unsetenv("HOME");
    assert_int_equal(store_default_path(&path, NULL), SM_EINVAL);
    assert_null(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(layer_life, setup, teardown),
        cmocka_unit_test_setup_teardown(killed_maker, setup, teardown),
        cmocka_unit_test_setup_teardown(stopped_maker, setup, teardown),
        cmocka_unit_test_setup_teardown(only_one_makes, setup, teardown),
        cmocka_unit_test_setup_teardown(blobs_and_seals, setup, teardown),
        cmocka_unit_test_setup_teardown(version, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_paths, setup, teardown),
        cmocka_unit_test(default_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-fs: queues, chains, resets and its thread. What requests mean is host/share_test.c's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/le.h"
#include "dev/fake_driver.h"
#include "dev/fs.h"

#define REQUEST FAKE_BUFFERS
#define ANSWER (FAKE_BUFFERS + 0x100000)

struct fixture {
    struct fake_driver f;
    struct fs *fs;
    char dir[64];
    int root, self; /* owned */
};

static void begin(struct fixture *x, unsigned queues)
{
    struct share_config config = {0};
    struct virtio_env env;
    struct share *share;

    memset(x, 0, sizeof *x);
    strcpy(x->dir, "/tmp/fs_test.XXXXXX");
    assert_non_null(mkdtemp(x->dir));
    config.root = x->root = open(x->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    config.self = x->self = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
    fake_init(&x->f);
    env = fake_env(&x->f);
    assert_int_equal(share_new(&config, &share, NULL), 0);
    assert_int_equal(fs_new(&env, share, "sm3", &x->fs, NULL), 0);
    fake_attach(&x->f, fs_virtio(x->fs));
    if (queues != 0)
        assert_int_equal(fake_start(&x->f, queues, 256, 0), 0xf);
}

static void end(struct fixture *x)
{
    char command[100];

    fake_detach(&x->f);
    fs_free(x->fs);
    fake_fini(&x->f);
    close(x->root);
    close(x->self);
    snprintf(command, sizeof command, "rm -rf %s", x->dir);
    assert_int_equal(system(command), 0);
}

static uint8_t *at(struct fixture *x, gpa_t gpa)
{
    return mem_ptr_write(x->f.mem, gpa, 64 << 10);
}

static void put(struct fixture *x, gpa_t gpa, uint32_t op, uint64_t node, const void *arg,
                uint32_t len)
{
    struct fuse_in_header h = {
        .len = (uint32_t)sizeof h + len, .opcode = op, .unique = op, .nodeid = node};

    memcpy(at(x, gpa), &h, sizeof h);
    if (len != 0)
        memcpy(at(x, gpa) + sizeof h, arg, len);
}

/* Offer a request on a queue: header and arg in two pieces, an answer of up to room bytes. */
static void offer(struct fixture *x, unsigned q, uint32_t op, uint64_t node, const void *arg,
                  uint32_t len, uint32_t room)
{
    struct fake_desc d[3] = {{REQUEST, 40, 0, 0}};
    unsigned n = 1;

    put(x, REQUEST, op, node, arg, len);
    if (len != 0)
        d[n++] = (struct fake_desc){REQUEST + 40, len, 0, 0};
    if (room != 0)
        d[n++] = (struct fake_desc){ANSWER, room, FAKE_WRITE, 0};
    fake_offer(&x->f, q, 0, d, n);
    fake_kick(&x->f, q);
}

/* The error of the answer that the next used element holds; its length goes into *len. */
static int answered(struct fixture *x, unsigned q, uint32_t *len)
{
    uint32_t head;

    assert_true(fake_used(&x->f, q, &head, len));
    assert_int_equal(le32_get(at(x, ANSWER)), *len);
    return -(int32_t)le32_get(at(x, ANSWER) + 4);
}

static void offer_init(struct fixture *x)
{
    struct fuse_init_in i = {.major = 7, .minor = 36};

    offer(x, 1, FUSE_INIT, 0, &i, sizeof i, 80);
}

static void what_it_offers(void **state)
{
    struct fixture x;
    char tag[4];

    begin(&x, 2);
    assert_int_equal(fake_read(&x.f, 0x08), 26);
    le32_put(tag, fake_read(&x.f, 0x100));
    assert_memory_equal(tag, "sm3", 4);
    assert_int_equal(fake_read(&x.f, 0x120), 0); /* the tag's end */
    assert_int_equal(fake_read(&x.f, 0x124), 1);
    fake_write(&x.f, 0x14, 0);
    assert_int_equal(fake_read(&x.f, 0x10), 1u << 29);
    end(&x);
}

static void requests(void **state)
{
    struct fixture x;
    struct fuse_forget_in forget = {.nlookup = 1};
    uint32_t len, head;

    begin(&x, 2);
    assert_false(fs_turn(x.fs));
    offer_init(&x);
    assert_false(fake_used(&x.f, 1, &head, &len)); /* not on the loop's thread */
    x.f.edges = 0;
    assert_true(fs_turn(x.fs));
    assert_int_equal(answered(&x, 1, &len), 0);
    assert_int_equal(len, 80);
    assert_int_equal(x.f.edges, 1);
    assert_true(x.f.wrote >= 80);
    offer(&x, 1, FUSE_LOOKUP, 1, "none", 5, 16 + 128);
    assert_true(fs_turn(x.fs));
    assert_int_equal(answered(&x, 1, &len), ENOENT);
    assert_int_equal(len, 16);
    offer(&x, 0, FUSE_FORGET, 99, &forget, sizeof forget, 0);
    assert_true(fs_turn(x.fs));
    assert_true(fake_used(&x.f, 0, &head, &len));
    assert_int_equal(len, 0);
    /* The queue of high priority goes first. */
    offer(&x, 1, FUSE_LOOKUP, 1, "none", 5, 16 + 128);
    put(&x, REQUEST + 4096, FUSE_FORGET, 99, &forget, sizeof forget);
    fake_offer(&x.f, 0, 9, &(struct fake_desc){REQUEST + 4096, 48, 0, 0}, 1);
    fake_kick(&x.f, 0);
    assert_true(fs_turn(x.fs));
    assert_true(fake_used(&x.f, 0, &head, &len));
    assert_false(fake_used(&x.f, 1, &head, &len));
    assert_true(fs_turn(x.fs));
    assert_int_equal(answered(&x, 1, &len), ENOENT);
    assert_false(fs_turn(x.fs));
    end(&x);
}

/* Data goes through any layout of descriptors. */
static void data(void **state)
{
    struct fuse_create_in c = {.flags = O_RDWR, .mode = 0644};
    struct fuse_write_in w = {.size = 6000};
    struct fuse_read_in r = {.offset = 1000, .size = 5000};
    struct fake_desc d[8];
    struct fixture x;
    uint8_t arg[64];
    uint32_t len;

    begin(&x, 2);
    offer_init(&x);
    assert_true(fs_turn(x.fs));
    assert_int_equal(answered(&x, 1, &len), 0);
    memcpy(arg, &c, sizeof c);
    memcpy(arg + sizeof c, "f", 2);
    offer(&x, 1, FUSE_CREATE, 1, arg, sizeof c + 2, 4096);
    assert_true(fs_turn(x.fs));
    assert_int_equal(answered(&x, 1, &len), 0);
    w.fh = r.fh = le64_get(at(&x, ANSWER) + 16 + sizeof(struct fuse_entry_out));
    put(&x, REQUEST, FUSE_WRITE, 1, &w, sizeof w);
    le32_put(at(&x, REQUEST), 80 + 6000);
    for (unsigned i = 0; i < 6000; i++)
        at(&x, REQUEST)[80 + i] = (uint8_t)(i * 7 >> 3);
    d[0] = (struct fake_desc){REQUEST, 50, 0, 0};
    d[1] = (struct fake_desc){REQUEST + 50, 31, 0, 0};
    d[2] = (struct fake_desc){REQUEST + 81, 5999, 0, 0};
    d[3] = (struct fake_desc){ANSWER, 3, FAKE_WRITE, 0};
    d[4] = (struct fake_desc){ANSWER + 3, 21, FAKE_WRITE, 0};
    fake_offer(&x.f, 1, 0, d, 5);
    fake_kick(&x.f, 1);
    assert_true(fs_turn(x.fs));
    assert_int_equal(answered(&x, 1, &len), 0);
    assert_int_equal(le32_get(at(&x, ANSWER) + 16), 6000);
    put(&x, REQUEST, FUSE_READ, 1, &r, sizeof r);
    d[0] = (struct fake_desc){REQUEST, 80, 0, 0};
    d[1] = (struct fake_desc){ANSWER, 16, FAKE_WRITE, 0};
    d[2] = (struct fake_desc){ANSWER + 16, 1, FAKE_WRITE, 0};
    d[3] = (struct fake_desc){ANSWER + 17, 8192, FAKE_WRITE, 0};
    fake_offer(&x.f, 1, 0, d, 4);
    fake_kick(&x.f, 1);
    assert_true(fs_turn(x.fs));
    assert_int_equal(answered(&x, 1, &len), 0);
    assert_int_equal(len, 16 + 5000);
    for (unsigned i = 0; i < 5000; i++)
        assert_int_equal(at(&x, ANSWER)[16 + i], (uint8_t)((i + 1000) * 7 >> 3));
    end(&x);
}

/* Chains without an answer's room, without a request, and such that break the rules. */
static void bad_chains(void **state)
{
    struct fake_desc d[2] = {{ANSWER, 100, FAKE_WRITE, 0}};
    struct fixture x;
    uint32_t head, len;

    begin(&x, 2);
    offer_init(&x);
    fs_turn(x.fs);
    answered(&x, 1, &len);
    fake_offer(&x.f, 1, 0, d, 1);
    fake_kick(&x.f, 1);
    assert_true(fs_turn(x.fs));
    assert_true(fake_used(&x.f, 1, &head, &len));
    assert_int_equal(len, 0);
    offer(&x, 1, FUSE_LOOKUP, 1, "none", 5, 15);
    assert_true(fs_turn(x.fs));
    assert_true(fake_used(&x.f, 1, &head, &len));
    assert_int_equal(len, 0);
    d[0] = (struct fake_desc){FAKE_RAM - 8, 40, 0, 0}; /* beyond memory */
    fake_offer(&x.f, 1, 0, d, 1);
    fake_kick(&x.f, 1);
    assert_false(fs_turn(x.fs));
    assert_int_equal(fake_read(&x.f, 0x70), 0x4f); /* needs reset */
    assert_false(fs_turn(x.fs));
    end(&x);
}

static void resets(void **state)
{
    struct fixture x;
    uint32_t len;

    begin(&x, 2);
    offer_init(&x);
    fs_turn(x.fs);
    assert_int_equal(answered(&x, 1, &len), 0);
    assert_int_equal(fake_start(&x.f, 2, 256, 0), 0xf);
    offer(&x, 1, FUSE_STATFS, 1, NULL, 0, 200);
    assert_true(fs_turn(x.fs));
    assert_int_equal(answered(&x, 1, &len), ENOTCONN); /* another session */
    offer_init(&x);
    fake_write(&x.f, 0x70, 0); /* reset before it was taken */
    assert_false(fs_turn(x.fs));
    end(&x);
}

static void wait_used(struct fixture *x, unsigned q, uint16_t index)
{
    const struct timespec step = {.tv_nsec = 100000};

    for (int i = 0; i < 100000 && fake_used_index(&x->f, q) != index; i++)
        nanosleep(&step, NULL);
    assert_int_equal(fake_used_index(&x->f, q), index);
}

static void on_start(void *opaque)
{
    ++*(unsigned *)opaque;
}

static void with_a_thread(void **state)
{
    struct fixture x;
    unsigned starts = 0;
    uint32_t len;
    struct fuse_mkdir_in mk = {.mode = 0777};
    struct stat st;
    char arg[16], path[100];
    mode_t was = umask(077);

    begin(&x, 2);
    assert_int_equal(fs_start(x.fs, on_start, &starts, NULL), 0);
    offer_init(&x);
    wait_used(&x, 1, 1);
    assert_int_equal(starts, 1);
    assert_int_equal(answered(&x, 1, &len), 0);
    memcpy(arg, &mk, sizeof mk);
    memcpy(arg + sizeof mk, "d", 2);
    offer(&x, 1, FUSE_MKDIR, 1, arg, sizeof mk + 2, 300);
    wait_used(&x, 1, 2);
    assert_int_equal(answered(&x, 1, &len), 0);
    snprintf(path, sizeof path, "%s/d", x.dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0777); /* the process's umask is not the thread's, */
    assert_int_equal(umask(was), 077);         /* and the other way round */
    for (int i = 0; i < 200; i++) {            /* resets at any time */
        offer(&x, 1, FUSE_STATFS, 1, NULL, 0, 200);
        assert_int_equal(fake_start(&x.f, 2, 256, 0), 0xf);
    }
    offer_init(&x);
    wait_used(&x, 1, 1);
    fs_stop(x.fs);
    fs_stop(x.fs);
    end(&x);
}

/* An open that the host holds up (a lease, which the test has): the loop and its lock are free. */
static void slow_host(void **state)
{
    struct fuse_open_in o = {.flags = O_RDONLY};
    struct fixture x;
    char path[100];
    uint32_t len;
    int fd;

    begin(&x, 2);
    assert_int_equal(fs_start(x.fs, NULL, NULL, NULL), 0);
    snprintf(path, sizeof path, "%s/f", x.dir);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    signal(SIGIO, SIG_IGN);
    if (fcntl(fd, F_SETLEASE, F_WRLCK) != 0) {
        close(fd);
        end(&x);
        skip();
    }
    offer_init(&x);
    wait_used(&x, 1, 1);
    assert_int_equal(answered(&x, 1, &len), 0);
    offer(&x, 1, FUSE_LOOKUP, 1, "f", 2, 300);
    wait_used(&x, 1, 2);
    assert_int_equal(answered(&x, 1, &len), 0);
    offer(&x, 1, FUSE_OPEN, le64_get(at(&x, ANSWER) + 16), &o, sizeof o, 100);
    nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    loop_lock(x.f.loop);
    loop_unlock(x.f.loop);
    fake_run(&x.f);
    assert_int_equal(fake_read(&x.f, 0x70), 0xf);
    assert_int_equal(fake_used_index(&x.f, 1), 2); /* it is still at it */
    assert_int_equal(fcntl(fd, F_SETLEASE, F_UNLCK), 0);
    wait_used(&x, 1, 3);
    assert_int_equal(answered(&x, 1, &len), 0);
    close(fd);
    end(&x);
}

static int walked(struct fixture *from, struct fixture *to)
{
    static const uint8_t digest[STATE_DIGEST_SIZE];
    struct state_file file;
    struct buf b = {0};
    int rc;

    assert_int_equal(state_begin(&b, digest, NULL), 0);
    assert_int_equal(state_save(&b, "fs0", FS_STATE_VERSION, fs_walk, from->fs, NULL), 0);
    assert_int_equal(state_open(&file, b.data, b.len, digest, NULL), 0);
    rc = state_load(&file, "fs0", FS_STATE_VERSION, fs_walk, to->fs, NULL);
    buf_fini(&b);
    return rc;
}

static void only_unused_is_saved(void **state)
{
    struct fixture x, y;
    uint32_t len;

    begin(&x, 2);
    begin(&y, 0);
    assert_int_equal(walked(&x, &y), 0);
    offer_init(&x);
    assert_true(fs_turn(x.fs));
    assert_int_equal(answered(&x, 1, &len), 0);
    assert_int_equal(walked(&x, &y), SM_ECORRUPT);
    end(&y);
    end(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_it_offers), cmocka_unit_test(requests),
        cmocka_unit_test(data),           cmocka_unit_test(bad_chains),
        cmocka_unit_test(resets),         cmocka_unit_test(with_a_thread),
        cmocka_unit_test(slow_host),      cmocka_unit_test(only_unused_is_saved),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

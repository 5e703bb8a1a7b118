/* SPDX-License-Identifier: Apache-2.0 */
/* The FUSE server under a hostile guest, at its bounds, and while others change the tree. */
#include "host/share_fixture.h"

static void read_only(void **state)
{
    struct fixture x = {0};
    struct fuse_mkdir_in mk = {.mode = 0755};
    struct fuse_rename_in mv = {.newdir = 1};
    uint64_t node, fh;
    struct stat st;

    begin(&x, false);
    put_file(&x, "f", "text");
    stop(&x);
    begin(&x, true);
    node = node_of(&x, 1, "f");
    assert_int_equal(open_node(&x, FUSE_OPEN, node, O_RDONLY, &fh), 0);
    expect_read(&x, fh, 0, "text");
    assert_int_equal(write_at(&x, fh, 0, "no", 2, 0, 0), EROFS);
    assert_int_equal(open_node(&x, FUSE_OPEN, node, O_RDWR, &fh), EROFS);
    assert_int_equal(open_node(&x, FUSE_OPEN, node, O_WRONLY, &fh), EROFS);
    assert_int_equal(open_node(&x, FUSE_OPEN, node, O_RDONLY | O_TRUNC, &fh), EROFS);
    assert_int_equal(create(&x, 1, "new", O_RDWR, 0644, &node, &fh), EROFS);
    assert_int_equal(ask_names(&x, FUSE_MKDIR, 1, &mk, sizeof mk, "d", NULL), EROFS);
    assert_int_equal(ask_names(&x, FUSE_SYMLINK, 1, "", 0, "l", "x"), EROFS);
    assert_int_equal(ask_names(&x, FUSE_RENAME, 1, &mv, sizeof mv, "f", "g"), EROFS);
    assert_int_equal(ask(&x, FUSE_UNLINK, 1, "f", 2), EROFS);
    assert_int_equal(setattr(&x, 1, (struct fuse_setattr_in){.valid = FATTR_MODE}, NULL), EROFS);
    assert_int_equal(setxattr_of(&x, 1, "user.a", "x", 0), EROFS);
    assert_int_equal(stat(in(&x, "f"), &st), 0);
    assert_int_equal(st.st_size, 4);
    end(&x);
}

static void bad_names(void **state)
{
    static const char *const bad[] = {".", "..", "/", "a/b", "../out", "/etc", "a/", ""};
    struct fixture x = {0};
    struct fuse_mkdir_in mk = {.mode = 0755};
    struct fuse_rename_in mv = {.newdir = 1};
    struct fuse_link_in ln = {0};
    struct fuse_entry_out e;
    uint64_t node, fh;
    char longest[300];

    begin(&x, false);
    put_file(&x, "f", "");
    ln.oldnodeid = node_of(&x, 1, "f");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(lookup(&x, 1, bad[i], &e), EINVAL);
        assert_int_equal(ask_names(&x, FUSE_MKDIR, 1, &mk, sizeof mk, bad[i], NULL), EINVAL);
        assert_int_equal(create(&x, 1, bad[i], O_RDWR, 0644, &node, &fh), EINVAL);
        assert_int_equal(ask_names(&x, FUSE_SYMLINK, 1, "", 0, bad[i], "target"), EINVAL);
        assert_int_equal(ask_names(&x, FUSE_LINK, 1, &ln, sizeof ln, bad[i], NULL), EINVAL);
        assert_int_equal(ask_names(&x, FUSE_RENAME, 1, &mv, sizeof mv, bad[i], "g"), EINVAL);
        assert_int_equal(ask_names(&x, FUSE_RENAME, 1, &mv, sizeof mv, "f", bad[i]), EINVAL);
        assert_int_equal(ask(&x, FUSE_UNLINK, 1, bad[i], strlen(bad[i]) + 1), EINVAL);
        assert_int_equal(ask(&x, FUSE_RMDIR, 1, bad[i], strlen(bad[i]) + 1), EINVAL);
    }
    memset(longest, 'n', sizeof longest);
    longest[256] = 0;
    assert_int_equal(lookup(&x, 1, longest, &e), ENAMETOOLONG);
    longest[255] = 0;
    assert_int_equal(lookup(&x, 1, longest, &e), ENOENT);
    assert_int_equal(ask(&x, FUSE_LOOKUP, 1, "ab", 2), EINVAL); /* no NUL */
    assert_int_equal(ask(&x, FUSE_SYMLINK, 1, "name\0", 5), EINVAL);
    assert_int_equal(ask(&x, FUSE_SYMLINK, 1, "name\0a", 6), EINVAL);
    end(&x);
}

/* Each operation with too little, with a wrong length, without room, on nodes that are not. */
static void bad_requests(void **state)
{
    static const uint8_t zeros[256];
    struct fixture x = {0};
    struct iovec one = {x.request, 39}, to = {x.answer, ROOM};
    uint64_t nodes[] = {0, 2, 3, 1ull << 32, 1ull << 32 | 1, 7ull << 32 | 300, UINT64_MAX, 1};

    begin(&x, false);
    put_file(&x, "f", "");
    node_of(&x, 1, "f");
    for (uint32_t op = 0; op < 70; op++) {
        if (op == FUSE_INIT || op == FUSE_DESTROY)
            continue;
        for (size_t n = 0; n < sizeof nodes / sizeof nodes[0]; n++) {
            for (size_t len = 0; len < 140; len += 4)
                ask(&x, op, nodes[n], zeros, len);
            ask_sized(&x, op, nodes[n], zeros, 100, 16, 0);
            assert_int_equal(ask_sized(&x, op, nodes[n], zeros, 100, 15, 0), -1);
        }
        int why = ask_sized(&x, op, 1, zeros, 100, ROOM - 4096, 1);
        assert_true(why == EINVAL || why == ENOSYS);
        why = ask_sized(&x, op, 1, zeros, 100, ROOM - 4096, -1);
        assert_true(why == EINVAL || why == ENOSYS);
        assert_true(op == 0 || op < 60 || ask(&x, op, 1, zeros, 100) == ENOSYS);
    }
    assert_int_equal(ask(&x, 0xffffffff, 1, zeros, 100), ENOSYS);
    assert_int_equal(share_answer(x.s, &one, 1, &to, 1), 0); /* not even a header */
    assert_int_equal(share_answer(x.s, NULL, 0, &to, 1), 0);
    static uint8_t large[200 << 10];
    assert_int_equal(ask(&x, FUSE_SETXATTR, 1, large, sizeof large), E2BIG);
    struct fuse_write_in w = {.size = 5};
    assert_int_equal(open_node(&x, FUSE_OPEN, node_of(&x, 1, "f"), O_RDWR, &w.fh), 0);
    assert_int_equal(ask(&x, FUSE_WRITE, 1, &w, sizeof w), EINVAL); /* says more than there is */
    w.size = 0;
    w.offset = UINT64_MAX;
    assert_int_equal(ask(&x, FUSE_WRITE, 1, &w, sizeof w), EINVAL);
    assert_int_equal(read_at(&x, w.fh, UINT64_MAX - 5, 10), EINVAL);
    assert_int_equal(read_at(&x, w.fh + 1, 0, 10), EBADF);
    assert_int_equal(read_at(&x, UINT64_MAX, 0, 10), EBADF);
    end(&x);
}

static void sessions(void **state)
{
    struct fixture x = {0};
    struct fuse_init_in i = {.major = 6, .minor = 99};
    struct fuse_init_out o;
    struct fuse_forget_in forget = {.nlookup = 2};
    struct fuse_attr a;
    struct {
        struct fuse_batch_forget_in head;
        struct fuse_forget_one one[2];
    } batch = {.head = {.count = 1000}};
    uint64_t node, fh;

    begin(&x, false);
    put_file(&x, "f", "");
    node = node_of(&x, 1, "f");
    assert_int_equal(node_of(&x, 1, "f"), node);
    assert_int_equal(ask(&x, FUSE_FORGET, node, &forget, sizeof forget), -1);
    assert_int_equal(getattr(&x, node, &a), ESTALE);
    assert_int_equal(ask(&x, FUSE_FORGET, node, &forget, sizeof forget), -1);
    assert_int_equal(ask(&x, FUSE_FORGET, 1, &forget, sizeof forget), -1);
    assert_int_equal(getattr(&x, 1, &a), 0);
    node = node_of(&x, 1, "f");
    batch.one[0] = (struct fuse_forget_one){node, UINT64_MAX};
    batch.one[1] = (struct fuse_forget_one){node, 1};
    assert_int_equal(ask(&x, FUSE_BATCH_FORGET, 0, &batch, sizeof batch), -1);
    assert_int_equal(getattr(&x, node, &a), ESTALE);
    /* Forgotten while it is open: the handle is good, the node is not freed under it. */
    node = node_of(&x, 1, "f");
    assert_int_equal(open_node(&x, FUSE_OPEN, node, O_RDWR, &fh), 0);
    assert_int_equal(ask(&x, FUSE_FORGET, node, &forget, sizeof forget), -1);
    expect_read(&x, fh, 0, "");
    assert_true(share_in_use(x.s));
    assert_int_equal(ask(&x, FUSE_DESTROY, 0, NULL, 0), 0);
    assert_false(share_in_use(x.s));
    assert_int_equal(getattr(&x, 1, &a), ENOTCONN);
    assert_int_equal(ask(&x, FUSE_INIT, 0, &i, sizeof i), EPROTO);
    i.major = 8;
    assert_int_equal(ask(&x, FUSE_INIT, 0, &i, sizeof i), 0);
    take(&x, 0, &o, sizeof o);
    assert_int_equal(o.major, 7);
    assert_int_equal(getattr(&x, 1, &a), ENOTCONN);
    init(&x);
    assert_int_equal(read_at(&x, fh, 0, 10), EBADF); /* of the other session */
    end(&x);
}

static void bounds(void **state)
{
    struct fixture x = {0};
    struct rlimit was, few;
    uint64_t node, fh;
    unsigned n, open_too, nodes;
    char name[16];

    begin(&x, false);
    put_file(&x, "f", "");
    node = node_of(&x, 1, "f");
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    few = was;
    few.rlim_cur = was.rlim_max < 6000 ? was.rlim_max : 6000;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    for (n = 0; open_node(&x, FUSE_OPEN, node, O_RDONLY, &fh) == 0; n++)
        ;
    if (few.rlim_cur == 6000)
        assert_int_equal(n, SHARE_HANDLES_MAX);
    init(&x); /* all are closed */
    /* Few descriptors are left: nodes give theirs up. */
    assert_int_equal(mkdir(in(&x, "d"), 0755), 0);
    for (unsigned i = 0; i < 2000; i++) {
        snprintf(name, sizeof name, "d/n%u", i);
        put_file(&x, name, "");
    }
    few.rlim_cur = 700;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    assert_int_equal(list(&x, node_of(&x, 1, "d"), true, 65536, &nodes), 2000);
    assert_int_equal(nodes, 2000);
    node = node_of(&x, 1, "f");
    for (open_too = 0; open_node(&x, FUSE_OPEN, node, O_RDONLY, &fh) == 0; open_too++)
        ;
    assert_in_range(open_too, 300, 700);
    assert_int_equal(open_node(&x, FUSE_OPEN, node, O_RDONLY, &fh), EMFILE);
    setrlimit(RLIMIT_NOFILE, &was);
    end(&x);
}

/* ---- links ---- */

/* The guest's own links, and such that are made meanwhile, lead nowhere on the host. */
static void links(void **state)
{
    struct fixture x = {0};
    struct fuse_mkdir_in mk = {.mode = 0755};
    struct fuse_entry_out e;
    uint64_t link, node, fh;

    begin(&x, false);
    assert_int_equal(symlink("../out", in(&x, "l")), 0);
    assert_int_equal(symlink("/etc/passwd", in(&x, "p")), 0);
    link = node_of(&x, 1, "l");
    assert_int_equal(lookup(&x, link, "secret", &e), ENOTDIR);
    assert_int_equal(ask_names(&x, FUSE_MKDIR, link, &mk, sizeof mk, "new", NULL), ENOTDIR);
    assert_int_equal(create(&x, link, "new", O_RDWR, 0644, &node, &fh), ENOTDIR);
    assert_int_equal(open_node(&x, FUSE_OPENDIR, link, 0, &fh), ENOTDIR);
    link = node_of(&x, 1, "p");
    assert_int_equal(open_node(&x, FUSE_OPEN, link, O_RDONLY, &fh), ELOOP);
    assert_int_equal(create(&x, 1, "p", O_RDONLY, 0644, &node, &fh), ELOOP);
    assert_int_equal(
        setattr(&x, link, (struct fuse_setattr_in){.valid = FATTR_SIZE}, &(struct fuse_attr){0}),
        ELOOP);
    assert_int_equal(
        setattr(&x, link, (struct fuse_setattr_in){.valid = FATTR_MODE, .mode = 0777}, NULL),
        EOPNOTSUPP);
    assert_int_equal(
        setattr(&x, link, (struct fuse_setattr_in){.valid = FATTR_MTIME, .mtime = 9}, NULL),
        0); /* the link's own */
    assert_int_equal(setxattr_of(&x, link, "user.a", "x", 0), EOPNOTSUPP);
    end(&x);
}

struct swapper {
    struct fixture *x;
    atomic_bool stop;
    unsigned swaps;
};

static void *swap(void *opaque)
{
    struct swapper *w = opaque;
    char one[200], other[200];

    snprintf(one, sizeof one, "%s/in/d", w->x->base);
    snprintf(other, sizeof other, "%s/in/l", w->x->base);
    for (; !atomic_load(&w->stop); w->swaps++)
        renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE);
    return NULL;
}

/* A folder and a link to what is outside change places all the time. */
static void races(void **state)
{
    struct fixture x = {0};
    struct swapper w = {.x = &x};
    struct fuse_mkdir_in mk = {.mode = 0755};
    struct fuse_entry_out e;
    struct fuse_attr a;
    pthread_t thread;
    uint64_t node, fh, many;
    unsigned entered = 0, nodes;
    char name[32], outside[200];
    struct stat st;
    time_t until = time(NULL) + 3;

    begin(&x, false);
    assert_int_equal(mkdir(in(&x, "d"), 0755), 0);
    assert_int_equal(mkdir(in(&x, "d/inside"), 0755), 0);
    assert_int_equal(symlink("../out", in(&x, "l")), 0);
    assert_int_equal(mkdir(in(&x, "many"), 0755), 0);
    for (unsigned i = 0; i < 1200; i++) {
        snprintf(name, sizeof name, "many/n%u", i);
        put_file(&x, name, "");
    }
    many = node_of(&x, 1, "many");
    assert_int_equal(pthread_create(&thread, NULL, swap, &w), 0);
    for (unsigned i = 0; time(NULL) < until; i++) {
        if (lookup(&x, 1, "d", &e) != 0)
            continue;
        if (i % 500 == 0)
            list(&x, many, true, 65536, &nodes); /* makes all cold */
        snprintf(name, sizeof name, "made%u", i);
        if (i % 16 == 0)
            ask_names(&x, FUSE_MKDIR, e.nodeid, &mk, sizeof mk, name, NULL);
        if (i % 16 == 8)
            create(&x, e.nodeid, name, O_RDWR, 0644, &node, &fh);
        if (i % 16 == 8)
            init(&x);
        if (i % 16 == 8)
            many = node_of(&x, 1, "many");
        assert_int_not_equal(lookup(&x, e.nodeid, "secret", &e), 0);
        if (lookup(&x, 1, "d", &e) == 0 && S_ISDIR(e.attr.mode) &&
            lookup(&x, e.nodeid, "inside", &e) == 0)
            entered += getattr(&x, e.nodeid, &a) == 0;
    }
    atomic_store(&w.stop, true);
    pthread_join(thread, NULL);
    assert_true(entered > 10 && w.swaps > 100);
    snprintf(outside, sizeof outside, "%s/out", x.base);
    assert_int_equal(stat(outside, &st), 0);
    assert_int_equal(st.st_nlink, 3); /* itself, its parent's entry, secret */
    snprintf(outside, sizeof outside, "rmdir %s/out/secret && rmdir %s/out", x.base, x.base);
    assert_int_equal(system(outside), 0); /* nothing else was in it */
    end(&x);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read_only), cmocka_unit_test(bad_names), cmocka_unit_test(bad_requests),
        cmocka_unit_test(sessions),  cmocka_unit_test(bounds),    cmocka_unit_test(links),
        cmocka_unit_test(races),
    };

    umask(0);
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The FUSE server on a folder of its own: what each operation does. */
#include "host/share_fixture.h"

/* ---- files ---- */

static void files(void **state)
{
    struct fixture x = {0};
    struct fuse_attr a;
    struct stat st;
    uint64_t node, fh, other, spare;

    begin(&x, false);
    assert_int_equal(create(&x, 1, "f", O_RDWR | O_EXCL, 06640, &node, &fh), 0);
    assert_int_equal(create(&x, 1, "f", O_RDWR | O_EXCL, 0640, &spare, &other), EEXIST);
    assert_int_equal(write_at(&x, fh, 0, "hello world", 11, 0, 0), 0);
    expect_read(&x, fh, 6, "world");
    expect_read(&x, fh, 11, "");
    assert_int_equal(write_at(&x, fh, 3, "!!", 2, O_APPEND, 0), 0); /* at the end, wherever */
    assert_int_equal(write_at(&x, fh, 0, "H", 1, O_APPEND, FUSE_WRITE_CACHE), 0); /* in place */
    expect_read(&x, fh, 0, "Hello world!!");
    assert_int_equal(stat(in(&x, "f"), &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0640); /* no set-user-id */
    assert_int_equal(st.st_size, 13);
    assert_int_equal(
        setattr(&x, node, (struct fuse_setattr_in){.valid = FATTR_SIZE, .size = 5}, &a), 0);
    assert_int_equal(a.size, 5);
    assert_int_equal(
        setattr(&x, node,
                (struct fuse_setattr_in){.valid = FATTR_SIZE | FATTR_FH, .fh = fh, .size = 1 << 20},
                &a),
        0);
    assert_true(a.size == 1 << 20 && a.blocks * 512 < a.size);
    assert_int_equal(open_node(&x, FUSE_OPEN, node, O_WRONLY | O_TRUNC, &other), 0);
    assert_int_equal(getattr(&x, node, &a), 0);
    assert_int_equal(a.size, 0);
    assert_int_equal(read_at(&x, other, 0, 1), EBADF);
    release(&x, other);
    assert_int_equal(read_at(&x, other, 0, 1), EBADF); /* it is closed */
    /* Unlinked and open: it is still what it was. */
    assert_int_equal(write_at(&x, fh, 0, "late", 4, 0, 0), 0);
    assert_int_equal(ask(&x, FUSE_UNLINK, 1, "f", 2), 0);
    expect_read(&x, fh, 0, "late");
    assert_int_equal(getattr(&x, node, &a), 0);
    assert_int_equal(a.nlink, 0);
    assert_int_equal(create(&x, 1, "f", O_RDWR, 0600, &other, &node), 0);
    expect_read(&x, fh, 0, "late");
    /* Creating what is there opens it. */
    put_file(&x, "g", "there");
    assert_int_equal(create(&x, 1, "g", O_RDONLY, 0600, &node, &fh), 0);
    expect_read(&x, fh, 0, "there");
    end(&x);
}

static void more_of_files(void **state)
{
    struct fixture x = {0};
    struct fuse_fallocate_in fa = {.length = 65536};
    struct fuse_lseek_in ls = {.whence = SEEK_HOLE};
    struct fuse_fsync_in fs = {0};
    struct fuse_flush_in fl = {0};
    struct fuse_copy_file_range_in cp = {.len = 5};
    struct fuse_lseek_out to;
    struct fuse_write_out n;
    uint64_t node, fh, node2, fh2;

    begin(&x, false);
    assert_int_equal(create(&x, 1, "f", O_RDWR, 0640, &node, &fh), 0);
    assert_int_equal(create(&x, 1, "g", O_RDWR, 0640, &node2, &fh2), 0);
    assert_int_equal(write_at(&x, fh, 0, "hello", 5, 0, 0), 0);
    fs.fh = fl.fh = fa.fh = ls.fh = cp.fh_in = fh;
    cp.fh_out = fh2;
    assert_int_equal(ask(&x, FUSE_FSYNC, node, &fs, sizeof fs), 0);
    fs.fsync_flags = FUSE_FSYNC_FDATASYNC;
    assert_int_equal(ask(&x, FUSE_FSYNC, node, &fs, sizeof fs), 0);
    assert_int_equal(ask(&x, FUSE_FLUSH, node, &fl, sizeof fl), 0);
    assert_int_equal(ask(&x, FUSE_COPY_FILE_RANGE, node, &cp, sizeof cp), 0);
    take(&x, 0, &n, sizeof n);
    assert_int_equal(n.size, 5);
    expect_read(&x, fh2, 0, "hello");
    cp.fh_out = 999;
    assert_int_equal(ask(&x, FUSE_COPY_FILE_RANGE, node, &cp, sizeof cp), EBADF);
    fa.mode = 0;
    assert_int_equal(ask(&x, FUSE_FALLOCATE, node, &fa, sizeof fa), 0);
    fa.mode = 0x40; /* unshare */
    assert_int_equal(ask(&x, FUSE_FALLOCATE, node, &fa, sizeof fa), EOPNOTSUPP);
    fa.offset = UINT64_MAX;
    fa.mode = 0;
    assert_int_equal(ask(&x, FUSE_FALLOCATE, node, &fa, sizeof fa), EFBIG);
    assert_int_equal(ask(&x, FUSE_LSEEK, node, &ls, sizeof ls), 0);
    take(&x, 0, &to, sizeof to);
    assert_in_range(to.offset, 5, 65536);
    ls.whence = SEEK_SET;
    assert_int_equal(ask(&x, FUSE_LSEEK, node, &ls, sizeof ls), EINVAL);
    assert_int_equal(ask(&x, FUSE_SYNCFS, 1, &(uint64_t){0}, 8), 0);
    assert_int_equal(ask(&x, FUSE_STATFS, 1, NULL, 0), 0);
    assert_int_equal(x.got, sizeof(struct fuse_statfs_out));
    end(&x);
}

/* As another user of the guest's than root. */
static void shown_owner(void **state)
{
    struct fixture x = {.uid = 1000, .gid = 1001};
    struct fuse_setattr_in own = {.valid = FATTR_UID | FATTR_GID, .uid = 1000, .gid = 1001};
    struct fuse_attr a;
    uint64_t node, fh;

    begin(&x, false);
    assert_int_equal(create(&x, 1, "f", O_RDWR, 0640, &node, &fh), 0);
    assert_int_equal(getattr(&x, node, &a), 0);
    assert_true(a.uid == 1000 && a.gid == 1001);
    assert_int_equal(setattr(&x, node, own, NULL), 0);
    own.uid = 0;
    assert_int_equal(setattr(&x, node, own, NULL), EPERM);
    end(&x);
}

static void attributes(void **state)
{
    struct fixture x = {0};
    struct fuse_attr a;
    struct stat st;
    uint64_t node;

    begin(&x, false);
    put_file(&x, "f", "");
    assert_int_equal(chown(in(&x, "f"), geteuid(), getegid()), 0);
    node = node_of(&x, 1, "f");
    assert_int_equal(getattr(&x, node, &a), 0);
    assert_true(a.uid == 0 && a.gid == 0 && a.nlink == 1);
    assert_int_equal(
        setattr(&x, node, (struct fuse_setattr_in){.valid = FATTR_MODE, .mode = 04711}, &a), 0);
    assert_int_equal(a.mode, S_IFREG | 0711);
    assert_int_equal(
        setattr(&x, 1, (struct fuse_setattr_in){.valid = FATTR_MODE, .mode = 03755}, &a), 0);
    assert_int_equal(a.mode, S_IFDIR | 03755);
    assert_int_equal(
        setattr(&x, node, (struct fuse_setattr_in){.valid = FATTR_UID | FATTR_GID}, &a), 0);
    assert_int_equal(setattr(&x, node, (struct fuse_setattr_in){.valid = FATTR_UID, .uid = 5}, &a),
                     EPERM);
    assert_int_equal(setattr(&x, node, (struct fuse_setattr_in){.valid = FATTR_GID, .gid = 5}, &a),
                     EPERM);
    assert_int_equal(
        setattr(&x, node,
                (struct fuse_setattr_in){
                    .valid = FATTR_ATIME | FATTR_MTIME, .atime = 5, .mtime = 6, .mtimensec = 7},
                &a),
        0);
    assert_true(a.atime == 5 && a.mtime == 6 && a.mtimensec == 7);
    assert_int_equal(stat(in(&x, "f"), &st), 0);
    assert_int_equal(st.st_mtim.tv_nsec, 7);
    assert_int_equal(setattr(&x, node,
                             (struct fuse_setattr_in){.valid = FATTR_ATIME, .atimensec = UTIME_NOW},
                             &a),
                     EINVAL);
    assert_int_equal(
        setattr(&x, node, (struct fuse_setattr_in){.valid = FATTR_MTIME | FATTR_MTIME_NOW}, &a), 0);
    assert_true(a.mtime > 1000000 && a.atime == 5);
    assert_int_equal(setattr(&x, node, (struct fuse_setattr_in){.valid = 1u << 31}, &a), EINVAL);
    if (geteuid() == 0) {
        assert_int_equal(chown(in(&x, "f"), 5, 6), 0);
        assert_int_equal(getattr(&x, node, &a), 0);
        assert_true(a.uid == SHARE_NOBODY && a.gid == SHARE_NOBODY);
        assert_int_equal(setattr(&x, node, (struct fuse_setattr_in){.valid = FATTR_UID}, &a),
                         EPERM);
    }
    end(&x);
}

/* ---- names ---- */

static void names(void **state)
{
    struct fixture x = {0};
    struct fuse_mkdir_in mk = {.mode = 0755};
    struct fuse_mknod_in nod = {.mode = S_IFIFO | 0600};
    struct fuse_rename_in mv = {0};
    struct fuse_rename2_in mv2 = {0};
    struct fuse_link_in ln = {0};
    struct fuse_entry_out e, f;
    struct stat st;
    char target[64];

    begin(&x, false);
    assert_int_equal(ask_names(&x, FUSE_MKDIR, 1, &mk, sizeof mk, "d", NULL), 0);
    take(&x, 0, &e, sizeof e);
    assert_true(S_ISDIR(e.attr.mode) && e.entry_valid == SHARE_VALID_S);
    assert_int_equal(ask_names(&x, FUSE_MKDIR, 1, &mk, sizeof mk, "d", NULL), EEXIST);
    assert_int_equal(ask_names(&x, FUSE_MKNOD, e.nodeid, &nod, sizeof nod, "fifo", NULL), 0);
    nod.mode = S_IFSOCK | 0600;
    assert_int_equal(ask_names(&x, FUSE_MKNOD, e.nodeid, &nod, sizeof nod, "sock", NULL), 0);
    nod.mode = S_IFREG | 04600;
    assert_int_equal(ask_names(&x, FUSE_MKNOD, e.nodeid, &nod, sizeof nod, "reg", NULL), 0);
    nod = (struct fuse_mknod_in){.mode = S_IFCHR | 0600, .rdev = 0x103};
    assert_int_equal(ask_names(&x, FUSE_MKNOD, e.nodeid, &nod, sizeof nod, "null", NULL), EPERM);
    nod.mode = S_IFBLK;
    assert_int_equal(ask_names(&x, FUSE_MKNOD, e.nodeid, &nod, sizeof nod, "disk", NULL), EPERM);
    assert_int_equal(stat(in(&x, "d/reg"), &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0600);
    assert_int_equal(ask_names(&x, FUSE_SYMLINK, 1, "", 0, "l", "../out/secret"), 0);
    take(&x, 0, &f, sizeof f);
    assert_int_equal(ask(&x, FUSE_READLINK, f.nodeid, NULL, 0), 0);
    assert_int_equal(x.got, 13);
    assert_int_equal(readlink(in(&x, "l"), target, sizeof target), 13);
    ln.oldnodeid = f.nodeid; /* of the link itself */
    assert_int_equal(ask_names(&x, FUSE_LINK, e.nodeid, &ln, sizeof ln, "l2", NULL), 0);
    assert_int_equal(lstat(in(&x, "d/l2"), &st), 0);
    assert_true(S_ISLNK(st.st_mode) && st.st_nlink == 2);
    ln.oldnodeid = e.nodeid;
    assert_int_equal(ask_names(&x, FUSE_LINK, 1, &ln, sizeof ln, "d2", NULL), EPERM);

    mv.newdir = 1;
    assert_int_equal(ask_names(&x, FUSE_RENAME, e.nodeid, &mv, sizeof mv, "reg", "r"), 0);
    put_file(&x, "old", "old");
    assert_int_equal(ask_names(&x, FUSE_RENAME, 1, &mv, sizeof mv, "r", "old"), 0); /* over it */
    assert_int_equal(stat(in(&x, "old"), &st), 0);
    assert_int_equal(st.st_size, 0);
    mv2 = (struct fuse_rename2_in){.newdir = 1, .flags = 1};
    assert_int_equal(ask_names(&x, FUSE_RENAME2, 1, &mv2, sizeof mv2, "l", "old"), EEXIST);
    mv2.flags = 2;
    assert_int_equal(ask_names(&x, FUSE_RENAME2, 1, &mv2, sizeof mv2, "l", "old"), 0);
    assert_int_equal(lstat(in(&x, "old"), &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    mv2.flags = 4; /* a device node would be left behind */
    assert_int_equal(ask_names(&x, FUSE_RENAME2, 1, &mv2, sizeof mv2, "l", "old"), EINVAL);
    assert_int_equal(ask(&x, FUSE_RMDIR, 1, "d", 2), ENOTEMPTY);
    assert_int_equal(ask(&x, FUSE_UNLINK, 1, "d", 2), EISDIR);
    assert_int_equal(ask(&x, FUSE_UNLINK, e.nodeid, "fifo", 5), 0);
    assert_int_equal(ask(&x, FUSE_UNLINK, e.nodeid, "sock", 5), 0);
    assert_int_equal(ask(&x, FUSE_UNLINK, e.nodeid, "l2", 3), 0);
    assert_int_equal(ask(&x, FUSE_RMDIR, 1, "d", 2), 0);
    assert_int_equal(lookup(&x, 1, "d", &f), ENOENT);
    assert_int_equal(lookup(&x, e.nodeid, "x", &f), ENOENT); /* in a folder that is gone */
    end(&x);
}

static void extended(void **state)
{
    struct fixture x = {0};
    struct fuse_getxattr_in get = {.size = 100};
    struct fuse_getxattr_out size;
    struct fuse_setxattr_in bad = {.size = 9};
    char value[16];
    uint64_t node;

    begin(&x, false);
    put_file(&x, "f", "");
    node = node_of(&x, 1, "f");
    if (setxattr(in(&x, "f"), "user.t", "", 0, 0) != 0) {
        end(&x);
        skip();
    }
    removexattr(in(&x, "f"), "user.t");
    assert_int_equal(setxattr_of(&x, node, "user.a", "one", 0), 0);
    assert_int_equal(getxattr(in(&x, "f"), "user.a", value, sizeof value), 4);
    assert_int_equal(setxattr_of(&x, node, "user.a", "two", XATTR_CREATE), EEXIST);
    assert_int_equal(setxattr_of(&x, node, "user.a", "two", 0x80), EINVAL);
    assert_int_equal(setxattr_of(&x, 1, "user.folder", "x", 0), 0);
    static const char *const refused[] = {"trusted.a", "security.capability",
                                          "system.posix_acl_access", "user", "x"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_int_equal(setxattr_of(&x, node, refused[i], "x", 0), EOPNOTSUPP);
        assert_int_equal(ask_names(&x, FUSE_GETXATTR, node, &get, sizeof get, refused[i], NULL),
                         EOPNOTSUPP);
    }
    assert_int_equal(ask_names(&x, FUSE_SETXATTR, node, &bad, 8, "user.b", "short"), EINVAL);
    assert_int_equal(ask_names(&x, FUSE_GETXATTR, node, &get, sizeof get, "user.a", NULL), 0);
    assert_int_equal(x.got, 4);
    get.size = 3;
    assert_int_equal(ask_names(&x, FUSE_GETXATTR, node, &get, sizeof get, "user.a", NULL), ERANGE);
    get.size = 0;
    assert_int_equal(ask_names(&x, FUSE_GETXATTR, node, &get, sizeof get, "user.a", NULL), 0);
    take(&x, 0, &size, sizeof size);
    assert_int_equal(size.size, 4);
    if (geteuid() == 0)
        assert_int_equal(setxattr(in(&x, "f"), "trusted.hidden", "", 0, 0), 0);
    get.size = 100;
    assert_int_equal(ask(&x, FUSE_LISTXATTR, node, &get, sizeof get), 0);
    assert_int_equal(x.got, 7);
    assert_memory_equal(x.answer + sizeof(struct fuse_out_header), "user.a", 7);
    assert_int_equal(ask(&x, FUSE_REMOVEXATTR, node, "user.a", 7), 0);
    assert_int_equal(ask(&x, FUSE_REMOVEXATTR, node, "user.a", 7), ENODATA);
    end(&x);
}

/* ---- folders ---- */

static void folders(void **state)
{
    struct fixture x = {0};
    struct fuse_read_in i = {.size = 100};
    struct fuse_fsync_in fs = {0};
    uint64_t node;
    unsigned nodes;
    char name[16];

    begin(&x, false);
    assert_int_equal(mkdir(in(&x, "d"), 0755), 0);
    for (unsigned n = 0; n < 5000; n++) {
        snprintf(name, sizeof name, "d/n%u", n);
        put_file(&x, name, "");
    }
    node = node_of(&x, 1, "d");
    assert_int_equal(list(&x, node, false, 4096, &nodes), 5000);
    assert_int_equal(nodes, 0);
    assert_int_equal(list(&x, node, true, 4096, &nodes), 5000);
    assert_int_equal(nodes, 5000);
    assert_int_equal(list(&x, node, true, 65536, &nodes), 5000);
    /* More files are known than descriptors kept: each is still found, and is itself. */
    for (unsigned n = 0; n < 5000; n += 7) {
        struct fuse_attr a, b;

        snprintf(name, sizeof name, "n%u", n);
        assert_int_equal(getattr(&x, node_of(&x, node, name), &a), 0);
        assert_int_equal(getattr(&x, node_of(&x, node, name), &b), 0);
        assert_int_equal(a.ino, b.ino);
    }
    assert_int_equal(open_node(&x, FUSE_OPENDIR, node, 0, &i.fh), 0);
    fs.fh = i.fh;
    assert_int_equal(ask(&x, FUSE_FSYNCDIR, node, &fs, sizeof fs), 0);
    i.offset = 0x7fffffffffffffff; /* whatever it is, it is none of ours */
    ask(&x, FUSE_READDIR, node, &i, sizeof i);
    release(&x, i.fh);
    assert_int_equal(open_node(&x, FUSE_OPENDIR, node, 0, &i.fh), 0);
    i.offset = 0;
    i.size = 10;
    assert_int_equal(ask(&x, FUSE_READDIR, node, &i, sizeof i), EINVAL);
    assert_int_equal(read_at(&x, i.fh, 0, 10), EBADF); /* no file */
    assert_int_equal(open_node(&x, FUSE_OPEN, node, O_RDONLY, &i.fh), EISDIR);
    assert_int_equal(open_node(&x, FUSE_OPENDIR, node_of(&x, node, "n1"), 0, &i.fh), ENOTDIR);
    end(&x);
}

/* Nodes that are cold are found by their names again, however deep, and also after renaming. */
static void cold(void **state)
{
    struct fixture x = {0};
    struct fuse_mkdir_in mk = {.mode = 0755};
    struct fuse_rename_in mv = {.newdir = 1};
    struct fuse_entry_out e;
    struct fuse_attr a;
    uint64_t chain[50], f;
    unsigned nodes;
    char name[16];

    begin(&x, false);
    assert_int_equal(mkdir(in(&x, "many"), 0755), 0);
    for (unsigned n = 0; n < 3000; n++) {
        snprintf(name, sizeof name, "many/n%u", n);
        put_file(&x, name, "");
    }
    for (unsigned n = 0; n < 50; n++) {
        assert_int_equal(
            ask_names(&x, FUSE_MKDIR, n ? chain[n - 1] : 1, &mk, sizeof mk, "sub", NULL), 0);
        take(&x, 0, &e, sizeof e);
        chain[n] = e.nodeid;
    }
    put_file(&x, "replaced", "1");
    f = node_of(&x, 1, "replaced");
    list(&x, node_of(&x, 1, "many"), true, 65536, &nodes); /* all others are cold now */
    assert_int_equal(getattr(&x, chain[49], &a), 0);
    list(&x, node_of(&x, 1, "many"), true, 65536, &nodes);
    assert_int_equal(ask_names(&x, FUSE_RENAME, 1, &mv, sizeof mv, "sub", "moved"), 0);
    list(&x, node_of(&x, 1, "many"), true, 65536, &nodes);
    assert_int_equal(getattr(&x, chain[49], &a), 0);
    /* By others: its place is unknown until it is looked up. */
    list(&x, node_of(&x, 1, "many"), true, 65536, &nodes);
    assert_int_equal(rename(in(&x, "moved"), in(&x, "again")), 0);
    assert_int_equal(getattr(&x, chain[49], &a), ESTALE);
    assert_int_equal(node_of(&x, 1, "again"), chain[0]);
    assert_int_equal(getattr(&x, chain[49], &a), 0);
    /* Another file with that name is not taken for it. */
    put_file(&x, "new", "2");
    assert_int_equal(rename(in(&x, "new"), in(&x, "replaced")), 0);
    assert_int_equal(getattr(&x, f, &a), ESTALE);
    assert_true(node_of(&x, 1, "replaced") != f);
    end(&x);
}

/* A folder that others move into its own former child: no circle of names is left. */
static void turned_around(void **state)
{
    struct fixture x = {0};
    uint64_t outer, inner;
    struct fuse_attr a;

    begin(&x, false);
    assert_int_equal(mkdir(in(&x, "outer"), 0755), 0);
    assert_int_equal(mkdir(in(&x, "outer/inner"), 0755), 0);
    outer = node_of(&x, 1, "outer");
    inner = node_of(&x, outer, "inner");
    assert_int_equal(rename(in(&x, "outer/inner"), in(&x, "inner")), 0);
    assert_int_equal(rename(in(&x, "outer"), in(&x, "inner/outer")), 0);
    assert_int_equal(node_of(&x, inner, "outer"), outer);
    assert_int_equal(getattr(&x, inner, &a), 0);
    assert_int_equal(node_of(&x, 1, "inner"), inner);
    assert_int_equal(node_of(&x, inner, "outer"), outer);
    end(&x);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files),         cmocka_unit_test(more_of_files),
        cmocka_unit_test(attributes),    cmocka_unit_test(shown_owner),
        cmocka_unit_test(names),         cmocka_unit_test(extended),
        cmocka_unit_test(folders),       cmocka_unit_test(cold),
        cmocka_unit_test(turned_around),
    };

    umask(0);
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A guest of a share, for tests: a folder of its own, requests as bytes, and answers looked at. */
#ifndef SM_HOST_SHARE_FIXTURE_H
#define SM_HOST_SHARE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "host/share.h"

#define ROOM (256u << 10)
#define ENTRY sizeof(struct fuse_entry_out)

struct fixture {
    char base[64]; /* holds the folder "in", and "out" beside it */
    int root, self;
    uint32_t uid, gid; /* for share_config */
    struct share *s;
    uint8_t request[ROOM], answer[ROOM];
    uint32_t got; /* bytes after the answer's header */
};

static inline const char *in(struct fixture *x, const char *name)
{
    static char path[8][512];
    static unsigned n;
    char *p = path[n++ % 8];

    snprintf(p, sizeof path[0], "%s/in/%s", x->base, name);
    return p;
}

/* One request, with what it is in cut into odd pieces: 0 or the errno; -1: no answer. */
static inline int ask_sized(struct fixture *x, uint32_t op, uint64_t node, const void *arg,
                            size_t len, uint32_t room, int32_t said)
{
    struct fuse_in_header h = {
        .len = (uint32_t)(sizeof h + len), .opcode = op, .unique = 77, .nodeid = node};
    struct fuse_out_header out;
    struct iovec from[3], to[3];
    uint32_t total = (uint32_t)(sizeof h + len), n;

    h.len = (uint32_t)((int32_t)h.len + said);
    memcpy(x->request, &h, sizeof h);
    if (len != 0)
        memcpy(x->request + sizeof h, arg, len);
    from[0] = (struct iovec){x->request, 7};
    from[1] = (struct iovec){x->request + 7, total / 2 - 7};
    from[2] = (struct iovec){x->request + total / 2, total - total / 2};
    memset(x->answer, 0xee, sizeof x->answer);
    to[0] = (struct iovec){x->answer, room < 5 ? room : 5};
    to[1] = (struct iovec){x->answer + to[0].iov_len, (room - to[0].iov_len) / 2};
    to[2] = (struct iovec){x->answer + to[0].iov_len + to[1].iov_len,
                           room - to[0].iov_len - to[1].iov_len};
    n = share_answer(x->s, from, 3, to, 3);
    if (n == 0)
        return -1;
    memcpy(&out, x->answer, sizeof out);
    assert_int_equal(out.len, n);
    assert_true(n >= sizeof out && n <= room);
    assert_int_equal(out.unique, 77);
    x->got = n - (uint32_t)sizeof out;
    assert_int_equal(x->answer[n], 0xee); /* nothing beyond */
    if (out.error != 0)
        assert_int_equal(x->got, 0);
    return -out.error;
}

static inline int ask(struct fixture *x, uint32_t op, uint64_t node, const void *arg, size_t len)
{
    return ask_sized(x, op, node, arg, len, ROOM - 4096, 0);
}

static inline void take(struct fixture *x, size_t at, void *out, size_t len)
{
    assert_true(at + len <= x->got);
    memcpy(out, x->answer + sizeof(struct fuse_out_header) + at, len);
}

/* A request of a struct and up to two names. */
static inline int ask_names(struct fixture *x, uint32_t op, uint64_t node, const void *arg,
                            size_t len, const char *one, const char *two)
{
    uint8_t text[9000];

    memcpy(text, arg, len);
    strcpy((char *)text + len, one);
    len += strlen(one) + 1;
    if (two != NULL) {
        strcpy((char *)text + len, two);
        len += strlen(two) + 1;
    }
    return ask(x, op, node, text, len);
}

static inline void init(struct fixture *x)
{
    struct fuse_init_in i = {.major = 7, .minor = 37, .max_readahead = 1 << 17, .flags = ~0u};
    struct fuse_init_out o;

    assert_int_equal(ask(x, FUSE_INIT, 0, &i, sizeof i), 0);
    take(x, 0, &o, sizeof o);
    assert_int_equal(o.major, 7);
    assert_int_equal(o.max_write, SHARE_WRITE_MAX);
    assert_true(o.flags & FUSE_MAX_PAGES && !(o.flags & FUSE_WRITEBACK_CACHE));
}

static inline void begin(struct fixture *x, bool read_only)
{
    struct share_config config = {.read_only = read_only, .uid = x->uid, .gid = x->gid};
    char path[100];

    if (!x->base[0]) {
        strcpy(x->base, "/tmp/share_test.XXXXXX");
        assert_non_null(mkdtemp(x->base));
        snprintf(path, sizeof path, "%s/in", x->base);
        assert_int_equal(mkdir(path, 0755), 0);
        snprintf(path, sizeof path, "%s/out", x->base);
        assert_int_equal(mkdir(path, 0755), 0);
        snprintf(path, sizeof path, "%s/out/secret", x->base);
        assert_int_equal(mkdir(path, 0755), 0);
    }
    x->root = open(in(x, "."), O_PATH | O_DIRECTORY | O_CLOEXEC);
    x->self = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
    config.root = x->root;
    config.self = x->self;
    assert_int_equal(share_new(&config, &x->s, NULL), 0);
    init(x);
}

static inline void stop(struct fixture *x)
{
    share_free(x->s);
    close(x->root);
    close(x->self);
}

static inline void end(struct fixture *x)
{
    char command[100];

    stop(x);
    snprintf(command, sizeof command, "rm -rf %s", x->base);
    assert_int_equal(system(command), 0);
}

static inline int lookup(struct fixture *x, uint64_t folder, const char *name,
                         struct fuse_entry_out *e)
{
    int why = ask(x, FUSE_LOOKUP, folder, name, strlen(name) + 1);

    memset(e, 0, sizeof *e);
    if (why == 0)
        take(x, 0, e, sizeof *e);
    return why;
}

static inline uint64_t node_of(struct fixture *x, uint64_t folder, const char *name)
{
    struct fuse_entry_out e = {0};

    assert_int_equal(lookup(x, folder, name, &e), 0);
    return e.nodeid;
}

static inline int open_node(struct fixture *x, uint32_t op, uint64_t node, uint32_t flags,
                            uint64_t *fh)
{
    struct fuse_open_in i = {.flags = flags};
    struct fuse_open_out o;
    int why = ask(x, op, node, &i, sizeof i);

    *fh = 0;
    if (why == 0) {
        take(x, 0, &o, sizeof o);
        *fh = o.fh;
    }
    return why;
}

static inline void release(struct fixture *x, uint64_t fh)
{
    struct fuse_release_in i = {.fh = fh};

    assert_int_equal(ask(x, FUSE_RELEASE, 1, &i, sizeof i), 0);
}

static inline int create(struct fixture *x, uint64_t folder, const char *name, uint32_t flags,
                         uint32_t mode, uint64_t *node, uint64_t *fh)
{
    struct fuse_create_in i = {.flags = flags, .mode = S_IFREG | mode};
    struct fuse_entry_out e;
    struct fuse_open_out o;
    int why = ask_names(x, FUSE_CREATE, folder, &i, sizeof i, name, NULL);

    *node = *fh = 0;
    if (why == 0) {
        take(x, 0, &e, sizeof e);
        take(x, sizeof e, &o, sizeof o);
        *node = e.nodeid;
        *fh = o.fh;
    }
    return why;
}

static inline int write_at(struct fixture *x, uint64_t fh, uint64_t offset, const void *data,
                           uint32_t len, uint32_t flags, uint32_t write_flags)
{
    struct fuse_write_in i = {
        .fh = fh, .offset = offset, .size = len, .flags = flags, .write_flags = write_flags};
    static uint8_t text[ROOM];

    memcpy(text, &i, sizeof i);
    memcpy(text + sizeof i, data, len);
    return ask(x, FUSE_WRITE, 1, text, sizeof i + len);
}

static inline int read_at(struct fixture *x, uint64_t fh, uint64_t offset, uint32_t len)
{
    struct fuse_read_in i = {.fh = fh, .offset = offset, .size = len};

    return ask(x, FUSE_READ, 1, &i, sizeof i);
}

static inline void expect_read(struct fixture *x, uint64_t fh, uint64_t offset, const char *want)
{
    assert_int_equal(read_at(x, fh, offset, 4096), 0);
    assert_int_equal(x->got, strlen(want));
    assert_memory_equal(x->answer + sizeof(struct fuse_out_header), want, strlen(want));
}

static inline int setattr(struct fixture *x, uint64_t node, struct fuse_setattr_in i,
                          struct fuse_attr *attr)
{
    struct fuse_attr_out o;
    int why = ask(x, FUSE_SETATTR, node, &i, sizeof i);

    if (attr != NULL)
        memset(attr, 0, sizeof *attr);
    if (why == 0 && attr != NULL) {
        take(x, 0, &o, sizeof o);
        *attr = o.attr;
    }
    return why;
}

static inline int getattr(struct fixture *x, uint64_t node, struct fuse_attr *attr)
{
    struct fuse_getattr_in i = {0};
    struct fuse_attr_out o;
    int why = ask(x, FUSE_GETATTR, node, &i, sizeof i);

    memset(attr, 0, sizeof *attr);
    if (why == 0) {
        take(x, 0, &o, sizeof o);
        *attr = o.attr;
    }
    return why;
}

static inline void put_file(struct fixture *x, const char *name, const char *text)
{
    int fd = open(in(x, name), O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);

    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static inline int setxattr_of(struct fixture *x, uint64_t node, const char *name, const char *value,
                              uint32_t flags)
{
    struct fuse_setxattr_in i = {.size = (uint32_t)strlen(value) + 1, .flags = flags};

    return ask_names(x, FUSE_SETXATTR, node, &i, FUSE_COMPAT_SETXATTR_IN_SIZE, name, value);
}

/* Read a folder whole with answers of `room` bytes; how many names, each once. */
static inline unsigned list(struct fixture *x, uint64_t folder, bool plus, uint32_t room,
                            unsigned *nodes)
{
    static uint8_t seen[10000];
    struct fuse_read_in i = {.size = room};
    unsigned n = 0;

    memset(seen, 0, sizeof seen);
    *nodes = 0;
    assert_int_equal(open_node(x, FUSE_OPENDIR, folder, 0, &i.fh), 0);
    for (;;) {
        uint32_t at = 0;

        assert_int_equal(ask_sized(x, plus ? FUSE_READDIRPLUS : FUSE_READDIR, folder, &i, sizeof i,
                                   room + 16, 0),
                         0);
        if (x->got == 0)
            break;
        while (at < x->got) {
            struct fuse_entry_out e = {0};
            struct fuse_dirent d;
            char name[256] = "";
            unsigned number;

            if (plus)
                take(x, at, &e, sizeof e);
            at += plus ? sizeof e : 0;
            take(x, at, &d, FUSE_NAME_OFFSET);
            assert_true(d.namelen < sizeof name);
            take(x, at + FUSE_NAME_OFFSET, name, d.namelen);
            at += (uint32_t)FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + d.namelen);
            i.offset = d.off;
            *nodes += e.nodeid != 0;
            if (sscanf(name, "n%u", &number) == 1) {
                assert_int_equal(seen[number]++, 0);
                n++;
            }
        }
    }
    release(x, i.fh);
    return n;
}

#endif

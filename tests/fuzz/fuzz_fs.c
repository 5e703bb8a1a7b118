// SPDX-License-Identifier: Apache-2.0
/* virtio-fs under any guest, on a folder of its own in memory. Requests are made of parts, and
 * mostly of node ids and handles that there are; whatever happens, nothing beside the folder
 * changes. */
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dev/fs.h"
#include "fuzz_device.h"

#define HEAD (FAKE_BUFFERS - 8192)
#define ANSWER (FAKE_BUFFERS - 4096)
#define BASE "/dev/shm/fuzz_fs.%d"

struct session {
    struct fake_driver f;
    struct fs *fs;
    uint64_t nodes[8], handles[8]; /* that answers had */
    unsigned n;
};

static void learn(struct session *s, uint32_t op)
{
    const uint8_t *p = mem_ptr(s->f.mem, ANSWER, 4096);
    unsigned at = s->n++ % 8;

    if (op == FUSE_OPEN || op == FUSE_OPENDIR)
        memcpy(&s->handles[at], p + 16, 8);
    else
        memcpy(&s->nodes[at], p + 16, 8);
    if (op == FUSE_CREATE)
        memcpy(&s->handles[at], p + 16 + sizeof(struct fuse_entry_out), 8);
}

/* Fill in a request; its length. */
static uint32_t build(struct session *s, struct fuzz_input *in, uint8_t *p, uint32_t op)
{
    static const char *const names[] = {"a", "b", "d", "l", "..", "d/e", "../out", "user.a"};
    static const uint16_t sizes[] = {0, 8, 16, 24, 32, 40, 64, 88};
    uint8_t shape = fuzz_u8(in), with = fuzz_u8(in);
    struct fuse_in_header h = {.opcode = op, .unique = 5};
    uint32_t len = sizeof h, arg = sizes[shape & 7];

    h.nodeid = with & 8 ? 1 : s->nodes[with & 7];
    for (unsigned i = 0; i < arg; i += 4)
        p[len + i] = fuzz_u8(in);
    if (op == FUSE_INIT)
        p[len] = 7, p[len + 4] = 36;
    else if (op == FUSE_LINK || op == FUSE_RENAME || op == FUSE_RENAME2)
        memcpy(p + len, &s->nodes[shape >> 5], 8);
    else if (with & 16)
        memcpy(p + len + (op == FUSE_GETATTR || op == FUSE_SETATTR ? 8 : 0),
               &s->handles[shape >> 5], 8);
    len += arg;
    for (unsigned i = 0; i < (with >> 5 & 3u); i++) {
        const char *name = names[fuzz_u8(in) & 7];

        memcpy(p + len, name, strlen(name) + 1);
        len += (uint32_t)strlen(name) + 1;
    }
    h.len = len + (with >> 7 && shape == 0x88);
    memcpy(p, &h, sizeof h);
    return len;
}

static void request(struct session *s, struct fuzz_input *in)
{
    uint8_t *p = mem_ptr_write(s->f.mem, HEAD, 4096);
    uint32_t op = fuzz_u8(in) % 54, len;
    uint8_t cut = fuzz_u8(in), room = fuzz_u8(in), queue;
    struct fake_desc d[3];
    unsigned n = 0;

    memset(p, 0, 512);
    len = build(s, in, p, op);
    queue = room & 1;
    d[n++] = (struct fake_desc){HEAD, cut < len ? len - cut : len, 0, 0};
    if (cut != 0 && cut < len)
        d[n++] = (struct fake_desc){HEAD + len - cut, cut, 0, 0};
    if (room != 0)
        d[n++] = (struct fake_desc){ANSWER, room > 64 ? 4096 : room * 4u, FAKE_WRITE, 0};
    fake_offer(&s->f, queue, fuzz_u8(in) % s->f.queues[queue].size, d, n);
    fake_kick(&s->f, queue);
    fs_turn(s->fs);
    learn(s, op);
}

/* Most sessions have begun. */
static void begin_session(struct session *s)
{
    const struct fuse_in_header h = {.len = sizeof h + sizeof(struct fuse_init_in),
                                     .opcode = FUSE_INIT};
    const struct fuse_init_in i = {.major = 7, .minor = 36};
    uint8_t *p = mem_ptr_write(s->f.mem, HEAD, 4096);

    memcpy(p, &h, sizeof h);
    memcpy(p + sizeof h, &i, sizeof i);
    fake_offer(&s->f, 1, 0, (struct fake_desc[]){{HEAD, h.len, 0, 0}, {ANSWER, 80, FAKE_WRITE, 0}},
               2);
    fake_kick(&s->f, 1);
    fs_turn(s->fs);
}

/* ---- the folder ---- */

static char base[64];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    if (ftw->level != 0)
        remove(path);
    return 0;
}

static void remove_all(void)
{
    nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    rmdir(base);
}

static int make_folder(void)
{
    struct rlimit most = {1 << 20, 1 << 20}, files = {512, 512};
    char path[100];

    if (!base[0]) {
        snprintf(base, sizeof base, BASE, (int)getpid());
        atexit(remove_all);
        signal(SIGXFSZ, SIG_IGN); /* nothing may fill the host's memory */
        if (setrlimit(RLIMIT_FSIZE, &most) != 0 || setrlimit(RLIMIT_NOFILE, &files) != 0)
            abort();
        umask(0);
    }
    remove_all();
    for (const char *const *name = (const char *const[]){"", "/in", "/out", "/out/secret", NULL};
         *name; name++) {
        snprintf(path, sizeof path, "%s%s", base, *name);
        if (mkdir(path, 0700) != 0)
            abort();
    }
    snprintf(path, sizeof path, "%s/in/l", base);
    if (symlink("../out", path) != 0)
        abort();
    snprintf(path, sizeof path, "%s/in", base);
    return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* Beside the folder is what was. */
static void check_outside(void)
{
    char path[100];
    struct stat st;

    snprintf(path, sizeof path, "%s/out", base);
    if (stat(path, &st) != 0 || st.st_nlink != 3 || (st.st_mode & 0777) != 0700)
        abort();
    snprintf(path, sizeof path, "%s/out/secret", base);
    if (rmdir(path) != 0)
        abort();
    snprintf(path, sizeof path, "%s/out", base);
    if (rmdir(path) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct share_config config = {.root = make_folder()};
    struct fuzz_input in = {data, size};
    uint8_t setup = fuzz_u8(&in);
    struct session s = {.nodes = {1}};
    struct virtio_env env;
    struct share *share;

    config.self = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
    config.read_only = setup & 1;
    fake_init(&s.f);
    env = fake_env(&s.f);
    if (share_new(&config, &share, NULL) != 0 || fs_new(&env, share, "fuzz", &s.fs, NULL) != 0)
        abort();
    fake_attach(&s.f, fs_virtio(s.fs));
    fake_start(&s.f, 2, (uint16_t)(4u << fuzz_u8(&in) % 7), setup & 2 ? VIRTIO_F_EVENT_IDX : 0);
    if (!(setup & 4))
        begin_session(&s);
    while (in.left != 0) {
        if (fuzz_u8(&in) & 7)
            request(&s, &in);
        else
            fuzz_device_op(&s.f, &in, 2);
        for (int i = 0; i < 8 && fs_turn(s.fs); i++)
            ;
        fuzz_device_check(&s.f, fs_virtio(s.fs));
    }
    fake_run(&s.f);
    fake_detach(&s.f);
    fs_free(s.fs);
    fake_fini(&s.f);
    close(config.root);
    close(config.self);
    check_outside();
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include "vm_log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PIECE_MAX 4096u
#define FOLLOW_MS 100

/* Before each piece. */
struct head {
    uint32_t stream; /* 1: stdout, 2: stderr */
    uint32_t len;
    int64_t time_ns; /* since the epoch */
};

struct piece {
    struct head head;
    char bytes[PIECE_MAX];
};

/* ---- writing */

static int open_new(struct vm_log *l)
{
    l->file = openat(l->dir, "log", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    l->size = 0;
    return l->file < 0 ? errno : 0;
}

/* A full disk costs the piece, not the VM. */
static void put(struct vm_log *l, const struct piece *p)
{
    size_t len = sizeof p->head + p->head.len;
    if (l->size + len > VM_LOG_BYTES) {
        close(l->file);
        if (renameat(l->dir, "log", l->dir, "log.1") != 0 || open_new(l) != 0)
            l->file = -1;
    }
    if (l->file < 0)
        return;
    ssize_t n = write(l->file, p, len);
    if (n == (ssize_t)len)
        l->size += len;
    else if (ftruncate(l->file, (off_t)l->size) == 0)
        lseek(l->file, (off_t)l->size, SEEK_SET);
}

static void *write_log(void *opaque)
{
    struct vm_log *l = opaque;
    struct pollfd ready[2] = {{l->pipes[0], POLLIN, 0}, {l->pipes[1], POLLIN, 0}};
    while (ready[0].fd >= 0 || ready[1].fd >= 0) {
        if (poll(ready, 2, -1) < 0)
            continue;
        for (unsigned i = 0; i < 2; i++) {
            struct piece p;
            struct timespec t;
            if (ready[i].fd < 0 || !ready[i].revents)
                continue;
            ssize_t n = read(ready[i].fd, p.bytes, sizeof p.bytes);
            if (n <= 0) {
                close(ready[i].fd);
                ready[i].fd = -1;
                continue;
            }
            clock_gettime(CLOCK_REALTIME, &t);
            p.head = (struct head){i + 1, (uint32_t)n, (int64_t)t.tv_sec * 1000000000 + t.tv_nsec};
            put(l, &p);
        }
    }
    if (l->file >= 0)
        close(l->file);
    return NULL;
}

int vm_log_start(struct vm_log *l, const struct record *r, int out[2])
{
    int a[2] = {-1, -1}, b[2] = {-1, -1}, rc;
    l->dir = r->dir;
    l->file = -1;
    if (pipe2(a, O_CLOEXEC) != 0 || pipe2(b, O_CLOEXEC) != 0)
        rc = errno;
    else
        rc = open_new(l);
    l->pipes[0] = a[0];
    l->pipes[1] = b[0];
    rc = rc ? rc : pthread_create(&l->thread, NULL, write_log, l);
    if (rc) {
        for (unsigned i = 0; i < 2; i++) {
            close(a[i]);
            close(b[i]);
        }
        return rc;
    }
    out[0] = a[1];
    out[1] = b[1];
    return 0;
}

void vm_log_finish(struct vm_log *l)
{
    pthread_join(l->thread, NULL);
}

/* ---- reading */

struct reader {
    const struct record *r;
    int file;
    ino_t inode;
    off_t at;
};

static bool open_log(struct reader *in, const char *name)
{
    struct stat st;
    if (in->file >= 0)
        close(in->file);
    in->at = 0;
    in->file = openat(in->r->dir, name, O_RDONLY | O_CLOEXEC);
    if (in->file >= 0 && fstat(in->file, &st) == 0)
        in->inode = st.st_ino;
    return in->file >= 0;
}

/* The next whole piece; a torn one is not there yet. */
static bool next_in_file(struct reader *in, struct piece *p)
{
    if (in->file < 0 || pread(in->file, &p->head, sizeof p->head, in->at) != sizeof p->head ||
        p->head.len > PIECE_MAX || p->head.stream - 1 > 1)
        return false;
    ssize_t n = pread(in->file, p->bytes, p->head.len, in->at + (off_t)sizeof p->head);
    if (n != (ssize_t)p->head.len)
        return false;
    in->at += (off_t)sizeof p->head + n;
    return true;
}

/* At the end of a file: on to the one that took its name since. */
static bool next_piece(struct reader *in, struct piece *p)
{
    struct stat st;
    if (next_in_file(in, p))
        return true;
    if (fstatat(in->r->dir, "log", &st, 0) != 0 || st.st_ino == in->inode)
        return false;
    return next_in_file(in, p) || (open_log(in, "log") && next_in_file(in, p));
}

static void open_oldest(struct reader *in)
{
    if (!open_log(in, "log.1"))
        open_log(in, "log");
}

static void show(const struct piece *p, const struct vm_log_view *view, bool at_start[2])
{
    FILE *to = p->head.stream == 1 ? stdout : stderr;
    bool *start = &at_start[p->head.stream - 1];
    time_t s = (time_t)(p->head.time_ns / 1000000000);
    char when[32];
    struct tm tm;
    if (!view->timestamps) {
        fwrite(p->bytes, 1, p->head.len, to);
        return;
    }
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", gmtime_r(&s, &tm));
    for (uint32_t i = 0; i < p->head.len; i++) {
        if (*start)
            fprintf(to, "%s.%09dZ ", when, (int)(p->head.time_ns % 1000000000));
        fputc(p->bytes[i], to);
        *start = p->bytes[i] == '\n';
    }
}

static long count_lines(const struct piece *p)
{
    long n = 0;
    for (uint32_t i = 0; i < p->head.len; i++)
        n += p->bytes[i] == '\n';
    return n;
}

/* Cut the first n lines off. What is left of the piece is still one. */
static void skip_lines(struct piece *p, long n)
{
    uint32_t at = 0;
    while (n > 0 && at < p->head.len)
        n -= p->bytes[at++] == '\n';
    memmove(p->bytes, p->bytes + at, p->head.len - at);
    p->head.len -= at;
}

int vm_log_show(const struct record *r, const struct vm_log_view *view)
{
    struct reader in = {.r = r, .file = -1};
    struct piece p;
    bool at_start[2] = {true, true}, last = false;
    long lines = 0;
    int code;
    open_oldest(&in);
    if (view->tail >= 0) {
        while (next_piece(&in, &p))
            lines += count_lines(&p);
        open_oldest(&in);
    }
    long skip = view->tail < 0 || lines < view->tail ? 0 : lines - view->tail;
    for (;;) {
        while (next_piece(&in, &p)) {
            long here = count_lines(&p);
            if (skip)
                skip_lines(&p, skip);
            skip -= here < skip ? here : skip;
            show(&p, view, at_start);
        }
        if (fflush(stdout) != 0 || !view->follow || last)
            break;
        enum record_state state = record_state(r, &code);
        last = state == RECORD_ENDED || state == RECORD_LOST; /* and once more what came before */
        if (!last)
            poll(NULL, 0, FOLLOW_MS);
    }
    if (in.file >= 0)
        close(in.file);
    return ferror(stdout) ? EIO : 0;
}

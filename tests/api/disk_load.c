// SPDX-License-Identifier: Apache-2.0
/*
 * Runs in a guest (busy_snapshot_test.c): disk_load FILE DIR keeps 128 requests to a file in
 * flight, past the page cache: writes, reads, some flushes. Each block carries its number and
 * generation; it is written, and later read and compared with what was last written. Now and then
 * the number of completed requests goes into DIR/progress. When DIR/stop is there: all are waited
 * for, every block is read once more, and DIR/result gets a line that begins with OK, or says what
 * is wrong.
 *
 * Linux AIO by its system calls: io_uring would be forbidden to a program in many a container.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEPTH 128
#define EACH 8 /* blocks of a slot: other slots never touch them */
#define BLOCKS (DEPTH * EACH)
#define BLOCK 4096
#define STEP 2    /* blocks from one to the next in the file, so that none are joined */
#define ROUND 512 /* completions from one look around to the next */
#define MAGIC 0x64697363u

struct block {
    uint32_t magic, number;
    uint64_t generation, words[(BLOCK - 16) / 8];
};

struct slot {
    struct iocb iocb;
    struct block *data;
    unsigned block; /* that the request is of */
    int what;       /* IOCB_CMD_ */
};

struct load {
    aio_context_t context;
    int fd;
    const char *dir;
    struct slot slots[DEPTH];
    uint64_t generations[BLOCKS]; /* as last written */
    unsigned in_flight;
    uint64_t done, writes, reads, flushes, most_in_device;
    uint64_t random;
};

static void say(const struct load *l, const char *name, const char *format, ...)
{
    char path[256], temp[260], text[256];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    snprintf(path, sizeof path, "%s/%s", l->dir, name);
    snprintf(temp, sizeof temp, "%s.new", path);
    FILE *f = fopen(temp, "w");
    if (!f || fprintf(f, "%s\n", text) < 0 || fclose(f) != 0 || rename(temp, path) != 0)
        exit(3);
}

static _Noreturn void wrong(const struct load *l, const char *what, unsigned block, uint64_t found)
{
    say(l, "result", "WRONG: %s: block %u has %llu, not %llu, after %llu requests", what, block,
        (unsigned long long)found, (unsigned long long)l->generations[block],
        (unsigned long long)l->done);
    exit(1);
}

/* A clone does not go on as the VM did: so it would read what was written later there. */
static unsigned below(struct load *l, unsigned n)
{
    l->random += __builtin_ia32_rdtsc();
    l->random = l->random * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)((l->random >> 33) % n);
}

static uint64_t word(const struct block *b, unsigned i)
{
    return (b->generation * 0x9e3779b97f4a7c15ull) ^ ((uint64_t)b->number << 32 | i);
}

static void fill(const struct load *l, struct block *b, unsigned number)
{
    b->magic = MAGIC;
    b->number = number;
    b->generation = l->generations[number];
    for (unsigned i = 0; i < sizeof b->words / 8; i++)
        b->words[i] = word(b, i);
}

static void check(const struct load *l, const struct block *b, unsigned number)
{
    if (b->magic != MAGIC || b->number != number)
        wrong(l, "another block", number, b->number);
    if (b->generation != l->generations[number])
        wrong(l, "another generation", number, b->generation);
    for (unsigned i = 0; i < sizeof b->words / 8; i++)
        if (b->words[i] != word(b, i))
            wrong(l, "a part", number, i);
}

static void submit(struct load *l, struct slot *s)
{
    struct iocb *list = &s->iocb;
    s->block = (unsigned)(s - l->slots) + DEPTH * below(l, EACH);
    s->what = below(l, 40) == 0  ? IOCB_CMD_FDSYNC
              : below(l, 2) == 0 ? IOCB_CMD_PWRITE
                                 : IOCB_CMD_PREAD;
    if (s->what == IOCB_CMD_PWRITE) {
        l->generations[s->block]++;
        fill(l, s->data, s->block);
    } else {
        memset(s->data, 0xee, BLOCK);
    }
    s->iocb = (struct iocb){.aio_lio_opcode = (uint16_t)s->what,
                            .aio_fildes = (uint32_t)l->fd,
                            .aio_buf = (uintptr_t)s->data,
                            .aio_nbytes = BLOCK,
                            .aio_offset = (int64_t)s->block * STEP * BLOCK,
                            .aio_data = (uintptr_t)s};
    if (s->what == IOCB_CMD_FDSYNC) { /* which is of no range */
        s->iocb.aio_buf = s->iocb.aio_nbytes = 0;
        s->iocb.aio_offset = 0;
    }
    if (syscall(SYS_io_submit, l->context, 1, &list) != 1)
        wrong(l, "io_submit", s->block, (uint64_t)errno);
    l->in_flight++;
}

/* Wait until a request at least is done; their slots. */
static unsigned complete(struct load *l, struct slot *done[DEPTH])
{
    struct io_event events[DEPTH];
    long n = syscall(SYS_io_getevents, l->context, 1, DEPTH, events, NULL);
    if (n < 0)
        n = 0; /* a signal */
    for (long i = 0; i < n; i++) {
        struct slot *s = done[i] = (struct slot *)(uintptr_t)events[i].data;
        if (events[i].res != (s->what == IOCB_CMD_FDSYNC ? 0 : BLOCK))
            wrong(l, "a request failed", s->block, (uint64_t)-events[i].res);
        if (s->what == IOCB_CMD_PREAD)
            check(l, s->data, s->block);
        *(s->what == IOCB_CMD_PREAD    ? &l->reads
          : s->what == IOCB_CMD_PWRITE ? &l->writes
                                       : &l->flushes) += 1;
        l->in_flight--;
        l->done++;
    }
    return (unsigned)n;
}

/* What the guest's block layer has given to the device and not got back. */
static void look_at_device(struct load *l)
{
    unsigned reads = 0, writes = 0;
    FILE *f = fopen("/sys/block/vda/inflight", "r");
    if (f && fscanf(f, "%u %u", &reads, &writes) == 2 && reads + writes > l->most_in_device)
        l->most_in_device = reads + writes;
    if (f)
        fclose(f);
}

static int to_stop(struct load *l)
{
    char path[256];
    look_at_device(l);
    say(l, "progress", "%llu", (unsigned long long)l->done);
    snprintf(path, sizeof path, "%s/stop", l->dir);
    return access(path, F_OK) == 0;
}

static void run(struct load *l)
{
    struct slot *done[DEPTH];
    uint64_t next = ROUND;
    for (unsigned i = 0; i < DEPTH; i++)
        submit(l, &l->slots[i]);
    for (;;) {
        if (l->in_flight != DEPTH)
            wrong(l, "not all are in flight", 0, l->in_flight);
        if (l->done >= next) {
            if (to_stop(l))
                break;
            next = l->done + ROUND;
        }
        unsigned n = complete(l, done);
        for (unsigned i = 0; i < n; i++)
            submit(l, done[i]);
    }
    while (l->in_flight)
        complete(l, done);
}

static void check_all(struct load *l)
{
    struct block *b = l->slots[0].data;
    for (unsigned i = 0; i < BLOCKS; i++) {
        if (pread(l->fd, b, BLOCK, (off_t)i * STEP * BLOCK) != BLOCK)
            wrong(l, "it cannot be read", i, (uint64_t)errno);
        check(l, b, i);
    }
    say(l, "result",
        "OK %u blocks, %llu writes, %llu reads, %llu flushes, %u in flight, at most %llu in the "
        "device",
        BLOCKS, (unsigned long long)l->writes, (unsigned long long)l->reads,
        (unsigned long long)l->flushes, DEPTH, (unsigned long long)l->most_in_device);
}

int main(int argc, char **argv)
{
    static struct load l;
    if (argc != 3)
        return 2;
    l.dir = argv[2];
    l.random = 1;
    struct block *data = aligned_alloc(BLOCK, DEPTH * BLOCK);
    if (!data || sizeof *data != BLOCK)
        return 2;
    l.fd = open(argv[1], O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0600);
    for (unsigned i = 0; i < BLOCKS; i++) {
        fill(&l, data, i);
        for (unsigned k = 0; k < STEP;
             k++) /* so that no request changes what the file system keeps */
            if (pwrite(l.fd, data, BLOCK, (off_t)(i * STEP + k) * BLOCK) != BLOCK)
                return 2;
    }
    if (fsync(l.fd) != 0 || syscall(SYS_io_setup, DEPTH, &l.context) != 0)
        return 2;
    for (unsigned i = 0; i < DEPTH; i++)
        l.slots[i].data = data + i;
    run(&l);
    check_all(&l);
    return 0;
}

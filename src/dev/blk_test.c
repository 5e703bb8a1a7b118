/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk requests (checklist BLK-01 to BLK-04, BLK-08), and its state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/le.h"
#include "dev/blk.h"
#include "dev/fake_driver.h"

#define SECTORS 256u
#define BYTES (SECTORS * DISK_SECTOR)
#define HEAD FAKE_BUFFERS
#define DATA (FAKE_BUFFERS + 0x10000)
#define STATUS (FAKE_BUFFERS + 0x8000)
#define FLUSH (1u << 9)
#define ALL (FLUSH | 1u << 13 | 1u << 14)

enum { IN = 0, OUT = 1, FLUSHING = 4, GET_ID = 8, DISCARD = 11, ZEROES = 13 };
enum { OK = 0, IOERR = 1, UNSUPP = 2, NONE = 0x77 };

struct fixture {
    struct fake_driver f;
    struct blk *b;
    int fd; /* owned */
    unsigned told;
    char text[512];
};

static void on_error(void *opaque, const char *text)
{
    struct fixture *x = opaque;

    x->told++;
    strncpy(x->text, text, sizeof x->text - 1);
}

/* A device over a file in which byte n of sector s is s + n. */
static void begin(struct fixture *x, bool read_only, uint64_t features)
{
    struct blk_config config = {.id = "sm0", .name = "vol", .on_error = on_error, .opaque = x};
    struct virtio_env env;
    static uint8_t content[BYTES];

    memset(x, 0, sizeof *x);
    for (unsigned i = 0; i < BYTES; i++)
        content[i] = (uint8_t)(i / DISK_SECTOR + i);
    x->fd = memfd_create("blk_test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(pwrite(x->fd, content, BYTES, 0), BYTES);
    fake_init(&x->f);
    env = fake_env(&x->f);
    assert_int_equal(disk_init(&config.disk, x->fd, read_only, "vol", NULL), 0);
    assert_int_equal(blk_new(&env, &config, &x->b, NULL), 0);
    fake_attach(&x->f, blk_virtio(x->b));
    assert_int_equal(fake_start(&x->f, 1, 256, features), 0xf);
}

static void end(struct fixture *x)
{
    fake_detach(&x->f);
    blk_free(x->b);
    fake_fini(&x->f);
    close(x->fd);
}

static uint8_t *at(struct fixture *x, gpa_t gpa, uint64_t len)
{
    return mem_ptr_write(x->f.mem, gpa, len);
}

static void put_header(struct fixture *x, uint32_t type, uint64_t sector)
{
    uint8_t *p = at(x, HEAD, 16);

    le32_put(p, type);
    le32_put(p + 4, 0xabcdef01); /* reserved: of no meaning */
    le64_put(p + 8, sector);
    *at(x, STATUS, 1) = NONE;
}

/* Offer the chain; returns the status byte and in *len what the device says it wrote. */
static uint8_t go(struct fixture *x, const struct fake_desc *d, unsigned n, uint32_t *len)
{
    uint32_t head;

    fake_offer(&x->f, 0, 0, d, n);
    fake_kick(&x->f, 0);
    assert_true(fake_used(&x->f, 0, &head, len));
    assert_int_equal(fake_read(&x->f, 0x70), 0xf);
    return *at(x, STATUS, 1);
}

/* A request as drivers make them: header, out_len or in_len bytes of data, status. */
static uint8_t ask(struct fixture *x, uint32_t type, uint64_t sector, uint32_t out_len,
                   uint32_t in_len, uint32_t *len)
{
    struct fake_desc d[4] = {{HEAD, 16}};
    unsigned n = 1;

    put_header(x, type, sector);
    if (out_len != 0)
        d[n++] = (struct fake_desc){DATA, out_len, 0, 0};
    if (in_len != 0)
        d[n++] = (struct fake_desc){DATA, in_len, FAKE_WRITE, 0};
    d[n++] = (struct fake_desc){STATUS, 1, FAKE_WRITE, 0};
    return go(x, d, n, len);
}

static uint8_t file_byte(struct fixture *x, unsigned offset)
{
    uint8_t byte;

    assert_int_equal(pread(x->fd, &byte, 1, offset), 1);
    return byte;
}

static bool file_is(struct fixture *x, unsigned sector, unsigned sectors, int value)
{
    for (unsigned i = sector * DISK_SECTOR; i < (sector + sectors) * DISK_SECTOR; i++)
        if (file_byte(x, i) != (value < 0 ? (uint8_t)(i / DISK_SECTOR + i) : value))
            return false;
    return true;
}

static void what_it_offers(void **state)
{
    struct fixture x;

    begin(&x, false, ALL);
    assert_int_equal(fake_read(&x.f, 0x08), 2);
    assert_int_equal(bus_read(&x.f.bus, FAKE_MMIO + 0x100, 8), SECTORS);
    assert_int_equal(bus_read(&x.f.bus, FAKE_MMIO + 0x10c, 4), VIRTQ_MAX_SIZE - 2);
    assert_int_equal(bus_read(&x.f.bus, FAKE_MMIO + 0x124, 4), BLK_DISCARD_MAX);
    assert_int_equal(bus_read(&x.f.bus, FAKE_MMIO + 0x138, 1), 1);
    fake_write(&x.f, 0x14, 0);
    assert_int_equal(fake_read(&x.f, 0x10), ALL | 6 | 1u << 29);
    end(&x);
    begin(&x, true, 0);
    fake_write(&x.f, 0x14, 0);
    assert_int_equal(fake_read(&x.f, 0x10), 1u << 5 | 6 | 1u << 29);
    end(&x);
}

static void reads_and_writes(void **state)
{
    struct fixture x;
    uint32_t len;

    begin(&x, false, ALL);
    assert_int_equal(ask(&x, IN, 3, 0, 1024, &len), OK);
    assert_int_equal(len, 1025);
    for (unsigned i = 0; i < 1024; i++)
        assert_int_equal(at(&x, DATA, 1024)[i], file_byte(&x, 3 * DISK_SECTOR + i));
    memset(at(&x, DATA, 1024), 0x5a, 1024);
    assert_int_equal(ask(&x, OUT, SECTORS - 2, 1024, 0, &len), OK);
    assert_int_equal(len, 1);
    assert_true(file_is(&x, SECTORS - 2, 2, 0x5a));
    assert_true(file_is(&x, 0, SECTORS - 2, -1));
    assert_int_equal(ask(&x, FLUSHING, 0, 0, 0, &len), OK);
    assert_int_equal(ask(&x, IN, 0, 0, 0, &len), OK); /* of nothing */
    assert_int_equal(ask(&x, GET_ID, 0, 0, 20, &len), OK);
    assert_int_equal(len, 21);
    assert_memory_equal(at(&x, DATA, 20), "sm0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
    assert_int_equal(x.told, 0);
    end(&x);
}

/* Descriptors mean nothing: header, data and status may be cut anywhere. */
static void any_layout(void **state)
{
    struct fake_desc in[6] = {{HEAD, 5},
                              {HEAD + 5, 11},
                              {DATA, 100, FAKE_WRITE},
                              {DATA + 100, 411, FAKE_WRITE},
                              {STATUS - 1, 2, FAKE_WRITE}};
    struct fake_desc out[3] = {{HEAD, 16 + 512}, {STATUS, 1, FAKE_WRITE}};
    struct fixture x;
    uint32_t len;

    begin(&x, false, 0);
    put_header(&x, IN, 7);
    assert_int_equal(go(&x, in, 5, &len), OK);
    assert_int_equal(len, 513);
    assert_int_equal(*at(&x, DATA, 1), file_byte(&x, 7 * DISK_SECTOR));
    assert_int_equal(*at(&x, STATUS - 1, 1), file_byte(&x, 7 * DISK_SECTOR + 511));
    put_header(&x, OUT, 8);
    memset(at(&x, HEAD + 16, 512), 9, 512);
    assert_int_equal(go(&x, out, 2, &len), OK);
    assert_true(file_is(&x, 8, 1, 9));
    end(&x);
}

static void nonsense(void **state)
{
    static const struct {
        uint32_t type;
        uint64_t sector;
        uint32_t out_len, in_len;
        uint8_t status;
    } bad[] = {
        {IN, SECTORS, 0, 512, IOERR}, {IN, SECTORS - 1, 0, 1024, IOERR},
        {IN, ~0ull, 0, 512, IOERR},   {IN, 1ull << 55, 0, 512, IOERR}, /* times 512 it is 0 */
        {IN, 0, 0, 511, IOERR},       {IN, 0, 0, 513, IOERR},
        {IN, 0, 512, 512, IOERR},     {OUT, SECTORS, 512, 0, IOERR},
        {OUT, ~0ull, 1024, 0, IOERR}, {OUT, 0, 100, 0, IOERR},
        {OUT, 0, 512, 512, IOERR},    {FLUSHING, 0, 512, 0, IOERR},
        {FLUSHING, 0, 0, 512, IOERR}, {GET_ID, 0, 0, 19, IOERR},
        {GET_ID, 0, 0, 21, IOERR},    {GET_ID, 0, 0, 0, IOERR},
        {10, 0, 0, 24, UNSUPP}, /* get lifetime */
        {14, 0, 16, 0, UNSUPP}, /* secure erase */
        {2, 0, 0, 512, UNSUPP},       {0xffffffff, 0, 0, 0, UNSUPP},
    };
    struct fixture x;
    uint32_t len;

    begin(&x, false, ALL);
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        memset(at(&x, DATA, 2048), 0x33, 2048);
        assert_int_equal(ask(&x, bad[i].type, bad[i].sector, bad[i].out_len, bad[i].in_len, &len),
                         bad[i].status);
        assert_int_equal(len, bad[i].in_len == 0);
        for (unsigned n = 0; n < 2048; n++)
            assert_int_equal(at(&x, DATA, 2048)[n], 0x33);
    }
    assert_true(file_is(&x, 0, SECTORS, -1));
    assert_int_equal(x.told, 0);
    end(&x);
}

static void short_and_huge(void **state)
{
    struct fake_desc head_only[2] = {{HEAD, 16}, {STATUS, 1, FAKE_WRITE}};
    struct fake_desc big[3] = {{HEAD, 16}, {DATA, 8u << 20, FAKE_WRITE}, {0}};
    struct fixture x;
    uint32_t len;

    begin(&x, false, ALL);
    put_header(&x, OUT, 0);
    head_only[0].len = 15;
    assert_int_equal(go(&x, head_only, 2, &len), IOERR);
    assert_int_equal(go(&x, head_only + 1, 1, &len), IOERR); /* no header at all */
    put_header(&x, IN, 0);
    assert_int_equal(go(&x, big, 1, &len), NONE); /* no room for a status */
    assert_int_equal(len, 0);
    big[2] = (struct fake_desc){STATUS, 1, FAKE_WRITE, 0};
    assert_int_equal(go(&x, big, 3, &len), IOERR);
    end(&x);
}

static void read_only_stays_so(void **state)
{
    struct fixture x;
    struct disk d;
    char path[] = "/tmp/blk_test_XXXXXX";
    uint32_t len;
    int fd;

    begin(&x, true, 0);
    memset(at(&x, DATA, 512), 1, 512);
    assert_int_equal(ask(&x, IN, 0, 0, 512, &len), OK);
    assert_int_equal(ask(&x, OUT, 0, 512, 0, &len), IOERR);
    assert_int_equal(ask(&x, DISCARD, 0, 16, 0, &len), UNSUPP);
    assert_int_equal(ask(&x, ZEROES, 0, 16, 0, &len), UNSUPP);
    assert_int_equal(ask(&x, FLUSHING, 0, 0, 0, &len), OK);
    assert_true(file_is(&x, 0, SECTORS, -1));
    assert_int_equal(x.told, 0);
    end(&x);

    fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 4096), 0);
    close(fd);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    unlink(path);
    assert_int_equal(disk_init(&d, fd, false, path, NULL), SM_EINVAL);
    assert_int_equal(disk_init(&d, fd, true, path, NULL), 0);
    close(fd);
}

static void put_range(struct fixture *x, unsigned i, uint64_t sector, uint32_t sectors,
                      uint32_t flags)
{
    uint8_t *p = at(x, DATA + 16 * i, 16);

    le64_put(p, sector);
    le32_put(p + 8, sectors);
    le32_put(p + 12, flags);
}

static void discards_and_zeroes(void **state)
{
    struct fixture x;
    struct stat before, after;
    uint32_t len;

    begin(&x, false, ALL);
    fstat(x.fd, &before);
    put_range(&x, 0, 16, 16, 0);
    put_range(&x, 1, 64, 8, 0);
    assert_int_equal(ask(&x, DISCARD, 0, 32, 0, &len), OK);
    fstat(x.fd, &after);
    assert_true(after.st_blocks < before.st_blocks && after.st_size == BYTES);
    assert_true(file_is(&x, 16, 16, 0) && file_is(&x, 64, 8, 0));
    put_range(&x, 0, 100, 3, 0);
    put_range(&x, 1, 200, 3, 1); /* may be a hole */
    assert_int_equal(ask(&x, ZEROES, 0, 32, 0, &len), OK);
    assert_true(file_is(&x, 100, 3, 0) && file_is(&x, 200, 3, 0));
    assert_true(file_is(&x, 0, 16, -1) && file_is(&x, 32, 32, -1) && file_is(&x, 72, 28, -1) &&
                file_is(&x, 103, 97, -1) && file_is(&x, 203, SECTORS - 203, -1));
    assert_int_equal(x.told, 0);
    end(&x);
}

static void bad_ranges(void **state)
{
    static const struct {
        uint32_t type;
        uint64_t sector;
        uint32_t sectors, flags, len;
        uint8_t status;
    } bad[] = {
        {DISCARD, 0, 1, 1, 32, UNSUPP},
        {DISCARD, 0, 1, 2, 32, UNSUPP},
        {ZEROES, 0, 1, 2, 32, UNSUPP},
        {DISCARD, SECTORS, 1, 0, 32, IOERR},
        {DISCARD, 0, SECTORS + 1, 0, 32, IOERR},
        {DISCARD, ~0ull, 2, 0, 32, IOERR},
        {ZEROES, SECTORS - 1, 2, 0, 32, IOERR},
        {ZEROES, 0, 0xffffffff, 1, 32, IOERR},
        {DISCARD, 0, 1, 0, 0, IOERR},
        {DISCARD, 0, 1, 0, 17, IOERR},
        {DISCARD, 0, 1, 0, 17 * 16, IOERR},
        {ZEROES, 0, 1, 0, 8, IOERR},
    };
    struct fixture x;
    uint32_t len;

    begin(&x, false, ALL);
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        put_range(&x, 0, 5, 5, 0); /* a good one first: all are checked before it is done */
        put_range(&x, 1, bad[i].sector, bad[i].sectors, bad[i].flags);
        assert_int_equal(ask(&x, bad[i].type, 0, bad[i].len, 0, &len), bad[i].status);
    }
    end(&x);
    begin(&x, false, FLUSH); /* not negotiated */
    put_range(&x, 0, 5, 5, 0);
    assert_int_equal(ask(&x, DISCARD, 0, 16, 0, &len), UNSUPP);
    assert_int_equal(ask(&x, ZEROES, 0, 16, 0, &len), UNSUPP);
    assert_true(file_is(&x, 0, SECTORS, -1));
    end(&x);
}

static void the_host_fails(void **state)
{
    struct fixture x;
    uint32_t len;

    begin(&x, false, ALL);
    assert_int_equal(ftruncate(x.fd, 3 * DISK_SECTOR), 0); /* cut short under us */
    memset(at(&x, DATA, 1024), 0x44, 1024);
    assert_int_equal(ask(&x, IN, 2, 0, 1024, &len), IOERR);
    assert_int_equal(len, 1025);
    for (unsigned i = 0; i < 1024; i++)
        assert_int_equal(at(&x, DATA, 1024)[i], 0);
    assert_int_equal(x.told, 1);
    assert_non_null(strstr(x.text, "vol: reading: "));
    assert_int_equal(fcntl(x.fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
    assert_int_equal(ask(&x, OUT, 0, 512, 0, &len), IOERR);
    put_range(&x, 0, 0, 8, 0);
    assert_int_equal(ask(&x, DISCARD, 0, 16, 0, &len), IOERR);
    assert_int_equal(ask(&x, ZEROES, 0, 16, 0, &len), IOERR);
    assert_int_equal(ask(&x, IN, 0, 0, 512, &len), OK); /* and it goes on */
    assert_int_equal(x.told, 1);
    end(&x);
}

static void a_long_queue_is_finished(void **state)
{
    struct fake_desc d[3] = {{HEAD, 16}, {DATA, 512, FAKE_WRITE}, {STATUS, 1, FAKE_WRITE}};
    struct fixture x;

    begin(&x, false, 0);
    put_header(&x, IN, 1);
    for (int i = 0; i < 256; i++)
        fake_offer(&x.f, 0, 0, d, 3);
    fake_kick(&x.f, 0);
    assert_int_equal(fake_used_index(&x.f, 0), 256);
    end(&x);
}

static void save(struct fixture *x, struct buf *out)
{
    struct state s = {.out = out};

    blk_walk(&s, x->b);
    mmio_walk(&s, x->f.mmio);
    assert_int_equal(s.error.code, 0);
}

/* A device that goes on where another stopped, with the rings that it left in memory. */
static void state_moves(void **state)
{
    struct fake_desc d[3] = {{HEAD, 16}, {DATA, 512, FAKE_WRITE}, {STATUS, 1, FAKE_WRITE}};
    struct blk_config config = {.id = "sm0", .name = "vol"};
    struct buf saved = {0}, again = {0};
    struct virtio_env env;
    struct fixture x;
    uint32_t len;

    begin(&x, false, FLUSH);
    assert_int_equal(ask(&x, IN, 1, 0, 512, &len), OK);
    put_header(&x, IN, 9);
    fake_offer(&x.f, 0, 0, d, 3); /* offered, and not yet notified when it is saved */
    save(&x, &saved);

    config.disk = (struct disk){x.fd, BYTES, false};
    env = fake_env(&x.f);
    fake_detach(&x.f);
    blk_free(x.b);
    assert_int_equal(blk_new(&env, &config, &x.b, NULL), 0);
    fake_attach(&x.f, blk_virtio(x.b));
    struct state s = {.loading = true, .data = saved.data, .len = saved.len};
    blk_walk(&s, x.b);
    mmio_walk(&s, x.f.mmio);
    assert_int_equal(s.error.code, 0);
    assert_int_equal(s.at, s.len);
    save(&x, &again);
    assert_int_equal(again.len, saved.len);
    assert_memory_equal(again.data, saved.data, saved.len);
    fake_run(&x.f);
    assert_int_equal(fake_used_index(&x.f, 0), 2);
    assert_int_equal(*at(&x, DATA, 1), file_byte(&x, 9 * DISK_SECTOR));

    const struct disk others[] = {{x.fd, BYTES - DISK_SECTOR, false}, {x.fd, BYTES, true}};
    for (unsigned i = 0; i < 2; i++) {
        struct blk *other;
        config.disk = others[i];
        assert_int_equal(blk_new(&env, &config, &other, NULL), 0);
        s = (struct state){.loading = true, .data = saved.data, .len = saved.len};
        blk_walk(&s, other);
        assert_int_equal(s.error.code, SM_EUNSUPPORTED);
        blk_free(other);
    }
    end(&x);
    buf_fini(&saved);
    buf_fini(&again);
}

static void what_is_no_disk(void **state)
{
    struct disk d;
    struct sm_error err;
    int pipes[2], fd = memfd_create("blk_test", MFD_CLOEXEC);

    assert_int_equal(disk_init(&d, fd, true, "f", &err), SM_EINVAL); /* empty */
    assert_int_equal(ftruncate(fd, 513), 0);
    assert_int_equal(disk_init(&d, fd, true, "f", &err), SM_EINVAL);
    assert_non_null(strstr(err.text, "multiple of 512"));
    close(fd);
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(disk_init(&d, pipes[0], true, "f", &err), SM_EINVAL);
    close(pipes[0]);
    close(pipes[1]);
    blk_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_it_offers),      cmocka_unit_test(reads_and_writes),
        cmocka_unit_test(any_layout),          cmocka_unit_test(nonsense),
        cmocka_unit_test(short_and_huge),      cmocka_unit_test(read_only_stays_so),
        cmocka_unit_test(discards_and_zeroes), cmocka_unit_test(bad_ranges),
        cmocka_unit_test(the_host_fails),      cmocka_unit_test(a_long_queue_is_finished),
        cmocka_unit_test(state_moves),         cmocka_unit_test(what_is_no_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A disk over a base against a plain array, and copies of disks. What a device makes of a plain one
 * is blk_test's matter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/disk.h"

#define SECTORS 1237u /* the last block is not whole, and more blocks than one word has bits */
#define BYTES (SECTORS * DISK_SECTOR)
#define MOST 40u /* sectors of a request */
#define ROUNDS 6000
#define PARTS 6

struct fixture {
    struct disk d;
    int fd, base_fd; /* owned */
    uint8_t model[BYTES], base[BYTES];
    uint64_t random;
};

static struct fixture x;

static uint32_t below(uint32_t n)
{
    x.random = x.random * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)((x.random >> 33) % n);
}

static int unnamed(const char *folder)
{
    char path[64];
    snprintf(path, sizeof path, "%s/disk_test.XXXXXX", folder);
    int fd = mkostemp(path, O_CLOEXEC);
    assert_true(fd >= 0);
    unlink(path);
    return fd;
}

/* Every third block of the base is a hole. */
static int set_up(void **state)
{
    (void)state;
    memset(&x, 0, sizeof x);
    x.random = 4;
    x.fd = unnamed("/tmp");
    x.base_fd = unnamed("/tmp");
    for (unsigned i = 0; i < BYTES; i++)
        x.base[i] = i / DISK_BLOCK % 3 ? (uint8_t)(i / DISK_SECTOR * 7 + i + 1) : 0;
    assert_int_equal(ftruncate(x.fd, BYTES) | ftruncate(x.base_fd, BYTES), 0);
    for (unsigned i = 0; i < BYTES; i += DISK_BLOCK) {
        size_t len = BYTES - i < DISK_BLOCK ? BYTES - i : DISK_BLOCK;
        if (i / DISK_BLOCK % 3)
            assert_int_equal(pwrite(x.base_fd, x.base + i, len, i), len);
    }
    memcpy(x.model, x.base, BYTES);
    assert_int_equal(disk_init_over(&x.d, x.fd, x.base_fd, "d", NULL), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    disk_fini(&x.d);
    close(x.fd);
    close(x.base_fd);
    return 0;
}

/* len bytes in parts, of which some are empty; their number. */
static unsigned split(uint8_t *bytes, size_t len, struct iovec iov[PARTS])
{
    unsigned n = 0;
    while (n + 1 < PARTS && len) {
        size_t part = below((uint32_t)len + 1);
        iov[n++] = (struct iovec){bytes, part};
        bytes += part;
        len -= part;
    }
    iov[n++] = (struct iovec){bytes, len};
    return n;
}

static void expect_bytes(const struct disk *d, uint32_t at, uint32_t len)
{
    static uint8_t got[BYTES];
    struct iovec iov[PARTS];
    unsigned n = split(got, len, iov);
    assert_int_equal(disk_read(d, at, iov, n), 0);
    assert_memory_equal(got, x.model + at, len);
}

static void one_request(void)
{
    uint8_t bytes[MOST * DISK_SECTOR];
    uint32_t sector = below(SECTORS), left = SECTORS - sector, at = sector * DISK_SECTOR;
    uint32_t len = (1 + below(left < MOST ? left : MOST)) * DISK_SECTOR;
    struct iovec iov[PARTS];
    unsigned n;
    if (len > left * DISK_SECTOR)
        len = left * DISK_SECTOR;
    switch (below(8)) {
    case 0:
        assert_int_equal(disk_discard(&x.d, at, len), 0);
        memset(x.model + at, 0, len); /* /tmp's file system can */
        break;
    case 1:
        assert_int_equal(disk_zero(&x.d, at, len, below(2)), 0);
        memset(x.model + at, 0, len);
        break;
    case 2:
    case 3:
    case 4:
        expect_bytes(&x.d, at, len);
        break;
    default:
        memset(bytes, (int)below(256), len);
        bytes[below(len)]++;
        n = split(bytes, len, iov);
        memcpy(x.model + at, bytes, len);
        assert_int_equal(disk_write(&x.d, at, iov, n), 0);
    }
}

static void expect_base_untouched(void)
{
    static uint8_t now[BYTES];
    assert_int_equal(pread(x.base_fd, now, BYTES, 0), BYTES);
    assert_memory_equal(now, x.base, BYTES);
}

/* As a whole, and as the same disk with nothing beneath it. */
static void expect_copy(int to)
{
    static uint8_t now[BYTES + 1];
    struct disk copy;
    assert_int_equal(disk_copy(&x.d, to), 0);
    assert_int_equal(pread(to, now, sizeof now, 0), BYTES);
    assert_memory_equal(now, x.model, BYTES);
    assert_int_equal(disk_init(&copy, to, false, "copy", NULL), 0);
    expect_bytes(&copy, 0, BYTES);
    close(to);
}

/* A few requests at first, so that copies are made of disks that have most from their base. */
static void test_over_a_base(void **state)
{
    (void)state;
    expect_copy(unnamed("/tmp"));
    for (int i = 0; i < ROUNDS; i++) {
        one_request();
        if (i < 40 || i % 500 == 0) {
            expect_copy(unnamed("/tmp"));                        /* by the kernel */
            expect_copy(memfd_create("disk_test", MFD_CLOEXEC)); /* by hand */
        }
        if (i == 30 || i == ROUNDS - 1)
            expect_bytes(&x.d, 0, BYTES);
    }
    assert_int_equal(disk_flush(&x.d), 0);
    expect_base_untouched();
}

static uint64_t on_disk(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

/* 10 GiB, of which nearly nothing is there; nor is it in the copy. */
static void test_sparse(void **state)
{
    static const uint64_t bytes = 10ull << 30, at[] = {0, 5ull << 30, (10ull << 30) - 512};
    uint8_t sector[DISK_SECTOR] = "", got[DISK_SECTOR];
    int base = unnamed("/tmp"), fd = unnamed("/tmp"), to = unnamed("/tmp");
    struct disk d;
    (void)state;
    assert_int_equal(ftruncate(base, (off_t)bytes) | ftruncate(fd, (off_t)bytes), 0);
    assert_int_equal(pwrite(base, "base", 5, (off_t)at[1]), 5);
    assert_int_equal(pwrite(base, "gone", 5, 1 << 20), 5);
    assert_int_equal(disk_init_over(&d, fd, base, "d", NULL), 0);
    for (unsigned i = 0; i < 3; i += 2) {
        struct iovec iov = {sector, sizeof sector};
        snprintf((char *)sector, sizeof sector, "own %u", i);
        assert_int_equal(disk_write(&d, at[i], &iov, 1), 0);
    }
    assert_int_equal(disk_discard(&d, 0, 4ull << 30), 0);
    assert_int_equal(disk_copy(&d, to), 0);
    assert_in_range(on_disk(to), DISK_SECTOR, 64 << 10);
    static const char *const want[] = {"", "base", "own 2"};
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(pread(to, got, sizeof got, (off_t)at[i]), sizeof got);
        assert_string_equal((char *)got, want[i]);
    }
    assert_int_equal(pread(to, got, 5, 1 << 20), 5);
    assert_int_equal(got[0], 0);
    disk_fini(&d);
    close(base);
    close(fd);
    close(to);
}

/* An error changes nothing that can be read; a base or a file that was cut short is one. */
static void test_failures(void **state)
{
    uint8_t bytes[3 * DISK_BLOCK];
    struct iovec iov = {bytes, sizeof bytes};
    int full = memfd_create("disk_test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int to = memfd_create("disk_test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    struct disk d, other;
    (void)state;
    assert_int_equal(disk_init_over(&other, full, x.base_fd, "d", NULL), SM_EINVAL);
    assert_int_equal(ftruncate(full, BYTES), 0);
    assert_int_equal(disk_init_over(&d, full, x.base_fd, "d", NULL), 0);
    assert_int_equal(fcntl(full, F_ADD_SEALS, F_SEAL_WRITE), 0);
    memset(bytes, 0xee, sizeof bytes);
    assert_int_equal(disk_write(&d, DISK_BLOCK - DISK_SECTOR, &iov, 1), EPERM);
    assert_int_equal(disk_write(&d, DISK_BLOCK, &iov, 1), EPERM);
    assert_int_equal(disk_zero(&d, 0, BYTES, true), EPERM);
    expect_bytes(&d, 0, BYTES);
    assert_int_equal(fcntl(to, F_ADD_SEALS, F_SEAL_WRITE), 0);
    assert_int_equal(disk_copy(&d, to), EPERM);
    disk_fini(&d);
    assert_int_equal(ftruncate(x.base_fd, BYTES / 2), 0);
    iov = (struct iovec){bytes, DISK_BLOCK};
    assert_int_equal(disk_read(&x.d, BYTES - DISK_BLOCK, &iov, 1), EIO);
    iov = (struct iovec){bytes, DISK_SECTOR};
    assert_int_equal(disk_write(&x.d, BYTES - 9 * DISK_SECTOR, &iov, 1), EIO);
    assert_int_equal(disk_copy(&x.d, full), EIO);
    assert_int_equal(ftruncate(x.base_fd, BYTES), 0);
    assert_int_equal(ftruncate(x.fd, BYTES / 2), 0);
    assert_int_equal(disk_copy(&x.d, full), EIO);
    close(full);
    close(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_over_a_base, set_up, tear_down),
        cmocka_unit_test(test_sparse),
        cmocka_unit_test_setup_teardown(test_failures, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: Apache-2.0
/* Memory files: whole ones, what differs from a base, and what an attacker may put into one. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/le.h"
#include "vm/ram.h"

#define PAGE MEM_PAGE_SIZE
#define SIZE (16ull << 20)
#define PAGES (SIZE / PAGE)

static int temp_file(void)
{
    char path[] = "/tmp/sm-ram-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    unlink(path);
    return fd;
}

static struct mem *memory_of(int file)
{
    struct sm_error err = {0};
    struct mem *m;
    if (file < 0 ? mem_new(SIZE, &m, &err) : mem_new_from(SIZE, file, &m, &err))
        fail_msg("%s", err.text);
    return m;
}

static uint8_t *page_of(struct mem *m, uint64_t page)
{
    return mem_ptr_write(m, page * PAGE, PAGE);
}

static void fill(struct mem *m, uint64_t page, uint8_t byte)
{
    memset(page_of(m, page), byte, PAGE);
}

/* A base with pages 3 to 5 and 100 in it. */
static int make_base(void)
{
    struct mem *m = memory_of(-1);
    int fd = temp_file(), map = ram_pagemap();
    for (uint64_t i = 3; i <= 5; i++)
        fill(m, i, (uint8_t)i);
    fill(m, 100, 100);
    assert_int_equal(ram_save(m, map, fd, NULL), 0);
    close(map);
    mem_free(m);
    return fd;
}

static off_t size_of(int fd)
{
    return lseek(fd, 0, SEEK_END);
}

static void save(const struct mem *m, const struct delta *over, int fd, struct delta *d)
{
    int map = ram_pagemap();
    assert_int_equal(ram_save_delta(m, map, over, fd, NULL), 0);
    assert_int_equal(delta_read(d, fd, SIZE, NULL), 0);
    close(map);
}

static void expect_run(const struct delta *d, unsigned i, uint64_t first, uint64_t pages)
{
    assert_true(i < d->n);
    assert_int_equal(d->runs[i].first, first);
    assert_int_equal(d->runs[i].pages, pages);
}

/* Only what was written is stored, zeros too; the next one over both has all of it; and together
 * with the base it is what a whole file would be. */
static void test_delta(void **state)
{
    struct delta d, e;
    char one[DIGEST_STR_SIZE], two[DIGEST_STR_SIZE];
    int base = make_base(), first = temp_file(), second = temp_file(), merged = temp_file();
    int whole = temp_file(), map = ram_pagemap();
    struct mem *m = memory_of(base);
    if (map < 0) {
        print_message("SKIP: this host has no /proc/self/pagemap\n");
        skip();
    }
    assert_int_equal(page_of(m, 4)[7], 4); /* looking is not writing */
    fill(m, 4, 0);
    fill(m, 9, 9);
    fill(m, 10, 10);
    fill(m, PAGES - 1, 77);
    save(m, NULL, first, &d);
    assert_int_equal(d.n, 3);
    expect_run(&d, 0, 4, 1);
    expect_run(&d, 1, 9, 2);
    expect_run(&d, 2, PAGES - 1, 1);
    assert_int_equal(size_of(first), DELTA_HEADER_SIZE + 4 * PAGE);
    mem_free(m);

    m = memory_of(base);
    assert_int_equal(ram_lay(m, &d, first, NULL), 0);
    assert_int_equal(page_of(m, 4)[7], 0);
    assert_int_equal(page_of(m, 5)[7], 5);
    assert_int_equal(page_of(m, 10)[7], 10);
    assert_int_equal(page_of(m, PAGES - 1)[PAGE - 1], 77);
    fill(m, 9, 90);
    fill(m, 11, 11);
    fill(m, 50, 50);
    save(m, &d, second, &e);
    assert_int_equal(e.n, 4);
    expect_run(&e, 0, 4, 1);
    expect_run(&e, 1, 9, 3);
    expect_run(&e, 2, 50, 1);
    expect_run(&e, 3, PAGES - 1, 1);
    mem_free(m);

    assert_int_equal(ram_merge(base, second, SIZE, merged, NULL), 0);
    assert_int_equal(size_of(merged), SIZE);
    m = memory_of(-1);
    static const uint8_t wanted[][2] = {{3, 3},   {5, 5},   {9, 90},   {10, 10},
                                        {11, 11}, {50, 50}, {100, 100}};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        fill(m, wanted[i][0], wanted[i][1]);
    fill(m, PAGES - 1, 77);
    assert_int_equal(ram_save(m, map, whole, NULL), 0);
    mem_free(m);
    assert_int_equal(ram_digest(merged, SIZE, one, NULL), 0);
    assert_int_equal(ram_digest(whole, SIZE, two, NULL), 0);
    assert_string_equal(one, two);
    close(base);
    close(first);
    close(second);
    close(merged);
    close(whole);
    close(map);
}

/* Without knowing which pages are whose, all are written; the result is the same. */
static void test_without_pagemap(void **state)
{
    struct delta d;
    char one[DIGEST_STR_SIZE], two[DIGEST_STR_SIZE];
    int base = make_base(), file = temp_file(), merged = temp_file();
    struct mem *m = memory_of(base);
    assert_int_equal(ram_save_delta(m, -1, NULL, file, NULL), 0);
    assert_int_equal(delta_read(&d, file, SIZE, NULL), 0);
    assert_int_equal(d.n, 1);
    expect_run(&d, 0, 0, PAGES);
    assert_int_equal(ram_merge(base, file, SIZE, merged, NULL), 0);
    assert_int_equal(ram_digest(base, SIZE, one, NULL), 0);
    assert_int_equal(ram_digest(merged, SIZE, two, NULL), 0);
    assert_string_equal(one, two);
    mem_free(m);
    close(base);
    close(file);
    close(merged);
}

/* However scattered, the runs are few, hold every page and never reach beyond memory. */
static void test_cover(void **state)
{
    static uint64_t bits[PAGES / 64 + 1];
    struct delta d;
    delta_cover(&d, bits, PAGES);
    assert_int_equal(d.n, 0);
    for (unsigned step = 1; step <= 64; step++) {
        memset(bits, 0, sizeof bits);
        for (uint64_t i = PAGES - 1; i < PAGES; i -= step)
            bits[i / 64] |= 1ull << i % 64;
        delta_cover(&d, bits, PAGES);
        assert_in_range(d.n, 1, DELTA_RUNS_MAX);
        uint64_t pages = 0, end = 0;
        for (unsigned i = 0; i < d.n; i++) {
            assert_true(i == 0 || d.runs[i].first > end);
            for (; end < d.runs[i].first; end++)
                assert_false(bits[end / 64] >> end % 64 & 1); /* between runs: nothing is lost */
            end = d.runs[i].first + d.runs[i].pages;
            pages += d.runs[i].pages;
        }
        assert_int_equal(end, PAGES);
        if (step == 1 || PAGES / step < DELTA_RUNS_MAX) /* and no page more than it takes */
            assert_int_equal(pages, (PAGES + step - 1) / step);
    }
}

static void expect_bad(const uint8_t *header, off_t size, const char *word)
{
    struct sm_error err = {0};
    struct delta d;
    int fd = temp_file(), out = temp_file(), base = make_base();
    assert_int_equal(pwrite(fd, header, DELTA_HEADER_SIZE, 0), DELTA_HEADER_SIZE);
    assert_int_equal(ftruncate(fd, size), 0);
    assert_int_equal(delta_read(&d, fd, SIZE, &err), SM_ECORRUPT);
    if (!strstr(err.text, word))
        fail_msg("%s", err.text);
    assert_int_equal(d.n, 0);
    assert_int_equal(ram_merge(base, fd, SIZE, out, &err), SM_ECORRUPT);
    close(fd);
    close(out);
    close(base);
}

static void test_hostile(void **state)
{
    static const struct {
        uint64_t runs[4];
        uint64_t pages; /* in the file */
        const char *word;
    } cases[] = {
        {{PAGES, 1}, 1, "beyond"},
        {{PAGES - 1, 2}, 2, "beyond"},
        {{0, PAGES + 1}, PAGES + 1, "beyond"},
        {{UINT64_MAX, 1}, 1, "beyond"},
        {{1, UINT64_MAX}, 1, "beyond"},
        {{UINT64_MAX / PAGE, 1}, 1, "beyond"},
        {{7, 0}, 0, "beyond"},
        {{7, 2, 5, 1}, 3, "order"},
        {{7, 2, 8, 1}, 3, "order"},
        {{7, 2, 9, 1}, 3, "order"}, /* would have been one */
        {{7, 2, 7, 2}, 4, "order"},
        {{7, 2, 10, 1}, 2, "truncated"},
        {{7, 2, 10, 1}, 4, "truncated"},
    };
    uint8_t header[DELTA_HEADER_SIZE];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        memset(header, 0, sizeof header);
        memcpy(header, "SMDELTA", 8);
        le32_put(header + 8, cases[i].runs[3] || cases[i].runs[2] ? 2 : 1);
        memcpy(header + 16, cases[i].runs, sizeof cases[i].runs);
        expect_bad(header, (off_t)(DELTA_HEADER_SIZE + cases[i].pages * PAGE), cases[i].word);
    }
    memset(header + 16, 0, sizeof header - 16);
    le64_put(header + 16, 1);
    le64_put(header + 24, 1);
    for (uint32_t n = DELTA_RUNS_MAX + 1; n >= DELTA_RUNS_MAX + 1; n = n * 2 - 1) {
        le32_put(header + 8, n);
        expect_bad(header, DELTA_HEADER_SIZE + PAGE, "too many");
    }
    le32_put(header + 8, 1);
    for (off_t size = 0; size < DELTA_HEADER_SIZE + (off_t)PAGE; size += 1001)
        expect_bad(header, size, "truncated");
    header[12] = 1;
    expect_bad(header, DELTA_HEADER_SIZE + PAGE, "magic");
    header[12] = 0;
    header[0] ^= 1;
    expect_bad(header, DELTA_HEADER_SIZE + PAGE, "magic");
}

/* A run that goes on behind the hole below 4 GiB is two pieces of memory. */
static void test_behind_the_hole(void **state)
{
    const uint64_t size = MEM_LOW_LIMIT + SIZE, low = MEM_LOW_LIMIT / PAGE;
    struct sm_error err = {0};
    struct mem *m;
    struct delta d;
    int base = temp_file(), file = temp_file(), map = ram_pagemap();
    assert_int_equal(ftruncate(base, (off_t)size), 0);
    if (map < 0 || mem_new_from(size, base, &m, &err) != 0) {
        print_message("SKIP: %s\n", map < 0 ? "no pagemap" : err.text);
        skip();
    }
    memset(mem_ptr_write(m, MEM_LOW_LIMIT - PAGE, PAGE), 1, PAGE);
    memset(mem_ptr_write(m, MEM_HIGH_BASE, 2 * PAGE), 2, 2 * PAGE);
    assert_int_equal(ram_save_delta(m, map, NULL, file, &err), 0);
    assert_int_equal(delta_read(&d, file, size, &err), 0);
    assert_int_equal(d.n, 1);
    expect_run(&d, 0, low - 1, 3);
    mem_free(m);
    assert_int_equal(mem_new_from(size, base, &m, &err), 0);
    assert_int_equal(ram_lay(m, &d, file, &err), 0);
    assert_int_equal(*(const uint8_t *)mem_ptr(m, MEM_LOW_LIMIT - PAGE, 1), 1);
    assert_int_equal(*(const uint8_t *)mem_ptr(m, MEM_HIGH_BASE + PAGE, 1), 2);
    assert_int_equal(*(const uint8_t *)mem_ptr(m, MEM_HIGH_BASE + 2 * PAGE, 1), 0);
    mem_free(m);
    close(base);
    close(file);
    close(map);
}

/* Pages of m that are this process's own. */
static unsigned own_pages(struct mem *m)
{
    static uint64_t map[RAM_CHUNK];
    unsigned n = 0;
    int pagemap = ram_pagemap();
    for (uint64_t at = 0; at < PAGES; at += RAM_CHUNK) {
        ram_read_pagemap(pagemap, mem_ptr(m, at * PAGE, PAGE), RAM_CHUNK, map);
        for (unsigned i = 0; i < RAM_CHUNK; i++)
            n += ram_is_own(map[i]);
    }
    close(pagemap);
    return n;
}

/* Like the memory of make_shared(), but for page 26; and some zeros. */
static struct mem *like_shared(void)
{
    struct mem *m = memory_of(-1);
    for (uint64_t i = 10; i < 30; i++)
        fill(m, i, (uint8_t)i);
    for (uint64_t i = 510; i < 514; i++)
        fill(m, i, 0x51);
    fill(m, 26, 0xee);
    fill(m, 40, 0);
    fill(m, 41, 0);
    return m;
}

static int make_shared(void)
{
    struct mem *m = like_shared();
    int fd = temp_file(), map = ram_pagemap();
    fill(m, 26, 26);
    assert_int_equal(ram_save(m, map, fd, NULL), 0);
    close(map);
    mem_free(m);
    return fd;
}

static void same_contents(struct mem *a, struct mem *b)
{
    assert_memory_equal(page_of(a, 0), page_of(b, 0), SIZE);
}

/* What is the same is the file's, what is not stays, and all reads as before. */
static void test_share(void **state)
{
    struct mem *m = like_shared(), *want = like_shared();
    int fd = make_shared(), map = ram_pagemap();
    assert_int_equal(own_pages(m), 26);
    assert_int_equal(ram_share(m, map, fd, NULL), 0);
    /* 16 pages in a row are mapped; 3 are too few, and so are 2 on each side of a chunk's end */
    assert_int_equal(own_pages(m), 1 + 3 + 4);
    fill(m, 12, 0x77); /* one's own again */
    assert_int_equal(own_pages(m), 1 + 3 + 4 + 1);
    fill(want, 12, 0x77);
    same_contents(m, want);
    struct mem *file = memory_of(fd);
    assert_int_equal(*page_of(file, 12), 12);
    mem_free(file);
    mem_free(m);
    mem_free(want);
    close(fd);
    close(map);
}

/* Saved, it is whole: pages that the host has only in the file, and such that became zeros. */
static void test_share_then_save(void **state)
{
    struct mem *m = like_shared(), *want = like_shared();
    int fd = make_shared(), map = ram_pagemap(), saved = temp_file();
    assert_int_equal(ram_share(m, map, fd, NULL), 0);
    fill(m, 13, 0);
    fill(want, 13, 0);
    assert_int_equal(ram_save(m, map, saved, NULL), 0);
    assert_int_equal(*page_of(m, 13), 0); /* not the file's again */
    struct mem *file = memory_of(saved);
    same_contents(file, want);
    same_contents(m, want);
    mem_free(file);
    mem_free(m);
    mem_free(want);
    close(fd);
    close(map);
    close(saved);
}

/* No file, one that is cut short, one that cannot be read: no harm. */
static void test_share_little(void **state)
{
    int map = ram_pagemap();
    int files[] = {-1, temp_file(), make_shared(), open("/tmp", O_RDONLY | O_DIRECTORY)};
    assert_int_equal(ftruncate(files[2], 15 * PAGE + 1), 0);
    for (unsigned i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct mem *m = like_shared(), *want = like_shared();
        assert_int_equal(ram_share(m, map, files[i], NULL), 0);
        assert_int_equal(own_pages(m), i == 3 ? 26 : i == 2 ? 19 : 24);
        same_contents(m, want);
        mem_free(m);
        mem_free(want);
        if (files[i] >= 0)
            close(files[i]);
    }
    close(map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_delta),           cmocka_unit_test(test_without_pagemap),
        cmocka_unit_test(test_cover),           cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_behind_the_hole), cmocka_unit_test(test_share),
        cmocka_unit_test(test_share_then_save), cmocka_unit_test(test_share_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

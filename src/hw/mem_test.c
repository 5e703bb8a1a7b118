/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "hw/mem.h"

#define MIB (1ull << 20)

static void sizes_are_checked(void **state)
{
    static const uint64_t bad[] = {
        0, 1, 4096, 2 * MIB, 15 * MIB, 17 * MIB, 16 * MIB + 4096, 1ull << 45, ~0ull, ~0ull << 21};
    struct sm_error err;
    struct mem *m;

    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        m = (void *)1;
        assert_int_equal(mem_new(bad[i], &m, &err), SM_EINVAL);
        assert_null(m);
    }
    mem_free(NULL);
}

static void low_and_high_ram(void **state)
{
    const uint64_t high = 64 * MIB;
    struct mem *m;

    assert_int_equal(mem_new(MEM_LOW_LIMIT + high, &m, NULL), 0);
    assert_int_equal(m->n_regions, 2);
    assert_non_null(mem_ptr(m, 0, MEM_LOW_LIMIT));
    assert_null(mem_ptr(m, 0, MEM_LOW_LIMIT + 1));
    assert_non_null(mem_ptr(m, MEM_LOW_LIMIT - 1, 1));
    assert_null(mem_ptr(m, MEM_LOW_LIMIT - 1, 2)); /* into the hole */
    assert_null(mem_ptr(m, MEM_LOW_LIMIT, 1));
    assert_null(mem_ptr(m, MEM_HIGH_BASE - 1, 1));
    assert_null(mem_ptr(m, MEM_HIGH_BASE - 1, 2));
    assert_non_null(mem_ptr(m, MEM_HIGH_BASE, high));
    assert_null(mem_ptr(m, MEM_HIGH_BASE, high + 1));
    assert_null(mem_ptr(m, MEM_HIGH_BASE + high, 1));
    assert_null(mem_ptr(m, ~0ull, 1));
    assert_null(mem_ptr(m, ~0ull, ~0ull));
    assert_null(mem_ptr(m, 1, ~0ull)); /* the sum wraps to 0 */
    assert_null(mem_ptr(m, 5, 0));
    assert_null(mem_find(m, MEM_LOW_LIMIT));
    assert_ptr_equal(mem_find(m, MEM_HIGH_BASE + 5), &m->regions[1]);
    mem_free(m);
}

static void windows(void **state)
{
    uint8_t *page = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct sm_error err;
    struct mem *m;
    char byte = 1;

    assert_int_equal(mem_new(16 * MIB, &m, NULL), 0);
    assert_int_equal(mem_add_window(m, 0x4000000000, 8192, page, true, &err), 0);
    assert_ptr_equal(mem_ptr(m, 0x4000001000, 4096), page + 4096);
    assert_null(mem_ptr(m, 0x4000001000, 4097));
    assert_null(mem_ptr_write(m, 0x4000000000, 1));
    assert_int_equal(mem_write(m, 0x4000000000, &byte, 1), -1);
    assert_int_equal(mem_read(m, 0x4000001fff, &byte, 1), 0);
    assert_int_equal(byte, 0);

    assert_int_equal(mem_add_window(m, 0x4000001000, 4096, page, true, &err), SM_EINVAL);
    assert_int_equal(mem_add_window(m, 0x3ffffff000, 8192, page, true, &err), SM_EINVAL);
    assert_int_equal(mem_add_window(m, 0, 4096, page, true, &err), SM_EINVAL);
    assert_int_equal(mem_add_window(m, 0x5000000001, 4096, page, true, &err), SM_EINVAL);
    assert_int_equal(mem_add_window(m, 0x5000000000, 100, page, true, &err), SM_EINVAL);
    assert_int_equal(mem_add_window(m, 0x5000000000, 0, page, true, &err), SM_EINVAL);
    assert_int_equal(mem_add_window(m, 0x5000000000, 4096, NULL, true, &err), SM_EINVAL);
    assert_int_equal(mem_add_window(m, ~0xfffull, 8192, page, true, &err), SM_EINVAL);
    /* Filled out of order, the table stays sorted and searchable. */
    for (unsigned i = m->n_regions; i < MEM_MAX_REGIONS; i++)
        assert_int_equal(
            mem_add_window(m, 0x4000000000 - (uint64_t)i * 65536, 4096, page, false, &err), 0);
    assert_int_equal(mem_add_window(m, 0x6000000000, 4096, page, true, &err), SM_EINVAL);
    for (unsigned i = 1; i < m->n_regions; i++)
        assert_true(m->regions[i - 1].gpa < m->regions[i].gpa);
    for (unsigned i = 0; i < m->n_regions; i++) {
        assert_ptr_equal(mem_find(m, m->regions[i].gpa), &m->regions[i]);
        assert_ptr_equal(mem_find(m, m->regions[i].gpa + m->regions[i].len - 1), &m->regions[i]);
        assert_null(mem_find(m, m->regions[i].gpa + m->regions[i].len));
    }
    mem_free(m);
    munmap(page, 8192);
}

static void note(void *opaque, gpa_t gpa, uint64_t len)
{
    ((uint64_t *)opaque)[0] = gpa;
    ((uint64_t *)opaque)[1] = len;
}

static void writes_are_reported(void **state)
{
    uint64_t seen[2] = {0, 0};
    struct mem *m;
    char text[6];

    assert_int_equal(mem_new(16 * MIB, &m, NULL), 0);
    m->on_write = note;
    m->on_write_opaque = seen;
    assert_int_equal(mem_write(m, 0x1234, "hello", 6), 0);
    assert_int_equal(seen[0], 0x1234);
    assert_int_equal(seen[1], 6);
    assert_int_equal(mem_read(m, 0x1234, text, 6), 0);
    assert_string_equal(text, "hello");
    seen[1] = 0;
    assert_int_equal(mem_write(m, 16 * MIB - 3, "hello", 6), -1);
    assert_int_equal(seen[1], 0);
    assert_int_equal(*(const char *)mem_ptr(m, 16 * MIB - 3, 1), 0); /* nothing half-written */
    assert_int_equal(mem_read(m, 16 * MIB - 3, text, 6), -1);
    mem_free(m);
}

/* The 64 pages from 1 MiB on that are in the host's memory for this mapping alone. */
static unsigned own_pages(const struct mem *m)
{
    uint64_t map[64];
    unsigned n = 0;
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    uintptr_t at = (uintptr_t)mem_ptr(m, MIB, 1) / 4096;

    assert_int_equal(pread(fd, map, sizeof map, (off_t)(at * 8)), sizeof map);
    close(fd);
    for (unsigned i = 0; i < 64; i++)
        n += map[i] >> 63 && !(map[i] >> 61 & 1); /* present, and not a file's */
    return n;
}

static void discarded_pages_go(struct mem *m, char after)
{
    uint64_t seen[2] = {0, 0};
    char *p = mem_ptr_write(m, MIB, 64 * 4096);

    memset(p, 0x5a, 64 * 4096);
    assert_int_equal(own_pages(m), 64);
    m->on_write = note;
    m->on_write_opaque = seen;
    assert_int_equal(mem_discard(m, MIB + 1, 4 * 4096 - 1), 0); /* pages 1 to 3 */
    assert_int_equal(seen[0], MIB + 4096);
    assert_int_equal(seen[1], 3 * 4096);
    assert_int_equal(own_pages(m), 61);
    assert_int_equal(p[4095], 0x5a);
    assert_int_equal(p[4096], after);
    assert_int_equal(p[4 * 4096 - 1], after);
    assert_int_equal(p[4 * 4096], 0x5a);
    seen[1] = 0;
    assert_int_equal(mem_discard(m, MIB + 8 * 4096 + 1, 2 * 4096 - 2), 0); /* no whole page */
    assert_int_equal(mem_discard(m, MIB, 0), 0);
    assert_int_equal(mem_discard(m, 16 * MIB - 4096, 8192), -1);
    assert_int_equal(mem_discard(m, 16 * MIB, 4096), -1);
    assert_int_equal(mem_discard(m, ~0ull, 4096), -1);
    assert_int_equal(mem_discard(m, 4096, ~0ull), -1);
    assert_int_equal(mem_discard(m, 0x4000000000, 4096), -1); /* a window */
    assert_int_equal(seen[1], 0);
    assert_int_equal(p[8 * 4096 + 1], 0x5a);
}

static void discarding(void **state)
{
    void *window = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = memfd_create("ram", MFD_CLOEXEC);
    struct mem *m;

    assert_int_equal(mem_new(16 * MIB, &m, NULL), 0);
    assert_int_equal(mem_add_window(m, 0x4000000000, 4096, window, true, NULL), 0);
    discarded_pages_go(m, 0);
    mem_free(m);
    assert_int_equal(ftruncate(fd, 16 * MIB), 0);
    assert_int_equal(pwrite(fd, "xxxx", 4, MIB + 4096), 4);
    assert_int_equal(pwrite(fd, "xxxx", 4, MIB + 4 * 4096 - 4), 4);
    assert_int_equal(mem_new_from(16 * MIB, fd, &m, NULL), 0);
    assert_int_equal(mem_add_window(m, 0x4000000000, 4096, window, true, NULL), 0);
    discarded_pages_go(m, 'x');
    mem_free(m);
    close(fd);
    munmap(window, 4096);
}

/* A child that touches one byte past either end must die: the guards are there. */
static void guards_fault(void **state)
{
    static const long offsets[] = {-1, 16 * MIB};
    struct mem *m;

    assert_int_equal(mem_new(16 * MIB, &m, NULL), 0);
    for (unsigned i = 0; i < 2; i++) {
        volatile uint8_t *p = m->regions[0].hva;
        int status;
        pid_t child = fork();

        assert_true(child >= 0);
        if (child == 0) {
            signal(SIGSEGV, SIG_DFL);
            (void)p[offsets[i]];
            _exit(0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGSEGV);
    }
    mem_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_checked), cmocka_unit_test(low_and_high_ram),
        cmocka_unit_test(windows),           cmocka_unit_test(writes_are_reported),
        cmocka_unit_test(discarding),        cmocka_unit_test(guards_fault),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

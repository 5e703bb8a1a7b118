// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "cpu/soft/stub.h"

static int call(const void *code)
{
    return ((int (*)(void))(uintptr_t)code)();
}

/* mov eax, n; ret */
static const void *add_constant(struct stub_area *a, uint32_t n)
{
    uint8_t code[6] = {0xb8, 0, 0, 0, 0, 0xc3};
    memcpy(code + 1, &n, 4);
    return stub_add(a, code, sizeof(code));
}

static void same_bytes_share_one_stub(void **state)
{
    struct stub_area *a;
    assert_int_equal(stub_area_new(&a, 65536, NULL), 0);
    const void *one = add_constant(a, 1);
    const void *two = add_constant(a, 2);
    assert_non_null(one);
    assert_ptr_not_equal(one, two);
    assert_ptr_equal(add_constant(a, 1), one);
    assert_int_equal((uintptr_t)one % 16, 0);
    assert_int_equal(stub_used(a), 32);
    assert_int_equal(call(one), 1);
    assert_int_equal(call(two), 2);
    stub_area_free(a);
}

static void full_area_refuses_until_reset(void **state)
{
    struct stub_area *a;
    assert_int_equal(stub_area_new(&a, 4096, NULL), 0);
    uint32_t n = 0;
    while (n < 10000 && add_constant(a, n) != NULL) {
        n++;
    }
    assert_in_range(n, 90, 256);
    const void *first = add_constant(a, 0);
    assert_int_equal(call(first), 0);
    stub_reset(a);
    assert_int_equal(stub_used(a), 0);
    assert_ptr_equal(add_constant(a, 4711), first);
    assert_int_equal(call(first), 4711);
    uint8_t big[STUB_MAX_LEN + 1] = {0x90};
    assert_null(stub_add(a, big, sizeof(big)));
    assert_null(stub_add(a, big, 0));
    stub_area_free(a);
    stub_area_free(NULL);
}

static void no_page_is_writable_and_executable(void **state)
{
    struct stub_area *a;
    assert_int_equal(stub_area_new(&a, 65536, NULL), 0);
    FILE *maps = fopen("/proc/self/maps", "r");
    assert_non_null(maps);
    char line[512];
    unsigned found = 0;
    while (fgets(line, sizeof(line), maps) != NULL) {
        if (strstr(line, "soft-stubs") != NULL) {
            assert_true(strstr(line, "rw-s") != NULL || strstr(line, "r-xs") != NULL);
            found++;
        }
    }
    fclose(maps);
    assert_int_equal(found, 2);
    stub_area_free(a);
}

static void absurd_sizes_are_errors(void **state)
{
    struct stub_area *a;
    struct sm_error err = {0};
    assert_int_equal(stub_area_new(&a, 0, &err), SM_EINVAL);
    assert_null(a);
    assert_int_equal(stub_area_new(&a, (size_t)1 << 40, &err), SM_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bytes_share_one_stub),
        cmocka_unit_test(full_area_refuses_until_reset),
        cmocka_unit_test(no_page_is_writable_and_executable),
        cmocka_unit_test(absurd_sizes_are_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

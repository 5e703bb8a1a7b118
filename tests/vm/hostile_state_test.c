// SPDX-License-Identifier: Apache-2.0
/*
 * A snapshot whose checksums are right and whose values are not: each place of each section gets
 * values that nothing saved. The restore is refused with words, or the VM runs and is ended as any
 * other; nothing else may happen (the sanitizers watch). SM_LONG=1: every byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tiny_vm.h"

#define QUICK_STEP 13 /* no multiple of any field's size */

struct value {
    unsigned len;
    uint8_t bytes[8];
};

static const struct value values[] = {
    {1, {0x01}},
    {1, {0x80}},
    {1, {0xff}},
    {2, {0xff, 0xff}},
    {4, {0xff, 0xff, 0xff, 0x7f}},
    {4, {0xff, 0xff, 0xff, 0xff}},
    {8, {0, 0, 0, 0, 0, 0, 0, 0}},
    {8, {0, 0, 0, 0, 0, 0x80, 0, 0}}, /* the first address that is not canonical */
    {8, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}},
    {8, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
};
#define N_VALUES (sizeof values / sizeof values[0])

struct hostile {
    struct tiny_vm tiny;
    struct buf state;
    unsigned refused, taken;
};

static int set_up(void **state)
{
    static struct hostile h;
    *state = &h;
    tiny_vm_open(&h.tiny);
    return 0;
}

static int tear_down(void **state)
{
    struct hostile *h = *state;
    tiny_vm_close(&h->tiny);
    buf_fini(&h->state);
    return 0;
}

static void fresh(struct hostile *h)
{
    h->state.len = 0;
    assert_int_equal(buf_append(&h->state, h->tiny.state.data, h->tiny.state.len), 0);
}

static void restore(struct hostile *h, const char *section, size_t offset)
{
    struct sm_error err = {0};
    tiny_state_seal(&h->state);
    int rc = tiny_vm_restore(&h->tiny, &h->state, 0, &err);
    if (rc == 0) {
        h->taken++;
        return;
    }
    h->refused++;
    if ((rc != SM_ECORRUPT && rc != SM_EUNSUPPORTED) || !strstr(err.text, "snapshot"))
        fail_msg("%s, offset %zu: %d %s", section, offset, rc, err.text);
}

static void test_as_saved(void **state)
{
    struct hostile *h = *state;
    struct sm_error err = {0};
    fresh(h);
    if (tiny_vm_restore(&h->tiny, &h->state, 20, &err) != 0)
        fail_msg("%s", err.text);
    tiny_state_seal(&h->state);
    assert_memory_equal(h->state.data, h->tiny.state.data, h->state.len);
}

static void test_values(void **state)
{
    struct hostile *h = *state;
    struct tiny_section sections[TINY_SECTIONS_MAX];
    unsigned n = tiny_state_sections(&h->tiny.state, sections), turn = 0;
    size_t step = getenv("SM_LONG") ? 1 : QUICK_STEP;
    assert_int_equal(n, 11); /* machine, cpu0, uart, mmio0 to 4, vsock, pmem0, blk0 */
    for (unsigned i = 0; i < n; i++) {
        for (size_t at = 0; at < sections[i].len; at += step == 1 ? 1 : 1 + turn % step, turn++) {
            const struct value *v = &values[turn % N_VALUES];
            size_t len = v->len < sections[i].len - at ? v->len : sections[i].len - at;
            fresh(h);
            memcpy(h->state.data + sections[i].at + STATE_SECTION_HEADER_SIZE + at, v->bytes, len);
            restore(h, sections[i].name, at);
        }
    }
    print_message("%u states refused, %u taken\n", h->refused, h->taken);
    assert_true(h->refused > 50);
    assert_true(h->taken > 50);
}

/* A section that is shorter or longer than its walk, another version, another name. */
static void test_frames(void **state)
{
    struct hostile *h = *state;
    struct tiny_section sections[TINY_SECTIONS_MAX];
    unsigned n = tiny_state_sections(&h->tiny.state, sections);
    for (unsigned i = 0; i < n; i++) {
        struct sm_error err = {0};
        size_t header = sections[i].at;
        fresh(h);
        h->state.data[header + STATE_NAME_SIZE]++;
        tiny_state_seal(&h->state);
        assert_int_equal(tiny_vm_restore(&h->tiny, &h->state, 0, &err), SM_EUNSUPPORTED);
        assert_non_null(strstr(err.text, "this version reads"));
        fresh(h);
        h->state.data[header]++;
        tiny_state_seal(&h->state);
        assert_int_equal(tiny_vm_restore(&h->tiny, &h->state, 0, &err), SM_EUNSUPPORTED);
        fresh(h);
        uint8_t *end = h->state.data + header + STATE_SECTION_HEADER_SIZE + sections[i].len;
        memmove(end - 1, end, (size_t)(h->state.data + h->state.len - end));
        h->state.len--;
        uint32_t len = (uint32_t)sections[i].len - 1;
        memcpy(h->state.data + header + STATE_NAME_SIZE + 4, &len, sizeof len);
        tiny_state_seal(&h->state);
        assert_int_equal(tiny_vm_restore(&h->tiny, &h->state, 0, &err), SM_ECORRUPT);
        assert_non_null(strstr(err.text, sections[i].name));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_saved),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_frames),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

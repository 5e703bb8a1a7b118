/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-pmem requests (checklist PM-01). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/le.h"
#include "dev/fake_driver.h"
#include "dev/pmem.h"

struct fixture {
    struct fake_driver f;
    struct pmem *p;
};

static void begin(struct fixture *x, int fd)
{
    struct pmem_config config = {FAKE_WINDOW, FAKE_WINDOW_BYTES, fd};
    struct virtio_env env;

    fake_init(&x->f);
    env = fake_env(&x->f);
    assert_int_equal(pmem_new(&env, &config, &x->p, NULL), 0);
    fake_attach(&x->f, pmem_virtio(x->p));
    assert_int_equal(fake_start(&x->f, 1, 8, 0), 0xf);
}

static void end(struct fixture *x)
{
    fake_detach(&x->f);
    pmem_free(x->p);
    fake_fini(&x->f);
}

/* The answer to a request of these bytes; *len is what the device says it wrote. */
static uint32_t ask(struct fixture *x, uint32_t type, uint32_t out_len, uint32_t in_len,
                    uint32_t *len)
{
    struct fake_desc d[2] = {{FAKE_BUFFERS, out_len}, {FAKE_BUFFERS + 64, in_len, FAKE_WRITE}};
    uint8_t *p = mem_ptr_write(x->f.mem, FAKE_BUFFERS, 128);
    uint32_t head;

    memset(p, 0x77, 128);
    le32_put(p, type);
    fake_offer(&x->f, 0, 0, out_len == 0 ? d + 1 : d, (out_len != 0) + (in_len != 0));
    fake_kick(&x->f, 0);
    assert_true(fake_used(&x->f, 0, &head, len));
    return le32_get(p + 64);
}

static void answers(void **state)
{
    struct fixture x;
    uint32_t len;

    begin(&x, -1);
    assert_true(bus_read(&x.f.bus, FAKE_MMIO + 0x100, 8) == FAKE_WINDOW);
    assert_true(bus_read(&x.f.bus, FAKE_MMIO + 0x108, 8) == FAKE_WINDOW_BYTES);
    assert_int_equal(fake_read(&x.f, 0x08), 27);
    assert_int_equal(ask(&x, 0, 4, 4, &len), 0);
    assert_int_equal(len, 4);
    assert_int_equal(ask(&x, 1, 4, 4, &len), 0xffffffff); /* unknown request */
    assert_int_equal(ask(&x, 0xffffffff, 4, 4, &len), 0xffffffff);
    assert_int_equal(ask(&x, 0, 3, 4, &len), 0xffffffff); /* short request */
    assert_int_equal(ask(&x, 0, 0, 4, &len), 0xffffffff); /* none */
    assert_int_equal(ask(&x, 0, 4, 3, &len), 0x77777777); /* no room for the answer */
    assert_int_equal(len, 0);
    ask(&x, 0, 4, 0, &len);
    assert_int_equal(len, 0);
    assert_int_equal(ask(&x, 0, 50, 60, &len), 0);
    assert_int_equal(len, 4);
    assert_int_equal(fake_read(&x.f, 0x70), 0xf);
    end(&x);
}

static void flush_reaches_the_file(void **state)
{
    char path[] = "/tmp/pmem_test_XXXXXX";
    int fd = mkstemp(path), pipes[2];
    struct fixture x;
    uint32_t len;

    assert_true(fd >= 0);
    unlink(path);
    begin(&x, fd);
    assert_int_equal(ask(&x, 0, 4, 4, &len), 0);
    end(&x);
    close(fd);
    assert_int_equal(pipe(pipes), 0);
    begin(&x, pipes[1]); /* fdatasync of a pipe fails: EINVAL */
    assert_int_equal(ask(&x, 0, 4, 4, &len), 0xffffffff);
    end(&x);
    close(pipes[0]);
    close(pipes[1]);
}

static void a_long_queue_is_finished(void **state)
{
    struct fake_desc d[2] = {{FAKE_BUFFERS, 4}, {FAKE_BUFFERS + 64, 4, FAKE_WRITE}};
    struct fixture x;

    begin(&x, -1);
    assert_int_equal(fake_start(&x.f, 1, 256, 0), 0xf);
    memset(mem_ptr_write(x.f.mem, FAKE_BUFFERS, 4), 0, 4);
    for (int i = 0; i < 256; i++)
        fake_offer(&x.f, 0, 0, d, 2);
    fake_kick(&x.f, 0);
    assert_int_equal(fake_used_index(&x.f, 0), 256);
    end(&x);
}

static void bad_config(void **state)
{
    static const struct pmem_config bad[] = {
        {0x1000, 0, -1}, {0x1001, 0x1000, -1}, {0x1000, 0x1001, -1}, {~0xfffull, 0x2000, -1}};
    struct fake_driver f;
    struct virtio_env env;
    struct pmem *p;

    fake_init(&f);
    env = fake_env(&f);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pmem_new(&env, &bad[i], &p, NULL), SM_EINVAL);
    pmem_free(NULL);
    fake_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers),
        cmocka_unit_test(flush_reaches_the_file),
        cmocka_unit_test(a_long_queue_is_finished),
        cmocka_unit_test(bad_config),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

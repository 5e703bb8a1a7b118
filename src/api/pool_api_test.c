// SPDX-License-Identifier: Apache-2.0
/* Pools of real VMs, as an application uses them; the rules themselves are pool_test's matter.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "api_fixture.h"

#define CALLERS 20
#define ROUNDS 2

static int set_up(void **state)
{
    static struct fixture f;
    *state = &f;
    return fixture_open(&f);
}

static int tear_down(void **state)
{
    return fixture_close(*state);
}

/* The defaults, but for what a busy host makes of them. */
static struct sm_pool_config patient(void)
{
    struct sm_pool_config c = SM_POOL_CONFIG_INIT;
    c.acquire_ms = 300000;
    c.idle_ms = SM_FOREVER;
    return c;
}

static sm_pool *make_pool(struct fixture *f, const struct sm_pool_config *config)
{
    struct sm_error err = {0};
    sm_pool *pool;
    if (sm_pool_new(f->image, config, &pool, &err))
        fail_msg("%s", err.text);
    return pool;
}

static sm_vm *acquire(sm_pool *pool)
{
    struct sm_error err = {0};
    sm_vm *vm;
    if (sm_pool_acquire(pool, &vm, &err))
        fail_msg("%s", err.text);
    return vm;
}

static void release(sm_pool *pool, sm_vm *vm)
{
    struct sm_error err = {0};
    if (sm_pool_release(pool, vm, &err))
        fail_msg("%s", err.text);
}

/* What a shell command exits with; its output, shortened, into text. */
static int run(sm_vm *vm, const char *command, char text[64])
{
    struct sm_output out;
    output(vm, command, &out);
    int code = out.outcome.code;
    snprintf(text, 64, "%s", out.out);
    sm_output_fini(&out);
    return code;
}

static void wait_ready(sm_pool *pool, uint32_t n)
{
    struct sm_pool_stats s;
    for (int i = 0; i < 60000; i++) {
        sm_pool_stats(pool, &s);
        if (s.ready == n && !s.starting)
            return;
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    fail_msg("%u ready, %u starting; expected %u", s.ready, s.starting, n);
}

struct caller {
    pthread_t thread;
    sm_pool *pool;
    unsigned failures;
};

/* Nobody sees what another one left. */
static void *use(void *opaque)
{
    struct caller *c = opaque;
    char text[64];
    for (int i = 0; i < ROUNDS; i++) {
        sm_vm *vm = acquire(c->pool);
        c->failures += run(vm, "true", text) != 0;
        c->failures += run(vm, "cat /mark; echo x >/mark", text) != 0 || text[0] != 0;
        release(c->pool, vm);
    }
    return NULL;
}

static void test_many_callers(void **state)
{
    struct sm_pool_config config = patient();
    struct caller callers[CALLERS];
    struct sm_pool_stats s;
    config.min = 1;
    config.max = 4;
    sm_pool *pool = make_pool(*state, &config);
    for (int i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){.pool = pool};
        assert_int_equal(pthread_create(&callers[i].thread, NULL, use, &callers[i]), 0);
    }
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(callers[i].thread, NULL);
        assert_int_equal(callers[i].failures, 0);
    }
    sm_pool_stats(pool, &s);
    assert_int_equal(s.acquired, CALLERS * ROUNDS);
    assert_int_equal(s.used, 0);
    assert_int_equal(s.waiting, 0);
    assert_int_equal(s.failed, 0);
    assert_true(s.ready + s.starting <= 4);
    assert_true(s.started >= CALLERS * ROUNDS); /* each had one of its own */
    sm_pool_free(pool);
}

static void test_renew_and_keep(void **state)
{
    struct sm_pool_config config = patient();
    char first[64], second[64];
    config.max = 1;
    sm_pool *pool = make_pool(*state, &config);
    sm_vm *vm = acquire(pool);
    assert_int_equal(run(vm, "echo left >/tmp/it; hostname", first), 0);
    release(pool, vm);
    wait_ready(pool, 1);
    vm = acquire(pool);
    assert_int_equal(run(vm, "test -e /tmp/it && echo it is there; hostname", second), 0);
    assert_string_not_equal(first, second);
    assert_null(strstr(second, "it is there"));
    release(pool, vm);
    sm_pool_free(pool);

    config.on_release = SM_POOL_KEEP;
    pool = make_pool(*state, &config);
    vm = acquire(pool);
    run(vm, "echo left >/tmp/it", first);
    release(pool, vm);
    assert_ptr_equal(acquire(pool), vm);
    assert_int_equal(run(vm, "cat /tmp/it", first), 0);
    assert_string_equal(first, "left\n");
    sm_vm_stop(vm); /* what is dead is not kept */
    release(pool, vm);
    vm = acquire(pool);
    assert_int_not_equal(run(vm, "cat /tmp/it", first), 0);
    sm_pool_free(pool); /* frees what is in use, too */
}

/* A VM that dies while it is ready is not handed out. */
static void test_dead_ones(void **state)
{
    struct sm_pool_config config = patient();
    char text[64];
    config.on_release = SM_POOL_KEEP;
    sm_pool *pool = make_pool(*state, &config);
    sm_vm *vm = acquire(pool);
    run(vm, "(sleep 1; poweroff -f || echo b >/proc/sysrq-trigger) >/dev/null 2>&1 &", text);
    release(pool, vm);
    for (int i = 0; i < 3000 && sm_vm_state(vm) == SM_VM_RUNNING; i++)
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    assert_int_not_equal(sm_vm_state(vm), SM_VM_RUNNING);
    vm = acquire(pool);
    assert_int_equal(run(vm, "true", text), 0);
    release(pool, vm);
    struct sm_pool_stats s;
    sm_pool_stats(pool, &s);
    assert_int_equal(s.started, 2);
    sm_pool_free(pool);
}

static void test_timeout(void **state)
{
    struct sm_pool_config config = patient();
    struct sm_error err = {0};
    config.min = config.max = 1; /* the first start is not on acquire's time */
    config.acquire_ms = 100;
    sm_pool *pool = make_pool(*state, &config);
    sm_vm *vm = acquire(pool), *none = vm;
    assert_int_equal(sm_pool_acquire(pool, &none, &err), SM_ETIMEDOUT);
    assert_null(none);
    assert_non_null(strstr(err.text, "within 100 ms: 1 in use"));
    assert_non_null(strstr(err.text, "at most 1 (max)"));
    release(pool, vm);
    assert_int_equal(sm_pool_release(pool, vm, &err), SM_EINVAL); /* again */
    assert_int_equal(sm_pool_release(pool, NULL, &err), 0);
    sm_pool_free(pool);
}

static void test_bad_configs(void **state)
{
    struct fixture *f = *state;
    struct sm_vm_config machine = SM_VM_CONFIG_INIT;
    struct sm_pool_config c = patient();
    struct sm_error err = {0};
    sm_pool *pool;
    sm_vm *vm;
    c.min = 3;
    c.max = 2;
    assert_int_equal(sm_pool_new(f->image, &c, &pool, &err), SM_EINVAL);
    assert_non_null(strstr(err.text, "at least 3 VMs (min) and at most 2 (max)"));
    c = patient();
    c.max = 1u << 20;
    assert_int_equal(sm_pool_new(f->image, &c, &pool, &err), SM_EINVAL);
    c = patient();
    c.starts_max = 65;
    assert_int_equal(sm_pool_new(f->image, &c, &pool, &err), SM_EINVAL);
    c = patient();
    c.on_release = 2;
    assert_int_equal(sm_pool_new(f->image, &c, &pool, &err), SM_EINVAL);
    c = patient();
    c.vm = &machine;
    machine.cpu = "z80";
    c.min = 1; /* said here ... */
    assert_int_equal(sm_pool_new(f->image, &c, &pool, &err), SM_EINVAL);
    assert_null(pool);
    c.min = 0; /* ... or by the first acquire */
    assert_int_equal(sm_pool_new(f->image, &c, &pool, &err), 0);
    assert_int_equal(sm_pool_acquire(pool, &vm, &err), SM_EINVAL);
    assert_non_null(strstr(err.text, "z80"));
    sm_pool_free(pool);
    sm_pool_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_callers), cmocka_unit_test(test_renew_and_keep),
        cmocka_unit_test(test_dead_ones),    cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_bad_configs),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

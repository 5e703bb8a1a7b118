// SPDX-License-Identifier: Apache-2.0
/* Connections to servers in a real VM: busybox's httpd and nc. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "api_fixture.h"

#define PATIENCE_MS 300000

struct servers {
    struct fixture f;
    sm_vm *vm;
};

static int set_up(void **state)
{
    static struct servers t;
    struct sm_output out;
    if (fixture_open(&t.f))
        return -1;
    t.vm = start(&t.f, NULL);
    output(t.vm,
           "mkdir /www; head -c 300000 /dev/urandom >/www/big; echo hello >/www/index.html;"
           "httpd -p 8080 -h /www;"
           "(while :; do nc -l -p 7 -e cat; done) </dev/null >/dev/null 2>&1 &",
           &out);
    sm_output_fini(&out);
    *state = &t;
    return 0;
}

static int tear_down(void **state)
{
    struct servers *t = *state;
    sm_vm_free(t->vm);
    return fixture_close(&t->f);
}

/* Until the server is up. */
static int connect_to(sm_vm *vm, uint16_t port)
{
    struct sm_error err = {0};
    int fd = -1, rc = SM_ENOTFOUND;
    for (int i = 0; i < 600 && rc == SM_ENOTFOUND; i++) {
        rc = sm_vm_connect(vm, port, PATIENCE_MS, &fd, &err);
        if (rc == SM_ENOTFOUND)
            nanosleep(&(struct timespec){0, 100000000}, NULL);
    }
    if (rc)
        fail_msg("%s", err.text);
    return fd;
}

static size_t read_all(int fd, char *data, size_t size)
{
    size_t at = 0;
    while (at < size) {
        struct pollfd p = {fd, POLLIN, 0};
        assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
        ssize_t n = read(fd, data + at, size - at);
        if (n <= 0)
            break;
        at += (size_t)n;
    }
    return at;
}

static void test_http(void **state)
{
    struct servers *t = *state;
    char *data = calloc(1, 400000);
    static const char get[] = "GET /big HTTP/1.0\r\n\r\n";
    struct sm_file_spec spec = SM_FILE_SPEC_INIT;
    struct sm_file big;
    int fd = connect_to(t->vm, 8080);
    assert_int_equal(write(fd, get, strlen(get)), strlen(get));
    size_t len = read_all(fd, data, 400000);
    close(fd);
    assert_memory_equal(data, "HTTP/1.", 7);
    assert_true(len > 300000);
    spec.path = "/www/big";
    assert_int_equal(sm_vm_read_file(t->vm, &spec, PATIENCE_MS, &big, NULL), 0);
    assert_memory_equal(data + len - 300000, big.data, 300000);
    sm_free(big.data);
    free(data);
}

static void test_echo_and_half_close(void **state)
{
    struct servers *t = *state;
    char data[64] = "";
    for (int i = 0; i < 3; i++) {
        int fd = connect_to(t->vm, 7);
        assert_int_equal(write(fd, "there and back", 14), 14);
        shutdown(fd, SHUT_WR); /* cat ends, and so does its answer */
        assert_int_equal(read_all(fd, data, sizeof data), 14);
        assert_memory_equal(data, "there and back", 14);
        close(fd);
    }
}

static void test_refusals(void **state)
{
    struct servers *t = *state;
    struct sm_error err = {0};
    int fd;
    assert_int_equal(sm_vm_connect(t->vm, 9, PATIENCE_MS, &fd, &err), SM_ENOTFOUND);
    assert_string_equal(err.text, "cannot connect to port 9 of the guest: Connection refused");
    assert_int_equal(fd, -1);
    assert_int_equal(sm_vm_connect(t->vm, 0, PATIENCE_MS, &fd, &err), SM_EINVAL);
}

/* A connection does not outlive its VM. */
static void test_end(void **state)
{
    struct servers *t = *state;
    char byte;
    int fd = connect_to(t->vm, 8080);
    sm_vm_free(t->vm);
    t->vm = NULL;
    assert_int_equal(read_all(fd, &byte, 1), 0);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_http),
        cmocka_unit_test(test_echo_and_half_close),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_end),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

// SPDX-License-Identifier: Apache-2.0
/* The two ends of the control socket, and the command line, without a VM; a worker here is a child
 * that says what the test wants. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "worker/args.h"
#include "worker/control.h"
#include "worker/worker.h"

static const struct engine_ops fake_engine = {.name = "fake"};

static const struct engine_ops *find_fake(const char *name)
{
    return strcmp(name, "fake") == 0 ? &fake_engine : NULL;
}

static void ignore(void *opaque, const uint8_t *data, size_t len)
{
}

static void test_args_there_and_back(void **state)
{
    const char *const layers[] = {"/a=b", "", "--kernel=x"};
    const char *back[VM_MAX_LAYERS];
    struct vm_config in = {.engine = &fake_engine,
                           .memory_bytes = UINT64_MAX,
                           .vcpus = 7,
                           .cpu = "v9",
                           .agent_port = 77,
                           .kernel = "k =x",
                           .initramfs = "i",
                           .cmdline_extra = "a=\"b c\"",
                           .layers = layers,
                           .n_layers = 3,
                           .console = ignore};
    struct vm_config out;
    struct args a;
    bool console;
    assert_int_equal(args_make(&a, "prog", &in, NULL), 0);
    assert_string_equal(a.argv[0], "prog");
    assert_int_equal(args_parse(a.argv, find_fake, &out, back, &console, NULL), 0);
    assert_ptr_equal(out.engine, &fake_engine);
    assert_true(out.memory_bytes == UINT64_MAX && out.vcpus == 7 && out.agent_port == 77);
    assert_string_equal(out.cpu, "v9");
    assert_string_equal(out.kernel, "k =x");
    assert_string_equal(out.initramfs, "i");
    assert_string_equal(out.cmdline_extra, "a=\"b c\"");
    assert_int_equal(out.n_layers, 3);
    for (int i = 0; i < 3; i++)
        assert_string_equal(out.layers[i], layers[i]);
    assert_true(console);
    args_fini(&a);
}

static void test_args_refused(void **state)
{
    static const char *const bad[] = {"--memory=x", "--memory=",   "--memory=-1",
                                      "--vcpus=1x", "--engine=no", "--vcpus=99999999999999999999",
                                      "layer=x",    "--layers=x",  "--console"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *argv[] = {"p", "--engine=fake", "--kernel=k", "--initramfs=i", bad[i], NULL};
        const char *layers[VM_MAX_LAYERS];
        struct vm_config out;
        struct sm_error err = {0};
        bool console;
        assert_int_equal(args_parse((char **)argv, find_fake, &out, layers, &console, &err),
                         SM_EINVAL);
        assert_true(err.text[0]);
    }
}

static void test_control_messages(void **state)
{
    struct control_msg in = {.type = CONTROL_REPLY, .id = 9, .len = 5, .text = "a\nb\033c"}, out;
    struct sm_error err = {0};
    int pair[2], fd;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(control_send(pair[0], &in, pair[0]), 0);
    assert_int_equal(control_receive(pair[1], &out, &fd), 1);
    assert_true(fd >= 0 && out.id == 9 && out.len == 5);
    close(fd);
    out.code = SM_EIO;
    assert_int_equal(control_get_error(&out, &err), SM_EIO);
    assert_string_equal(err.text, "a?b?c");
    out.code = 5; /* not one of ours */
    out.len = UINT32_MAX;
    memset(out.text, 'x', sizeof out.text);
    assert_int_equal(control_get_error(&out, &err), SM_EGUEST);
    /* lengths that lie, and half messages */
    in.len = 6;
    assert_int_equal(send(pair[0], &in, offsetof(struct control_msg, text) + 5, 0), 29);
    assert_int_equal(control_receive(pair[1], &out, &fd), -1);
    assert_int_equal(send(pair[0], &in, 3, 0), 3);
    assert_int_equal(control_receive(pair[1], &out, &fd), -1);
    close(pair[0]);
    assert_int_equal(control_receive(pair[1], &out, &fd), 0);
    close(pair[1]);
}

/* A worker that runs a program which is none. */
static struct worker *start(const char *program)
{
    struct vm_config config = {.engine = &fake_engine, .kernel = "k", .initramfs = "i"};
    struct worker *w;
    struct sm_error err;
    if (worker_new(program, &config, &w, &err) != 0)
        fail_msg("%s", err.text);
    return w;
}

static void test_process_that_dies(void **state)
{
    struct sm_error err = {0};
    enum vm_end end;
    int fd;
    struct worker *w = start("/bin/false");
    assert_int_equal(worker_wait_ready(w, -1, &err), SM_EENGINE);
    assert_non_null(strstr(err.text, "exit code 1"));
    assert_int_equal(worker_wait(w, -1, &end, NULL), 0);
    assert_int_equal(end, VM_END_FAILED);
    assert_int_equal(worker_connect(w, 1, &fd, &err), SM_EENGINE);
    assert_int_equal(fd, -1);
    worker_stop(w); /* of one that is gone */
    worker_free(w);
}

static void test_no_such_program(void **state)
{
    struct vm_config config = {.engine = &fake_engine, .kernel = "k", .initramfs = "i"};
    struct worker *w;
    struct sm_error err = {0};
    assert_int_equal(worker_new("/nonexistent/vmm", &config, &w, &err), SM_ENOTFOUND);
    assert_null(w);
    assert_non_null(strstr(err.text, "/nonexistent/vmm"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_args_there_and_back), cmocka_unit_test(test_args_refused),
        cmocka_unit_test(test_control_messages),    cmocka_unit_test(test_process_that_dies),
        cmocka_unit_test(test_no_such_program),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

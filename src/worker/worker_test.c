// SPDX-License-Identifier: Apache-2.0
/*
 * The two ends of the control socket, and the command line, without a VM. A worker here is this
 * program, started as one: what it does wrong is what --kernel names.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
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
    struct vm_config in = {.engine = &fake_engine,
                           .memory_bytes = UINT64_MAX,
                           .vcpus = 7,
                           .cpu = "v9",
                           .agent_port = 77,
                           .tsc_khz = 2596146,
                           .translate = ENGINE_TRANSLATE_NONE,
                           .kernel = "k =x",
                           .initramfs = "i",
                           .cmdline_extra = "a=\"b c\"",
                           .layers = layers,
                           .n_layers = 3,
                           .debug = {.check = true,
                                     .check_every = 9,
                                     .trace = ENGINE_TRACE_CODE,
                                     .code_from = 0xffffffff81000000,
                                     .code_to = UINT64_MAX},
                           .console = ignore};
    struct args_machine m;
    const struct vm_config *out = &m.config;
    struct args a;
    assert_int_equal(args_make(&a, "prog", &in, NULL), 0);
    assert_string_equal(a.argv[0], "prog");
    assert_int_equal(args_parse(a.argv, find_fake, &m, NULL), 0);
    assert_ptr_equal(out->engine, &fake_engine);
    assert_true(out->memory_bytes == UINT64_MAX && out->vcpus == 7 && out->agent_port == 77 &&
                out->tsc_khz == 2596146);
    assert_int_equal(out->translate, ENGINE_TRANSLATE_NONE);
    assert_string_equal(out->cpu, "v9");
    assert_string_equal(out->kernel, "k =x");
    assert_string_equal(out->initramfs, "i");
    assert_string_equal(out->cmdline_extra, "a=\"b c\"");
    assert_null(out->snapshot);
    assert_int_equal(out->n_layers, 3);
    for (int i = 0; i < 3; i++)
        assert_string_equal(out->layers[i], layers[i]);
    assert_true(m.console);
    assert_true(out->debug.check && out->debug.check_every == 9 &&
                out->debug.trace == ENGINE_TRACE_CODE &&
                out->debug.code_from == 0xffffffff81000000 && out->debug.code_to == UINT64_MAX);
    args_fini(&a);
}

static void test_args_of_a_snapshot(void **state)
{
    struct snapshot snapshot = {
        .cpu_vendor = "amd", .digest = {1, 0xfe, [31] = 0x80}, .base_fd = -1};
    struct vm_config in = {.engine = &fake_engine,
                           .memory_bytes = 128 << 20,
                           .vcpus = 2,
                           .cpu = "v2",
                           .snapshot = &snapshot};
    struct args_machine m;
    struct args a;
    assert_int_equal(args_make(&a, "prog", &in, NULL), 0);
    assert_int_equal(args_parse(a.argv, find_fake, &m, NULL), 0);
    assert_ptr_equal(m.config.snapshot, &m.snapshot);
    assert_null(m.config.kernel);
    assert_true(m.snapshot.memory_bytes == 128 << 20 && m.snapshot.vcpus == 2);
    assert_string_equal(m.snapshot.cpu_model, "v2");
    assert_string_equal(m.snapshot.cpu_vendor, "amd");
    assert_memory_equal(m.snapshot.digest, snapshot.digest, sizeof snapshot.digest);
    assert_true(m.snapshot.state_fd == -1 && m.snapshot.ram_fd == -1 && m.snapshot.base_fd == -1);
    assert_false(m.base);
    args_fini(&a);
    snapshot.base_fd = 9;
    assert_int_equal(args_make(&a, "prog", &in, NULL), 0);
    assert_int_equal(args_parse(a.argv, find_fake, &m, NULL), 0);
    assert_true(m.base);
    args_fini(&a);
}

/* Their descriptors follow the worker's own, and those of a snapshot. */
static void test_args_of_volumes(void **state)
{
    const struct vm_volume volumes[] = {
        {.fd = 500, .name = "data"},
        {.fd = 9, .read_only = true, .name = "/a:b:ro:"},
        {.fd = 70, .over = true, .base_fd = 80, .name = "0 of:rw:it"},
        {.fd = 8, .folder = true, .uid = 7, .gid = UINT32_MAX, .name = "5:/f"}};
    struct snapshot snapshot = {.cpu_vendor = "amd", .base_fd = -1};
    struct vm_config in = {.engine = &fake_engine,
                           .kernel = "k",
                           .initramfs = "i",
                           .volumes = volumes,
                           .n_volumes = 4};
    static const int after[] = {CONTROL_FD, CONTROL_RAM_FD, CONTROL_BASE_FD};
    for (int round = 0; round < 3; round++) {
        int first = after[round] + 1;
        struct args_machine m;
        struct args a;
        assert_int_equal(args_make(&a, "prog", &in, NULL), 0);
        assert_int_equal(args_parse(a.argv, find_fake, &m, NULL), 0);
        assert_int_equal(m.config.n_volumes, 4);
        for (int i = 0; i < 4; i++) {
            const struct vm_volume *v = &m.config.volumes[i];
            assert_int_equal(v->fd, first + i + (i == 3)); /* the third has two */
            assert_int_equal(v->over, volumes[i].over);
            assert_int_equal(v->base_fd, i == 2 ? first + 3 : -1);
            assert_int_equal(v->read_only, volumes[i].read_only);
            assert_int_equal(v->folder, volumes[i].folder);
            assert_true(v->uid == volumes[i].uid && v->gid == volumes[i].gid);
            assert_string_equal(v->name, volumes[i].name);
        }
        args_fini(&a);
        in.snapshot = &snapshot;
        snapshot.base_fd = round ? 9 : -1;
    }
    struct args a;
    struct sm_error err;
    in.n_volumes = VM_MAX_VOLUMES + 1;
    assert_int_equal(args_make(&a, "prog", &in, &err), SM_EINVAL);
}

static void test_args_refused(void **state)
{
    static const char *const bad[] = {
        "--memory=x",
        "--memory=",
        "--memory=-1",
        "--vcpus=1x",
        "--engine=no",
        "layer=x",
        "--layers=x",
        "--vcpus=99999999999999999999",
        "--console",
        "--debug=",
        "--debug=1,2,3,4",
        "--debug=2,0,0,0,0",
        "--debug=1,0,16,0,0",
        "--debug=1,0,0,0,0z",
        "--translate=3",
        "--snapshot=",
        "--snapshot=0123456789abcdef",
        "--snapshot=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "--cpu-vendor=amd-amd-",
        "--volume=",
        "--volume=x:rw:v",
        "--volume=3:rw:v",
        "--volume=4:rx:v",
        "--folder=3:rw:0:0:v",
        "--folder=4:rw:v",
        "--folder=4:rw:0:v",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *argv[] = {"p", "--engine=fake", "--kernel=k", "--initramfs=i", bad[i], NULL};
        struct args_machine m;
        struct sm_error err = {0};
        assert_int_equal(args_parse((char **)argv, find_fake, &m, &err), SM_EINVAL);
        assert_true(err.text[0]);
    }
    const char *nothing[] = {"p", "--engine=fake", "--kernel=k", NULL};
    struct args_machine m;
    assert_int_equal(args_parse((char **)nothing, find_fake, &m, NULL), SM_EINVAL);
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

/* ---- what a worker that the guest has taken over could say ---- */

static int self_says(const struct control_msg *m, int fd)
{
    return control_send(CONTROL_FD, m, fd);
}

static int fake_worker(const char *wrong)
{
    struct control_msg m, ready = {.type = CONTROL_READY};
    int fd;
    self_says(&ready, -1);
    while (control_receive(CONTROL_FD, &m, &fd) == 1) {
        struct control_msg reply = {.type = CONTROL_REPLY, .id = m.id};
        bool got_file = fd >= 0;
        if (fd >= 0)
            close(fd);
        if (strcmp(wrong, "half") == 0) {
            send(CONTROL_FD, &reply, 3, MSG_NOSIGNAL);
        } else if (strcmp(wrong, "pause") == 0 && m.type == CONTROL_CAPTURE) {
            reply.arg = got_file ? UINT32_MAX : 0;
        } else if (strcmp(wrong, "file") == 0) {
            /* unasked: descriptors, replies to nobody, a second start, an unknown message */
            reply.id++;
            self_says(&reply, CONTROL_FD);
            self_says(&ready, CONTROL_FD);
            reply.type = 99;
            self_says(&reply, CONTROL_FD);
            reply = (struct control_msg){.type = CONTROL_REPLY, .id = m.id, .arg = 7};
        } else if (strcmp(wrong, "end") == 0) {
            reply = (struct control_msg){.type = CONTROL_ENDED, .arg = 1000, .code = 1000};
        }
        if (m.type == CONTROL_SAVE_STATE && !got_file)
            return 1;
        self_says(&reply, -1);
        if (reply.type == CONTROL_ENDED)
            return 0;
    }
    return 0;
}

static struct worker *start_fake(const char *wrong)
{
    struct vm_config config = {.engine = &fake_engine, .kernel = wrong, .initramfs = "i"};
    struct worker *w;
    struct sm_error err;
    if (worker_new("/proc/self/exe", &config, &w, &err) != 0 || worker_wait_ready(w, -1, &err) != 0)
        fail_msg("%s", err.text);
    return w;
}

static int count_fds(void)
{
    int n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void test_protocol_broken(void **state)
{
    struct sm_error err = {0};
    enum vm_end end;
    int fd;
    struct worker *w = start_fake("half");
    assert_int_equal(worker_connect(w, 1, &fd, &err), SM_EENGINE);
    assert_non_null(strstr(err.text, "killed by signal 9"));
    assert_int_equal(worker_wait(w, -1, &end, NULL), 0);
    worker_free(w);
    w = start_fake("end");
    assert_int_equal(worker_connect(w, 1, &fd, &err), SM_EGUEST);
    assert_int_equal(worker_wait(w, -1, &end, NULL), 0);
    assert_int_equal(end, VM_END_FAILED);
    worker_free(w);
}

static void test_what_nobody_asked_for(void **state)
{
    struct sm_error err = {0};
    unsigned n = 0;
    int fd;
    struct worker *w = start_fake("file");
    assert_int_equal(worker_streams(w, &n, &err), 0);
    assert_int_equal(n, 7);
    int before = count_fds();
    for (int i = 0; i < 20; i++) {
        assert_int_equal(worker_connect(w, 1, &fd, &err), SM_EENGINE); /* without a descriptor */
        assert_int_equal(fd, -1);
    }
    assert_int_equal(count_fds(), before);
    worker_free(w);
}

static void test_saving(void **state)
{
    const uint8_t manifest[STATE_DIGEST_SIZE] = {0};
    uint64_t pause_ns;
    struct sm_error err = {0};
    FILE *f = tmpfile();
    const int disks[] = {fileno(f), fileno(f)};
    const struct vm_files files = {.ram = fileno(f), .disks = disks, .n_disks = 2};
    struct worker *w = start_fake("pause");
    assert_int_equal(worker_capture(w, &files, &pause_ns, &err), 0);
    assert_true(pause_ns == UINT32_MAX * 1000ull);
    assert_int_equal(worker_save_state(w, fileno(f), manifest, &err), 0);
    worker_stop(w);
    assert_int_not_equal(worker_capture(w, &files, &pause_ns, &err), 0);
    unsigned n;
    assert_int_not_equal(worker_streams(w, &n, &err), 0); /* nothing is locked */
    worker_free(w);
    fclose(f);
}

int main(int argc, char **argv)
{
    static const char kernel[] = "--kernel=";
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], kernel, strlen(kernel)) == 0)
            return fake_worker(argv[i] + strlen(kernel));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_args_there_and_back),   cmocka_unit_test(test_args_of_a_snapshot),
        cmocka_unit_test(test_args_of_volumes),       cmocka_unit_test(test_args_refused),
        cmocka_unit_test(test_control_messages),      cmocka_unit_test(test_process_that_dies),
        cmocka_unit_test(test_no_such_program),       cmocka_unit_test(test_protocol_broken),
        cmocka_unit_test(test_what_nobody_asked_for), cmocka_unit_test(test_saving),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

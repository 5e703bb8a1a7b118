// SPDX-License-Identifier: Apache-2.0
/*
 * A VM's process that gets no memory: killed by the kernel in a cgroup that is too small for it, or
 * refused every allocation. It is an error on that VM alone.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api_fixture.h"

#define LIMIT_MIB 24
#define PATIENCE_MS 120000

struct oom {
    struct fixture f;
    sm_vm *other; /* which must not notice */
};

static int set_up(void **state)
{
    static struct oom o;
    *state = &o;
    if (fixture_open(&o.f))
        return -1;
    o.other = start(&o.f, NULL);
    return 0;
}

static int tear_down(void **state)
{
    struct oom *o = *state;
    sm_vm_free(o->other);
    return fixture_close(&o->f);
}

static int shell(sm_vm *vm, const char *text, struct sm_output *out, struct sm_error *err)
{
    const char *const argv[] = {"sh", "-c", text, NULL};
    struct sm_exec_spec spec = SM_EXEC_SPEC_INIT;
    spec.argv = argv;
    return sm_exec_output(vm, &spec, 0, PATIENCE_MS, out, err);
}

static void expect_works(sm_vm *vm)
{
    struct sm_output out;
    struct sm_error err = {0};
    if (shell(vm, "echo $((6*7))", &out, &err) != 0)
        fail_msg("%s", err.text);
    assert_string_equal(out.out, "42\n");
    sm_output_fini(&out);
}

/* Our youngest child: the process of the VM that was started last. Its name is cut by the kernel.
 */
static pid_t youngest(void)
{
    char command[96], line[32] = "";
    snprintf(command, sizeof command, "pgrep -n -P %d -x supermachine-vm", (int)getpid());
    FILE *f = popen(command, "re");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    pclose(f);
    return atoi(line);
}

static bool put(const char *folder, const char *name, const char *text)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "r+e"); /* which must be there */
    if (!f)
        return false;
    bool good = fputs(text, f) >= 0;
    return fclose(f) == 0 && good;
}

/* A cgroup with a limit, of version 2 or else 1, with the process in it. */
static bool confine(pid_t pid, char folder[96])
{
    static const struct {
        const char *where, *limit;
    } kinds[] = {{"/sys/fs/cgroup", "memory.max"},
                 {"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}};
    char bytes[32], who[16];
    snprintf(bytes, sizeof bytes, "%d", LIMIT_MIB << 20);
    snprintf(who, sizeof who, "%d", (int)pid);
    for (int i = 0; i < 2; i++) {
        snprintf(folder, 96, "%s/sm-oom-test-%d", kinds[i].where, (int)getpid());
        if (mkdir(folder, 0700) != 0)
            continue;
        if (put(folder, kinds[i].limit, bytes) && put(folder, "cgroup.procs", who)) {
            put(folder, "memory.swap.max", "0"); /* there may be no swap */
            put(folder, "memory.memsw.limit_in_bytes", bytes);
            return true;
        }
        rmdir(folder);
    }
    return false;
}

static void remove_group(const char *folder)
{
    for (int i = 0; i < 200 && rmdir(folder) != 0; i++)
        usleep(10000); /* the kernel takes a moment to empty it */
}

static void test_killed(void **state)
{
    struct oom *o = *state;
    struct sm_output out;
    struct sm_error err = {0};
    char folder[96];
    sm_vm *vm = start(&o->f, NULL);
    if (!confine(youngest(), folder)) {
        sm_vm_free(vm);
        print_message("SKIP the OOM killer: no cgroup with a memory limit can be made here\n");
        skip();
    }
    int rc = shell(vm, "dd if=/dev/zero of=/tmp/big bs=1M count=96", &out, &err);
    if (rc == 0)
        fail_msg("it ended with %d: %s", out.outcome.code, out.err);
    for (int i = 0; i < 500 && sm_vm_state(vm) == SM_VM_RUNNING; i++)
        usleep(10000);
    assert_int_equal(sm_vm_state(vm), SM_VM_FAILED);
    err = (struct sm_error){0};
    assert_int_equal(shell(vm, "true", &out, &err), SM_EENGINE);
    assert_non_null(strstr(err.text, "killed by signal 9"));
    assert_non_null(strstr(err.text, "is the host out of memory?"));
    expect_works(o->other);
    sm_vm_free(vm);
    remove_group(folder);
}

/* No call of its process that asks for memory succeeds: whatever then fails says so, nothing hangs
 * or ends but, at worst, this VM; with memory again it goes on. */
static void test_refused(void **state)
{
    struct oom *o = *state;
    const struct rlimit none = {1 << 20, RLIM_INFINITY};
    struct rlimit before;
    unsigned failed = 0;
    sm_vm *vm = start(&o->f, NULL);
    pid_t pid = youngest();
    if (prlimit(pid, RLIMIT_AS, &none, &before) != 0) {
        sm_vm_free(vm);
        print_message("SKIP refused memory: prlimit: %s\n", strerror(errno));
        skip();
    }
    for (int i = 0; i < 20; i++) {
        struct sm_output out;
        struct sm_error err = {0};
        int rc = shell(vm, "dd if=/dev/zero bs=64k count=8 2>/dev/null | md5sum", &out, &err);
        if (rc == 0) {
            assert_int_equal(strncmp(out.out, "59071590099d21dd439896592338bf95", 32), 0);
            sm_output_fini(&out);
        } else {
            failed++;
            assert_true(err.text[0]);
        }
        expect_works(o->other);
    }
    print_message("%u of 20 commands failed\n", failed);
    if (sm_vm_state(vm) == SM_VM_RUNNING) {
        assert_int_equal(prlimit(pid, RLIMIT_AS, &before, NULL), 0);
        expect_works(vm);
    } else {
        assert_int_equal(sm_vm_state(vm), SM_VM_FAILED);
    }
    sm_vm_free(vm);
    expect_works(o->other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

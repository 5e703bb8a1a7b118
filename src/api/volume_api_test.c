// SPDX-License-Identifier: Apache-2.0
/* Volumes, as an application uses them; what a guest does with one is tests/cli/volume_test.py's
 * matter. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api_fixture.h"

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

static sm_vm *start_with(struct fixture *f, const struct sm_volume *volume)
{
    const struct sm_volume *const list[] = {volume, NULL};
    struct sm_vm_config config = SM_VM_CONFIG_INIT;
    config.volumes = list;
    return start(f, &config);
}

static void expect_output(sm_vm *vm, const char *command, const char *want)
{
    struct sm_output out;
    output(vm, command, &out);
    assert_string_equal(out.out, want);
    assert_int_equal(out.outcome.code, 0);
    sm_output_fini(&out);
}

static int count(void *opaque, const struct sm_volume_info *info)
{
    unsigned *n = opaque;
    assert_string_equal(info->name, "data");
    assert_int_equal(info->size_bytes, SM_VOLUME_BYTES);
    (*n)++;
    return *n == 2 ? 77 : 0;
}

static void kept(void **state)
{
    struct fixture *f = *state;
    struct sm_volume volume = SM_VOLUME_INIT;
    struct sm_error err;
    unsigned n = 0;
    volume.source = "data";
    volume.path = "/data";
    for (int round = 0; round < 2; round++) {
        char command[64], want[16];
        sm_vm *vm = start_with(f, &volume);
        snprintf(command, sizeof command, "echo %d >>/data/f; cat /data/f", round);
        snprintf(want, sizeof want, "%s", round ? "0\n1\n" : "0\n");
        expect_output(vm, command, want); /* without a sync */
        assert_int_equal(sm_volume_remove(f->store, "data", &err), SM_EINVAL);
        assert_int_equal(sm_vm_shutdown(vm, 60001, &err), SM_EINVAL);
        assert_int_equal(sm_vm_shutdown(vm, 0, &err), 0);
        assert_int_equal(sm_vm_state(vm), SM_VM_POWERED_OFF);
        assert_int_equal(sm_vm_shutdown(vm, 0, &err), 0); /* it has */
        sm_vm_free(vm);
    }
    assert_int_equal(sm_volume_create(f->store, "data", &err), 0); /* as it is */
    assert_int_equal(sm_store_volumes(f->store, count, &n, &err), 0);
    assert_int_equal(sm_store_volumes(f->store, count, &n, &err), 77);
    assert_int_equal(sm_volume_remove(f->store, "data", &err), 0);
    assert_int_equal(sm_volume_remove(f->store, "data", &err), SM_ENOTFOUND);
}

/* A folder is shared with this host, and by two VMs at a time; neither is saved or forked. */
static void folder(void **state)
{
    struct fixture *f = *state;
    char path[] = "/tmp/volume_api_test.XXXXXX", file[64], command[64], text[8] = "";
    struct sm_volume volume = SM_VOLUME_INIT;
    struct sm_error err;
    sm_image *image;
    sm_vm *vms[2];
    assert_non_null(mkdtemp(path));
    volume.source = path;
    volume.path = "/shared";
    vms[0] = start_with(f, &volume);
    vms[1] = start_with(f, &volume);
    expect_output(vms[0], "echo one >/shared/f; echo two >/shared/g", "");
    expect_output(vms[1], "cat /shared/f; rm /shared/g", "one\n");
    snprintf(file, sizeof file, "%s/f", path);
    FILE *in = fopen(file, "r");
    assert_non_null(in);
    assert_non_null(fgets(text, sizeof text, in));
    fclose(in);
    assert_string_equal(text, "one\n");
    snprintf(command, sizeof command, "%s/snapshot", path);
    assert_int_equal(sm_vm_snapshot(vms[0], command, NULL, &err), SM_EUNSUPPORTED);
    assert_int_equal(sm_image_from_vm(vms[0], &image, NULL, &err), SM_EUNSUPPORTED);
    sm_vm_free(vms[0]);
    assert_int_equal(sm_vm_shutdown(vms[1], 0, &err), 0);
    sm_vm_free(vms[1]);
    volume.read_only = 1;
    vms[0] = start_with(f, &volume);
    expect_output(vms[0], "cat /shared/f; echo no >/shared/f 2>/dev/null || echo refused",
                  "one\nrefused\n");
    sm_vm_free(vms[0]);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(rmdir(path), 0); /* and nothing else */
}

/* All that run get SIGTERM, and the time to write what they have. */
static void grace(void **state)
{
    struct fixture *f = *state;
    const char *const argv[] = {
        "sh", "-c",
        "trap 'echo late >/data/f; exit' TERM; touch /data/up; while :; do sleep 0.1; done", NULL};
    struct sm_volume volume = SM_VOLUME_INIT;
    struct sm_exec_spec spec = SM_EXEC_SPEC_INIT;
    struct sm_outcome outcome;
    struct sm_error err;
    sm_exec *exec;
    volume.source = "grace";
    volume.path = "/data";
    sm_vm *vm = start_with(f, &volume);
    spec.argv = argv;
    assert_int_equal(sm_exec_start(vm, &spec, &exec, &err), 0);
    assert_int_equal(sm_exec_wait(exec, 1, &outcome, &err), SM_ETIMEDOUT); /* it has begun */
    expect_output(vm, "until [ -e /data/up ]; do sleep 0.1; done", "");
    assert_int_equal(sm_vm_shutdown(vm, 60000, &err), 0);
    sm_exec_free(exec);
    sm_vm_free(vm);
    vm = start_with(f, &volume);
    expect_output(vm, "cat /data/f", "late\n");
    sm_vm_free(vm);
}

static void refused(void **state)
{
    struct fixture *f = *state;
    struct sm_volume volume = SM_VOLUME_INIT;
    const struct sm_volume *const list[] = {&volume, NULL};
    struct sm_vm_config config = SM_VM_CONFIG_INIT;
    struct sm_bake_config bake = SM_BAKE_CONFIG_INIT;
    struct sm_pool_config pool_config = SM_POOL_CONFIG_INIT;
    struct sm_error err;
    sm_pool *pool;
    char *path;
    sm_vm *vm;
    config.volumes = list;
    bake.vm = pool_config.vm = &config;
    assert_int_equal(sm_vm_start(f->image, &config, &vm, &err), SM_EINVAL);
    assert_null(vm);
    volume.source = "data";
    volume.path = "/data";
    assert_int_equal(sm_image_bake(f->image, &bake, &path, &err), SM_EINVAL);
    assert_non_null(strstr(err.text, "without volumes"));
    assert_int_equal(sm_pool_new(f->image, &pool_config, &pool, &err), SM_EINVAL);
    assert_non_null(strstr(err.text, "pool"));
    volume.size = 0;
    assert_int_equal(sm_vm_start(f->image, &config, &vm, &err), SM_EINVAL);
    volume.size = sizeof volume;
    volume.path = "data";
    assert_int_equal(sm_vm_start(f->image, &config, &vm, &err), SM_EINVAL);
    assert_int_equal(sm_volume_create(f->store, "../x", &err), SM_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kept),
        cmocka_unit_test(grace),
        cmocka_unit_test(folder),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "api_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void fixture_config(const struct fixture *f, struct sm_store_config *config)
{
    config->path = f->home;
    config->data_dir = getenv("SM_BUILD_DIR");
}

int fixture_open(struct fixture *f)
{
    struct sm_store_config config = SM_STORE_CONFIG_INIT;
    struct sm_error err = {0};
    strcpy(f->home, "/tmp/sm-api-test-XXXXXX");
    if (!mkdtemp(f->home))
        return -1;
    fixture_config(f, &config);
    if (sm_store_open(&config, &f->store, &err) ||
        sm_image_from_oci(f->store, "busybox", &f->image, &err)) {
        print_error("%s\n", err.text);
        return -1;
    }
    return 0;
}

int fixture_close(struct fixture *f)
{
    char command[128];
    sm_image_free(f->image);
    sm_store_free(f->store);
    snprintf(command, sizeof command, "rm -rf %s", f->home);
    return system(command);
}

sm_vm *start_image(sm_image *image, const struct sm_vm_config *config)
{
    struct sm_error err = {0};
    sm_vm *vm;
    if (sm_vm_start(image, config, &vm, &err))
        fail_msg("%s", err.text);
    return vm;
}

sm_vm *start(struct fixture *f, const struct sm_vm_config *config)
{
    return start_image(f->image, config);
}

void output(sm_vm *vm, const char *text, struct sm_output *out)
{
    const char *const argv[] = {"sh", "-c", text, NULL};
    struct sm_exec_spec spec = SM_EXEC_SPEC_INIT;
    struct sm_error err = {0};
    spec.argv = argv;
    if (sm_exec_output(vm, &spec, 0, -1, out, &err))
        fail_msg("%s", err.text);
}

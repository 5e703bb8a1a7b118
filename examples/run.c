/* SPDX-License-Identifier: Apache-2.0 */
/* Run one command in a microVM made from an image, and print what it wrote. */
#include <stdio.h>
#include <supermachine.h>

int main(int argc, char **argv)
{
    const char *const command[] = {"sh", "-c", "echo hello from $(uname -s); id -un", NULL};
    struct sm_exec_spec spec = SM_EXEC_SPEC_INIT;
    struct sm_output output = {0};
    struct sm_error err = {0};
    sm_store *store = NULL;
    sm_image *image = NULL;
    sm_vm *vm = NULL;

    spec.argv = command;
    int failed = sm_store_open(NULL, &store, &err) ||
                 sm_image_from_oci(store, argc > 1 ? argv[1] : "busybox", &image, &err) ||
                 sm_vm_start(image, NULL, &vm, &err) ||
                 sm_exec_output(vm, &spec, 0, 60000, &output, &err);
    if (failed) {
        fprintf(stderr, "%s\n", err.text);
    } else {
        printf("%s(exit %d)\n", output.out, output.outcome.code);
    }
    sm_output_fini(&output);
    sm_vm_free(vm);
    sm_image_free(image);
    sm_store_free(store);
    return failed;
}

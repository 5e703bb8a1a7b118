/* SPDX-License-Identifier: Apache-2.0 */
/* Prepare a VM once, then try three things from there, each in a clone of its own. */
#include <stdio.h>
#include <supermachine.h>

#define CLONES 3

/* What a shell command prints. */
static int ask(sm_vm *vm, const char *command, const char *who, struct sm_error *err)
{
    const char *const argv[] = {"sh", "-c", command, NULL};
    struct sm_exec_spec spec = SM_EXEC_SPEC_INIT;
    struct sm_output output;

    spec.argv = argv;
    int rc = sm_exec_output(vm, &spec, 0, 60000, &output, err);
    if (!rc)
        printf("%s: %s", who, output.out);
    sm_output_fini(&output);
    return rc;
}

int main(int argc, char **argv)
{
    struct sm_snapshot_info info;
    struct sm_error err = {0};
    sm_vm *vm = NULL, *clones[CLONES] = {0};
    sm_store *store = NULL;
    sm_image *image = NULL;

    int failed = sm_store_open(NULL, &store, &err) ||
                 sm_image_from_oci(store, argc > 1 ? argv[1] : "busybox", &image, &err) ||
                 sm_vm_start(image, NULL, &vm, &err) ||
                 ask(vm, "echo 1000 >/balance; cat /balance", "before", &err) ||
                 sm_vm_fork(vm, NULL, CLONES, clones, &info, &err);
    for (int i = 0; !failed && i < CLONES; i++) {
        char command[80], who[16];
        snprintf(who, sizeof who, "clone %d", i);
        snprintf(command, sizeof command, "echo $(($(cat /balance) - %d)) >/balance; cat /balance",
                 i);
        failed = ask(clones[i], command, who, &err);
    }
    failed = failed || ask(vm, "cat /balance", "after", &err);
    if (failed)
        fprintf(stderr, "%s\n", err.text);
    else
        fprintf(stderr, "the VM stood still for %.1f ms\n", (double)info.pause_ns / 1e6);
    for (int i = 0; i < CLONES; i++)
        sm_vm_free(clones[i]);
    sm_vm_free(vm);
    sm_image_free(image);
    sm_store_free(store);
    return failed;
}

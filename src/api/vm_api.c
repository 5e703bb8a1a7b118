// SPDX-License-Identifier: Apache-2.0
/*
 * sm_vm: a worker, and what its image says about commands. A command's connection ends in the
 * worker, so it hangs up by itself when the VM is gone.
 */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/err.h"
#include "base/io.h"

static void on_console(void *opaque, const uint8_t *data, size_t len)
{
    struct sm_vm *vm = opaque;
    vm->console(vm->console_opaque, data, len);
}

/* The machine itself. *config is complete but for what comes from the image. */
static int build(struct sm_vm *vm, sm_image *image, const struct sm_vm_config *given,
                 struct vm_config *config, struct sm_error *err)
{
    const struct image *i = image->image;
    char *kernel = io_format("%s/guest/vmlinuz", image->data_dir);
    char *initramfs = io_format("%s/guest/initramfs.cpio", image->data_dir);
    char *program = data_find_vmm(image->data_dir);
    const char **layers = calloc(i->n_layers, sizeof *layers);
    int rc;
    if (!kernel || !initramfs || !program || !layers) {
        rc = err_set(err, SM_ENOMEM, "out of memory");
    } else if (!image->data_dir[0]) {
        rc = err_set(err, SM_ENOTFOUND,
                     "the guest's kernel and initramfs are not installed: not beside the program, "
                     "nor in %s",
                     SM_DATA_DIR);
    } else {
        for (size_t n = 0; n < i->n_layers; n++)
            layers[n] = i->layers[n].held.path;
        config->kernel = given->kernel ? given->kernel : kernel;
        config->initramfs = initramfs;
        config->layers = layers;
        config->n_layers = (unsigned)i->n_layers;
        rc = worker_new(program, config, &vm->worker, err);
    }
    free(program);
    free(kernel);
    free(initramfs);
    free(layers);
    return rc;
}

/* Keep what commands need of the image: it may be freed before the VM. */
static int keep_config(struct sm_vm *vm, const struct image_config *config, struct sm_error *err)
{
    int failed = 0;
    for (size_t i = 0; i < config->env.n; i++)
        failed |= string_list_add(&vm->env, config->env.items[i]);
    if (config->working_dir && !(vm->working_dir = strdup(config->working_dir)))
        failed = -1;
    if (config->user && !(vm->user = strdup(config->user)))
        failed = -1;
    return failed ? err_set(err, SM_ENOMEM, "out of memory") : 0;
}

static int boot(struct sm_vm *vm, uint32_t start_ms, struct sm_error *err)
{
    int rc = worker_wait_ready(vm->worker, start_ms < INT32_MAX ? (int)start_ms : INT32_MAX, err);
    if (rc == SM_ETIMEDOUT)
        return err_set(err, rc, "the guest was not ready for commands within %u ms", start_ms);
    return rc;
}

static int fill_config(const struct sm_vm_config *given, struct vm_config *config,
                       struct sm_error *err)
{
    uint64_t mib = given->memory_mib ? given->memory_mib : API_MEMORY_DEFAULT_MIB;
    if (given->vcpus > ENGINE_MAX_VCPUS)
        return err_set(err, SM_EINVAL, "%u vCPUs are out of range: 1 to %d", given->vcpus,
                       ENGINE_MAX_VCPUS);
    *config = (struct vm_config){
        .memory_bytes = (mib + 1) / 2 * 2 << 20,
        .vcpus = given->vcpus ? given->vcpus : 1,
        .cpu = given->cpu,
    };
    return engines_choose(given->engine, &config->engine, err);
}

SM_API int sm_vm_start(sm_image *image, const struct sm_vm_config *given, sm_vm **out,
                       struct sm_error *err)
{
    struct sm_vm_config config;
    struct vm_config machine;
    *out = NULL;
    int rc = config_copy(&config, sizeof config, given, "sm_vm_config", err);
    if (!rc)
        rc = fill_config(&config, &machine, err);
    if (rc)
        return rc;
    struct sm_vm *vm = calloc(1, sizeof *vm);
    if (!vm)
        return err_set(err, SM_ENOMEM, "out of memory");
    vm->console = config.console;
    vm->console_opaque = config.console_opaque;
    if (vm->console)
        machine.console = on_console;
    machine.console_opaque = vm;
    rc = keep_config(vm, &image->image->config, err);
    if (!rc)
        rc = build(vm, image, &config, &machine, err);
    if (!rc)
        rc = boot(vm, config.start_ms ? config.start_ms : API_START_DEFAULT_MS, err);
    if (rc) {
        sm_vm_free(vm);
        return rc;
    }
    *out = vm;
    return 0;
}

SM_API void sm_vm_free(sm_vm *vm)
{
    if (!vm)
        return;
    worker_free(vm->worker);
    string_list_fini(&vm->env);
    free(vm->working_dir);
    free(vm->user);
    free(vm);
}

SM_API void sm_vm_stop(sm_vm *vm)
{
    worker_stop(vm->worker);
}

SM_API enum sm_vm_state sm_vm_state(sm_vm *vm)
{
    enum vm_end end;
    worker_wait(vm->worker, 0, &end, NULL);
    switch (end) {
    case VM_RUNNING:
        return SM_VM_RUNNING;
    case VM_END_STOPPED:
        return SM_VM_STOPPED;
    case VM_END_POWEROFF:
        return SM_VM_POWERED_OFF;
    case VM_END_RESET:
        return SM_VM_RESET;
    case VM_END_PANIC:
        return SM_VM_PANICKED;
    case VM_END_FAILED:
        break;
    }
    return SM_VM_FAILED;
}

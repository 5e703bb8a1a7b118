// SPDX-License-Identifier: Apache-2.0
/*
 * sm_vm: a vm, what its image says about commands, and one thread that sleeps until the VM ends and
 * then hangs up on the commands in it (a connection to a machine that is gone never says so
 * itself).
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "agent/request.h"
#include "api/api.h"
#include "base/err.h"
#include "base/io.h"

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void *watch(void *opaque)
{
    struct sm_vm *vm = opaque;
    struct pollfd p[2] = {{.fd = vm_end_fd(vm->vm), .events = POLLIN},
                          {.fd = vm->quit_fd, .events = POLLIN}};
    while (poll(p, 2, -1) < 0 && errno == EINTR)
        ;
    if (p[0].revents)
        exec_hang_up_all(vm);
    return NULL;
}

static void on_console(void *opaque, const uint8_t *data, size_t len)
{
    struct sm_vm *vm = opaque;
    vm->console(vm->console_opaque, data, len);
}

static int start_watcher(struct sm_vm *vm, struct sm_error *err)
{
    sigset_t all, old;
    vm->quit_fd = eventfd(0, EFD_CLOEXEC);
    if (vm->quit_fd < 0)
        return err_sys(err, "cannot create an eventfd");
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    errno = pthread_create(&vm->watcher, NULL, watch, vm);
    vm->watching = errno == 0;
    int rc = vm->watching ? 0 : err_sys(err, "cannot start a thread");
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

/* The machine itself. *config is complete but for what comes from the image. */
static int build(struct sm_vm *vm, sm_image *image, const struct sm_vm_config *given,
                 struct vm_config *config, struct sm_error *err)
{
    const struct image *i = image->image;
    char *kernel = io_format("%s/guest/vmlinuz", image->data_dir);
    char *initramfs = io_format("%s/guest/initramfs.cpio", image->data_dir);
    const char **layers = calloc(i->n_layers, sizeof *layers);
    int rc;
    if (!kernel || !initramfs || !layers) {
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
        rc = vm_new(config, &vm->vm, err);
    }
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
    int64_t deadline = now_ms() + start_ms;
    int rc = vm_start(vm->vm, err);
    if (!rc)
        rc = vm_wait_agent(vm->vm, start_ms < INT32_MAX ? (int)start_ms : INT32_MAX, err);
    if (rc == SM_ETIMEDOUT)
        return err_set(err, rc, "the guest was not ready for commands within %u ms", start_ms);
    if (rc)
        return rc;
    int fd = vm_take_beacon(vm->vm);
    int64_t left = deadline - now_ms();
    rc = request_beacon(fd, left > 1000 ? (int)left : 1000, err);
    close(fd);
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
    vm->quit_fd = -1;
    vm->console = config.console;
    vm->console_opaque = config.console_opaque;
    if (vm->console)
        machine.console = on_console;
    machine.console_opaque = vm;
    pthread_mutex_init(&vm->lock, NULL);
    rc = keep_config(vm, &image->image->config, err);
    if (!rc)
        rc = build(vm, image, &config, &machine, err);
    if (!rc)
        rc = boot(vm, config.start_ms ? config.start_ms : API_START_DEFAULT_MS, err);
    if (!rc)
        rc = start_watcher(vm, err);
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
    if (vm->watching) {
        eventfd_write(vm->quit_fd, 1);
        pthread_join(vm->watcher, NULL);
    }
    if (vm->quit_fd >= 0)
        close(vm->quit_fd);
    vm_free(vm->vm);
    pthread_mutex_destroy(&vm->lock);
    string_list_fini(&vm->env);
    free(vm->working_dir);
    free(vm->user);
    free(vm);
}

SM_API void sm_vm_stop(sm_vm *vm)
{
    vm_stop(vm->vm);
}

SM_API enum sm_vm_state sm_vm_state(sm_vm *vm)
{
    enum vm_end end;
    vm_wait(vm->vm, 0, &end, NULL);
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

// SPDX-License-Identifier: Apache-2.0
/*
 * sm_vm: a worker, and what its image says about commands. A command's connection ends in the
 * worker, so it hangs up by itself when the VM is gone.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/proto.h"
#include "agent/request.h"
#include "api/api.h"
#include "api/start.h"
#include "base/clock.h"
#include "base/err.h"
#include "image/store_snapshot.h"

#define DEBUG_START_MS 3600000 /* a start that is checked or traced takes its time */

static void on_console(void *opaque, const uint8_t *data, size_t len)
{
    struct sm_vm *vm = opaque;
    vm->console(vm->console_opaque, data, len);
}

static void on_debug(void *opaque, const char *text, size_t len)
{
    struct sm_vm *vm = opaque;
    vm->debug(vm->debug_opaque, text, len);
}

/* Keep what commands and clones need of the image: it may be freed before the VM. */
static int keep_config(struct sm_vm *vm, const sm_image *image, struct sm_error *err)
{
    const struct image_config *config = &image->image->config;
    int failed = (vm->data_dir = strdup(image->data_dir)) ? 0 : -1;
    vm->store = image->store;
    for (size_t i = 0; i < config->env.n; i++)
        failed |= string_list_add(&vm->env, config->env.items[i]);
    if (config->working_dir && !(vm->working_dir = strdup(config->working_dir)))
        failed = -1;
    if (config->user && !(vm->user = strdup(config->user)))
        failed = -1;
    return failed ? err_set(err, SM_ENOMEM, "out of memory") : 0;
}

/* A machine in the making. */
struct start {
    sm_image *image;
    struct sm_vm_config given;
    struct vm_config config;
    struct start_files files;
    struct vm_volumes volumes; /* the worker has its own copies of the descriptors */
    char key[START_KEY_SIZE];  /* "": no snapshot is to be used or made */
    int64_t deadline_ms;
};

static int left_ms(const struct start *s)
{
    int64_t left = s->deadline_ms - clock_ms();
    return left < 1 ? 1 : left < INT32_MAX ? (int)left : INT32_MAX;
}

/* The process of s->config, up to the agent's first word. */
static int launch(struct sm_vm *vm, struct start *s, struct sm_error *err)
{
    int rc = worker_new(s->files.vmm, &s->config, &vm->worker, err);
    rc = rc ? rc : worker_wait_ready(vm->worker, left_ms(s), err);
    if (rc == SM_ETIMEDOUT)
        rc = err_set(err, rc, "the guest was not ready for commands within %u ms",
                     s->given.start_ms);
    return rc;
}

static int boot(struct sm_vm *vm, struct start *s, struct sm_error *err)
{
    s->config.kernel = s->files.kernel;
    s->config.initramfs = s->files.initramfs;
    s->config.snapshot = NULL;
    return launch(vm, s, err);
}

/* The first start of a machine makes the snapshot for the next ones, unless another process is at
 * it. That it cannot is no reason for this one to fail: sm_image_bake says why. */
static void keep(struct sm_vm *vm, struct start *s)
{
    struct store_snapshot made = {0};
    if (!s->key[0] ||
        store_snapshot_begin(s->image->store, s->key, false, s->given.snapshots == SM_SNAPSHOTS_NEW,
                             &made, NULL) != 0)
        return;
    if (!made.busy && !made.present && start_snapshot(vm, NULL, made.folder, NULL) == 0)
        store_snapshot_commit(&made, NULL);
    store_snapshot_abort(&made);
}

/* A VM that booted shares memory with the snapshot of the same machine, if there is one. It may end
 * by that, as by anything; else it is only larger if it fails. */
static void share(struct sm_vm *vm, struct start *s, const char *key)
{
    struct snapshot *snapshot = NULL;
    char *path = NULL;
    if (key[0] && store_find_snapshot(s->image->store, key, &path, NULL) == 0)
        snapshot_open(path, false, &snapshot, NULL);
    worker_share(vm->worker, snapshot && snapshot->base_fd < 0 ? snapshot->ram_fd : -1, NULL);
    snapshot_free(snapshot);
    free(path);
}

static int restore(struct sm_vm *vm, struct start *s, const struct snapshot *snapshot,
                   struct sm_error *err)
{
    bool base = snapshot->base_fd >= 0;
    s->config.snapshot = snapshot;
    int rc = launch(vm, s, err);
    if (rc)
        return rc;
    strcpy(vm->base_digest, base ? snapshot->base_digest : snapshot->ram_digest);
    vm->base_fd = fcntl(base ? snapshot->base_fd : snapshot->ram_fd, F_DUPFD_CLOEXEC, 0);
    return vm->base_fd >= 0 ? 0 : err_sys(err, "cannot keep the VM's memory file open");
}

/* From the store's snapshot, if there is one that fits and is whole. */
static bool restore_kept(struct sm_vm *vm, struct start *s)
{
    struct snapshot *snapshot = NULL;
    char *path = NULL;
    int rc = s->key[0] ? store_find_snapshot(s->image->store, s->key, &path, NULL) : SM_ENOTFOUND;
    if (rc)
        return false;
    rc = snapshot_open(path, false, &snapshot, NULL);
    if (!rc)
        rc = restore(vm, s, snapshot, NULL);
    snapshot_free(snapshot);
    free(path);
    if (rc) { /* damaged, or of another version: boot, and put a new one into its place */
        worker_free(vm->worker);
        vm->worker = NULL;
        s->given.snapshots = SM_SNAPSHOTS_NEW;
    }
    return rc == 0;
}

static void on_warning(void *opaque, const char *text)
{
    struct sm_vm *vm = opaque;
    vm->warning(vm->warning_opaque, text);
}

static int open_volumes(struct sm_vm *vm, struct start *s, struct sm_error *err)
{
    const struct snapshot *snapshot = s->image->snapshot;
    bool live = snapshot && snapshot->n_disks;
    if (live && s->given.volumes && s->given.volumes[0])
        return err_set(
            err, SM_EINVAL,
            "the snapshot has its own disks, %u of them, which each VM gets as they were "
            "then: give no volumes",
            snapshot->n_disks);
    int rc = live ? vm_volumes_over(&s->volumes, s->image->store, snapshot, err)
                  : vm_volumes_open(&s->volumes, s->image->store, s->given.volumes, err);
    if (!rc && snapshot && !live && snapshot->n_volumes != s->volumes.n)
        rc = err_set(err, SM_EINVAL,
                     "a snapshot's volumes cannot be changed: it has %u, and %u are asked for",
                     snapshot->n_volumes, s->volumes.n);
    s->config.volumes = s->volumes.vm;
    s->config.n_volumes = s->volumes.n;
    vm->warning = s->given.warning;
    vm->warning_opaque = s->given.warning_opaque;
    s->config.warning = vm->warning ? on_warning : NULL;
    s->config.warning_opaque = vm;
    return rc;
}

static bool has_folders(const struct vm_config *config)
{
    bool found = false;
    for (unsigned i = 0; i < config->n_volumes; i++)
        found |= config->volumes[i].folder;
    return found;
}

static int start_machine(struct sm_vm *vm, struct start *s, struct sm_error *err)
{
    char key[START_KEY_SIZE] = "";
    int rc = start_files_init(&s->files, s->image, s->given.kernel, err);
    if (rc)
        return rc;
    s->config.layers = s->files.layers;
    s->config.n_layers = s->files.n_layers;
    /* Without a key, because a file cannot be read for instance: booting says what is wrong. */
    if (s->image->snapshot ||
        start_key(s->image, &s->files, &s->config, &s->volumes, key, NULL) != 0)
        key[0] = 0;
    strcpy(s->key, s->given.snapshots == SM_SNAPSHOTS_NEVER ? "" : key);
    rc = start_describe(s->image, &s->files, &s->config, &vm->kept, err);
    if (rc)
        return rc;
    if (s->image->snapshot) {
        rc = restore(vm, s, s->image->snapshot, err);
    } else if (s->given.snapshots == SM_SNAPSHOTS_NEW || !restore_kept(vm, s)) {
        rc = boot(vm, s, err);
        if (!rc) {
            keep(vm, s);
            share(vm, s, key);
        }
    }
    if (!rc && !has_folders(&s->config))
        rc = snapshot_describe_disks(vm->kept, &s->config, err);
    return rc ? rc : start_identity(vm->worker, &s->volumes, left_ms(s), err);
}

SM_API int sm_vm_start(sm_image *image, const struct sm_vm_config *given, sm_vm **out,
                       struct sm_error *err)
{
    struct start s = {.image = image};
    *out = NULL;
    int rc = config_copy(&s.given, sizeof s.given, given, "sm_vm_config", err);
    if (!rc)
        rc = start_config(image, &s.given, &s.config, err);
    if (rc)
        return rc;
    struct sm_vm *vm = calloc(1, sizeof *vm);
    if (!vm)
        return err_set(err, SM_ENOMEM, "out of memory");
    vm->base_fd = -1;
    vm->console = s.given.console;
    vm->console_opaque = s.given.console_opaque;
    if (vm->console)
        s.config.console = on_console;
    s.config.console_opaque = vm;
    vm->debug = s.given.debug_text;
    vm->debug_opaque = s.given.debug_opaque;
    if (vm->debug)
        s.config.debug.text = on_debug;
    s.config.debug.opaque = vm;
    if (!s.given.start_ms)
        s.given.start_ms = s.given.debug ? DEBUG_START_MS : API_START_DEFAULT_MS;
    s.deadline_ms = clock_ms() + s.given.start_ms;
    rc = keep_config(vm, image, err);
    if (!rc)
        rc = open_volumes(vm, &s, err);
    if (!rc)
        rc = start_machine(vm, &s, err);
    start_files_fini(&s.files);
    vm_volumes_close(&s.volumes);
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
    if (vm->base_fd >= 0)
        close(vm->base_fd);
    snapshot_free(vm->kept);
    string_list_fini(&vm->env);
    free(vm->data_dir);
    free(vm->working_dir);
    free(vm->user);
    free(vm);
}

SM_API int sm_vm_shutdown(sm_vm *vm, uint32_t grace_ms, struct sm_error *err)
{
    enum vm_end end;
    int fd;
    if (grace_ms > PROTO_GRACE_MAX_MS)
        return err_set(err, SM_EINVAL, "grace of %u ms, the most is %u", grace_ms,
                       PROTO_GRACE_MAX_MS);
    if (worker_wait(vm->worker, 0, &end, NULL) == 0)
        return 0;
    int rc = worker_connect(vm->worker, PROTO_PORT, &fd, err);
    if (rc)
        return rc;
    rc = request_shutdown(fd, grace_ms, API_SHUTDOWN_MS, err);
    close(fd);
    rc = rc ? rc : worker_wait(vm->worker, (int)grace_ms + API_SHUTDOWN_MS, &end, err);
    return rc == SM_ETIMEDOUT
               ? err_set(err, rc, "the guest did not power off within %u ms after all was ended",
                         API_SHUTDOWN_MS)
               : rc;
}

SM_API void sm_vm_stop(sm_vm *vm)
{
    worker_stop(vm->worker);
}

SM_API int sm_vm_wait(sm_vm *vm, int timeout_ms, struct sm_error *err)
{
    enum vm_end end;
    int rc = worker_wait(vm->worker, timeout_ms, &end, err);
    return rc == SM_ETIMEDOUT ? rc : 0;
}

SM_API enum sm_vm_state sm_vm_state(sm_vm *vm)
{
    switch (worker_state(vm->worker)) {
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

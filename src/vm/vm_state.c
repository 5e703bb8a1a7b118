// SPDX-License-Identifier: Apache-2.0
/*
 * A VM's part of a snapshot: RAM, registers and devices into files, and back. Loading goes engine
 * first, then devices, whose interrupt lines then find their pins as they left them.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "cpu/machine.h"
#include "cpu/model.h"
#include "vm/ram.h"
#include "vm/snapshot.h"
#include "vm/vm_impl.h"

#define STATE_MAX (8u << 20)

/* The engine's part, too large for a stack. */
struct engine_state {
    struct machine_state machine;
    struct cpu_state cpus[ENGINE_MAX_VCPUS];
};

static struct engine_state *engine_state_new(void)
{
    struct engine_state *e = aligned_alloc(_Alignof(struct engine_state), sizeof *e);
    if (e)
        memset(e, 0, sizeof *e);
    return e;
}

static void cpu_name(char out[STATE_NAME_SIZE], unsigned i)
{
    snprintf(out, STATE_NAME_SIZE, "cpu%u", i);
}

/* ---- saving ---- */

static int save_engine(struct vm *vm, struct buf *file, struct sm_error *err)
{
    char name[STATE_NAME_SIZE];
    struct engine_state *e = engine_state_new();
    if (!e)
        return err_set(err, SM_ENOMEM, "out of memory");
    int rc = 0;
    for (unsigned i = 0; !rc && i < vm->n_vcpus; i++)
        rc = vm->ops->get_state(vm->engine, i, &e->cpus[i], err);
    rc = rc ? rc : vm->ops->get_machine(vm->engine, &e->machine, err);
    rc = rc ? rc
            : state_save(file, "machine", MACHINE_STATE_VERSION, machine_walk, &e->machine, err);
    for (unsigned i = 0; !rc && i < vm->n_vcpus; i++) {
        cpu_name(name, i);
        rc = state_save(file, name, CPU_STATE_VERSION, cpu_walk, &e->cpus[i], err);
    }
    free(e);
    return rc;
}

static int build_state(struct vm *vm, struct buf *file, struct sm_error *err)
{
    static const uint8_t later[STATE_DIGEST_SIZE]; /* snapshot_save() knows it when RAM is hashed */
    struct vm_part parts[VM_MAX_PARTS];
    unsigned n = vm_devices_parts(vm, parts);
    int rc = state_begin(file, later, err);
    rc = rc ? rc : save_engine(vm, file, err);
    for (unsigned i = 0; !rc && i < n; i++)
        rc = state_save(file, parts[i].name, parts[i].version, parts[i].walk, parts[i].object, err);
    return rc;
}

/* Each request is done or has not begun (blk.h), so files and queues agree. */
static int copy_disks(struct vm *vm, const int *disk_fds, unsigned n, struct sm_error *err)
{
    int rc = 0;
    if (n && n != vm->n_volumes)
        return err_set(err, SM_EINVAL, "%u files for %u disks", n, vm->n_volumes);
    for (unsigned i = 0; i < n && !rc; i++)
        rc = blk_copy(vm->volumes[i], disk_fds[i], err);
    return rc;
}

int vm_capture(struct vm *vm, const struct vm_files *files, struct buf *state, uint64_t *pause_ns,
               struct sm_error *err)
{
    int ram_fd = files->ram;
    uint64_t began = clock_ns();
    int rc = vm_pause(vm, err);
    if (rc)
        return rc;
    rc = build_state(vm, state, err);
    rc = rc ? rc : copy_disks(vm, files->disks, files->n_disks, err);
    if (!rc)
        rc = vm->mem->from_file ? ram_save_delta(vm->mem, vm->pagemap_fd, vm->over, ram_fd, err)
                                : ram_save(vm->mem, vm->pagemap_fd, ram_fd, err);
    vm_resume(vm);
    *pause_ns = clock_ns() - began;
    if (rc)
        buf_fini(state);
    return rc;
}

int vm_share(struct vm *vm, int ram_fd, struct sm_error *err)
{
    int rc = vm_pause(vm, err);
    if (rc)
        return rc;
    rc = ram_share(vm->mem, vm->pagemap_fd, ram_fd, err);
    if (rc && rc != SM_ENOMEM)
        vm_finish(vm, VM_END_FAILED, err);
    vm_resume(vm);
    return rc;
}

/* ---- loading ---- */

int snapshot_read(struct snapshot *s, int state_fd, int ram_fd, int base_fd, struct sm_error *err)
{
    struct stat st;
    s->state_fd = state_fd;
    s->ram_fd = ram_fd;
    s->base_fd = base_fd;
    if (fstat(state_fd, &st) != 0)
        return err_sys(err, "cannot look at the state file");
    if (!S_ISREG(st.st_mode) || st.st_size > STATE_MAX)
        return err_set(err, SM_ECORRUPT, "the state file is too large, or no file");
    size_t len = (size_t)st.st_size;
    if (buf_reserve(&s->state, len + 1) != 0)
        return err_set(err, SM_ENOMEM, "out of memory");
    ssize_t n = pread(state_fd, s->state.data, len, 0);
    if (n < 0)
        return err_sys(err, "cannot read the state file");
    s->state.len = (size_t)n;
    if (fstat(base_fd >= 0 ? base_fd : ram_fd, &st) != 0)
        return err_sys(err, "cannot look at the memory file");
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != s->memory_bytes)
        return err_set(err, SM_ECORRUPT, "the memory file is truncated, or another machine's");
    return 0;
}

static int load_engine(struct vm *vm, struct state_file *file, struct sm_error *err)
{
    char name[STATE_NAME_SIZE];
    struct machine_state now;
    struct engine_state *e = engine_state_new();
    if (!e)
        return err_set(err, SM_ENOMEM, "out of memory");
    int rc = state_load(file, "machine", MACHINE_STATE_VERSION, machine_walk, &e->machine, err);
    for (unsigned i = 0; !rc && i < vm->n_vcpus; i++) {
        cpu_name(name, i);
        rc = state_load(file, name, CPU_STATE_VERSION, cpu_walk, &e->cpus[i], err);
    }
    rc = rc ? rc : vm->ops->get_machine(vm->engine, &now, err);
    if (!rc) {
        machine_resume(&e->machine, e->cpus, vm->n_vcpus, &now);
        rc = vm->ops->set_machine(vm->engine, &e->machine, err);
    }
    for (unsigned i = 0; !rc && i < vm->n_vcpus; i++)
        rc = vm->ops->set_state(vm->engine, i, &e->cpus[i], err);
    free(e);
    return rc;
}

static int load_devices(struct vm *vm, struct state_file *file, struct sm_error *err)
{
    struct vm_part parts[VM_MAX_PARTS];
    unsigned n = vm_devices_parts(vm, parts);
    int rc = 0;
    for (unsigned i = 0; !rc && i < n; i++)
        rc = state_load(file, parts[i].name, parts[i].version, parts[i].walk, parts[i].object, err);
    return rc ? rc : state_finish(file, err);
}

/* Memory of a snapshot with a base, whose own is mapped already. */
static int load_delta(struct vm *vm, const struct snapshot *s, struct sm_error *err)
{
    vm->over = malloc(sizeof *vm->over);
    if (!vm->over)
        return err_set(err, SM_ENOMEM, "out of memory");
    int rc = delta_read(vm->over, s->ram_fd, s->memory_bytes, err);
    return rc ? rc : ram_lay(vm->mem, vm->over, s->ram_fd, err);
}

int vm_load(struct vm *vm, const struct snapshot *s, struct sm_error *err)
{
    /* The model has the host's vendor, and a running guest would notice another. */
    if (strcmp(s->cpu_vendor, model_host_vendor()) != 0)
        return err_set(
            err, SM_EUNSUPPORTED,
            "the snapshot needs the CPU model %s of a processor by %s: bake the image on "
            "this host",
            s->cpu_model, s->cpu_vendor);
    struct state_file *file = malloc(sizeof *file);
    int rc = file ? state_open(file, s->state.data, s->state.len, s->digest, err)
                  : err_set(err, SM_ENOMEM, "out of memory");
    if (!rc && s->base_fd >= 0)
        rc = load_delta(vm, s, err);
    rc = rc ? rc : load_engine(vm, file, err);
    if (!rc) {
        loop_lock(vm->loop);
        rc = load_devices(vm, file, err);
        loop_unlock(vm->loop);
    }
    free(file);
    if (rc)
        return err_wrap(err, rc, "cannot restore the snapshot");
    lines_sync(&vm->lines);
    vm->agent_ready = true; /* it listened when the snapshot was taken */
    return 0;
}

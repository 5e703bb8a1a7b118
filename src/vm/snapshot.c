// SPDX-License-Identifier: Apache-2.0
/*
 * Saving goes RAM, manifest (which has RAM's digest), state (which has the manifest's): each file
 * vouches for the one before it. Loading into a VM goes engine first, then devices, whose interrupt
 * lines then find their pins as they left them.
 */
#include "vm/snapshot.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "cpu/machine.h"
#include "cpu/model.h"
#include "vm/ram.h"
#include "vm/vm_impl.h"

#define MANIFEST_MAX (1u << 20)
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

static int build_state(struct vm *vm, const uint8_t *digest, struct buf *file, struct sm_error *err)
{
    struct vm_part parts[VM_MAX_PARTS];
    unsigned n = vm_devices_parts(vm, parts);
    int rc = state_begin(file, digest, err);
    rc = rc ? rc : save_engine(vm, file, err);
    for (unsigned i = 0; !rc && i < n; i++)
        rc = state_save(file, parts[i].name, parts[i].version, parts[i].walk, parts[i].object, err);
    return rc;
}

static int create(const char *dir, const char *name, int *fd, struct sm_error *err)
{
    char *path = io_format("%s/%s", dir, name);
    *fd = path ? open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
    int rc = !path     ? err_set(err, SM_ENOMEM, "out of memory")
             : *fd < 0 ? err_sys(err, "cannot create %s", path)
                       : 0;
    free(path);
    return rc;
}

/* Make it durable and close it. */
static int finish(int fd, const char *dir, const char *name, struct sm_error *err)
{
    int rc = fsync(fd) == 0 ? 0 : err_sys(err, "cannot write %s/%s to disk", dir, name);
    if (close(fd) != 0 && !rc)
        rc = err_sys(err, "cannot write %s/%s", dir, name);
    return rc;
}

static int write_file(const char *dir, const char *name, const void *data, size_t len,
                      struct sm_error *err)
{
    int fd;
    int rc = create(dir, name, &fd, err);
    if (rc)
        return rc;
    if (io_write_full(fd, data, len) != 0) {
        rc = err_sys(err, "cannot write %s/%s", dir, name);
        close(fd);
        return rc;
    }
    return finish(fd, dir, name, err);
}

static int write_ram(struct vm *vm, const char *dir, char *digest, struct sm_error *err)
{
    int fd;
    int rc = create(dir, "ram", &fd, err);
    if (rc)
        return rc;
    rc = ram_save(vm->mem, fd, digest, err);
    if (rc) {
        close(fd);
        return rc;
    }
    return finish(fd, dir, "ram", err);
}

static const char *host_vendor(void)
{
    return model_host_is_amd() ? "amd" : "intel";
}

static int describe(struct vm *vm, const struct snapshot_meta *meta, struct snapshot *s,
                    struct sm_error *err)
{
    s->memory_bytes = vm->mem->ram_bytes;
    s->vcpus = vm->n_vcpus;
    snprintf(s->cpu_model, sizeof s->cpu_model, "%s", vm->cpu_model);
    snprintf(s->cpu_vendor, sizeof s->cpu_vendor, "%s", host_vendor());
    s->n_layers = vm->n_layers;
    s->layer_ids = calloc(vm->n_layers + 1u, sizeof *s->layer_ids);
    s->document = json_deep_copy(meta->document);
    if (!s->layer_ids || !s->document)
        return err_set(err, SM_ENOMEM, "out of memory");
    for (unsigned i = 0; i < vm->n_layers; i++)
        snprintf(s->layer_ids[i], sizeof s->layer_ids[i], "%s", meta->layer_ids[i]);
    return 0;
}

int snapshot_save(struct vm *vm, const char *dir, const struct snapshot_meta *meta,
                  struct sm_error *err)
{
    struct snapshot *s = calloc(1, sizeof *s);
    struct buf file = {0};
    char *manifest = NULL;
    if (!s)
        return err_set(err, SM_ENOMEM, "out of memory");
    s->ram_fd = -1;
    int rc = describe(vm, meta, s, err);
    rc = rc ? rc : write_ram(vm, dir, s->ram_digest, err);
    rc = rc ? rc : snapshot_manifest_build(s, &manifest, err);
    if (!rc) {
        hash_bytes_raw(manifest, strlen(manifest), s->digest);
        rc = build_state(vm, s->digest, &file, err);
    }
    rc = rc ? rc : write_file(dir, "state", file.data, file.len, err);
    rc = rc ? rc : write_file(dir, "manifest.json", manifest, strlen(manifest), err);
    free(manifest);
    buf_fini(&file);
    snapshot_free(s);
    return rc;
}

/* ---- opening ---- */

static int slurp(const char *dir, const char *name, size_t max, struct buf *out,
                 struct sm_error *err)
{
    char *path = io_format("%s/%s", dir, name);
    int rc = path ? io_slurp(path, max, out, err) : err_set(err, SM_ENOMEM, "out of memory");
    free(path);
    return rc;
}

static int open_ram(const char *dir, bool verify, struct snapshot *s, struct sm_error *err)
{
    struct stat st;
    char digest[DIGEST_STR_SIZE];
    char *path = io_format("%s/ram", dir);
    s->ram_fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    int rc = !path           ? err_set(err, SM_ENOMEM, "out of memory")
             : s->ram_fd < 0 ? err_sys(err, "cannot open %s", path)
                             : 0;
    free(path);
    if (rc)
        return rc;
    if (fstat(s->ram_fd, &st) != 0)
        return err_sys(err, "cannot look at the memory file");
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != s->memory_bytes)
        return err_set(err, SM_ECORRUPT, "the memory file is truncated, or another machine's");
    if (!verify)
        return 0;
    rc = ram_digest(s->ram_fd, s->memory_bytes, digest, err);
    if (!rc && strcmp(digest, s->ram_digest) != 0)
        rc = err_set(err, SM_ECORRUPT, "the memory file is damaged (checksum)");
    return rc;
}

static int open_files(const char *dir, bool verify_ram, struct snapshot *s, struct sm_error *err)
{
    struct buf manifest = {0};
    int rc = slurp(dir, "manifest.json", MANIFEST_MAX, &manifest, err);
    if (rc == SM_ENOTFOUND)
        rc = err_set(err, rc, "there is none");
    if (!rc)
        hash_bytes_raw(manifest.data, manifest.len, s->digest);
    rc = rc ? rc : snapshot_manifest_parse(manifest.data, manifest.len, s, err);
    buf_fini(&manifest);
    rc = rc ? rc : slurp(dir, "state", STATE_MAX, &s->state, err);
    if (!rc) {
        struct state_file *file = malloc(sizeof *file);
        rc = file ? state_open(file, s->state.data, s->state.len, s->digest, err)
                  : err_set(err, SM_ENOMEM, "out of memory");
        free(file);
    }
    return rc ? rc : open_ram(dir, verify_ram, s, err);
}

int snapshot_open(const char *dir, bool verify_ram, struct snapshot **out, struct sm_error *err)
{
    struct snapshot *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return err_set(err, SM_ENOMEM, "out of memory");
    s->ram_fd = -1;
    int rc = open_files(dir, verify_ram, s, err);
    if (rc) {
        snapshot_free(s);
        return err_wrap(err, rc, "snapshot %.200s", dir);
    }
    *out = s;
    return 0;
}

void snapshot_free(struct snapshot *s)
{
    if (!s)
        return;
    if (s->ram_fd >= 0)
        close(s->ram_fd);
    free(s->layer_ids);
    json_decref(s->document);
    buf_fini(&s->state);
    free(s);
}

/* ---- loading ---- */

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

int vm_load(struct vm *vm, const struct snapshot *s, struct sm_error *err)
{
    /* The model has the host's vendor, and a running guest would notice another. */
    if (strcmp(s->cpu_vendor, host_vendor()) != 0)
        return err_set(
            err, SM_EUNSUPPORTED,
            "the snapshot needs the CPU model %s of a processor by %s: bake the image on "
            "this host",
            s->cpu_model, s->cpu_vendor);
    struct state_file *file = malloc(sizeof *file);
    int rc = file ? state_open(file, s->state.data, s->state.len, s->digest, err)
                  : err_set(err, SM_ENOMEM, "out of memory");
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

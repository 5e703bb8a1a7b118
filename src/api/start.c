// SPDX-License-Identifier: Apache-2.0
/*
 * What is done once to a machine when it starts, and what it takes to start it later from where it
 * is. All on the caller's thread.
 */
#include "api/start.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "agent/proto.h"
#include "agent/request.h"
#include "base/err.h"
#include "cpu/model.h"
#include "base/io.h"
#include "image/store_snapshot.h"

#define ENTROPY_BYTES 64
#define HOSTNAME_LEN 12     /* as Docker's: the start of a container's id */
#define BAKE_MS 60000       /* for the guest to make itself small */
#define STREAMS_WAIT_MS 500 /* for the guest to let go of its connections */

/* ---- what it is made of ---- */

int start_files_init(struct start_files *f, const sm_image *image, const char *kernel,
                     struct sm_error *err)
{
    const struct image *i = image->image;
    *f = (struct start_files){0};
    if (!image->data_dir[0])
        return err_set(
            err, SM_ENOTFOUND,
            "the guest's kernel and initramfs are not installed: not beside the program, "
            "nor in %s",
            SM_DATA_DIR);
    f->kernel = kernel ? strdup(kernel) : io_format("%s/guest/vmlinuz", image->data_dir);
    f->initramfs = io_format("%s/guest/initramfs.cpio", image->data_dir);
    f->vmm = data_find_vmm(image->data_dir);
    f->layers = calloc(i->n_layers, sizeof *f->layers);
    f->layer_ids = calloc(i->n_layers, sizeof *f->layer_ids);
    if (!f->kernel || !f->initramfs || !f->vmm || !f->layers || !f->layer_ids) {
        start_files_fini(f);
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    for (size_t n = 0; n < i->n_layers; n++) {
        f->layers[n] = i->layers[n].held.path;
        f->layer_ids[n] = i->layers[n].diff_id;
    }
    f->n_layers = (unsigned)i->n_layers;
    return 0;
}

void start_files_fini(struct start_files *f)
{
    free(f->kernel);
    free(f->initramfs);
    free(f->vmm);
    free(f->layers);
    free(f->layer_ids);
    *f = (struct start_files){0};
}

int start_key(const sm_image *image, struct start_files *f, const struct vm_config *config,
              const struct vm_volumes *volumes, char key[START_KEY_SIZE], struct sm_error *err)
{
    struct buf text = {0};
    char digest[DIGEST_STR_SIZE];
    int rc = store_file_digest(image->store, f->kernel, f->kernel_digest, err);
    rc = rc ? rc : store_file_digest(image->store, f->initramfs, f->initramfs_digest, err);
    if (rc)
        return rc;
    int failed = buf_printf(
        &text,
        "supermachine %s\nformat %d\ndevices %d\nprotocol %u\nmemory %llu\nvcpus %u\n"
        "cpu %s %s\ncommand line %s\nkernel %s\ninitramfs %s\nimage %s\n",
        SM_VERSION, SNAPSHOT_FORMAT, VM_DEVICES, PROTO_VERSION,
        (unsigned long long)config->memory_bytes, config->vcpus, config->cpu, model_host_vendor(),
        vm_base_cmdline, f->kernel_digest, f->initramfs_digest, image->image->config_digest);
    for (unsigned i = 0; i < f->n_layers; i++)
        failed |= buf_printf(&text, "layer %s\n", f->layer_ids[i]);
    /* What the guest's kernel has seen of its disks: not what is on them; nor of a folder anything
     * but that there is one. */
    for (unsigned i = 0; i < volumes->n; i++)
        failed |= volumes->open[i].folder
                      ? buf_printf(&text, "folder\n")
                      : buf_printf(&text, "volume %llu %s\n",
                                   (unsigned long long)volumes->open[i].size_bytes,
                                   volumes->open[i].read_only ? "ro" : "rw");
    if (!failed)
        hash_bytes(text.data, text.len, digest);
    buf_fini(&text);
    if (failed)
        return err_set(err, SM_ENOMEM, "out of memory");
    strcpy(key, digest + strlen("sha256:"));
    return 0;
}

#define DEBUG_SOFT                                                                                 \
    (SM_DEBUG_CHECK | SM_DEBUG_TRACE_INTERRUPTS | SM_DEBUG_TRACE_TLB | SM_DEBUG_TRACE_CODE)

static int choose_debug(const struct sm_vm_config *given, struct vm_config *out,
                        struct sm_error *err)
{
    uint32_t want = given->debug;
    if (want & ~(uint32_t)(DEBUG_SOFT | SM_DEBUG_TRACE_EXITS))
        return err_set(err, SM_EINVAL, "there is no debugging aid number %#x", want);
    if ((want & DEBUG_SOFT) && out->engine != &engine_soft)
        return err_set(err, SM_EINVAL,
                       "only the soft engine can check itself or trace more than exits, and this "
                       "is the %s engine: choose soft",
                       out->engine->name);
    if ((want & SM_DEBUG_TRACE_CODE) && given->code_from > given->code_to)
        return err_set(err, SM_EINVAL, "the range of code to trace ends before it begins");
    out->debug = (struct engine_debug){
        .check = want & SM_DEBUG_CHECK,
        .check_every = given->check_every,
        .trace = (want & SM_DEBUG_TRACE_EXITS ? ENGINE_TRACE_EXITS : 0) |
                 (want & SM_DEBUG_TRACE_INTERRUPTS ? ENGINE_TRACE_INTERRUPTS : 0) |
                 (want & SM_DEBUG_TRACE_TLB ? ENGINE_TRACE_TLB : 0) |
                 (want & SM_DEBUG_TRACE_CODE ? ENGINE_TRACE_CODE : 0),
        .code_from = given->code_from,
        .code_to = given->code_to,
    };
    return 0;
}

/* Known once for all VMs of the image: measuring takes as long as half a restore. */
static uint64_t host_tsc_khz(sm_image *image)
{
    uint64_t khz = atomic_load(&image->tsc_khz);
    if (!khz) {
        khz = tsc_khz(&image->opened);
        atomic_store(&image->tsc_khz, khz);
    }
    return khz;
}

int start_config(sm_image *image, const struct sm_vm_config *given, struct vm_config *out,
                 struct sm_error *err)
{
    const struct snapshot *snapshot = image->snapshot;
    enum model_id model;
    uint64_t mib = given->memory_mib ? given->memory_mib : API_MEMORY_DEFAULT_MIB;
    if (given->vcpus > ENGINE_MAX_VCPUS)
        return err_set(err, SM_EINVAL, "%u vCPUs are out of range: 1 to %d", given->vcpus,
                       ENGINE_MAX_VCPUS);
    out->memory_bytes = (mib + 1) / 2 * 2 << 20;
    out->vcpus = given->vcpus ? given->vcpus : 1;
    int rc = model_choose(snapshot ? snapshot->cpu_model : given->cpu, &model, err);
    if (rc)
        return rc;
    out->cpu = model_name(model);
    if (snapshot) {
        if ((given->memory_mib && out->memory_bytes != snapshot->memory_bytes) ||
            (given->vcpus && given->vcpus != snapshot->vcpus) || given->kernel ||
            (given->cpu && strcmp(given->cpu, snapshot->cpu_model) != 0))
            return err_set(err, SM_EINVAL,
                           "a snapshot's memory, processors and kernel cannot be changed: it has "
                           "%llu MiB and %u vCPUs %s",
                           (unsigned long long)snapshot->memory_bytes >> 20, snapshot->vcpus,
                           snapshot->cpu_model);
        out->memory_bytes = snapshot->memory_bytes;
        out->vcpus = snapshot->vcpus;
    }
    rc = engines_choose(given->engine, &out->engine, err);
    if (!rc && out->engine == &engine_soft)
        out->tsc_khz = host_tsc_khz(image);
    return rc ? rc : choose_debug(given, out, err);
}

/* ---- who it is ---- */

static int random_bytes(void *out, size_t len, struct sm_error *err)
{
    if (getrandom(out, len, 0) != (ssize_t)len)
        return err_sys(err, "cannot get random bytes from the host");
    return 0;
}

static void to_hex(const uint8_t *bytes, size_t digits, char *out)
{
    for (size_t i = 0; i < digits / 2; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

static uint64_t realtime_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int start_identity(struct worker *worker, const struct vm_volumes *volumes, int timeout_ms,
                   struct sm_error *err)
{
    uint8_t id[PROTO_MACHINE_ID_LEN / 2], entropy[ENTROPY_BYTES];
    char hostname[HOSTNAME_LEN + 1], machine_id[PROTO_MACHINE_ID_LEN + 1];
    int fd;
    int rc = random_bytes(entropy, sizeof entropy, err);
    rc = rc ? rc : random_bytes(id, sizeof id, err);
    if (rc)
        return rc;
    to_hex(id, HOSTNAME_LEN, hostname);
    rc = random_bytes(id, sizeof id, err);
    to_hex(id, PROTO_MACHINE_ID_LEN, machine_id);
    rc = rc ? rc : worker_connect(worker, PROTO_PORT, &fd, err);
    if (rc)
        return rc;
    struct request_setup setup = {
        .hostname = hostname,
        .machine_id = machine_id,
        .clock_ns = realtime_ns(),
        .entropy = entropy,
        .entropy_len = sizeof entropy,
        .volumes = volumes->mounts,
        .n_volumes = volumes->n_mounts,
    };
    rc = request_setup(fd, &setup, timeout_ms, err);
    explicit_bzero(entropy, sizeof entropy);
    close(fd);
    return rc;
}

/* ---- what is kept of it ---- */

static json_t *string_array(const char *const *items)
{
    json_t *list = json_array();
    for (; items && *items; items++)
        json_array_append_new(list, json_string(*items));
    return list;
}

static void set_text(json_t *object, const char *key, const char *text)
{
    if (text)
        json_object_set_new(object, key, json_string(text));
}

/* The image's config, in the form in which images have it (OCI image-spec config.md). */
static json_t *image_document(const sm_image *image, const struct start_files *f)
{
    const struct image_config *c = &image->image->config;
    json_t *ids = json_array();
    for (unsigned i = 0; i < f->n_layers; i++)
        json_array_append_new(ids, json_string(f->layer_ids[i]));
    json_t *run = json_pack("{s:o, s:o, s:o}", "Entrypoint",
                            string_array((const char *const *)c->entrypoint.items), "Cmd",
                            string_array((const char *const *)c->cmd.items), "Env",
                            string_array((const char *const *)c->env.items));
    set_text(run, "WorkingDir", c->working_dir);
    set_text(run, "User", c->user);
    return json_pack("{s:s, s:s, s:o, s:{s:s, s:o}}", "os", c->os, "architecture", c->architecture,
                     "config", run, "rootfs", "type", "layers", "diff_ids", ids);
}

static json_t *document(const sm_image *image, const struct start_files *f)
{
    if (image->snapshot)
        return json_deep_copy(image->snapshot->document);
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:[]}", "supermachine", SM_VERSION, "kernel",
                     f->kernel_digest, "initramfs", f->initramfs_digest, "image_digest",
                     image->image->config_digest, "image", image_document(image, f), "warmup");
}

int start_describe(const sm_image *image, const struct start_files *f,
                   const struct vm_config *config, struct snapshot **out, struct sm_error *err)
{
    return snapshot_describe(config, f->layer_ids, document(image, f), out, err);
}

bool start_same_warmup(const struct snapshot *s, const char *const *warmup)
{
    json_t *wanted = string_array(warmup);
    bool same = wanted && json_equal(json_object_get(s->document, "warmup"), wanted);
    json_decref(wanted);
    return same;
}

/* The guest's side of our connections: streams that are still open when the snapshot is taken are
 * reset in every VM that it becomes. */
static void wait_for_streams(struct worker *worker)
{
    const struct timespec step = {.tv_nsec = 1000000};
    unsigned n;
    for (int ms = 0; ms < STREAMS_WAIT_MS; ms++) {
        if (worker_streams(worker, &n, NULL) != 0 || n == 0)
            return;
        nanosleep(&step, NULL);
    }
}

static int make_small(struct worker *worker, struct sm_error *err)
{
    int fd;
    int rc = worker_connect(worker, PROTO_PORT, &fd, err);
    if (rc)
        return rc;
    rc = request_bake(fd, BAKE_MS, err);
    close(fd);
    wait_for_streams(worker);
    return rc;
}

struct capture {
    struct worker *worker;
    uint64_t pause_ns;
};

static int capture(void *opaque, const struct vm_files *files, struct sm_error *err)
{
    struct capture *c = opaque;
    return worker_capture(c->worker, files, &c->pause_ns, err);
}

static int save_state(void *opaque, int fd, const uint8_t digest[STATE_DIGEST_SIZE],
                      struct sm_error *err)
{
    struct capture *c = opaque;
    return worker_save_state(c->worker, fd, digest, err);
}

static struct snapshot_source source_of(const struct sm_vm *vm, struct capture *c)
{
    return (struct snapshot_source){.capture = capture,
                                    .state = save_state,
                                    .opaque = c,
                                    .base_fd = vm->base_fd,
                                    .base_digest = vm->base_digest};
}

int start_check_folders(const struct sm_vm *vm, struct sm_error *err)
{
    if (!vm->kept->n_volumes)
        return 0;
    return err_set(err, SM_EUNSUPPORTED,
                   "a VM with shared folders cannot be saved or forked: its open files are the "
                   "host's; use volumes instead of folders, or `cp`");
}

int start_save(struct sm_vm *vm, const char *folder, uint64_t *pause_ns, struct sm_error *err)
{
    struct capture c = {.worker = vm->worker};
    struct snapshot_source source = source_of(vm, &c);
    int rc = snapshot_save(vm->kept, &source, folder, err);
    *pause_ns = c.pause_ns;
    return rc;
}

int start_capture(struct sm_vm *vm, struct snapshot **out, uint64_t *pause_ns, struct sm_error *err)
{
    struct capture c = {.worker = vm->worker};
    struct snapshot_source source = source_of(vm, &c);
    int files[SNAPSHOT_FILES_MAX], rc = 0;
    unsigned n = 0, wanted = 2 + vm->kept->n_disks;
    *out = NULL;
    for (; n < wanted && !rc; n += rc == 0)
        rc = store_temp_file(vm->store, &files[n], err);
    if (rc) {
        while (n-- > 0)
            close(files[n]);
        return rc;
    }
    rc = snapshot_capture(vm->kept, &source, files, n, out, err);
    *pause_ns = c.pause_ns;
    return rc;
}

int start_snapshot(struct sm_vm *vm, const char *const *warmup, const char *folder,
                   struct sm_error *err)
{
    if (warmup && json_object_set_new(vm->kept->document, "warmup", string_array(warmup)) != 0)
        return err_set(err, SM_ENOMEM, "out of memory");
    uint64_t pause_ns;
    int rc = make_small(vm->worker, err);
    return rc ? rc : start_save(vm, folder, &pause_ns, err);
}

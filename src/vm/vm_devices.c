// SPDX-License-Identifier: Apache-2.0
/* The devices of a VM, in the order in which the guest sees them. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vm/layout.h"
#include "vm/vm_impl.h"

static void on_power(void *opaque, enum power_event event)
{
    vm_finish(opaque, event == POWER_OFF ? VM_END_POWEROFF : VM_END_RESET, NULL);
}

/* The agent's first connection: it listens now. Later ones are refused by closing them. */
static void on_beacon(void *opaque, int fd)
{
    struct vm *vm = opaque;
    pthread_mutex_lock(&vm->lock);
    bool first = !vm->agent_ready;
    if (first) {
        vm->agent_ready = true;
        vm->beacon_fd = fd;
        pthread_cond_broadcast(&vm->changed);
    }
    pthread_mutex_unlock(&vm->lock);
    if (!first)
        close(fd);
}

/* Interrupt pin of the n-th virtio device: its own while they last, then shared ones; rng and vsock
 * never share. */
static unsigned virtio_gsi(unsigned n)
{
    unsigned pins = LAYOUT_GSI_COUNT - LAYOUT_GSI_VIRTIO;
    if (n < pins)
        return LAYOUT_GSI_VIRTIO + n;
    return LAYOUT_GSI_VIRTIO + 2 + (n - pins) % (pins - 2);
}

/* What the next virtio device is built on. */
static int next_env(struct vm *vm, struct virtio_env *env, struct sm_error *err)
{
    unsigned gsi = virtio_gsi(vm->n_virtio);
    vm->gsis[vm->n_virtio] = (uint8_t)gsi;
    *env = (struct virtio_env){.mem = vm->mem, .loop = vm->loop};
    return lines_add(&vm->lines, gsi, &env->irq, err);
}

/* Put the device at the next place on the bus. */
static int plug(struct vm *vm, struct virtio *device, struct sm_error *err)
{
    unsigned n = vm->n_virtio;
    int rc = mmio_new(device, &vm->transports[n], err);
    if (rc)
        return rc;
    vm->n_virtio++;
    return mmio_attach(vm->transports[n], &vm->mmio, LAYOUT_VIRTIO_MMIO + n * LAYOUT_VIRTIO_STRIDE,
                       err);
}

static int add_layer(struct vm *vm, const char *path, gpa_t gpa, struct sm_error *err)
{
    struct vm_layer *layer = &vm->layers[vm->n_layers];
    struct virtio_env env;
    int rc = window_map(&layer->window, path, err);
    if (rc)
        return rc;
    vm->n_layers++;
    rc = mem_add_window(vm->mem, gpa, layer->window.len, layer->window.hva, true, err);
    if (!rc)
        rc = next_env(vm, &env, err);
    struct pmem_config config = {.start = gpa, .size = layer->window.len, .fd = -1};
    if (!rc)
        rc = pmem_new(&env, &config, &layer->pmem, err);
    return rc ? rc : plug(vm, pmem_virtio(layer->pmem), err);
}

static int add_layers(struct vm *vm, const struct vm_config *config, struct sm_error *err)
{
    gpa_t gpa = MEM_HIGH_BASE;
    if (vm->mem->ram_bytes > MEM_LOW_LIMIT)
        gpa += vm->mem->ram_bytes - MEM_LOW_LIMIT;
    gpa = (gpa + LAYOUT_WINDOWS_ALIGN - 1) & ~(LAYOUT_WINDOWS_ALIGN - 1);
    for (unsigned i = 0; i < config->n_layers; i++) {
        int rc = add_layer(vm, config->layers[i], gpa, err);
        if (rc)
            return rc;
        gpa += vm->layers[i].window.len;
    }
    return 0;
}

static int add_volume(struct vm *vm, const struct vm_config *config, const struct vm_volume *volume,
                      struct sm_error *err)
{
    char id[BLK_ID_LEN], name[256];
    struct virtio_env env;
    struct blk_config blk = {
        .id = id, .name = name, .on_error = config->warning, .opaque = config->warning_opaque};
    snprintf(id, sizeof id, "sm%u", vm->n_volumes + vm->n_folders);
    snprintf(name, sizeof name, "volume %s", volume->name);
    int rc = volume->over ? disk_init_over(&blk.disk, volume->fd, volume->base_fd, name, err)
                          : disk_init(&blk.disk, volume->fd, volume->read_only, name, err);
    if (rc)
        return rc;
    rc = next_env(vm, &env, err);
    rc = rc ? rc : blk_new(&env, &blk, &vm->volumes[vm->n_volumes], err);
    if (rc)
        disk_fini(&blk.disk);
    return rc ? rc : plug(vm, blk_virtio(vm->volumes[vm->n_volumes++]), err);
}

static int add_folder(struct vm *vm, const struct vm_config *config, const struct vm_volume *volume,
                      struct sm_error *err)
{
    struct share_config given = {.root = volume->fd,
                                 .self = config->self_fd,
                                 .read_only = volume->read_only,
                                 .uid = volume->uid,
                                 .gid = volume->gid};
    struct virtio_env env;
    struct share *share;
    char tag[FS_TAG_LEN];
    snprintf(tag, sizeof tag, "sm%u", vm->n_volumes + vm->n_folders);
    int rc = next_env(vm, &env, err);
    rc = rc ? rc : share_new(&given, &share, err);
    rc = rc ? rc : fs_new(&env, share, tag, &vm->folders[vm->n_folders], err);
    return rc ? rc : plug(vm, fs_virtio(vm->folders[vm->n_folders++]), err);
}

static int add_volumes(struct vm *vm, const struct vm_config *config, struct sm_error *err)
{
    _Static_assert(SHARE_FILES_MAX <= VM_FOLDER_FILES, "what the header says is enough");
    int rc = 0;
    for (unsigned i = 0; i < config->n_volumes && !rc; i++)
        rc = (config->volumes[i].folder ? add_folder : add_volume)(vm, config, &config->volumes[i],
                                                                   err);
    return rc;
}

static int add_uart(struct vm *vm, struct sm_error *err)
{
    struct irq irq;
    int rc = lines_add(&vm->lines, LAYOUT_GSI_COM1, &irq, err);
    if (!rc)
        rc = uart_new(vm->loop, &irq, console_write, &vm->console, &vm->uart, err);
    return rc ? rc : uart_attach(vm->uart, &vm->ports, LAYOUT_COM1, err);
}

static int add_rng(struct vm *vm, struct sm_error *err)
{
    struct virtio_env env;
    int rc = next_env(vm, &env, err);
    if (!rc)
        rc = rng_new(&env, &vm->rng, err);
    return rc ? rc : plug(vm, rng_virtio(vm->rng), err);
}

static int add_vsock(struct vm *vm, uint32_t agent_port, struct sm_error *err)
{
    struct virtio_env env;
    int rc = next_env(vm, &env, err);
    if (!rc)
        rc = vsock_new(&env, VSOCK_GUEST_CID, &vm->vsock, err);
    if (!rc)
        rc = vsock_listen(vm->vsock, agent_port, on_beacon, vm, err);
    return rc ? rc : plug(vm, vsock_virtio(vm->vsock), err);
}

static int add_balloon(struct vm *vm, struct sm_error *err)
{
    struct virtio_env env;
    int rc = next_env(vm, &env, err);
    if (!rc)
        rc = balloon_new(&env, &vm->balloon, err);
    return rc ? rc : plug(vm, balloon_virtio(vm->balloon), err);
}

int vm_devices_new(struct vm *vm, const struct vm_config *config, struct sm_error *err)
{
    vm->power = (struct power){.event = on_power, .opaque = vm};
    int rc = power_attach(&vm->power, &vm->ports, err);
    if (!rc)
        rc = add_uart(vm, err);
    if (!rc)
        rc = add_rng(vm, err);
    if (!rc)
        rc = add_vsock(vm, config->agent_port ? config->agent_port : VM_AGENT_PORT, err);
    if (!rc)
        rc = add_balloon(vm, err);
    rc = rc ? rc : add_layers(vm, config, err);
    return rc ? rc : add_volumes(vm, config, err);
}

int vm_devices_connect(struct vm *vm, struct sm_error *err)
{
    int rc = 0;
    for (unsigned i = 0; vm->ops->notify && i < vm->n_virtio; i++) {
        gpa_t gpa = LAYOUT_VIRTIO_MMIO + i * LAYOUT_VIRTIO_STRIDE + MMIO_QUEUE_NOTIFY;
        int fd;
        for (unsigned q = 0; !rc && (fd = mmio_kick_fd(vm->transports[i], q)) >= 0; q++)
            rc = vm->ops->notify(vm->engine, gpa, q, fd, err);
    }
    return rc;
}

static void add_part(struct vm_part *parts, unsigned *n, const char *kind, int index,
                     uint32_t version, state_walk_fn *walk, void *object)
{
    struct vm_part *p = &parts[(*n)++];
    if (index < 0)
        snprintf(p->name, sizeof p->name, "%s", kind);
    else
        snprintf(p->name, sizeof p->name, "%s%d", kind, index);
    p->version = version;
    p->walk = walk;
    p->object = object;
}

unsigned vm_devices_parts(struct vm *vm, struct vm_part parts[VM_MAX_PARTS])
{
    unsigned n = 0;
    add_part(parts, &n, "uart", -1, UART_STATE_VERSION, uart_walk, vm->uart);
    for (unsigned i = 0; i < vm->n_virtio; i++)
        add_part(parts, &n, "mmio", (int)i, MMIO_STATE_VERSION, mmio_walk, vm->transports[i]);
    add_part(parts, &n, "vsock", -1, VSOCK_STATE_VERSION, vsock_walk, vm->vsock);
    for (unsigned i = 0; i < vm->n_layers; i++)
        add_part(parts, &n, "pmem", (int)i, PMEM_STATE_VERSION, pmem_walk, vm->layers[i].pmem);
    for (unsigned i = 0; i < vm->n_volumes; i++)
        add_part(parts, &n, "blk", (int)i, BLK_STATE_VERSION, blk_walk, vm->volumes[i]);
    for (unsigned i = 0; i < vm->n_folders; i++)
        add_part(parts, &n, "fs", (int)i, FS_STATE_VERSION, fs_walk, vm->folders[i]);
    return n;
}

void vm_devices_free(struct vm *vm)
{
    for (unsigned i = 0; i < vm->n_virtio; i++)
        mmio_free(vm->transports[i]);
    for (unsigned i = 0; i < vm->n_volumes; i++)
        blk_free(vm->volumes[i]);
    for (unsigned i = 0; i < vm->n_folders; i++)
        fs_free(vm->folders[i]);
    for (unsigned i = 0; i < vm->n_layers; i++) {
        pmem_free(vm->layers[i].pmem);
        window_unmap(&vm->layers[i].window);
    }
    balloon_free(vm->balloon);
    vsock_free(vm->vsock);
    rng_free(vm->rng);
    uart_free(vm->uart);
}

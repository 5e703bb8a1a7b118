// SPDX-License-Identifier: Apache-2.0
/*
 * Building a VM: memory -> buses -> devices -> engine -> kernel -> registers, by explicit calls in
 * one visible order; vm_free takes any half of it down again.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "cpu/model.h"
#include "vm/acpi.h"
#include "vm/boot.h"
#include "vm/kernel.h"
#include "vm/layout.h"
#include "vm/ram.h"
#include "vm/snapshot.h"
#include "vm/vm_impl.h"

#define MIB (1ull << 20)

/*
 * For a fast and quiet start; measured with the Debian 6.1 cloud kernel on the soft engine.
 * quiet: errors only; every byte on the serial port is an exit.
 * panic=-1: reboot at once, which ends the VM; reboot=a: by the ACPI register (with
 * hardware-reduced ACPI, Linux would try EFI and then real mode). mitigations=off: guest code is
 * alone in its VM; protecting it from itself costs each system call. cryptomgr.notests: 0.7 s of
 * self-tests. 8250.nr_uarts=1: no search for more ports. pci=off: 222 accesses to the ports of a
 * bus that is not there, each an exit; initcall_blacklist: pci_arch_init only complains of that.
 * tracer_init_tracefs makes the 10,000 files of /sys/kernel/tracing, 8.5 MiB of each VM's memory.
 * The others register functions for BPF programs, and parse 5 MB of the kernel's type information
 * for it: 0.16 s of 1.43 s. The price is TCP's default algorithm, reno instead of cubic, and no
 * tracing by files in the guest.
 */
const char vm_base_cmdline[] =
    "console=ttyS0 quiet panic=-1 reboot=a mitigations=off random.trust_cpu=on 8250.nr_uarts=1 "
    "pci=off cryptomgr.notests "
    "initcall_blacklist=tracer_init_tracefs,pci_arch_init,cubictcp_register,kfunc_init,"
    "bpf_rstat_kfunc_init,bpf_prog_test_run_init,bpf_tcp_ca_kfunc_init,bpf_key_sig_kfuncs_init";

uint64_t vm_memory_max(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    return pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : VM_MEMORY_MIN;
}

static int check_config(const struct vm_config *config, struct sm_error *err)
{
    uint64_t max = vm_memory_max();
    if (config->memory_bytes < VM_MEMORY_MIN || config->memory_bytes > max)
        return err_set(
            err, SM_EINVAL,
            "memory of %llu MiB is out of range: %llu MiB to %llu MiB (all of the host's)",
            (unsigned long long)(config->memory_bytes / MIB), VM_MEMORY_MIN / MIB,
            (unsigned long long)(max / MIB));
    if (config->memory_bytes % (2 * MIB) != 0)
        return err_set(err, SM_EINVAL, "memory of %llu bytes is not a multiple of 2 MiB",
                       (unsigned long long)config->memory_bytes);
    if (config->vcpus < 1 || config->vcpus > ENGINE_MAX_VCPUS)
        return err_set(err, SM_EINVAL, "%u vCPUs are out of range: 1 to %d", config->vcpus,
                       ENGINE_MAX_VCPUS);
    if (config->n_layers > VM_MAX_LAYERS)
        return err_set(err, SM_EINVAL, "the image has %u layers; at most %d are possible",
                       config->n_layers, VM_MAX_LAYERS);
    if (config->n_volumes > VM_MAX_VOLUMES)
        return err_set(err, SM_EINVAL, "%u volumes; at most %d are possible", config->n_volumes,
                       VM_MAX_VOLUMES);
    return 0;
}

static int write_tables(struct vm *vm, gpa_t *rsdp, struct sm_error *err)
{
    struct acpi_device devices[VM_MAX_VIRTIO];
    for (unsigned i = 0; i < vm->n_virtio; i++)
        devices[i] = (struct acpi_device){
            .addr = LAYOUT_VIRTIO_MMIO + i * LAYOUT_VIRTIO_STRIDE,
            .len = MMIO_WINDOW,
            .gsi = vm->gsis[i],
            .shared = vm->lines.attached[vm->gsis[i]] > 1,
        };
    struct acpi_config acpi = {
        .n_vcpus = vm->n_vcpus, .devices = devices, .n_devices = vm->n_virtio};
    return acpi_write(vm->mem, &acpi, rsdp, err);
}

static int load_kernel(struct vm *vm, const struct vm_config *config, struct sm_error *err)
{
    struct kernel_info kernel;
    struct cpu_state state;
    gpa_t rsdp = 0;
    int rc = kernel_load(config->kernel, vm->mem, &kernel, err);
    if (!rc)
        rc = write_tables(vm, &rsdp, err);
    if (rc)
        return rc;
    const char *extra = config->cmdline_extra;
    char *cmdline = io_format("%s sm.layers=%u%s%s", vm_base_cmdline, vm->n_layers,
                              extra ? " " : "", extra ? extra : "");
    if (!cmdline)
        return err_set(err, SM_ENOMEM, "out of memory");
    struct boot_config boot = {
        .kernel = &kernel, .initramfs = config->initramfs, .cmdline = cmdline, .rsdp = rsdp};
    rc = vm->ops->get_state(vm->engine, 0, &state, err);
    rc = rc ? rc : boot_setup(vm->mem, &boot, &state, err);
    free(cmdline);
    return rc ? rc : vm->ops->set_state(vm->engine, 0, &state, err);
}

static int build(struct vm *vm, const struct vm_config *config, struct sm_error *err)
{
    vm->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (vm->end_fd < 0)
        return err_sys(err, "cannot create an eventfd");
    const struct snapshot *from = config->snapshot;
    int rc = from ? mem_new_from(config->memory_bytes,
                                 from->base_fd >= 0 ? from->base_fd : from->ram_fd, &vm->mem, err)
                  : mem_new(config->memory_bytes, &vm->mem, err);
    if (!rc)
        rc = loop_new(&vm->loop, err);
    if (!rc)
        rc = vm_devices_new(vm, config, err);
    if (rc)
        return rc;
    struct engine_config engine = {
        .mem = vm->mem,
        .mmio = &vm->mmio,
        .pio = &vm->ports,
        .n_vcpus = config->vcpus,
        .cpu_model = vm->cpu_model,
        .tsc_khz = config->tsc_khz,
        .translate = config->translate,
        .debug = config->debug,
    };
    rc = vm->ops->create(&engine, &vm->engine, err);
    if (rc)
        return rc;
    lines_connect(&vm->lines, vm->ops, vm->engine);
    rc = vm_devices_connect(vm, err);
    if (!rc && !config->snapshot)
        rc = load_kernel(vm, config, err);
    vm->pagemap_fd = ram_pagemap();
    if (!rc && config->seal)
        rc = config->seal(config->hooks_opaque, err);
    if (!rc && config->snapshot)
        rc = vm_load(vm, config->snapshot, err);
    return rc;
}

int vm_new(const struct vm_config *config, struct vm **out, struct sm_error *err)
{
    *out = NULL;
    enum model_id model;
    int rc = check_config(config, err);
    if (!rc) /* whether this host has what the model needs, the engine looks */
        rc = config->cpu ? model_parse(config->cpu, &model, err) : model_choose(NULL, &model, err);
    if (rc)
        return rc;
    struct vm *vm = calloc(1, sizeof *vm);
    if (!vm)
        return err_set(err, SM_ENOMEM, "out of memory");
    vm->ops = config->engine;
    vm->n_vcpus = config->vcpus;
    vm->cpu_model = model_name(model);
    vm->on_thread = config->on_thread;
    vm->hooks_opaque = config->hooks_opaque;
    vm->pagemap_fd = -1;
    vm->end_fd = -1;
    vm->beacon_fd = -1;
    pthread_mutex_init(&vm->lock, NULL);
    clock_cond_init(&vm->changed);
    lines_init(&vm->lines);
    console_init(&vm->console, config->console, config->console_opaque);
    rc = build(vm, config, err);
    if (rc) {
        vm_free(vm);
        return rc;
    }
    *out = vm;
    return 0;
}

void vm_free(struct vm *vm)
{
    if (!vm)
        return;
    vm_join(vm);
    lines_connect(&vm->lines, NULL, NULL);
    if (vm->mem)
        vm->mem->on_write = NULL;
    if (vm->engine)
        vm->ops->destroy(vm->engine);
    vm_devices_free(vm);
    loop_free(vm->loop);
    mem_free(vm->mem);
    free(vm->over);
    console_fini(&vm->console);
    lines_fini(&vm->lines);
    pthread_cond_destroy(&vm->changed);
    pthread_mutex_destroy(&vm->lock);
    if (vm->beacon_fd >= 0)
        close(vm->beacon_fd);
    if (vm->end_fd >= 0)
        close(vm->end_fd);
    if (vm->pagemap_fd >= 0)
        close(vm->pagemap_fd);
    free(vm);
}

size_t vm_console_tail(struct vm *vm, char *out, size_t size)
{
    return console_tail(&vm->console, out, size);
}

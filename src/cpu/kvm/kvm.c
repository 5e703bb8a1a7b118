/* SPDX-License-Identifier: Apache-2.0 */
/* Making and unmaking a KVM virtual machine, and the engine's table. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cpu/kvm/kvm.h"

/* Intel without "unrestricted guest" needs 4 pages for its real mode: in the hole below 4 GiB. */
#define TSS_ADDR 0xfffbd000ull
#define IDENTITY_MAP_ADDR 0xfffbc000ull

static void kvm_destroy(struct engine *e)
{
    if (!e)
        return;
    for (unsigned i = 0; i < ENGINE_MAX_VCPUS; i++) {
        if (e->vcpus[i].run)
            munmap(e->vcpus[i].run, e->run_bytes);
        if (e->vcpus[i].fd >= 0)
            close(e->vcpus[i].fd);
    }
    if (e->vm_fd >= 0)
        close(e->vm_fd);
    if (e->kvm_fd >= 0)
        close(e->kvm_fd);
    free(e);
}

/* Pins of the I/O APIC only: by default, the first 16 lead to the PIC too, which the machine does
 * not have. */
static int route_interrupts(struct engine *e, struct sm_error *err)
{
    size_t bytes =
        sizeof(struct kvm_irq_routing) + ENGINE_IOAPIC_PINS * sizeof(struct kvm_irq_routing_entry);
    struct kvm_irq_routing *r = calloc(1, bytes);
    int rc = 0;

    if (!r)
        return err_set(err, SM_ENOMEM, "out of memory for interrupt routes");
    r->nr = ENGINE_IOAPIC_PINS;
    for (unsigned i = 0; i < ENGINE_IOAPIC_PINS; i++)
        r->entries[i] = (struct kvm_irq_routing_entry){
            .gsi = i,
            .type = KVM_IRQ_ROUTING_IRQCHIP,
            .u.irqchip = {.irqchip = KVM_IRQCHIP_IOAPIC, .pin = i},
        };
    if (kvm_call(&e->host, e->vm_fd, KVM_SET_GSI_ROUTING, r) < 0)
        rc = kvm_failed(err, "KVM_SET_GSI_ROUTING");
    free(r);
    return rc;
}

static int make_vm(struct engine *e, struct sm_error *err)
{
    uint64_t identity = IDENTITY_MAP_ADDR;

    e->vm_fd = kvm_call(&e->host, e->kvm_fd, KVM_CREATE_VM, NULL);
    if (e->vm_fd < 0)
        return kvm_failed(err, "KVM_CREATE_VM");
    if (kvm_call(&e->host, e->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0)
        return kvm_failed(err, "KVM_SET_IDENTITY_MAP_ADDR");
    if (kvm_call(&e->host, e->vm_fd, KVM_SET_TSS_ADDR, (void *)(uintptr_t)TSS_ADDR) < 0)
        return kvm_failed(err, "KVM_SET_TSS_ADDR");
    if (kvm_call(&e->host, e->vm_fd, KVM_CREATE_IRQCHIP, NULL) < 0)
        return kvm_failed(err, "KVM_CREATE_IRQCHIP");
    return route_interrupts(e, err);
}

static int add_memory(struct engine *e, struct sm_error *err)
{
    const struct mem *m = e->config.mem;

    for (unsigned i = 0; i < m->n_regions; i++) {
        const struct mem_region *r = &m->regions[i];
        struct kvm_userspace_memory_region slot = {
            .slot = i,
            .flags = r->read_only ? KVM_MEM_READONLY : 0,
            .guest_phys_addr = r->gpa,
            .memory_size = r->len,
            .userspace_addr = (uintptr_t)r->hva,
        };

        if (kvm_call(&e->host, e->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
            return kvm_failed(err, "KVM_SET_USER_MEMORY_REGION");
    }
    return 0;
}

static int make_vcpu(struct engine *e, unsigned index, struct sm_error *err)
{
    struct kvm_vcpu *v = &e->vcpus[index];

    v->fd = kvm_call(&e->host, e->vm_fd, KVM_CREATE_VCPU, (void *)(uintptr_t)index);
    if (v->fd < 0)
        return kvm_failed(err, "KVM_CREATE_VCPU");
    void *run = mmap(NULL, e->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
    if (run == MAP_FAILED)
        return kvm_failed(err, "mapping struct kvm_run");
    v->run = run;
    int rc = kvm_set_cpuid(e, index, err);
    if (!rc)
        rc = kvm_set_signals(e, index, err);
    return rc ? rc : kvm_reset_state(e, index, err);
}

static int build(struct engine *e, struct sm_error *err)
{
    int rc = kvm_open(&e->host, &e->kvm_fd, err);
    if (rc)
        return rc;
    int bytes = kvm_call(&e->host, e->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
    if (bytes < 0)
        return kvm_failed(err, "KVM_GET_VCPU_MMAP_SIZE");
    e->run_bytes = (size_t)bytes;
    e->has_xcrs =
        kvm_call(&e->host, e->kvm_fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)KVM_CAP_XCRS) > 0;
    if (e->run_bytes < sizeof(struct kvm_run))
        return err_set(err, SM_EENGINE, "kvm: struct kvm_run has only %d bytes", bytes);
    rc = make_vm(e, err);
    if (!rc)
        rc = add_memory(e, err);
    for (unsigned i = 0; !rc && i < e->config.n_vcpus; i++)
        rc = make_vcpu(e, i, err);
    return rc;
}

int kvm_create_on(const struct kvm_host *host, const struct engine_config *config,
                  struct engine **out, struct sm_error *err)
{
    enum model_id model;

    *out = NULL;
    if (config->n_vcpus < 1 || config->n_vcpus > ENGINE_MAX_VCPUS)
        return err_set(err, SM_EINVAL, "%u vCPUs are out of range: 1 to %d", config->n_vcpus,
                       ENGINE_MAX_VCPUS);
    int rc = model_choose(config->cpu_model, &model, err);
    if (rc)
        return rc;
    struct engine *e = calloc(1, sizeof *e);
    if (!e)
        return err_set(err, SM_ENOMEM, "out of memory for the kvm engine");
    e->config = *config;
    e->host = *host;
    e->model = model;
    e->amd = model_host_is_amd();
    e->kvm_fd = e->vm_fd = -1;
    for (unsigned i = 0; i < ENGINE_MAX_VCPUS; i++)
        e->vcpus[i].fd = -1;
    rc = build(e, err);
    if (rc) {
        kvm_destroy(e);
        return rc;
    }
    *out = e;
    return 0;
}

static int kvm_create(const struct engine_config *config, struct engine **out, struct sm_error *err)
{
    return kvm_create_on(&kvm_host_linux, config, out, err);
}

static void kvm_irq(struct engine *e, unsigned gsi, int level)
{
    struct kvm_irq_level line = {.irq = gsi, .level = level != 0};

    kvm_call(&e->host, e->vm_fd, KVM_IRQ_LINE, &line);
}

static int kvm_notify(struct engine *e, gpa_t gpa, uint32_t value, int fd, struct sm_error *err)
{
    struct kvm_ioeventfd io = {
        .datamatch = value,
        .addr = gpa,
        .len = sizeof value,
        .fd = fd,
        .flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
    };

    if (kvm_call(&e->host, e->vm_fd, KVM_IOEVENTFD, &io) < 0)
        return kvm_failed(err, "KVM_IOEVENTFD");
    return 0;
}

const struct engine_ops engine_kvm = {
    .name = "kvm",
    .probe = kvm_probe,
    .create = kvm_create,
    .destroy = kvm_destroy,
    .run = kvm_run_vcpu,
    .kick = kvm_kick,
    .irq = kvm_irq,
    .notify = kvm_notify,
    .get_machine = kvm_get_machine,
    .set_machine = kvm_set_machine,
    .get_state = kvm_get_state,
    .set_state = kvm_set_state,
};

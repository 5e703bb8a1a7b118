/* SPDX-License-Identifier: Apache-2.0 */
/* What the vCPUs of a KVM machine share: the I/O APIC and kvm-clock. */
#include <string.h>
#include <x86intrin.h>

#include "base/err.h"
#include "cpu/kvm/kvm_regs.h"

#define IOAPIC_ID_SHIFT 24
#define IOAPIC_ID_MASK 15u

int kvm_get_machine(struct engine *e, struct machine_state *m, struct sm_error *err)
{
    struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
    struct kvm_clock_data clock = {0};

    memset(m, 0, sizeof *m);
    if (kvm_call(&e->host, e->vm_fd, KVM_GET_IRQCHIP, &chip) < 0)
        return kvm_failed(err, "KVM_GET_IRQCHIP");
    const struct kvm_ioapic_state *io = &chip.chip.ioapic;
    m->ioapic_select = io->ioregsel & 0xff;
    m->ioapic_id = (io->id & IOAPIC_ID_MASK) << IOAPIC_ID_SHIFT;
    m->ioapic_lines = io->irr & ((1u << ENGINE_IOAPIC_PINS) - 1);
    for (unsigned i = 0; i < ENGINE_IOAPIC_PINS; i++)
        m->ioapic_redirect[i] = io->redirtbl[i].bits;
    if (kvm_call(&e->host, e->vm_fd, KVM_GET_CLOCK, &clock) < 0)
        return kvm_failed(err, "KVM_GET_CLOCK");
    m->host_tsc = clock.flags & KVM_CLOCK_HOST_TSC ? clock.host_tsc : __rdtsc();
    m->tsc_khz = e->tsc_khz;
    m->system_ns = clock.clock;
    return 0;
}

int kvm_set_machine(struct engine *e, const struct machine_state *m, struct sm_error *err)
{
    struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
    struct kvm_clock_data clock = {0};

    if (m->tsc_khz != e->tsc_khz)
        return err_set(err, SM_EINVAL, "the machine's TSC was not converted to this host's rate");
    if (kvm_call(&e->host, e->vm_fd, KVM_GET_IRQCHIP, &chip) < 0) /* for its address */
        return kvm_failed(err, "KVM_GET_IRQCHIP");
    struct kvm_ioapic_state *io = &chip.chip.ioapic;
    io->ioregsel = m->ioapic_select;
    io->id = m->ioapic_id >> IOAPIC_ID_SHIFT & IOAPIC_ID_MASK;
    io->irr = m->ioapic_lines;
    for (unsigned i = 0; i < ENGINE_IOAPIC_PINS; i++)
        io->redirtbl[i].bits = m->ioapic_redirect[i];
    if (kvm_call(&e->host, e->vm_fd, KVM_SET_IRQCHIP, &chip) < 0)
        return kvm_refused(err, "KVM_SET_IRQCHIP");
    uint64_t ticks = __rdtsc() - m->host_tsc; /* since the time that system_ns is of */
    clock.clock = m->system_ns + (uint64_t)((unsigned __int128)ticks * 1000000 / e->tsc_khz);
    if (kvm_call(&e->host, e->vm_fd, KVM_SET_CLOCK, &clock) < 0)
        return kvm_refused(err, "KVM_SET_CLOCK");
    return 0;
}

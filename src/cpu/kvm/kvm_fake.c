/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/kvm/kvm_fake.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RUN_BYTES 12288

/* Files that can be mapped stand for the device, VMs and vCPUs. */
static int new_fd(void)
{
    int fd = memfd_create("kvm", MFD_CLOEXEC);

    if (fd >= 0 && ftruncate(fd, RUN_BYTES) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static int fake_open(void *opaque)
{
    struct kvm_fake *f = opaque;

    if (f->open_errno) {
        errno = f->open_errno;
        return -1;
    }
    return new_fd();
}

static int supported_cpuid(const struct kvm_fake *f, struct kvm_cpuid2 *out)
{
    static const uint32_t leaves[] = {1, 7, 0x40000001, 0x80000001};

    out->nent = sizeof leaves / sizeof leaves[0];
    for (unsigned i = 0; i < out->nent; i++) {
        struct kvm_cpuid_entry2 *e = &out->entries[i];

        memset(e, 0xff, sizeof *e);
        e->function = leaves[i];
        e->index = 0;
        if (leaves[i] == 1)
            e->ecx &= ~f->clear_ecx;
    }
    return 0;
}

static int take_cpuid(struct kvm_fake *f, const struct kvm_cpuid2 *in)
{
    f->n_cpuid = in->nent;
    memcpy(f->cpuid, in->entries, in->nent * sizeof in->entries[0]);
    return 0;
}

static int set_msrs(const struct kvm_fake *f, const struct kvm_msrs *in)
{
    for (unsigned i = 0; i < in->nmsrs; i++)
        if (in->entries[i].index == f->refused_msr)
            return (int)i;
    return (int)in->nmsrs;
}

static int fail(struct kvm_fake *f, unsigned long request, int error)
{
    f->failed = request;
    errno = error;
    return -1;
}

static int do_ioctl(struct kvm_fake *f, unsigned long request, void *arg)
{
    switch (request) {
    case KVM_GET_API_VERSION:
        return f->version;
    case KVM_CHECK_EXTENSION:
        return (int)(uintptr_t)arg != f->missing_cap;
    case KVM_CREATE_VM:
    case KVM_CREATE_VCPU:
        return new_fd();
    case KVM_GET_VCPU_MMAP_SIZE:
        return RUN_BYTES;
    case KVM_GET_TSC_KHZ:
        return (int)f->tsc_khz;
    case KVM_GET_SUPPORTED_CPUID:
        return supported_cpuid(f, arg);
    case KVM_SET_CPUID2:
        return take_cpuid(f, arg);
    case KVM_GET_MSRS:
        return (int)((struct kvm_msrs *)arg)->nmsrs;
    case KVM_SET_MSRS:
        return set_msrs(f, arg);
    case KVM_GET_MP_STATE:
        ((struct kvm_mp_state *)arg)->mp_state = KVM_MP_STATE_RUNNABLE;
        return 0;
    default:
        if (_IOC_DIR(request) & _IOC_READ)
            memset(arg, 0, _IOC_SIZE(request));
        return 0;
    }
}

static int fake_ioctl(void *opaque, int fd, unsigned long request, void *arg)
{
    struct kvm_fake *f = opaque;

    if (request == KVM_RUN) {
        f->runs++;
        return f->on_run(f);
    }
    if (f->storm_left > 0) {
        f->storm_left--;
        errno = f->storm_left % 2 ? EINTR : EAGAIN;
        return -1;
    }
    f->storm_left = f->storm;
    f->calls++;
    if (f->calls == f->fail_call || (f->fail_request && request == f->fail_request))
        return fail(f, request, f->fail_errno);
    return do_ioctl(f, request, arg);
}

void kvm_fake_init(struct kvm_fake *f)
{
    *f = (struct kvm_fake){.version = KVM_API_VERSION, .missing_cap = -1, .tsc_khz = 1000000};
}

struct kvm_host kvm_fake_host(struct kvm_fake *f)
{
    return (struct kvm_host){.open = fake_open, .ioctl = fake_ioctl, .opaque = f};
}

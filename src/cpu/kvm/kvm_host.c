/* SPDX-License-Identifier: Apache-2.0 */
/* The way to the kernel, and what it must offer. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "cpu/kvm/kvm.h"

#define DEVICE "/dev/kvm"
#define WAY_OUT "use --engine soft (SM_ENGINE_SOFT)"

static int host_open(void *opaque)
{
    return open(DEVICE, O_RDWR | O_CLOEXEC);
}

static int host_ioctl(void *opaque, int fd, unsigned long request, void *arg)
{
    return ioctl(fd, request, arg);
}

const struct kvm_host kvm_host_linux = {.open = host_open, .ioctl = host_ioctl};

int kvm_call(const struct kvm_host *host, int fd, unsigned long request, void *arg)
{
    int rc;

    do {
        rc = host->ioctl(host->opaque, fd, request, arg);
    } while (rc < 0 && (errno == EINTR || errno == EAGAIN));
    return rc;
}

int kvm_failed(struct sm_error *err, const char *what)
{
    if (errno == ENOMEM)
        return err_set(err, SM_ENOMEM, "kvm: out of memory: %s", what);
    return err_set(err, SM_EENGINE, "kvm: %s failed: %s; " WAY_OUT, what, strerror(errno));
}

/* The group that may open the device, by name where it has one. */
static void device_group(char *out, size_t size)
{
    struct stat st;
    struct group group, *found = NULL;
    char room[4096];
    FILE *f = fopen("/etc/group", "re"); /* a statically linked program has no getgrgid() */

    strcpy(out, "kvm");
    if (f && stat(DEVICE, &st) == 0)
        while (fgetgrent_r(f, &group, room, sizeof room, &found) == 0)
            if (found->gr_gid == st.st_gid && strlen(found->gr_name) < size)
                strcpy(out, found->gr_name);
    if (f)
        fclose(f);
}

static int open_failed(struct sm_error *err)
{
    char group[64];

    switch (errno) {
    case ENOENT:
        return err_set(err, SM_EENGINE, "kvm: " DEVICE " does not exist on this host; " WAY_OUT);
    case ENODEV:
    case ENXIO:
        return err_set(err, SM_EENGINE,
                       "kvm: " DEVICE " is there, but the kernel has no KVM behind it; " WAY_OUT);
    case EACCES:
    case EPERM:
        device_group(group, sizeof group);
        return err_set(err, SM_EENGINE,
                       "kvm: no permission to open " DEVICE ": join the group %s; or " WAY_OUT,
                       group);
    default:
        return kvm_failed(err, "opening " DEVICE);
    }
}

struct need {
    int cap;
    const char *name;
};

#define NEED(name)                                                                                 \
    {                                                                                              \
        KVM_CAP_##name, #name                                                                      \
    }

static const struct need needs[] = {
    NEED(IRQCHIP),
    NEED(USER_MEMORY),
    NEED(EXT_CPUID),
    NEED(MP_STATE),
    NEED(IRQ_ROUTING),
    NEED(IOEVENTFD),
    NEED(VCPU_EVENTS),
    NEED(DEBUGREGS),
    NEED(XSAVE),
    NEED(READONLY_MEM),
    NEED(ADJUST_CLOCK),
    NEED(IMMEDIATE_EXIT),
    NEED(TSC_DEADLINE_TIMER),
    NEED(GET_TSC_KHZ),
    NEED(DESTROY_MEMORY_REGION_WORKS),
    NEED(SET_TSS_ADDR),
    NEED(SET_IDENTITY_MAP_ADDR),
};

static int check_device(const struct kvm_host *host, int fd, struct sm_error *err)
{
    int version = kvm_call(host, fd, KVM_GET_API_VERSION, NULL);

    if (version < 0)
        return kvm_failed(err, "KVM_GET_API_VERSION");
    if (version != KVM_API_VERSION)
        return err_set(err, SM_EENGINE,
                       "kvm: " DEVICE " speaks version %d of the API, not %d; " WAY_OUT, version,
                       KVM_API_VERSION);
    for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++) {
        int has = kvm_call(host, fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)needs[i].cap);

        if (has < 0)
            return kvm_failed(err, "KVM_CHECK_EXTENSION");
        if (!has)
            return err_set(err, SM_EENGINE,
                           "kvm: this kernel's KVM lacks the capability KVM_CAP_%s; " WAY_OUT,
                           needs[i].name);
    }
    return 0;
}

int kvm_open(const struct kvm_host *host, int *fd, struct sm_error *err)
{
    *fd = host->open(host->opaque);
    if (*fd < 0)
        return open_failed(err);
    int rc = check_device(host, *fd, err);
    if (rc) {
        close(*fd);
        *fd = -1;
    }
    return rc;
}

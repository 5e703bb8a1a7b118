/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel whose KVM does what a test wants. */
#ifndef SM_KVM_FAKE_H
#define SM_KVM_FAKE_H

#include "cpu/kvm/kvm.h"

struct kvm_fake {
    int open_errno;             /* of opening the device, or 0 */
    int version;                /* of the API */
    int missing_cap;            /* -1: none */
    unsigned calls;             /* ioctls so far */
    unsigned fail_call;         /* this one (from 1) fails; 0: none */
    int fail_errno;             /* with this */
    unsigned long fail_request; /* this request fails; 0: none */
    unsigned long failed;       /* the last request that was made to fail */
    unsigned storm;             /* each ioctl is interrupted so often before it is done */
    unsigned storm_left;
    uint32_t clear_ecx;                /* bits taken out of supported CPUID 1 ECX */
    uint32_t refused_msr;              /* KVM_SET_MSRS stops here */
    struct kvm_cpuid_entry2 cpuid[64]; /* what KVM_SET_CPUID2 was given last */
    unsigned n_cpuid;
    unsigned tsc_khz;
    struct kvm_run *run; /* borrowed: of the engine's first vCPU, set by the test */
    /* KVM_RUN: what it returns, or -1 with errno. */
    int (*on_run)(struct kvm_fake *f);
    unsigned runs;
    void *opaque; /* on_run's */
};

void kvm_fake_init(struct kvm_fake *f);
struct kvm_host kvm_fake_host(struct kvm_fake *f);

#endif

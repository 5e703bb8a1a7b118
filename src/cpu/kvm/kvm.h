/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The KVM engine: hardware virtualization through /dev/kvm (Linux Documentation/virt/kvm/api.rst).
 * Local APICs, I/O APIC and kvm-clock are the kernel's. Private to kvm/, but for engine_kvm, which
 * cpu/engine.h declares.
 *
 * Threads: a vCPU belongs to the thread that runs it; kick() and irq() may come from any.
 *
 * The kick is a signal, KVM_KICK_SIGNAL, sent to the thread inside run() alone. It is blocked there
 * except while the guest runs, where it only makes KVM_RUN return, and is taken off the queue
 * before run() returns: no handler is installed and no disposition changed. An application that
 * uses this very signal for itself must not leave it unblocked in the whole process while a VM
 * runs.
 */
#ifndef SM_KVM_KVM_H
#define SM_KVM_KVM_H

#include <linux/kvm.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "cpu/engine.h"
#include "cpu/model.h"

#define KVM_KICK_SIGNAL (SIGRTMAX - 1)

/* The kernel, or what tests put in its place. Results and errno as of open(2) and ioctl(2). */
struct kvm_host {
    int (*open)(void *opaque); /* /dev/kvm */
    int (*ioctl)(void *opaque, int fd, unsigned long request, void *arg);
    void *opaque; /* borrowed */
};

extern const struct kvm_host kvm_host_linux;

struct kvm_vcpu {
    int fd;              /* owned; -1 */
    struct kvm_run *run; /* owned mapping, shared with the kernel, or NULL */
    _Atomic pid_t tid;   /* of the thread inside run(), else 0 */
    atomic_bool kicked;  /* run() is to return */
    atomic_uint kickers; /* calls of kick() that may still use tid */
};

struct engine {
    struct engine_config config;
    struct kvm_host host;
    int kvm_fd, vm_fd; /* owned; -1 */
    size_t run_bytes;  /* of struct kvm_run's mapping */
    enum model_id model;
    bool amd;         /* the CPU model's vendor */
    bool has_xcrs;    /* the host has XSAVE */
    uint32_t tsc_khz; /* of host and guest */
    struct kvm_vcpu vcpus[ENGINE_MAX_VCPUS];
};

/* ---- kvm_host.c ---- */

/* An ioctl that no signal can fail. */
int kvm_call(const struct kvm_host *host, int fd, unsigned long request, void *arg);
/* As err_sys, for a failed ioctl of this name: SM_ENOMEM, or SM_EENGINE with the way out. */
int kvm_failed(struct sm_error *err, const char *what);
/* Open /dev/kvm and see that it has all that the engine needs: 0 and *fd (the caller's), or
 * SM_EENGINE with the reason and the way out. */
int kvm_open(const struct kvm_host *host, int *fd, struct sm_error *err);

/* ---- kvm.c ---- */

/* create() over any host. */
int kvm_create_on(const struct kvm_host *host, const struct engine_config *config,
                  struct engine **out, struct sm_error *err);

/* ---- kvm_cpuid.c ---- */

/* Give a vCPU the CPU model. SM_EENGINE names what this host cannot give it. */
int kvm_set_cpuid(struct engine *e, unsigned vcpu, struct sm_error *err);

/* ---- kvm_run.c ---- */

int kvm_run_vcpu(struct engine *e, unsigned vcpu, enum vcpu_exit *exit, struct sm_error *err);
void kvm_kick(struct engine *e, unsigned vcpu);
/* Which signals KVM_RUN lets in. */
int kvm_set_signals(struct engine *e, unsigned vcpu, struct sm_error *err);

/* ---- kvm_state.c ---- */

/* To the model's state after power-up, where KVM's own differs. */
int kvm_reset_state(struct engine *e, unsigned vcpu, struct sm_error *err);
int kvm_get_state(struct engine *e, unsigned vcpu, struct cpu_state *out, struct sm_error *err);
int kvm_set_state(struct engine *e, unsigned vcpu, const struct cpu_state *in,
                  struct sm_error *err);

/* ---- kvm_machine.c ---- */

int kvm_get_machine(struct engine *e, struct machine_state *out, struct sm_error *err);
int kvm_set_machine(struct engine *e, const struct machine_state *in, struct sm_error *err);

/* ---- kvm_probe.c ---- */

/* Can and should this host's KVM run guests? 0, or SM_EENGINE with the reason and the way out. */
int kvm_probe(struct sm_error *err);
/* The part that runs a guest, over any host. */
int kvm_probe_speed(const struct kvm_host *host, struct sm_error *err);

#endif

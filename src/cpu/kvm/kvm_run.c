/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM_RUN and why it came back. Every exit reason either is handled or ends the VM with an error
 * that names it: nothing is retried that could come back for ever.
 *
 * An access that left the guest is finished by the kernel at the next KVM_RUN. So a kick is seen
 * only when KVM_RUN itself says that it was interrupted: then no access is half done, and the state
 * can be saved.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "cpu/debug.h"
#include "cpu/kvm/kvm.h"

#define SIGSET_BYTES 8 /* the kernel's sigset_t */

static void kick_set(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, KVM_KICK_SIGNAL);
}

int kvm_set_signals(struct engine *e, unsigned vcpu, struct sm_error *err)
{
    uint32_t len = SIGSET_BYTES;
    uint64_t blocked = ~(1ull << (KVM_KICK_SIGNAL - 1));
    _Alignas(struct kvm_signal_mask) uint8_t mask[sizeof len + SIGSET_BYTES];

    memcpy(mask, &len, sizeof len);
    memcpy(mask + sizeof len, &blocked, sizeof blocked);
    if (kvm_call(&e->host, e->vcpus[vcpu].fd, KVM_SET_SIGNAL_MASK, mask) < 0)
        return kvm_failed(err, "KVM_SET_SIGNAL_MASK");
    return 0;
}

/* Take the kick off this thread's queue. It was sent to this thread, so another thread's cannot be
 * meant. */
/* jail(kvm/vcpu): rt_sigtimedwait gettid */
static void drain_kick(void)
{
    struct timespec now = {0};
    sigset_t set;

    kick_set(&set);
    while (sigtimedwait(&set, NULL, &now) > 0)
        ;
}

/* jail(kvm/main,kvm/loop,kvm/vcpu,kvm/share): tgkill getpid ioctl */
void kvm_kick(struct engine *e, unsigned vcpu)
{
    struct kvm_vcpu *v = &e->vcpus[vcpu];
    int saved = errno;

    atomic_store(&v->kicked, true);
    __atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    atomic_fetch_add(&v->kickers, 1);
    pid_t tid = atomic_load(&v->tid);
    if (tid)
        syscall(SYS_tgkill, getpid(), tid, KVM_KICK_SIGNAL);
    atomic_fetch_sub(&v->kickers, 1);
    errno = saved;
}

static void enter(struct kvm_vcpu *v, sigset_t *old)
{
    sigset_t set;

    kick_set(&set);
    pthread_sigmask(SIG_BLOCK, &set, old);
    atomic_store(&v->tid, (pid_t)syscall(SYS_gettid));
}

static void leave(struct kvm_vcpu *v, const sigset_t *old)
{
    atomic_store(&v->tid, 0);
    while (atomic_load(&v->kickers)) /* one is between reading tid and its signal */
        sched_yield();
    drain_kick();
    pthread_sigmask(SIG_SETMASK, old, NULL);
}

static void do_io(const struct engine *e, struct kvm_run *run)
{
    unsigned size = run->io.size, port = run->io.port;
    uint32_t count = run->io.count;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;

    for (uint32_t i = 0; i < count; i++, data += size) {
        uint64_t value = 0;

        if (run->io.direction == KVM_EXIT_IO_OUT) {
            memcpy(&value, data, size);
            bus_write(e->config.pio, port, size, value);
        } else {
            value = bus_read(e->config.pio, port, size);
            memcpy(data, &value, size);
        }
    }
}

static void do_mmio(const struct engine *e, struct kvm_run *run)
{
    unsigned len = run->mmio.len;
    bool whole = len == 1 || len == 2 || len == 4 || len == 8;
    uint64_t value = ~0ull;

    if (run->mmio.is_write) {
        memcpy(&value, run->mmio.data, sizeof value);
        if (whole)
            bus_write(e->config.mmio, run->mmio.phys_addr, len,
                      len == 8 ? value : value & ((1ull << 8 * len) - 1));
        return;
    }
    if (whole)
        value = bus_read(e->config.mmio, run->mmio.phys_addr, len);
    memcpy(run->mmio.data, &value, sizeof value);
}

static unsigned long long rip_of(const struct engine *e, unsigned vcpu)
{
    struct kvm_regs regs = {0};

    kvm_call(&e->host, e->vcpus[vcpu].fd, KVM_GET_REGS, &regs);
    return regs.rip;
}

static int internal_error(const struct engine *e, unsigned vcpu, struct sm_error *err)
{
    const struct kvm_run *run = e->vcpus[vcpu].run;
    const char *what = "something unexpected happened";

    switch (run->internal.suberror) {
    case KVM_INTERNAL_ERROR_EMULATION:
        what = "it could not emulate an instruction";
        break;
    case KVM_INTERNAL_ERROR_SIMUL_EX:
        what = "exceptions arose at once";
        break;
    case KVM_INTERNAL_ERROR_DELIVERY_EV:
        what = "it could not deliver an event to the guest";
        break;
    case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
        what = "the processor gave an unknown exit reason";
        break;
    }
    return err_set(err, SM_EENGINE,
                   "kvm: the kernel gave up on vCPU %u at RIP %#llx: %s (internal error %u)", vcpu,
                   rip_of(e, vcpu), what, run->internal.suberror);
}

static int unhandled(const struct engine *e, unsigned vcpu, struct sm_error *err)
{
    const struct kvm_run *run = e->vcpus[vcpu].run;

    switch (run->exit_reason) {
    case KVM_EXIT_INTERNAL_ERROR:
        return internal_error(e, vcpu, err);
    case KVM_EXIT_FAIL_ENTRY:
        return err_set(err, SM_EENGINE,
                       "kvm: the processor refused to enter vCPU %u at RIP %#llx (hardware reason "
                       "%#llx)",
                       vcpu, rip_of(e, vcpu),
                       (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
    case KVM_EXIT_UNKNOWN:
        return err_set(err, SM_EENGINE,
                       "kvm: vCPU %u stopped at RIP %#llx for an unknown hardware reason %#llx",
                       vcpu, rip_of(e, vcpu), (unsigned long long)run->hw.hardware_exit_reason);
    case KVM_EXIT_SYSTEM_EVENT:
        return err_set(err, SM_EENGINE, "kvm: vCPU %u raised system event %u", vcpu,
                       run->system_event.type);
    default:
        return err_set(err, SM_EENGINE, "kvm: vCPU %u stopped at RIP %#llx for exit reason %u",
                       vcpu, rip_of(e, vcpu), run->exit_reason);
    }
}

/* KVM_RUN failed. True if the vCPU is to go on. */
static bool go_on(struct kvm_vcpu *v, enum vcpu_exit *exit)
{
    if (errno != EINTR && errno != EAGAIN) /* EAGAIN: it waited for its start-up interrupt */
        return false;
    /* In this order: a kick that comes now sets them again, and is then seen at the next turn. */
    __atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    drain_kick();
    if (atomic_exchange(&v->kicked, false))
        *exit = VCPU_EXIT_KICKED;
    return true;
}

static void trace_exit(const struct engine *e, unsigned vcpu)
{
    const struct engine_debug *debug = &e->config.debug;
    const struct kvm_run *run = e->vcpus[vcpu].run;
    unsigned long long gpa = run->mmio.phys_addr;
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        debug_line(debug, vcpu, "exit %s port %#x bytes %u count %u",
                   run->io.direction == KVM_EXIT_IO_OUT ? "out" : "in", run->io.port, run->io.size,
                   run->io.count);
        break;
    case KVM_EXIT_MMIO:
        debug_line(debug, vcpu, "exit %s gpa %#llx bytes %u", run->mmio.is_write ? "write" : "read",
                   gpa, run->mmio.len);
        break;
    default:
        debug_line(debug, vcpu, "exit reason %u", run->exit_reason);
    }
}

/* Until *exit is no longer VCPU_EXIT_FAILED, or an error. */
static int run_until(struct engine *e, unsigned vcpu, enum vcpu_exit *exit, struct sm_error *err)
{
    struct kvm_vcpu *v = &e->vcpus[vcpu];

    while (*exit == VCPU_EXIT_FAILED) {
        if (e->host.ioctl(e->host.opaque, v->fd, KVM_RUN, NULL) < 0) {
            if (!go_on(v, exit))
                return kvm_failed(err, "KVM_RUN");
            continue;
        }
        if (e->config.debug.trace & ENGINE_TRACE_EXITS)
            trace_exit(e, vcpu);
        switch (v->run->exit_reason) {
        case KVM_EXIT_IO:
            do_io(e, v->run);
            break;
        case KVM_EXIT_MMIO:
            do_mmio(e, v->run);
            break;
        case KVM_EXIT_SHUTDOWN:
            *exit = VCPU_EXIT_SHUTDOWN;
            break;
        default:
            return unhandled(e, vcpu, err);
        }
    }
    return 0;
}

int kvm_run_vcpu(struct engine *e, unsigned vcpu, enum vcpu_exit *exit, struct sm_error *err)
{
    sigset_t old;

    *exit = VCPU_EXIT_FAILED;
    enter(&e->vcpus[vcpu], &old);
    int rc = run_until(e, vcpu, exit, err);
    leave(&e->vcpus[vcpu], &old);
    return rc;
}

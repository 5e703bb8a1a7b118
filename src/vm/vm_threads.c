// SPDX-License-Identifier: Apache-2.0
/*
 * A VM's life: one thread per vCPU and per shared folder, and the loop's. Whoever sees the end
 * first (a register write, an engine error, vm_stop) records the reason and kicks every vCPU; the
 * last vCPU thread to leave publishes the end, so that all console output is there when a waiter
 * wakes.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/thread.h"
#include "vm/vm_impl.h"

/* With the lock held, when no vCPU runs (any more). */
/* jail(main,loop,vcpu): write */
static void publish_end(struct vm *vm)
{
    uint64_t one = 1;
    if ((vm->reason == VM_END_RESET || vm->reason == VM_END_POWEROFF) &&
        console_panicked(&vm->console))
        vm->reason = VM_END_PANIC;
    vm->ended = true;
    io_write_full(vm->end_fd, &one, sizeof one);
    pthread_cond_broadcast(&vm->changed);
}

void vm_finish(struct vm *vm, enum vm_end reason, const struct sm_error *err)
{
    pthread_mutex_lock(&vm->lock);
    if (vm->reason == VM_RUNNING) {
        vm->reason = reason;
        if (err)
            vm->failure = *err;
        atomic_store(&vm->stopping, true);
        if (vm->running == 0)
            publish_end(vm);
        for (unsigned i = 0; vm->engine && i < vm->n_vcpus; i++)
            vm->ops->kick(vm->engine, i);
        pthread_cond_broadcast(&vm->changed); /* parked vCPUs */
    }
    pthread_mutex_unlock(&vm->lock);
}

static void *vcpu_main(void *opaque)
{
    struct vm_vcpu *vcpu = opaque;
    struct vm *vm = vcpu->vm;
    char name[16];
    snprintf(name, sizeof name, "sm-vcpu%u", vcpu->index);
    pthread_setname_np(pthread_self(), name);
    if (vm->on_thread)
        vm->on_thread(vm->hooks_opaque, VM_THREAD_VCPU);
    for (vm_park(vm); !atomic_load(&vm->stopping); vm_park(vm)) {
        enum vcpu_exit exit = VCPU_EXIT_FAILED;
        struct sm_error err = {0};
        int rc = vm->ops->run(vm->engine, vcpu->index, &exit, &err);
        if (rc == 0 && exit == VCPU_EXIT_SHUTDOWN)
            vm_finish(vm, VM_END_RESET, NULL);
        else if (rc != 0 || exit != VCPU_EXIT_KICKED)
            vm_finish(vm, VM_END_FAILED, &err);
    }
    pthread_mutex_lock(&vm->lock);
    if (--vm->running == 0)
        publish_end(vm);
    pthread_cond_broadcast(&vm->changed); /* whoever pauses counts those that are left */
    pthread_mutex_unlock(&vm->lock);
    return NULL;
}

static void on_loop_start(void *opaque)
{
    struct vm *vm = opaque;
    pthread_setname_np(pthread_self(), "sm-loop");
    if (vm->on_thread)
        vm->on_thread(vm->hooks_opaque, VM_THREAD_LOOP);
}

static void on_folder_start(void *opaque)
{
    struct vm *vm = opaque;
    pthread_setname_np(pthread_self(), "sm-share");
    if (vm->on_thread)
        vm->on_thread(vm->hooks_opaque, VM_THREAD_SHARE);
}

static int start_threads(struct vm *vm, struct sm_error *err)
{
    loop_on_start(vm->loop, on_loop_start, vm);
    int rc = loop_start(vm->loop, err);
    for (unsigned i = 0; !rc && i < vm->n_folders; i++)
        rc = fs_start(vm->folders[i], on_folder_start, vm, err);
    for (unsigned i = 0; !rc && i < vm->n_vcpus; i++) {
        struct vm_vcpu *vcpu = &vm->vcpus[i];
        *vcpu = (struct vm_vcpu){.vm = vm, .index = i};
        if (thread_start(&vcpu->thread, vcpu_main, vcpu) != 0) {
            rc = err_sys(err, "cannot start a thread for vCPU %u", i);
            break;
        }
        vcpu->started = true;
        vm->running++;
    }
    return rc;
}

int vm_start(struct vm *vm, struct sm_error *err)
{
    struct sm_error failure = {0};
    pthread_mutex_lock(&vm->lock); /* new vCPU threads end no sooner than all are counted */
    if (vm->started || vm->reason != VM_RUNNING) {
        pthread_mutex_unlock(&vm->lock);
        return err_set(err, SM_EINVAL, "the VM was started or stopped before");
    }
    vm->started = true;
    int rc = start_threads(vm, &failure);
    pthread_mutex_unlock(&vm->lock);
    if (rc) {
        vm_finish(vm, VM_END_FAILED, &failure);
        if (err)
            *err = failure;
    }
    return rc;
}

void vm_stop(struct vm *vm)
{
    vm_finish(vm, VM_END_STOPPED, NULL);
}

void vm_join(struct vm *vm)
{
    vm_stop(vm);
    for (unsigned i = 0; i < vm->n_vcpus; i++) {
        if (vm->vcpus[i].started)
            pthread_join(vm->vcpus[i].thread, NULL);
        vm->vcpus[i].started = false;
    }
    for (unsigned i = 0; i < vm->n_folders; i++)
        fs_stop(vm->folders[i]);
    if (vm->loop)
        loop_stop(vm->loop);
}

int vm_end_fd(const struct vm *vm)
{
    return vm->end_fd;
}

/* Wait with the lock held until *flag or the VM ended; false when the time is up first. */
static bool wait_for(struct vm *vm, const bool *flag, int timeout_ms)
{
    int64_t until = timeout_ms < 0 ? -1 : clock_ms() + timeout_ms;
    while (!*flag && !vm->ended)
        if (clock_wait(&vm->changed, &vm->lock, until) == ETIMEDOUT)
            return *flag || vm->ended;
    return true;
}

int vm_wait(struct vm *vm, int timeout_ms, enum vm_end *end, struct sm_error *err)
{
    pthread_mutex_lock(&vm->lock);
    bool done = wait_for(vm, &vm->ended, timeout_ms);
    *end = done ? vm->reason : VM_RUNNING;
    if (done && vm->reason == VM_END_FAILED && err)
        *err = vm->failure;
    pthread_mutex_unlock(&vm->lock);
    return done ? 0 : err_set(err, SM_ETIMEDOUT, "the VM still runs");
}

int vm_ended_error(struct vm *vm, struct sm_error *err)
{
    char line[256];
    switch (vm->reason) {
    case VM_END_PANIC:
        console_panic_line(&vm->console, line, sizeof line);
        return err_set(err, SM_EGUEST, "the guest kernel panicked%s%s", line[0] ? ": " : "", line);
    case VM_END_POWEROFF:
        return err_set(err, SM_EGUEST, "the guest powered itself off");
    case VM_END_RESET:
        return err_set(err, SM_EGUEST, "the guest rebooted or crashed");
    case VM_END_FAILED:
        if (err)
            *err = vm->failure;
        return vm->failure.code ? vm->failure.code : SM_EENGINE;
    default:
        return err_set(err, SM_EINTR, "the VM was stopped");
    }
}

int vm_wait_agent(struct vm *vm, int timeout_ms, struct sm_error *err)
{
    int rc = 0;
    pthread_mutex_lock(&vm->lock);
    if (!wait_for(vm, &vm->agent_ready, timeout_ms))
        rc = err_set(err, SM_ETIMEDOUT, "the guest's agent was not ready within %d ms", timeout_ms);
    else if (!vm->agent_ready)
        rc = vm_ended_error(vm, err);
    pthread_mutex_unlock(&vm->lock);
    return rc;
}

int vm_take_beacon(struct vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    int fd = vm->beacon_fd;
    vm->beacon_fd = -1;
    pthread_mutex_unlock(&vm->lock);
    return fd;
}

int vm_end_error(struct vm *vm, struct sm_error *err)
{
    pthread_mutex_lock(&vm->lock);
    int rc = vm->ended ? vm_ended_error(vm, err) : 0;
    pthread_mutex_unlock(&vm->lock);
    return rc;
}

int vm_connect(struct vm *vm, uint32_t port, int *fd, struct sm_error *err)
{
    *fd = -1;
    int rc = vm_end_error(vm, err);
    return rc ? rc : vsock_connect(vm->vsock, port, fd, err);
}

unsigned vm_streams(struct vm *vm)
{
    return vsock_streams(vm->vsock);
}

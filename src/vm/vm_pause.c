// SPDX-License-Identifier: Apache-2.0
/*
 * Pausing. vCPU threads park at their next exit; then the I/O thread is kept out of its callbacks
 * by its own lock, which the pausing thread holds until it resumes. Every device request is done
 * within one callback, so nothing is in flight then.
 */
#include "vm/vm_impl.h"

void vm_park(struct vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    if (vm->pausing && !atomic_load(&vm->stopping)) {
        vm->parked++;
        pthread_cond_broadcast(&vm->changed);
        while (vm->pausing && !atomic_load(&vm->stopping))
            pthread_cond_wait(&vm->changed, &vm->lock);
        vm->parked--;
    }
    pthread_mutex_unlock(&vm->lock);
}

int vm_pause(struct vm *vm, struct sm_error *err)
{
    int rc = 0;
    pthread_mutex_lock(&vm->lock);
    vm->pausing = true;
    for (unsigned i = 0; i < vm->n_vcpus; i++)
        vm->ops->kick(vm->engine, i);
    while (vm->parked < vm->running && vm->reason == VM_RUNNING)
        pthread_cond_wait(&vm->changed, &vm->lock);
    if (vm->reason != VM_RUNNING) {
        vm->pausing = false;
        pthread_cond_broadcast(&vm->changed);
        rc = vm_ended_error(vm, err);
    }
    pthread_mutex_unlock(&vm->lock);
    if (!rc)
        loop_lock(vm->loop);
    return rc;
}

void vm_resume(struct vm *vm)
{
    loop_unlock(vm->loop);
    pthread_mutex_lock(&vm->lock);
    vm->pausing = false;
    pthread_cond_broadcast(&vm->changed);
    pthread_mutex_unlock(&vm->lock);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/soft/world.h"

#include "cpu/soft/hostcall.h"
#include "cpu/soft/soft.h"

/* Looks at a vCPU before sleeping: it is mostly in the middle of a block on another processor. */
#define SPIN_LOOKS 500

void world_rest(struct soft_cpu *cpu)
{
    struct world *w = &cpu->engine->world;
    atomic_store(&cpu->resting, true);
    if (atomic_load(&cpu->pending) & PEND_STOP) {
        atomic_fetch_add(&w->rests, 1);
        host_wake(&w->rests);
    }
}

void world_enter(struct soft_cpu *cpu)
{
    for (;;) {
        atomic_store(&cpu->resting, false);
        uint32_t p = atomic_load(&cpu->pending);
        if (!(p & PEND_STOP)) {
            return;
        }
        world_rest(cpu);
        atomic_store(&cpu->waiting, true);
        host_wait(&cpu->pending, p, NULL);
        atomic_store(&cpu->waiting, false);
    }
}

static void take(struct world *w)
{
    uint32_t free = 0;
    if (atomic_compare_exchange_strong(&w->lock, &free, 1)) {
        return;
    }
    while (atomic_exchange(&w->lock, 2) != 0) {
        host_wait(&w->lock, 2, NULL);
    }
}

static void release(struct world *w)
{
    if (atomic_exchange(&w->lock, 0) == 2) {
        host_wake(&w->lock);
    }
}

static void wait_resting(struct world *w, struct soft_cpu *target)
{
    for (unsigned n = 0; !atomic_load(&target->resting); n++) {
        if (n < SPIN_LOOKS) {
            __builtin_ia32_pause();
            continue;
        }
        uint32_t seen = atomic_load(&w->rests);
        if (!atomic_load(&target->resting)) {
            host_wait(&w->rests, seen, NULL);
        }
    }
}

void world_stop(struct soft_cpu *cpu, uint8_t who)
{
    struct engine *e = cpu->engine;
    who &= (uint8_t)((1u << e->config.n_vcpus) - 1) & (uint8_t) ~(1u << cpu->index);
    if (!who || cpu->world_held || cpu->shadow) {
        return;
    }
    world_rest(cpu);
    take(&e->world);
    atomic_store(&cpu->resting, false); /* nobody else can ask for it now */
    cpu->stopped = who;
    for (unsigned i = 0; i < e->config.n_vcpus; i++) {
        if (who >> i & 1) {
            atomic_fetch_or(&e->cpus[i]->pending, PEND_STOP);
        }
    }
    for (unsigned i = 0; i < e->config.n_vcpus; i++) {
        if (who >> i & 1) {
            wait_resting(&e->world, e->cpus[i]);
        }
    }
}

void world_go(struct soft_cpu *cpu)
{
    struct engine *e = cpu->engine;
    uint8_t who = cpu->stopped;
    if (!who || cpu->world_held) {
        return;
    }
    cpu->stopped = 0;
    for (unsigned i = 0; i < e->config.n_vcpus; i++) {
        if (who >> i & 1) {
            atomic_fetch_and(&e->cpus[i]->pending, ~PEND_STOP);
            if (atomic_load(&e->cpus[i]->waiting)) {
                host_wake(&e->cpus[i]->pending);
            }
        }
    }
    release(&e->world);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stopping vCPUs at a safe point, for what one instruction of the host cannot do: a page that
 * becomes code while others may have it in their write TLBs, and locked operations that no single
 * host instruction covers (page crossing, device memory, a page with code).
 *
 * A vCPU rests while its thread holds no pointer into guest memory and runs no guest code: outside
 * run(), asleep in HLT or for SIPI, waiting for the world itself, or because PEND_STOP told it to
 * at the top of its run loop. A resting vCPU starts again only through world_enter(), which waits
 * while somebody has it stopped. So whoever stopped it may change its TLBs.
 *
 * Lock order, first to last; nobody takes an earlier one while holding a later one:
 *   1. the world: vCPU threads in a run slice, which hold nothing else then
 *   2. what devices take (the loop's lock, the VM's lines and console): also under a stopped world,
 *      when a locked instruction hits a device
 *   3. the I/O APIC's lock
 *   4. a stale queue's lock (soft.h)
 * Notifying a vCPU (kick, interrupt, PEND_CODE) takes none and waits for nobody, so a thread that
 * holds any of 2 to 4 never waits for a vCPU, and a stopped vCPU holds none of them.
 */
#ifndef SM_SOFT_WORLD_H
#define SM_SOFT_WORLD_H

#include <stdatomic.h>
#include <stdint.h>

struct soft_cpu;

struct world {
    _Atomic uint32_t lock;  /* 0 free, 1 taken, 2 taken and somebody sleeps */
    _Atomic uint32_t rests; /* bumped when a vCPU that is to stop begins to rest */
};

/* The vCPU's own thread: it begins to rest; it wants to go on. New vCPUs rest. */
void world_rest(struct soft_cpu *cpu);
void world_enter(struct soft_cpu *cpu);

/* Stop the vCPUs of a bit mask, the caller's left out, until world_go(). The caller itself may be
 * stopped by others before it has its turn. Not nested, but for soft_cpu.world_held, which makes
 * both do nothing; an exception ends it too. A replay (shadow.h) stops nobody. */
void world_stop(struct soft_cpu *cpu, uint8_t who);
void world_go(struct soft_cpu *cpu);

#endif

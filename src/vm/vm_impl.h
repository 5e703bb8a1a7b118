/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a VM, shared by vm*.c only. */
#ifndef SM_VM_VM_IMPL_H
#define SM_VM_VM_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/loop.h"
#include "dev/balloon.h"
#include "dev/blk.h"
#include "dev/fs.h"
#include "dev/mmio.h"
#include "dev/pmem.h"
#include "dev/rng.h"
#include "dev/uart.h"
#include "dev/vsock.h"
#include "hw/bus.h"
#include "hw/mem.h"
#include "vm/console.h"
#include "vm/delta.h"
#include "vm/lines.h"
#include "vm/power.h"
#include "vm/vm.h"
#include "vm/window.h"

#define VM_MAX_VIRTIO                                                                              \
    (3 + VM_MAX_LAYERS + VM_MAX_VOLUMES) /* rng, vsock, balloon, layers, volumes */

struct vm_layer {
    struct window window;
    struct pmem *pmem; /* owned */
};

struct vm_vcpu {
    struct vm *vm; /* borrowed: the owner */
    unsigned index;
    pthread_t thread;
    bool started; /* thread is to be joined */
};

struct vm {
    const struct engine_ops *ops; /* borrowed: static */
    unsigned n_vcpus;
    const char *cpu_model; /* static */

    /* In the order in which they are built; freed in reverse. All owned. */
    struct mem *mem;
    struct delta *over; /* what the snapshot laid over its base, or NULL */
    struct bus mmio, ports;
    struct loop *loop;
    struct lines lines;
    struct console console;
    struct power power;
    struct uart *uart;
    struct rng *rng;
    struct vsock *vsock;
    struct balloon *balloon;
    struct vm_layer layers[VM_MAX_LAYERS];
    unsigned n_layers;
    struct blk *volumes[VM_MAX_VOLUMES];
    unsigned n_volumes;
    struct fs *folders[VM_MAX_VOLUMES];
    unsigned n_folders;
    struct mmio *transports[VM_MAX_VIRTIO];
    uint8_t gsis[VM_MAX_VIRTIO];
    unsigned n_virtio;
    struct engine *engine;

    void (*on_thread)(void *opaque, enum vm_thread which); /* or NULL */
    void *hooks_opaque;                                    /* borrowed */
    struct vm_vcpu vcpus[ENGINE_MAX_VCPUS];
    atomic_bool stopping; /* vCPU threads leave at their next exit */

    pthread_mutex_t lock; /* guards what follows; taken last but for `lines` and `console` */
    pthread_cond_t changed;
    bool started;
    bool pausing;            /* vCPU threads park */
    unsigned running;        /* vCPU threads alive */
    unsigned parked;         /* of them */
    enum vm_end reason;      /* first one wins; published when no vCPU runs any more */
    struct sm_error failure; /* for VM_END_FAILED */
    bool ended;
    int end_fd;     /* owned: eventfd */
    int pagemap_fd; /* owned: ram.h; -1 if there is none */
    bool agent_ready;
    int beacon_fd; /* owned until vm_take_beacon; -1 if there is none */
};

/* vm_devices.c: build everything that hangs on the buses; free it (half-built too). */
int vm_devices_new(struct vm *vm, const struct vm_config *config, struct sm_error *err);
void vm_devices_free(struct vm *vm);
/* Where the engine can, have it signal a queue's notification without leaving the guest. */
int vm_devices_connect(struct vm *vm, struct sm_error *err);

/* vm_pause.c: a vCPU's thread waits here while the VM is paused. */
void vm_park(struct vm *vm);

/* Why a VM that was wanted alive is not; for vm_pause too. With the lock held. */
int vm_ended_error(struct vm *vm, struct sm_error *err);

/* One thing that a snapshot holds. */
struct vm_part {
    char name[STATE_NAME_SIZE];
    uint32_t version;
    state_walk_fn *walk;
    void *object; /* borrowed */
};
#define VM_MAX_PARTS (VM_MAX_VIRTIO + VM_MAX_LAYERS + VM_MAX_VOLUMES + 2)
/* All devices, in the order in which they are saved and loaded. Returns their number. */
unsigned vm_devices_parts(struct vm *vm, struct vm_part parts[VM_MAX_PARTS]);

/* vm_state.c: load everything but RAM into a VM that has just been built. */
int vm_load(struct vm *vm, const struct snapshot *snapshot, struct sm_error *err);

/* vm_threads.c. The first reason to end is kept, and all vCPUs are told to leave. Any thread. err
 * may be NULL. */
void vm_finish(struct vm *vm, enum vm_end reason, const struct sm_error *err);
/* Stop and join every thread. */
void vm_join(struct vm *vm);

#endif

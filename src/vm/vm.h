/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One virtual machine: memory, buses, devices, an engine and its threads. The only place that sees
 * both cpu/ and dev/. Any number of VMs can live in one process.
 */
#ifndef SM_VM_VM_H
#define SM_VM_VM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cpu/engine.h"

/* Of the devices that every VM has, and their order; 2 added the balloon. A snapshot fits no other.
 */
#define VM_DEVICES 2

struct vm;
struct snapshot; /* snapshot.h */

#define VM_MAX_LAYERS 64
#define VM_MAX_VOLUMES 16
#define VM_FOLDER_FILES 5136        /* descriptors that each volume that is a folder may use */
#define VM_AGENT_PORT 1024          /* vsock port that the agent calls when it is ready */
#define VM_MEMORY_MIN (96ull << 20) /* with less, a distribution kernel does not start */

/* The kernel command line that every VM boots with; sm.layers=N and cmdline_extra follow. */
extern const char vm_base_cmdline[];

/* The largest memory_bytes that vm_new accepts here: the host's RAM. */
uint64_t vm_memory_max(void);

enum vm_thread { VM_THREAD_LOOP, VM_THREAD_VCPU, VM_THREAD_SHARE };

struct vm_volume {
    int fd;         /* borrowed, until the VM is freed: a regular file, or a folder (O_PATH) */
    bool read_only; /* else it is open for writing, too */
    bool folder;
    bool over;         /* fd has only a hole: the disk begins as base_fd's, which stays as it is */
    int base_fd;       /* borrowed, likewise; of no meaning without over */
    uint32_t uid, gid; /* of a folder: the guest's, who owns the files of the user who runs this */
    const char *name;  /* for messages; copied */
};

struct vm_config {
    const struct engine_ops *engine;
    uint64_t memory_bytes; /* multiple of 2 MiB */
    unsigned vcpus;
    const char *cpu; /* CPU model, "v2" or "v3"; NULL: the highest that the host has */
    /* NULL: boot. Else go on from there; memory, vcpus, cpu, n_layers and volumes must
     * be the snapshot's, kernel and initramfs are not used. Borrowed during vm_new. */
    const struct snapshot *snapshot;
    const char *kernel;        /* bzImage or ELF vmlinux */
    const char *initramfs;     /* path */
    const char *const *layers; /* EROFS images, lowest first; each shown as a virtio-pmem device */
    unsigned n_layers;
    struct engine_debug debug;
    uint64_t tsc_khz; /* of the host, if known (cpu/tsc.h); else 0 */
    /* The n-th is a virtio-blk disk with the id "smN", or a virtio-fs device with that tag. */
    const struct vm_volume *volumes;
    unsigned n_volumes;
    int self_fd; /* with folders: an O_PATH descriptor of /proc/self/fd; borrowed like theirs */
    /* Told what the host could not do for the guest (a volume's first I/O error): one line; called
     * on a VM thread. NULL drops it. */
    void (*warning)(void *opaque, const char *text);
    void *warning_opaque;
    enum engine_translate translate; /* tests: what the software engine translates */
    uint32_t agent_port;             /* 0: VM_AGENT_PORT */
    const char *cmdline_extra;       /* appended to the kernel command line, or NULL */
    /* Console bytes (ttyS0) of the guest; called on a VM thread; NULL drops them. The last 16 KiB
     * are kept in any case for vm_console_tail(). */
    void (*console)(void *opaque, const uint8_t *data, size_t len);
    void *console_opaque;
    /* For who confines the VM; NULL: nothing to do there. seal is called once in vm_new, when every
     * file is open and before the state in a snapshot is looked at, and may fail it; on_thread
     * first on each thread that vm_start makes. */
    int (*seal)(void *opaque, struct sm_error *err);
    void (*on_thread)(void *opaque, enum vm_thread which);
    void *hooks_opaque;
};

/* Why a VM is no longer running. */
enum vm_end {
    VM_RUNNING = 0,
    VM_END_STOPPED,  /* vm_stop() */
    VM_END_POWEROFF, /* the guest powered itself off */
    VM_END_RESET,    /* the guest rebooted, or triple-faulted */
    VM_END_PANIC,    /* the guest kernel panicked (its message is in the console tail) */
    VM_END_FAILED,   /* the engine or a device failed; vm_wait's err says why */
};

/* Build everything (memory, kernel, devices), start nothing. All inputs are copied or opened. */
int vm_new(const struct vm_config *config, struct vm **out, struct sm_error *err);
/* Stops the VM if it runs. NULL is fine. */
void vm_free(struct vm *vm);

/* Start the vCPU and I/O threads. Once. */
int vm_start(struct vm *vm, struct sm_error *err);
/* Ask all threads to end now, without the guest's cooperation. Any thread; idempotent. */
void vm_stop(struct vm *vm);
/* Wait until the VM ended, at most timeout_ms (-1: for ever). SM_ETIMEDOUT if it still runs; else 0
 * and *end, with err filled as well when *end is VM_END_FAILED. */
int vm_wait(struct vm *vm, int timeout_ms, enum vm_end *end, struct sm_error *err);
/*
 * Bring all vCPUs and devices to a halt, between two instructions and between two requests; host
 * sockets and timers wait. Then, and only then, vm_resume lets them go on. SM_EGUEST or another
 * error when the VM has ended. One thread at a time; no other call but vm_stop and vm_console_tail
 * may be under way on the pausing thread's behalf: vm_connect waits until the VM goes on.
 */
int vm_pause(struct vm *vm, struct sm_error *err);
void vm_resume(struct vm *vm);

/* Why a VM that ended is of no use any more: fills err, returns its code; 0 while it runs. */
int vm_end_error(struct vm *vm, struct sm_error *err);
/* An eventfd that becomes readable when the VM has ended; borrowed. */
int vm_end_fd(const struct vm *vm);

/*
 * Wait until the agent said that it is ready (SM_ETIMEDOUT, or SM_EGUEST when the VM ended first,
 * with the reason). Then connect to a vsock port of the guest: *fd is a connected stream socket,
 * owned by the caller. Any thread.
 */
int vm_wait_agent(struct vm *vm, int timeout_ms, struct sm_error *err);
int vm_connect(struct vm *vm, uint32_t port, int *fd, struct sm_error *err);
/* The agent's call itself: a connected stream socket with its greeting (agent/proto.h), owned by
 * the caller from now on. -1 before vm_wait_agent() succeeded, and if it was taken already. Any
 * thread. */
int vm_take_beacon(struct vm *vm);
/* Streams of vm_connect() and the beacon that the guest has not let go of yet. Any thread. */
unsigned vm_streams(struct vm *vm);

/* Copy the last console bytes, NUL-terminated; returns their number. Any thread. */
size_t vm_console_tail(struct vm *vm, char *out, size_t size);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM in a process of its own, seen from its owner. The process (supermachine-vmm) builds the
 * machine, locks itself in (jail.h), then runs the guest; whatever happens to it is an error on
 * this object and nowhere else. It dies with the owner.
 *
 * Threads: any, but for worker_free. One thread per worker reads what it says and calls the console
 * callback.
 */
#ifndef SM_WORKER_WORKER_H
#define SM_WORKER_WORKER_H

#include "hw/state.h"
#include "vm/vm.h"

struct worker;

/*
 * Start the process that builds and starts the VM of config (borrowed for the call; its callbacks
 * are called on the worker's reader thread and must not call the worker; its volumes are copied).
 * program: path of supermachine-vmm. What goes wrong inside is told by worker_wait_ready.
 * SM_ENOTFOUND: no program.
 */
int worker_new(const char *program, const struct vm_config *config, struct worker **out,
               struct sm_error *err);
/* Ends the VM at once if it runs, and waits for the process. NULL is fine. */
void worker_free(struct worker *w);

/* Until the guest's agent serves: 0; else why not. SM_ETIMEDOUT: not yet. -1: no limit. */
int worker_wait_ready(struct worker *w, int timeout_ms, struct sm_error *err);

/* As vm_connect, vm_stop, vm_wait. A process that died is VM_END_FAILED, and err says how. */
int worker_connect(struct worker *w, uint32_t port, int *fd, struct sm_error *err);
void worker_stop(struct worker *w);
int worker_wait(struct worker *w, int timeout_ms, enum vm_end *end, struct sm_error *err);
/* VM_RUNNING until the process is gone, or worker_stop was called. */
enum vm_end worker_state(struct worker *w);

/* Streams into the guest that it has not let go of yet. */
int worker_streams(struct worker *w, unsigned *n, struct sm_error *err);

/*
 * As vm_capture, with at most VM_MAX_VOLUMES disks; then, on the same thread, the state of that
 * moment into an empty file, bound to the manifest with this digest. Other requests wait meanwhile,
 * except worker_stop and the waits for the end. *pause_ns is the worker's word.
 */
struct vm_files;
int worker_capture(struct worker *w, const struct vm_files *files, uint64_t *pause_ns,
                   struct sm_error *err);
int worker_save_state(struct worker *w, int fd, const uint8_t digest[STATE_DIGEST_SIZE],
                      struct sm_error *err);

/* As vm_share. */
int worker_share(struct worker *w, int ram_fd, struct sm_error *err);

/* Which layers of the jail this host offers (bits of enum jail_layer): a process enters it and
 * says.
 */
int worker_probe_jail(const char *program, unsigned *layers, struct sm_error *err);

#endif

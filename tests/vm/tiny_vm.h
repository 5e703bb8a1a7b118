/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM that is saved in a moment and restored in a millisecond, for whoever needs thousands of
 * restores: one vCPU of the software engine and each kind of device. Its guest is a few
 * instructions that set the devices up and then go round for ever, reading and writing their
 * registers, with interrupts off.
 *
 * Its state is handed out to be changed; tiny_state_seal() makes the checksums right again, so that
 * what is tested is what a restore makes of the values.
 */
#ifndef SM_TESTS_VM_TINY_VM_H
#define SM_TESTS_VM_TINY_VM_H

#include "base/buf.h"
#include "vm/snapshot.h"

#define TINY_MEMORY (96ull << 20)
#define TINY_COUNTER 0x103f000ull /* where the guest counts its rounds, a u64 */
#define TINY_SECTIONS_MAX 32

struct tiny_vm {
    char dir[32];
    char kernel[48], layer[48]; /* paths in it */
    const char *layers[1];
    struct vm_volume volume;
    int disk_fd, ram_fd; /* owned */
    struct buf state;    /* as it was saved, for a manifest of digest 0 */
};

struct tiny_section {
    char name[STATE_NAME_SIZE];
    size_t at; /* of its header in the state */
    size_t len;
};

/* Boot the guest, wait until its devices are set up, and save it. Aborts with a message if that
 * fails. */
void tiny_vm_open(struct tiny_vm *t);
void tiny_vm_close(struct tiny_vm *t);

/* What such a VM is made of, without a snapshot: to be started with vm_new(). Borrows t. */
struct vm_config tiny_vm_config(const struct tiny_vm *t);

/* Restore the VM from this state and memory; where that succeeds, let it run for run_ms, and end
 * it. Returns vm_new()'s code. */
int tiny_vm_restore(const struct tiny_vm *t, const struct buf *state, int run_ms,
                    struct sm_error *err);

/* Where the sections of a well-formed state are; their number. */
unsigned tiny_state_sections(const struct buf *state, struct tiny_section out[TINY_SECTIONS_MAX]);
/* Make every section's checksum right. Stops where the state is no longer well-formed. */
void tiny_state_seal(struct buf *state);

#endif

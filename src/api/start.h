/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a machine: by booting, or from a snapshot; making snapshots. */
#ifndef SM_API_START_H
#define SM_API_START_H

#include "api/api.h"
#include "api/vm_volumes.h"
#include "vm/snapshot.h"

#define START_KEY_SIZE (HASH_HEX_LEN + 1)

/* What a machine is started with besides its sm_vm_config. */
struct start_files {
    char *kernel, *initramfs; /* owned */
    char *vmm;                /* owned: the program of the VM's process */
    const char **layers;      /* owned array of borrowed paths, lowest first */
    const char **layer_ids;   /* likewise: diff ids */
    unsigned n_layers;
    char kernel_digest[DIGEST_STR_SIZE], initramfs_digest[DIGEST_STR_SIZE];
};
int start_files_init(struct start_files *f, const sm_image *image, const char *kernel,
                     struct sm_error *err);
void start_files_fini(struct start_files *f); /* a zeroed one is fine */

/* The machine that these ask for: engine, memory, vCPUs, CPU model; the rest of *out stays. */
int start_config(sm_image *image, const struct sm_vm_config *given, struct vm_config *out,
                 struct sm_error *err);

/* The key of the snapshot that a start of this machine would make or use: over everything that
 * changes the guest, and nothing that does not (the engine). */
int start_key(const sm_image *image, struct start_files *f, const struct vm_config *config,
              const struct vm_volumes *volumes, char key[START_KEY_SIZE], struct sm_error *err);

/* Tell a machine that has just been started who it is, give it entropy and the time, and have it
 * mount its volumes, unless a snapshot has them mounted. Before any other process of the guest's
 * runs. */
int start_identity(struct worker *worker, const struct vm_volumes *volumes, int timeout_ms,
                   struct sm_error *err);

/* What snapshots of the machine of config, which is about to start, will say about it. */
int start_describe(const sm_image *image, const struct start_files *f,
                   const struct vm_config *config, struct snapshot **out, struct sm_error *err);

/* Write a running VM's snapshot into an empty folder, durably. *pause_ns: for how long it stood
 * still. */
int start_save(struct sm_vm *vm, const char *folder, uint64_t *pause_ns, struct sm_error *err);

/* The same into files without a name, which the snapshot alone keeps. */
int start_capture(struct sm_vm *vm, struct snapshot **out, uint64_t *pause_ns,
                  struct sm_error *err);
/* SM_EUNSUPPORTED for a VM with folders, whose state is partly the host's. */
int start_check_folders(const struct sm_vm *vm, struct sm_error *err);

/*
 * Take a snapshot of a running VM into an empty folder, durably: memory made small, then a pause.
 * The VM goes on afterwards. warmup: what ran in it, a list of commands, or NULL.
 */
int start_snapshot(struct sm_vm *vm, const char *const *warmup, const char *folder,
                   struct sm_error *err);

/* The warm-up commands that a snapshot's document names equal these. */
bool start_same_warmup(const struct snapshot *s, const char *const *warmup);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM's configuration as the worker's command line, which makes `ps` show what each worker runs.
 * One file writes and reads it.
 */
#ifndef SM_WORKER_ARGS_H
#define SM_WORKER_ARGS_H

#include <stdbool.h>

#include "vm/snapshot.h"
#include "vm/vm.h"

struct args {
    char **argv; /* owned, with its strings; NULL-terminated */
    unsigned n;
};

/* argv of the worker for a VM. The console callback becomes a flag; of a snapshot only digest,
 * cpu_vendor and whether it has a base are in it, as its files are passed; a volume is its
 * descriptor's number there; what it lies over has the next. */
int args_make(struct args *a, const char *program, const struct vm_config *config,
              struct sm_error *err);
void args_fini(struct args *a);

/* The way back. All borrows from argv, and config from the rest. */
struct args_machine {
    struct vm_config config; /* snapshot is set, or kernel and initramfs are */
    const char *layers[VM_MAX_LAYERS];
    struct vm_volume volumes[VM_MAX_VOLUMES];
    bool console;
    bool base;                /* the snapshot has one */
    struct snapshot snapshot; /* no files yet */
};
/* engine looks up an engine by its name. SM_EINVAL names the argument that is wrong. */
int args_parse(char **argv, const struct engine_ops *(*engine)(const char *name),
               struct args_machine *out, struct sm_error *err);

#endif

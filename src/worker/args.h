/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM's configuration as the worker's command line, which makes `ps` show what each worker runs.
 * One file writes and reads it.
 */
#ifndef SM_WORKER_ARGS_H
#define SM_WORKER_ARGS_H

#include <stdbool.h>

#include "vm/vm.h"

struct args {
    char **argv; /* owned, with its strings; NULL-terminated */
    unsigned n;
};

/* argv of the worker for a VM. The console callback becomes a flag. */
int args_make(struct args *a, const char *program, const struct vm_config *config,
              struct sm_error *err);
void args_fini(struct args *a);

/* The way back: *config borrows from argv and from layers, which holds VM_MAX_LAYERS. engine
 * looks up an engine by its name. SM_EINVAL names the argument that is wrong. */
int args_parse(char **argv, const struct engine_ops *(*engine)(const char *name),
               struct vm_config *config, const char **layers, bool *console, struct sm_error *err);

#endif

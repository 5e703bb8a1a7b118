/* SPDX-License-Identifier: Apache-2.0 */
/* The volumes of one VM: what was asked for, opened and locked, or what its snapshot has, in the
 * forms that others need. */
#ifndef SM_API_VM_VOLUMES_H
#define SM_API_VM_VOLUMES_H

#include "agent/request.h"
#include "image/volume.h"
#include "supermachine.h"
#include "vm/snapshot.h"
#include "vm/vm.h"

/* A zeroed one has none. */
struct vm_volumes {
    unsigned n;
    struct volume open[VM_MAX_VOLUMES];
    struct vm_volume vm[VM_MAX_VOLUMES];          /* for vm_config */
    struct request_volume mounts[VM_MAX_VOLUMES]; /* for the agent: */
    unsigned n_mounts;                            /* n, or 0 if the guest has mounted them */
    char *strings[VM_MAX_VOLUMES][2];             /* owned: what names and paths point to */
};

/* given: as in struct sm_vm_config. Errors as of volume_open(); SM_EINVAL also: too many, or a path
 * that cannot be, or is used twice. On error nothing stays open. */
int vm_volumes_open(struct vm_volumes *v, struct store *store, const struct sm_volume *const *given,
                    struct sm_error *err);
/* The disks of a snapshot, which outlives them: for this VM alone, and gone with it. Errors as of
 * store_temp_file(). */
int vm_volumes_over(struct vm_volumes *v, struct store *store, const struct snapshot *snapshot,
                    struct sm_error *err);
void vm_volumes_close(struct vm_volumes *v);

#endif

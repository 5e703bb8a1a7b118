// SPDX-License-Identifier: Apache-2.0
/*
 * Clones of a VM that runs. Its memory and state go into files without a name, from which VMs are
 * started as from any snapshot; the last one that uses them takes them along, however it ends.
 */
#include <stdlib.h>
#include <string.h>

#include "api/start.h"

SM_API int sm_image_from_vm(sm_vm *vm, sm_image **out, struct sm_snapshot_info *info,
                            struct sm_error *err)
{
    struct snapshot *snapshot;
    uint64_t pause_ns = 0;
    *out = NULL;
    if (info)
        *info = (struct sm_snapshot_info){0};
    int rc = start_check_disks(vm, err);
    rc = rc ? rc : start_capture(vm, &snapshot, &pause_ns, err);
    rc = rc ? rc : image_of_snapshot(vm->store, vm->data_dir, snapshot, out, err);
    if (!rc && info)
        info->pause_ns = pause_ns;
    return rc;
}

SM_API int sm_vm_fork(sm_vm *vm, const struct sm_vm_config *config, uint32_t n, sm_vm **clones,
                      struct sm_snapshot_info *info, struct sm_error *err)
{
    sm_image *image;
    memset(clones, 0, n * sizeof *clones);
    int rc = sm_image_from_vm(vm, &image, info, err);
    for (uint32_t i = 0; !rc && i < n; i++)
        rc = sm_vm_start(image, config, &clones[i], err);
    for (uint32_t i = 0; rc && i < n; i++) {
        sm_vm_free(clones[i]);
        clones[i] = NULL;
    }
    sm_image_free(image);
    return rc;
}

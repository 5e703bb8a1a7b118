/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel modules from the initramfs. */
#ifndef SM_GUEST_MODULES_H
#define SM_GUEST_MODULES_H

/*
 * Loads what /modules/order lists, in its order: lines "FILE ID", where ID is the virtio device id
 * (decimal) that must be present, or "-" for always. A module that fails is a line in the log:
 * whether it was needed shows later, with a better message. Needs /sys. Returns how many were
 * loaded.
 */
unsigned modules_load(void);

#endif

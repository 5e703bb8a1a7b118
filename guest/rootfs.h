/* SPDX-License-Identifier: Apache-2.0 */
/* Mounts: what the agent needs to start, and then the image's root, which becomes everybody's. */
#ifndef SM_GUEST_ROOTFS_H
#define SM_GUEST_ROOTFS_H

#include <stddef.h>

/* Docker's own limit is 127 layers; the kernel's for one overlay is 500. */
#define ROOTFS_LAYERS_MAX 128u

/* /proc, /sys and /dev in the initramfs. 0, or -1 with errno. */
int rootfs_early(void);

/*
 * Mounts /dev/pmem0 ... as EROFS with DAX (the first is the lowest layer), stacks them under a
 * tmpfs and makes that the root of this process; the initramfs is emptied. With 0 layers the root
 * is an empty tmpfs. Returns 0; -1 with the reason in why.
 */
int rootfs_enter(unsigned layers, char *why, size_t why_size);

#endif

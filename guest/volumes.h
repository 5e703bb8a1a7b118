/* SPDX-License-Identifier: Apache-2.0 */
/* Volumes: ext4 on virtio-blk disks, and folders of the host's by virtio-fs (agent/proto.h). */
#ifndef SM_GUEST_VOLUMES_H
#define SM_GUEST_VOLUMES_H

#include <stdbool.h>
#include <stddef.h>

#include "agent/codec.h"

/* Whether a VOLUMES item is well-formed. */
bool volumes_valid(const struct codec_item *item);

/* Mount all that a valid item lists, in its order, making folders as needed. 0; or -1 with errno
 * and in why which one and what is wrong: those before it are mounted then. */
int volumes_mount(const struct codec_item *item, char *why, size_t why_size);

/* Unmount every file system on a virtio-blk disk, so that it is clean, and every folder of the
 * host's; what is busy is made read-only. */
void volumes_unmount(void);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* An empty ext4 file system, by e2fsprogs. */
#ifndef SM_IMAGE_MKFS_H
#define SM_IMAGE_MKFS_H

#include "base/err.h"

/*
 * Make one on all of a file that reads as zeros, root's, with features that every Linux since 4.4
 * knows. Takes some 10 ms and a few hundred KiB of disk, whatever the size: what is zero is left
 * alone. Runs mke2fs, from PATH or the sbin folders, without the caller's environment.
 * SM_ENOTFOUND: it is not installed; SM_ENOSPC; SM_EIO with what it says.
 */
int mkfs_ext4(const char *path, struct sm_error *err);

#endif

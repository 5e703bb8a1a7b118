/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last block of a stored layer: a checksum of all before it, so that `verify` can tell. EROFS
 * ends before it and never reads it. SEAL_BYTES of text, filled up with zeros:
 *
 *   supermachine layer 1
 *   sha256:<64 hex digits>
 *   <decimal number of bytes before the seal>
 */
#ifndef SM_IMAGE_SEAL_H
#define SM_IMAGE_SEAL_H

#include "base/err.h"

#define SEAL_BYTES 4096

/* Hash the file from its start to its end, and append the seal. tick (may be NULL) is called per
 * block. SM_EIO, SM_ENOSPC, SM_ENOMEM. */
int seal_put(int fd, void (*tick)(void *opaque), void *opaque, struct sm_error *err);

/* Check a sealed file. SM_ECORRUPT: no seal, or not what was sealed; SM_EIO; SM_ENOMEM. */
int seal_check(int fd, struct sm_error *err);

#endif

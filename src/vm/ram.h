/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM as a sparse file: RAM from guest-physical 0 up without the hole, pages of zeros as
 * holes. Its digest is over the pages that are not zero, each preceded by its number (u64,
 * little-endian), in order: so it does not depend on where a file system has its holes.
 */
#ifndef SM_VM_RAM_H
#define SM_VM_RAM_H

#include "base/err.h"
#include "base/hash.h"
#include "hw/mem.h"

/* A descriptor that says which pages of this process exist, to be closed by the caller; -1 if the
 * host has none. */
int ram_pagemap(void);

/* Write all of m's RAM into the empty file fd. Nobody may change it meanwhile. Host memory that
 * holds only zeros is given back. pagemap: ram_pagemap()'s; -1 means that every page is read. */
int ram_save(const struct mem *m, int pagemap, int fd, struct sm_error *err);

/* The digest of such a file of size bytes. */
int ram_digest(int fd, uint64_t size, char digest[DIGEST_STR_SIZE], struct sm_error *err);

#endif

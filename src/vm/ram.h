/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM as a sparse file: RAM from guest-physical 0 up without the hole, pages of zeros as
 * holes. Its digest is over the pages that are not zero, each preceded by its number (u64,
 * little-endian), in order: so it does not depend on where a file system has its holes.
 *
 * A VM whose RAM began as such a file, its base, is saved as what differs (delta.h).
 */
#ifndef SM_VM_RAM_H
#define SM_VM_RAM_H

#include "base/err.h"
#include "base/hash.h"
#include "hw/mem.h"
#include "vm/delta.h"

/* A descriptor that says which pages of this process exist, to be closed by the caller; -1 if the
 * host has none. */
int ram_pagemap(void);

/* Write all of m's RAM, which did not come from a file, into the empty file fd. Nobody may change
 * it meanwhile. Host memory that holds only zeros is given back. pagemap: ram_pagemap()'s; -1 means
 * that every page is read. */
int ram_save(const struct mem *m, int pagemap, int fd, struct sm_error *err);

/*
 * Have m, whose RAM did not come from a file, share what it can: pages that hold only zeros go back
 * to the host, and runs of pages that are the same in such a file are mapped from it. Nobody may
 * change RAM meanwhile. fd -1: zeros only. Once; of no effect without a pagemap. After an error
 * other than SM_ENOMEM, RAM may be lost.
 */
int ram_share(struct mem *m, int pagemap, int fd, struct sm_error *err);

/* The digest of such a file of size bytes. */
int ram_digest(int fd, uint64_t size, char digest[DIGEST_STR_SIZE], struct sm_error *err);
/* The same of any file, which `what` is; a last page that is not whole goes on with zeros. */
int pages_digest(int fd, uint64_t size, const char *what, char digest[DIGEST_STR_SIZE],
                 struct sm_error *err);

/* Write what m's RAM has that its base has not into the empty file fd. over: what ram_lay() put
 * there, or NULL. pagemap as above; -1 means that all of RAM is written. */
int ram_save_delta(const struct mem *m, int pagemap, const struct delta *over, int fd,
                   struct sm_error *err);

/* Map the pages of such a file, which delta_read() took, over m's RAM: private, copy-on-write. */
int ram_lay(struct mem *m, const struct delta *d, int fd, struct sm_error *err);

/* Write what a base of size bytes and such a file are together, as ram_save() would have, into the
 * empty file out. SM_ECORRUPT: as of delta_read(). */
int ram_merge(int base, int fd, uint64_t size, int out, struct sm_error *err);

/* ---- Between ram.c and ram_share.c ---- */

#define RAM_CHUNK 512u /* pages looked at together */

/* What the host says of n pages, at most RAM_CHUNK, from hva on; without a pagemap (-1), or when it
 * cannot be read, that all are there. */
void ram_read_pagemap(int pagemap, const uint8_t *hva, unsigned n, uint64_t *map);
/* Whether that is a page which only this process has, and no file. */
bool ram_is_own(uint64_t entry);
bool ram_is_zero(const uint8_t *page);

#endif

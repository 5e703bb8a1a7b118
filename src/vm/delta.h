/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In which pages guest RAM differs from a base, as runs of pages; and the file that has them: a
 * header of the runs, then their pages, one after the other (docs/formats/snapshot.md). Pages are
 * numbered from RAM's first, without the hole. A file is hostile until delta_read() has it.
 */
#ifndef SM_VM_DELTA_H
#define SM_VM_DELTA_H

#include <stdint.h>

#include "base/err.h"

#define DELTA_RUNS_MAX 1023 /* each costs every VM that starts from it a mapping */
#define DELTA_HEADER_SIZE 16384u

struct delta_run {
    uint64_t first, pages;
};

struct delta {
    unsigned n;
    struct delta_run runs[DELTA_RUNS_MAX]; /* ascending, with something between them */
};

/* Runs that hold every page whose bit is set of n_pages; where there would be too many, those that
 * are next to each other become one, with the pages between them. */
void delta_cover(struct delta *d, const uint64_t *bits, uint64_t n_pages);

/* Write the header into an empty file; the pages belong at DELTA_HEADER_SIZE. */
int delta_write(const struct delta *d, int fd, struct sm_error *err);

/* Read and check a file over RAM of this size. SM_ECORRUPT: truncated, or makes no sense. */
int delta_read(struct delta *d, int fd, uint64_t memory_bytes, struct sm_error *err);

#endif

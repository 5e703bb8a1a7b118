/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a tar archive from any offset of a file, over libarchive. */
#ifndef SM_IMAGE_TAR_READER_H
#define SM_IMAGE_TAR_READER_H

#include <archive.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct tar_reader {
    struct archive *archive; /* owned */
    uint8_t *block;          /* owned */
    int fd;                  /* borrowed; read by offset, its own position is not used */
    off_t position, size;
};

/* Ready to read the header at offset of a plain tar in the regular file fd, which must stay open.
 * The reader must not move in memory afterwards. tar_reader_close also after an error. */
int tar_reader_open(struct tar_reader *r, int fd, off_t offset, struct sm_error *err);
void tar_reader_close(struct tar_reader *r);

/* Does the file begin with a compression that we know? fd's position is kept at 0. */
int tar_is_compressed(int fd, const char *label, bool *out, struct sm_error *err);

/* Copy in_fd, from its position and through its compression if any, to out_fd. */
int tar_unpack(int in_fd, const char *label, int out_fd, struct sm_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* An archive as a plain file: what is compressed, or cannot be read at any offset, is copied. */
#ifndef SM_IMAGE_SPOOL_H
#define SM_IMAGE_SPOOL_H

#include <stdbool.h>

#include "base/err.h"

/* Does the regular file fd begin with a compression that archives come in (gzip, bzip2, xz, zstd)?
 * Its position is kept. label names it in errors. */
int spool_is_needed(int fd, const char *label, bool *out, struct sm_error *err);

/* Copy in_fd, from its position and through its compression if any, to out_fd. */
int spool_copy(int in_fd, const char *label, int out_fd, struct sm_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Docker's credential helpers: programs docker-credential-NAME that keep passwords. */
#ifndef SM_IMAGE_CRED_HELPER_H
#define SM_IMAGE_CRED_HELPER_H

#include <stdatomic.h>

#include "base/buf.h"
#include "base/err.h"

#define CRED_HELPER_OUTPUT_MAX (64u << 10)
#define CRED_HELPER_MS 30000

/*
 * Run `docker-credential-NAME get` with server on its stdin, and append what it writes to out. It
 * and all it started are killed after limit_ms, beyond CRED_HELPER_OUTPUT_MAX bytes, or when
 * cancel (may be NULL) is set. SM_ENOTFOUND: it has none for server; SM_EINVAL: not a helper's
 * name; SM_EIO: it cannot be run or failed; SM_ETIMEDOUT; SM_ECORRUPT: too much output; SM_EINTR.
 */
int cred_helper_get(const char *name, const char *server, unsigned limit_ms,
                    const atomic_bool *cancel, struct buf *out, struct sm_error *err);

#endif

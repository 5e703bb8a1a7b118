/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filling a struct sm_error. Idiom: `return err_set(err, SM_EINVAL, "...")`. Never allocates; err
 * may be NULL; safe from any thread (the object belongs to the caller).
 */
#ifndef SM_BASE_ERR_H
#define SM_BASE_ERR_H

#include "supermachine.h"

/* Store code and a formatted text; returns code. Replaces what was there. */
int err_set(struct sm_error *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* As err_set, for a failed host call: appends ": strerror(errno)" and keeps errno.
 * ENOMEM, ENOSPC/EDQUOT and ENOENT become their own codes; everything else SM_EIO. Returns the
 * code. */
int err_sys(struct sm_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Prepend "context: " to the text of an error that is already set; returns its code. Use at folder
 * boundaries only. */
int err_wrap(struct sm_error *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Messages end up on one terminal line and may quote hostile names: control bytes become '?'. */
static void sanitize(char *text)
{
    for (unsigned char *p = (unsigned char *)text; *p; p++) {
        if (*p < 0x20 || *p == 0x7f) {
            *p = '?';
        }
    }
}

int err_set(struct sm_error *err, int code, const char *fmt, ...)
{
    if (!err) {
        return code;
    }
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    sanitize(err->text);
    err->code = code;
    err->os_errno = 0;
    return code;
}

static int code_of_errno(int e)
{
    switch (e) {
    case ENOMEM:
        return SM_ENOMEM;
    case ENOSPC:
    case EDQUOT:
        return SM_ENOSPC;
    case ENOENT:
        return SM_ENOTFOUND;
    default:
        return SM_EIO;
    }
}

int err_sys(struct sm_error *err, const char *fmt, ...)
{
    int e = errno;
    int code = code_of_errno(e);
    if (!err) {
        return code;
    }
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof err->text) {
        char why[128];
        const char *s = strerror_r(e, why, sizeof why);
        snprintf(err->text + n, sizeof err->text - (size_t)n, ": %s", s);
    }
    sanitize(err->text);
    err->code = code;
    err->os_errno = e;
    return code;
}

int err_wrap(struct sm_error *err, int code, const char *fmt, ...)
{
    if (!err) {
        return code;
    }
    char inner[sizeof err->text];
    memcpy(inner, err->text, sizeof inner);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof err->text) {
        snprintf(err->text + n, sizeof err->text - (size_t)n, ": %s", inner);
    }
    sanitize(err->text);
    return code;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 with padding (RFC 4648 section 4). */
#ifndef SM_BASE_BASE64_H
#define SM_BASE_BASE64_H

#include <stddef.h>

#include "base/buf.h"

/* Append the text of len bytes, and a NUL that is not counted. 0, or -1 when out of memory. */
int base64_encode(const void *data, size_t len, struct buf *out);
/* Append the bytes of text, which must be exactly that (padding may be missing), and a NUL that is
 * not counted. 0; -1 when out of memory or text is no base64. */
int base64_decode(const char *text, struct buf *out);

#endif

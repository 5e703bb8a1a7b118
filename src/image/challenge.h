/* SPDX-License-Identifier: Apache-2.0 */
/* WWW-Authenticate (RFC 9110 11.6.1), as registries use it: which proof a server wants. */
#ifndef SM_IMAGE_CHALLENGE_H
#define SM_IMAGE_CHALLENGE_H

#include <stdbool.h>

#include "base/err.h"

enum challenge_scheme { CHALLENGE_NONE, CHALLENGE_BASIC, CHALLENGE_BEARER };

struct challenge {
    enum challenge_scheme scheme;
    char realm[2048];   /* Bearer: URL of the token server */
    char service[1024]; /* Bearer; "" when not given */
};

/*
 * Read one header's value into out, where a better scheme (Bearer over Basic) takes the place of
 * what is there. Challenges of other schemes are skipped. SM_ECORRUPT for what breaks the grammar
 * or a size above; out is then as it was. Zero out before the first header.
 */
int challenge_read(const char *value, struct challenge *out, struct sm_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* What the registry*.c files share. */
#ifndef SM_IMAGE_REGISTRY_IMPL_H
#define SM_IMAGE_REGISTRY_IMPL_H

#include <pthread.h>

#include "base/buf.h"
#include "image/auth.h"
#include "image/registry.h"

#define REGISTRY_TEXT_MAX (1u << 20) /* of a token's or an error's body */

struct registry {
    struct name name;
    struct registry_options options;
    char base[ORIGIN_HOST_MAX + 32]; /* "https://HOST"; fixed by the first reply, as what follows */
    struct origin origin;
    enum reach reach;
    bool settled;
    pthread_mutex_t lock; /* of what follows */
    char *authorization;  /* owned: a whole header line; NULL: none yet */
    unsigned generation;  /* how often it changed */
    bool asked;           /* for the credential */
    struct credential credential;
};

/* May plain http be spoken to this host, and any certificate of it be taken? */
bool registry_is_insecure(const struct registry *r, const struct origin *o);
bool registry_may_be_plain(const struct registry *r, const struct origin *o);

/* Answer a challenge of the registry's own origin: fills authorization. seen is the generation that
 * was refused: if it has changed meanwhile there is nothing to do. */
int registry_authorize(struct registry *r, struct http *h, const struct challenge *challenge,
                       unsigned seen, struct sm_error *err);

/* Collects a small body: an http_request's body function. opaque is a struct buf. */
int registry_collect(void *opaque, const struct http_reply *reply, const void *data, size_t len,
                     struct sm_error *err);

/* What a reply that is not what was asked for means. text: its body. as_user: somebody is logged
 * in. Takes no lock. */
int registry_refusal(const struct registry *r, const struct http_reply *reply,
                     const struct buf *text, const char *what, bool as_user, struct sm_error *err);

#endif

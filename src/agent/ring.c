/* SPDX-License-Identifier: Apache-2.0 */
/* See agent/ring.h. */
#include "agent/ring.h"

#include <string.h>

#include "agent/pages.h"
#include "agent/proto.h"

void ring_fini(struct ring *r)
{
    pages_free(r->data, PROTO_WINDOW);
    memset(r, 0, sizeof *r);
}

int ring_put(struct ring *r, const void *data, size_t len)
{
    size_t at, first;

    if (len > PROTO_WINDOW - r->len)
        return -1;
    if (!r->data && !(r->data = pages_new(PROTO_WINDOW)))
        return -1;
    at = (r->start + r->len) % PROTO_WINDOW;
    first = len < PROTO_WINDOW - at ? len : PROTO_WINDOW - at;
    memcpy(r->data + at, data, first);
    memcpy(r->data, (const uint8_t *)data + first, len - first);
    r->len += len;
    return 0;
}

const uint8_t *ring_head(const struct ring *r, size_t *len)
{
    size_t run = PROTO_WINDOW - r->start;

    *len = r->len < run ? r->len : run;
    return r->len ? r->data + r->start : NULL;
}

void ring_drop(struct ring *r, size_t len)
{
    r->len -= len;
    /* An emptied ring starts over at its front: small streams touch few pages. */
    r->start = r->len ? (r->start + len) % PROTO_WINDOW : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Open files and folders. A handle's number has its place in the lower half. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "host/share_impl.h"

int share_handle_new(struct share *s, struct share_node *n, int fd, uint64_t *fh)
{
    for (uint32_t i = 0; i < SHARE_HANDLES_MAX; i++) {
        struct share_handle *h = &s->handles[i];

        if (h->node != NULL)
            continue;
        share_node_hold(s, n);
        h->node = n;
        h->fd = fd;
        h->serial++;
        *fh = (uint64_t)h->serial << 32 | i;
        return 0;
    }
    close(fd);
    return ENFILE;
}

static struct share_handle *find(struct share *s, uint64_t fh)
{
    uint32_t at = (uint32_t)fh;
    struct share_handle *h = at < SHARE_HANDLES_MAX ? &s->handles[at] : NULL;

    return h != NULL && h->node != NULL && h->serial == fh >> 32 ? h : NULL;
}

int share_handle_get(struct share *s, uint64_t fh, bool folder, int *fd)
{
    struct share_handle *h = find(s, fh);

    if (h == NULL || (h->node->type == S_IFDIR) != folder)
        return EBADF;
    *fd = h->fd;
    return 0;
}

static void end(struct share *s, struct share_handle *h)
{
    close(h->fd);
    share_node_release(s, h->node);
    h->node = NULL;
}

void share_handle_close(struct share *s, uint64_t fh)
{
    struct share_handle *h = find(s, fh);

    if (h != NULL)
        end(s, h);
}

void share_handles_reset(struct share *s)
{
    for (uint32_t i = 0; i < SHARE_HANDLES_MAX; i++)
        if (s->handles[i].node != NULL)
            end(s, &s->handles[i]);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files that the guest knows. A node is hot while its O_PATH descriptor is open. Those without
 * open files form a list by use, of which the oldest becomes cold when there are too many. A cold
 * node is opened again in its parent's folder by the name that it was last seen with, and must be
 * the same file then: device, inode number, type and time of birth.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host/share_impl.h"

/* ---- hot and cold ---- */

static bool listed(const struct share *s, const struct share_node *n)
{
    return n->fd >= 0 && n->handles == 0 && n != &s->top;
}

static void list_add(struct share *s, struct share_node *n)
{
    n->newer = NULL;
    n->older = s->newest;
    *(s->newest ? &s->newest->newer : &s->oldest) = n;
    s->newest = n;
    s->n_hot++;
}

static void list_remove(struct share *s, struct share_node *n)
{
    *(n->newer ? &n->newer->older : &s->newest) = n->older;
    *(n->older ? &n->older->newer : &s->oldest) = n->newer;
    s->n_hot--;
}

static void cool_oldest(struct share *s)
{
    struct share_node *n = s->oldest;

    list_remove(s, n);
    close(n->fd);
    n->fd = -1;
}

static void heat(struct share *s, struct share_node *n, int fd)
{
    while (s->n_hot >= SHARE_HOT_MAX)
        cool_oldest(s);
    n->fd = fd;
    if (listed(s, n))
        list_add(s, n);
}

bool share_node_cool(struct share *s, int e)
{
    uint32_t keep = s->n_hot / 2 > SHARE_HOT_MIN ? s->n_hot / 2 : SHARE_HOT_MIN;

    if ((e != EMFILE && e != ENFILE) || s->n_hot <= keep)
        return false;
    while (s->n_hot > keep)
        cool_oldest(s);
    return true;
}

/* ---- the table ---- */

static struct share_node **bucket(struct share *s, uint64_t dev, uint64_t ino)
{
    uint64_t h = (ino ^ dev << 17) * 0x9e3779b97f4a7c15ull;

    return &s->buckets[h >> 50];
}

_Static_assert(SHARE_HASH == 1 << (64 - 50), "bucket() takes the upper bits");

static uint64_t device(const struct statx *stx)
{
    return (uint64_t)stx->stx_dev_major << 32 | stx->stx_dev_minor;
}

static bool is_same(const struct share_node *n, const struct statx *stx)
{
    return n->ino == stx->stx_ino && n->dev == device(stx) && n->type == (stx->stx_mode & S_IFMT) &&
           n->born.tv_sec == stx->stx_btime.tv_sec && n->born.tv_nsec == stx->stx_btime.tv_nsec;
}

static struct share_node *find(struct share *s, const struct statx *stx)
{
    struct share_node *n = *bucket(s, device(stx), stx->stx_ino);

    if (is_same(&s->top, stx))
        return &s->top;
    while (n != NULL && !is_same(n, stx))
        n = n->next;
    return n;
}

static void identify(struct share_node *n, const struct statx *stx)
{
    n->dev = device(stx);
    n->ino = stx->stx_ino;
    n->type = stx->stx_mode & S_IFMT;
    n->born = stx->stx_btime;
}

static int take_slot(struct share *s, uint32_t *at)
{
    uint32_t n = s->n_slots ? s->n_slots * 2 : 256;
    struct share_slot *grown;

    if (s->first_free == 0) {
        if (s->n_slots >= SHARE_NODES_MAX)
            return ENFILE;
        grown = realloc(s->slots, n * sizeof *grown);
        if (grown == NULL)
            return ENOMEM;
        s->slots = grown;
        for (uint32_t i = n - 1; i >= s->n_slots && i != 0; i--) {
            grown[i] = (struct share_slot){.next_free = s->first_free};
            s->first_free = i;
        }
        s->n_slots = n;
    }
    *at = s->first_free;
    s->first_free = s->slots[*at].next_free;
    return 0;
}

static void give_slot(struct share *s, uint32_t at)
{
    s->slots[at] = (struct share_slot){.next_free = s->first_free};
    s->first_free = at;
}

static int add(struct share *s, const struct statx *stx, struct share_node **out)
{
    struct share_node *n = calloc(1, sizeof *n), **head;
    uint32_t at;
    int why = n ? take_slot(s, &at) : ENOMEM;

    if (why != 0) {
        free(n);
        return why;
    }
    s->serial = s->serial == UINT32_MAX ? 1 : s->serial + 1;
    n->id = (uint64_t)s->serial << 32 | at;
    n->fd = -1;
    identify(n, stx);
    head = bucket(s, n->dev, n->ino);
    n->next = *head;
    *head = n;
    s->slots[at].node = n;
    s->n_nodes++;
    *out = n;
    return 0;
}

static void unhash(struct share *s, struct share_node *n)
{
    struct share_node **at = bucket(s, n->dev, n->ino);

    while (*at != n)
        at = &(*at)->next;
    *at = n->next;
}

/* Drop a reference, and what that leaves without one. */
static void put(struct share *s, struct share_node *n)
{
    while (n != NULL && n != &s->top && --n->refs == 0) {
        struct share_node *parent = n->parent;

        if (listed(s, n))
            list_remove(s, n);
        if (n->fd >= 0)
            close(n->fd);
        unhash(s, n);
        give_slot(s, (uint32_t)n->id);
        s->n_nodes--;
        free(n->name);
        free(n);
        n = parent;
    }
}

int share_node_get(struct share *s, uint64_t id, struct share_node **out)
{
    uint32_t at = (uint32_t)id;

    *out = &s->top;
    if (id == FUSE_ROOT_ID)
        return 0;
    if (at == 0 || at >= s->n_slots || s->slots[at].node == NULL || s->slots[at].node->id != id)
        return ESTALE;
    *out = s->slots[at].node;
    return 0;
}

/* ---- names ---- */

/* One step down, never through a link. */
static int open_child(struct share *s, int folder, const char *name, int *fd)
{
    const struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
                                 .resolve =
                                     RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};

    do
        *fd = (int)syscall(SYS_openat2, folder, name, &how, sizeof how);
    while (*fd < 0 && (errno == EINTR || share_node_cool(s, errno)));
    return *fd < 0 ? errno : 0;
}

static void forget_place(struct share *s, struct share_node *n)
{
    struct share_node *parent = n->parent;

    free(n->name);
    n->name = NULL;
    n->parent = NULL;
    put(s, parent);
}

/* A folder that was moved by others may seem to be inside itself: what was last known of its new
 * parents is wrong then. Whether parent is not inside n any more. */
static bool disentangle(struct share *s, struct share_node *n, struct share_node *parent)
{
    for (int depth = 0; parent != NULL && parent != &s->top; depth++) {
        if (parent == n || depth == SHARE_DEPTH_MAX)
            return false;
        if (parent->parent == n) {
            forget_place(s, parent);
            return true;
        }
        parent = parent->parent;
    }
    return true;
}

/* Where n is to be found from now on. */
static void set_place(struct share *s, struct share_node *n, struct share_node *parent,
                      const char *name)
{
    char *copy;

    if (n == &s->top || (n->parent == parent && strcmp(n->name, name) == 0))
        return;
    copy = strdup(name);
    if (copy == NULL)
        return; /* it stays where it was */
    n->refs++;
    if (n->type != S_IFDIR || disentangle(s, n, parent)) {
        parent->refs++;
        forget_place(s, n);
        n->name = copy;
        n->parent = parent;
    } else {
        free(copy);
    }
    put(s, n);
}

/* Open a cold node whose parent is hot. */
static int open_again(struct share *s, struct share_node *n)
{
    struct statx stx;
    int fd, why = open_child(s, n->parent->fd, n->name, &fd);

    if (why == ENOENT || why == ENOTDIR || why == ELOOP)
        return ESTALE; /* it has gone from where it was */
    if (why != 0)
        return why;
    why = share_stat(fd, &stx);
    if (why == 0 && !is_same(n, &stx))
        why = ESTALE;
    if (why != 0)
        close(fd);
    else
        heat(s, n, fd);
    return why;
}

int share_node_fd(struct share *s, struct share_node *n, int *fd)
{
    int why = 0;

    for (int depth = 0; n->fd < 0 && why == 0; depth++) {
        struct share_node *cold = n;

        for (int up = 0; cold->parent != NULL && cold->parent->fd < 0 && up < SHARE_DEPTH_MAX; up++)
            cold = cold->parent;
        if (cold->parent == NULL || cold->parent->fd < 0 || depth == SHARE_DEPTH_MAX)
            return ESTALE;
        why = open_again(s, cold);
    }
    if (why == 0 && listed(s, n)) {
        list_remove(s, n);
        list_add(s, n);
    }
    *fd = n->fd;
    return why;
}

int share_node_take(struct share *s, struct share_node *parent, const char *name, int fd,
                    struct share_node **out, struct statx *stx)
{
    struct share_node *n = NULL;
    int why = share_stat(fd, stx);

    if (why == 0)
        n = find(s, stx);
    if (why == 0 && n == NULL)
        why = add(s, stx, &n);
    if (why != 0) {
        close(fd);
        return why;
    }
    if (n->fd >= 0)
        close(fd);
    else
        heat(s, n, fd);
    if (n->lookups++ == 0)
        n->refs++;
    set_place(s, n, parent, name);
    *out = n;
    return 0;
}

int share_node_lookup(struct share *s, struct share_node *parent, const char *name,
                      struct share_node **out, struct statx *stx)
{
    int folder, fd, why = share_node_fd(s, parent, &folder);

    why = why ? why : open_child(s, folder, name, &fd);
    return why ? why : share_node_take(s, parent, name, fd, out, stx);
}

void share_node_forget(struct share *s, uint64_t id, uint64_t lookups)
{
    struct share_node *n;

    if (share_node_get(s, id, &n) != 0 || n == &s->top || n->lookups == 0)
        return;
    n->lookups = lookups < n->lookups ? n->lookups - lookups : 0;
    if (n->lookups == 0)
        put(s, n);
}

void share_node_moved(struct share *s, struct share_node *parent, const char *name)
{
    struct share_node *n = NULL;
    struct statx stx;
    int folder, fd;

    if (share_node_fd(s, parent, &folder) != 0 || open_child(s, folder, name, &fd) != 0)
        return; /* moved once more, by others: it is looked up again when it is wanted */
    if (share_stat(fd, &stx) == 0)
        n = find(s, &stx);
    close(fd);
    if (n != NULL)
        set_place(s, n, parent, name);
}

void share_node_hold(struct share *s, struct share_node *n)
{
    if (listed(s, n))
        list_remove(s, n);
    n->handles++;
    n->refs++;
}

void share_node_release(struct share *s, struct share_node *n)
{
    n->handles--;
    if (listed(s, n))
        list_add(s, n);
    put(s, n);
}

/* ---- life ---- */

void share_nodes_init(struct share *s)
{
    struct statx stx;

    s->top = (struct share_node){.id = FUSE_ROOT_ID, .fd = s->root, .refs = 1};
    if (share_stat(s->root, &stx) == 0)
        identify(&s->top, &stx);
}

void share_nodes_reset(struct share *s)
{
    for (uint32_t i = 1; i < s->n_slots; i++) {
        struct share_node *n = s->slots[i].node;

        if (n == NULL)
            continue;
        if (n->fd >= 0)
            close(n->fd);
        free(n->name);
        free(n);
    }
    free(s->slots);
    s->slots = NULL;
    s->n_slots = s->n_nodes = s->first_free = 0;
    s->newest = s->oldest = NULL;
    s->n_hot = 0;
    memset(s->buckets, 0, sizeof s->buckets);
    s->top.refs = 1;
    s->top.handles = 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nodes live in one hash table keyed by (parent, name) and in their parent's child list. A node
 * goes away only with its whole parent, so neither list needs back pointers. No recursion: depth is
 * the layer's choice.
 */
#include "image/tree.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define ALLOCATION 16 /* malloc's own cost, roughly */

int tree_charge(struct tree *t, uint64_t bytes, struct sm_error *err)
{
    if (bytes > t->memory_max - t->memory) {
        return err_set(
            err, SM_EUNSUPPORTED,
            "layer's names and attributes need more than the limit of %llu MiB of memory",
            (unsigned long long)(t->memory_max >> 20));
    }
    t->memory += bytes;
    return 0;
}

static int no_memory(struct sm_error *err)
{
    return err_set(err, SM_ENOMEM, "out of memory for a layer's tree");
}

int tree_inode_new(struct tree *t, uint32_t mode, struct tree_inode **out, struct sm_error *err)
{
    *out = NULL;
    int rc = tree_charge(t, sizeof(struct tree_inode) + ALLOCATION, err);
    if (rc) {
        return rc;
    }
    *out = calloc(1, sizeof **out);
    if (!*out) {
        return no_memory(err);
    }
    (*out)->mode = mode;
    return 0;
}

void tree_inode_free(struct tree_inode *inode)
{
    if (!inode) {
        return;
    }
    if (S_ISLNK(inode->mode)) {
        free(inode->target);
    } else if (S_ISREG(inode->mode)) {
        free(inode->runs);
    }
    free(inode->xattr);
    free(inode);
}

static void inode_drop(struct tree_inode *inode)
{
    if (--inode->links == 0) {
        tree_inode_free(inode);
    }
}

static size_t hash_of(const struct tree_node *dir, const char *name, size_t len)
{
    /* FNV-1a, seeded by the parent: its address is unpredictable to whoever wrote the layer. */
    uint64_t h = 0xcbf29ce484222325ull ^ ((uintptr_t)dir >> 4) * 0x9e3779b97f4a7c15ull;
    for (size_t i = 0; i < len; i++) {
        h = (h ^ (uint8_t)name[i]) * 0x100000001b3ull;
    }
    return (size_t)(h ^ h >> 32);
}

static int grow(struct tree *t, struct sm_error *err)
{
    size_t count = t->bucket_count * 2;
    if (t->node_count < t->bucket_count) {
        return 0;
    }
    int rc = tree_charge(t, (count - t->bucket_count) * sizeof *t->buckets, err);
    if (rc) {
        return rc;
    }
    struct tree_node **fresh = calloc(count, sizeof *fresh);
    if (!fresh) {
        return no_memory(err);
    }
    for (size_t i = 0; i < t->bucket_count; i++) {
        for (struct tree_node *n = t->buckets[i], *next; n; n = next) {
            next = n->hash_next;
            size_t h = hash_of(n->parent, n->name, n->name_len) & (count - 1);
            n->hash_next = fresh[h];
            fresh[h] = n;
        }
    }
    free(t->buckets);
    t->buckets = fresh;
    t->bucket_count = count;
    return 0;
}

static int node_new(struct tree *t, struct tree_node *parent, const char *name,
                    struct tree_node **out, struct sm_error *err)
{
    size_t len = strlen(name);
    if (parent && parent->depth == TREE_DEPTH_MAX) {
        return err_set(err, SM_EUNSUPPORTED, "layer has directories nested deeper than %d",
                       TREE_DEPTH_MAX);
    }
    int rc = tree_charge(t, sizeof(struct tree_node) + len + 1 + ALLOCATION, err);
    if (rc) {
        return rc;
    }
    struct tree_node *n = calloc(1, sizeof *n + len + 1);
    if (!n) {
        return no_memory(err);
    }
    n->parent = parent ? parent : n;
    n->depth = parent ? (uint16_t)(parent->depth + 1) : 0;
    n->name_len = (uint8_t)len;
    memcpy(n->name, name, len + 1);
    *out = n;
    return 0;
}

struct tree *tree_new(uint64_t memory_max)
{
    struct tree *t = calloc(1, sizeof *t);
    if (!t) {
        return NULL;
    }
    t->memory_max = memory_max;
    t->bucket_count = 256;
    t->buckets = calloc(t->bucket_count, sizeof *t->buckets);
    if (!t->buckets || node_new(t, NULL, "", &t->root, NULL) ||
        tree_inode_new(t, S_IFDIR | 0755, &t->root->inode, NULL)) {
        tree_free(t);
        return NULL;
    }
    t->root->inode->links = 1;
    t->root->inode->implied = true;
    return t;
}

static void unhash(struct tree *t, struct tree_node *node)
{
    size_t h = hash_of(node->parent, node->name, node->name_len) & (t->bucket_count - 1);
    struct tree_node **at = &t->buckets[h];
    while (*at && *at != node) {
        at = &(*at)->hash_next;
    }
    if (*at) {
        *at = node->hash_next;
        t->node_count--;
    }
}

/* Free everything below dir, deepest first, without recursion. */
static void drop_children(struct tree *t, struct tree_node *dir)
{
    struct tree_node *at = dir;
    for (;;) {
        if (S_ISDIR(at->inode->mode) && at->inode->children) {
            at = at->inode->children;
            continue;
        }
        if (at == dir) {
            break;
        }
        struct tree_node *parent = at->parent;
        parent->inode->children = at->sibling;
        unhash(t, at);
        inode_drop(at->inode);
        free(at);
        at = parent;
    }
    dir->inode->subdirs = 0;
}

void tree_free(struct tree *t)
{
    if (!t) {
        return;
    }
    if (t->root && t->root->inode) {
        drop_children(t, t->root);
        tree_inode_free(t->root->inode);
    }
    free(t->root);
    free(t->buckets);
    free(t);
}

struct tree_node *tree_child(struct tree *t, const struct tree_node *dir, const char *name)
{
    size_t len = strlen(name);
    struct tree_node *n = t->buckets[hash_of(dir, name, len) & (t->bucket_count - 1)];
    while (n && (n->parent != dir || n->name_len != len || memcmp(n->name, name, len) != 0)) {
        n = n->hash_next;
    }
    return n;
}

/* A new name in dir; the inode gains a link. */
static int attach(struct tree *t, struct tree_node *dir, const char *name, struct tree_inode *inode,
                  struct sm_error *err)
{
    struct tree_node *n;
    int rc = grow(t, err);
    rc = rc ? rc : node_new(t, dir, name, &n, err);
    if (rc) {
        return rc;
    }
    size_t h = hash_of(dir, n->name, n->name_len) & (t->bucket_count - 1);
    n->hash_next = t->buckets[h];
    t->buckets[h] = n;
    t->node_count++;
    n->sibling = dir->inode->children;
    dir->inode->children = n;
    n->inode = inode;
    inode->links++;
    n->hides = !S_ISDIR(inode->mode);
    dir->inode->subdirs += S_ISDIR(inode->mode);
    return 0;
}

bool tree_is_whiteout(const struct tree_inode *inode)
{
    return S_ISCHR(inode->mode) && inode->major == 0 && inode->minor == 0;
}

/* The attributes of from, the children of to. Frees from. */
static void merge_directory(struct tree_inode *to, struct tree_inode *from)
{
    free(to->xattr);
    to->mode = from->mode;
    to->uid = from->uid;
    to->gid = from->gid;
    to->mtime = from->mtime;
    to->mtime_nsec = from->mtime_nsec;
    to->xattr = from->xattr;
    to->xattr_len = from->xattr_len;
    to->opaque = to->opaque || from->opaque;
    to->implied = to->implied && from->implied;
    from->xattr = NULL;
    tree_inode_free(from);
}

int tree_put(struct tree *t, struct tree_node *dir, const char *name, struct tree_inode *inode,
             struct sm_error *err)
{
    bool is_dir = S_ISDIR(inode->mode);
    struct tree_node *old = *name ? tree_child(t, dir, name) : t->root;
    if (!old) {
        return attach(t, dir, name, inode, err);
    }
    if (is_dir && S_ISDIR(old->inode->mode)) {
        merge_directory(old->inode, inode);
        return 0;
    }
    if (old == t->root) {
        return err_set(err, SM_ECORRUPT, "the root of the layer is not a directory");
    }
    bool linked = inode->links++ > 0; /* counted first: it may have a name below old */
    if (S_ISDIR(old->inode->mode)) {
        drop_children(t, old);
        dir->inode->subdirs--;
    }
    inode_drop(old->inode);
    old->inode = inode;
    dir->inode->subdirs += is_dir;
    if (linked && inode->links == 1) {
        return err_set(err, SM_ECORRUPT, "hard link \"%s\" replaces the directory of its target",
                       name);
    }
    if (is_dir) {
        inode->opaque = inode->opaque || old->hides;
    } else {
        old->hides = true;
    }
    return 0;
}

int tree_whiteout(struct tree *t, struct tree_node *dir, const char *name, struct sm_error *err)
{
    struct tree_node *old = tree_child(t, dir, name);
    if (old) {
        old->hides = true;
        if (S_ISDIR(old->inode->mode)) {
            old->inode->opaque = true;
        }
        return 0;
    }
    struct tree_inode *inode;
    int rc = tree_inode_new(t, S_IFCHR, &inode, err);
    rc = rc ? rc : attach(t, dir, name, inode, err);
    if (rc) {
        tree_inode_free(inode);
    }
    return rc;
}

static int by_name(const void *a, const void *b)
{
    const struct tree_node *x = *(struct tree_node *const *)a, *y = *(struct tree_node *const *)b;
    /* The final NUL sorts a prefix first. */
    return memcmp(x->name, y->name, (x->name_len < y->name_len ? x->name_len : y->name_len) + 1u);
}

static int sort_children(struct tree_inode *dir, struct tree_node ***array, size_t *cap,
                         struct sm_error *err)
{
    size_t count = 0;
    for (struct tree_node *n = dir->children; n; n = n->sibling) {
        count++;
    }
    if (count > *cap) {
        struct tree_node **grown = realloc(*array, count * sizeof *grown);
        if (!grown) {
            return err_set(err, SM_ENOMEM, "out of memory for a layer's tree");
        }
        *array = grown;
        *cap = count;
    }
    size_t i = 0;
    for (struct tree_node *n = dir->children; n; n = n->sibling) {
        (*array)[i++] = n;
    }
    if (count) {
        qsort(*array, count, sizeof **array, by_name);
        dir->children = (*array)[0];
        for (i = 0; i < count; i++) {
            (*array)[i]->sibling = i + 1 < count ? (*array)[i + 1] : NULL;
        }
    }
    return 0;
}

static void mark_above(struct tree_node *node, const struct tree_node *root)
{
    while (node != root && !node->parent->inode->above_implied) {
        node = node->parent;
        node->inode->above_implied = true;
    }
}

int tree_sort(struct tree *t, struct sm_error *err)
{
    struct tree_node **array = NULL;
    size_t cap = 0;
    int rc = 0;
    for (struct tree_node *n = t->root; n && !rc; n = tree_next(t, n)) {
        if (S_ISDIR(n->inode->mode)) {
            rc = sort_children(n->inode, &array, &cap, err);
            n->inode->implied = n->inode->implied && !n->hides; /* else there is none below */
            if (n->inode->implied) {
                mark_above(n, t->root);
            }
        }
    }
    free(array);
    return rc;
}

struct tree_node *tree_next(const struct tree *t, const struct tree_node *node)
{
    if (S_ISDIR(node->inode->mode) && node->inode->children) {
        return node->inode->children;
    }
    while (node != t->root && !node->sibling) {
        node = node->parent;
    }
    return node == t->root ? NULL : node->sibling;
}

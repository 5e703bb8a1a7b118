/* SPDX-License-Identifier: Apache-2.0 */
/* Path strings to nodes: normalisation, symbolic links inside the tree, implied parents. */
#include "image/tree.h"

#include <string.h>
#include <sys/stat.h>

#define LINKS_MAX 40 /* as the kernel's path walk */

/* What is still to be walked: plain components joined by '/'. */
struct walk {
    char text[2 * TREE_PATH_MAX];
};

/* Lexical normalisation of path into out (TREE_PATH_MAX bytes): no leading '/', no ".", "..", "".
 */
static int normalise(const char *path, char *out, struct sm_error *err)
{
    size_t len = 0;
    if (strlen(path) >= TREE_PATH_MAX) {
        return err_set(err, SM_EUNSUPPORTED, "entry \"%.60s...\": name is longer than %d bytes",
                       path, TREE_PATH_MAX - 1);
    }
    out[0] = 0;
    for (const char *p = path; *p;) {
        size_t n = strcspn(p, "/");
        if (n > TREE_NAME_MAX) {
            return err_set(err, SM_EUNSUPPORTED,
                           "entry \"%.60s...\": a part of the name is longer than %d bytes", path,
                           TREE_NAME_MAX);
        }
        if (n == 2 && p[0] == '.' && p[1] == '.') {
            if (len == 0) {
                return err_set(err, SM_ECORRUPT, "entry \"%.200s\" points outside the layer", path);
            }
            while (len && out[len - 1] != '/') {
                len--;
            }
            len -= len > 0; /* the '/' */
        } else if (n && !(n == 1 && p[0] == '.')) {
            if (len) {
                out[len++] = '/';
            }
            memcpy(out + len, p, n);
            len += n;
        }
        out[len] = 0;
        p += n + (p[n] == '/');
    }
    return 0;
}

static int new_directory(struct tree *t, struct tree_node *dir, const char *name,
                         struct tree_node **out, struct sm_error *err)
{
    struct tree_inode *inode;
    int rc = tree_inode_new(t, S_IFDIR | 0755, &inode, err);
    if (!rc) {
        inode->implied = true;
    }
    rc = rc ? rc : tree_put(t, dir, name, inode, err);
    if (rc) {
        tree_inode_free(inode);
        return rc;
    }
    *out = tree_child(t, dir, name);
    return 0;
}

/* Cut the first component of w off into name; false when nothing is left. */
static bool shift(struct walk *w, char *name)
{
    char *p = w->text + strspn(w->text, "/");
    size_t n = strcspn(p, "/");
    if (!n) {
        return false;
    }
    memcpy(name, p, n);
    name[n] = 0;
    p += n;
    p += strspn(p, "/");
    memmove(w->text, p, strlen(p) + 1);
    return true;
}

/* Put a link's target in front of what is left. */
static int splice(struct walk *w, const struct tree_inode *link, const char *path,
                  struct sm_error *err)
{
    size_t rest = strlen(w->text);
    for (const char *p = link->target; *p; p += strspn(p, "/")) {
        size_t n = strcspn(p, "/");
        if (n > TREE_NAME_MAX) {
            return err_set(err, SM_EUNSUPPORTED,
                           "entry \"%.200s\": a symbolic link in it has too long a name", path);
        }
        p += n;
    }
    if (link->size + 1 + rest >= sizeof w->text) {
        return err_set(err, SM_EUNSUPPORTED, "entry \"%.200s\": too long after symbolic links",
                       path);
    }
    memmove(w->text + link->size + 1, w->text, rest + 1);
    memcpy(w->text, link->target, link->size);
    w->text[link->size] = '/';
    return 0;
}

/* The directory that holds the last component of path, and that component ("" for the root). *dir
 * is NULL if something is missing and create is false. */
static int walk(struct tree *t, const char *path, bool create, struct tree_node **dir, char *name,
                struct sm_error *err)
{
    struct walk w;
    struct tree_node *at = t->root, *next;
    char leaf[TREE_NAME_MAX + 1];
    int links = 0, rc = normalise(path, w.text, err);
    if (rc) {
        return rc;
    }
    /* The last component stays out of the walk: a link's target in front of it is all followed. */
    char *slash = strrchr(w.text, '/');
    strcpy(leaf, slash ? slash + 1 : w.text);
    w.text[slash ? slash - w.text : 0] = 0;
    while (shift(&w, name)) {
        if (strcmp(name, ".") == 0) {
            continue;
        }
        if (strcmp(name, "..") == 0) { /* only from link targets */
            at = at->parent;
            continue;
        }
        next = tree_child(t, at, name);
        if (next && S_ISLNK(next->inode->mode)) {
            if (++links > LINKS_MAX) {
                return err_set(err, SM_ECORRUPT,
                               "entry \"%.200s\": symbolic links on its path form a loop", path);
            }
            rc = splice(&w, next->inode, path, err);
            at = next->inode->target[0] == '/' ? t->root : at;
        } else if (next && S_ISDIR(next->inode->mode)) {
            at = next;
        } else if (next && !tree_is_whiteout(next->inode) && create) {
            return err_set(err, SM_ECORRUPT, "entry \"%.200s\": \"%.100s\" is not a directory",
                           path, name);
        } else if (create) {
            rc = new_directory(t, at, name, &at, err);
        } else {
            *dir = NULL;
            return 0;
        }
        if (rc) {
            return rc;
        }
    }
    strcpy(name, leaf);
    *dir = at;
    return 0;
}

int tree_locate(struct tree *t, const char *path, struct tree_node **dir, char *name,
                struct sm_error *err)
{
    return walk(t, path, true, dir, name, err);
}

int tree_find(struct tree *t, const char *path, struct tree_node **node, struct sm_error *err)
{
    char name[TREE_NAME_MAX + 1];
    struct tree_node *dir;
    *node = NULL;
    int rc = walk(t, path, false, &dir, name, err);
    if (!rc && dir) {
        *node = *name ? tree_child(t, dir, name) : t->root;
    }
    return rc;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* One archive member: whiteout, hard link or a file of its own, by the rules in layer.h. */
#include "image/layer_parts.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char wh[] = ".wh.", wh_meta[] = ".wh..wh.", wh_opaque[] = ".wh..wh..opq";

static bool starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* How a name speaks of whiteouts. */
enum marker { MARKER_NONE, MARKER_WHITEOUT, MARKER_OPAQUE, MARKER_IGNORED, MARKER_BROKEN };

static enum marker classify(const char *path)
{
    for (const char *p = path; *p;) {
        size_t n = strcspn(p, "/");
        bool last = p[n + strspn(p + n, "/")] == 0;
        if (last && n == strlen(wh_opaque) && starts(p, wh_opaque)) {
            return MARKER_OPAQUE;
        }
        if (starts(p, wh_meta)) {
            return MARKER_IGNORED;
        }
        if (starts(p, wh)) {
            size_t rest = n - strlen(wh);
            bool dots = rest <= 2 && strspn(p + strlen(wh), ".") >= rest;
            return last && !dots ? MARKER_WHITEOUT : MARKER_BROKEN;
        }
        p += n;
        p += strspn(p, "/");
    }
    return MARKER_NONE;
}

static int put_whiteout(struct layer_build *b, const char *path, enum marker kind,
                        struct sm_error *err)
{
    char name[TREE_NAME_MAX + 1];
    struct tree_node *dir;
    int rc = tree_locate(b->tree, path, &dir, name, err);
    if (rc) {
        return rc;
    }
    if (kind == MARKER_OPAQUE) {
        dir->inode->opaque = true;
        return 0;
    }
    return tree_whiteout(b->tree, dir, name + strlen(wh), err);
}

static int put_hardlink(struct layer_build *b, const struct tarball_entry *e, struct sm_error *err)
{
    char name[TREE_NAME_MAX + 1];
    struct tree_node *dir, *target, *old;
    int rc = tree_find(b->tree, e->link, &target, err);
    if (rc) {
        return err_wrap(err, rc, "entry \"%.150s\"", e->name);
    }
    if (!target || tree_is_whiteout(target->inode)) {
        return err_set(
            err, SM_ECORRUPT,
            "entry \"%.150s\": hard link to \"%.150s\", which is not in the layer before it",
            e->name, e->link);
    }
    if (S_ISDIR(target->inode->mode)) {
        return err_set(err, SM_ECORRUPT, "entry \"%.150s\": hard link to the directory \"%.150s\"",
                       e->name, e->link);
    }
    struct tree_inode *inode = target->inode;
    rc = tree_locate(b->tree, e->name, &dir, name, err);
    if (rc) {
        return rc;
    }
    old = *name ? tree_child(b->tree, dir, name) : NULL;
    if (old && old->inode == inode) {
        return err_set(err, SM_ECORRUPT, "entry \"%.150s\": hard link to itself", e->name);
    }
    return tree_put(b->tree, dir, name, inode, err);
}

static uint32_t mode_of(const struct tarball_entry *e)
{
    static const uint32_t formats[] = {
        [TARBALL_REG] = S_IFREG, [TARBALL_SYMLINK] = S_IFLNK, [TARBALL_CHR] = S_IFCHR,
        [TARBALL_BLK] = S_IFBLK, [TARBALL_DIR] = S_IFDIR,     [TARBALL_FIFO] = S_IFIFO,
    };
    return formats[e->type] | (e->type == TARBALL_SYMLINK ? 0777 : e->mode);
}

static int set_xattrs(struct layer_build *b, const struct tarball_entry *e,
                      struct tree_inode *inode, struct sm_error *err)
{
    struct buf list = {0};
    int rc = 0;
    bool user = S_ISREG(inode->mode) || S_ISDIR(inode->mode);
    for (size_t i = 0; i < e->xattr_count && rc >= 0; i++) {
        const struct tarball_xattr *x = &e->xattrs[i];
        if (starts(x->name, "trusted.overlay.") || (!user && starts(x->name, "user."))) {
            continue;
        }
        rc = erofs_xattr_add(&list, x->name, x->value, x->len, err);
    }
    if (rc >= 0) {
        rc = tree_charge(b->tree, list.len, err);
    }
    if (rc < 0) {
        buf_fini(&list);
        return rc;
    }
    inode->xattr = list.data;
    inode->xattr_len = (uint32_t)list.len;
    if (!list.len) {
        buf_fini(&list);
        inode->xattr = NULL;
    }
    return 0;
}

static int set_target(struct layer_build *b, const struct tarball_entry *e,
                      struct tree_inode *inode, struct sm_error *err)
{
    inode->size = strlen(e->link);
    if (inode->size >= TREE_PATH_MAX) {
        return err_set(err, SM_EUNSUPPORTED, "symbolic link's target is longer than %d bytes",
                       TREE_PATH_MAX - 1);
    }
    int rc = tree_charge(b->tree, inode->size + 1, err);
    if (rc) {
        return rc;
    }
    inode->target = strdup(e->link);
    return inode->target ? 0 : err_set(err, SM_ENOMEM, "out of memory for a symbolic link");
}

static int set_data(struct layer_build *b, const struct tarball_entry *e, struct tree_inode *inode,
                    struct sm_error *err)
{
    const uint8_t *data;
    size_t len;
    inode->size = e->size;
    if (e->size > b->max_file_bytes) {
        return err_set(err, SM_EUNSUPPORTED,
                       "file of %llu bytes is larger than the limit of %llu MiB",
                       (unsigned long long)e->size, (unsigned long long)(b->max_file_bytes >> 20));
    }
    int rc =
        erofs_file_begin(b->image, b->tree, inode, e->extents, e->extent_count, e->sparse, err);
    while (!rc) {
        rc = tarball_read(b->tar, &data, &len, err);
        if (rc || !len) {
            break;
        }
        rc = erofs_file_data(b->image, data, len, err);
    }
    return rc ? rc : erofs_file_end(b->image, err);
}

/* Everything about the inode but its name. */
static int fill_inode(struct layer_build *b, const struct tarball_entry *e,
                      struct tree_inode *inode, struct sm_error *err)
{
    inode->uid = e->uid;
    inode->gid = e->gid;
    inode->mtime = e->mtime;
    inode->mtime_nsec = e->mtime_nsec;
    inode->major = e->major;
    inode->minor = e->minor;
    int rc = set_xattrs(b, e, inode, err);
    if (rc) {
        return rc;
    }
    switch (e->type) {
    case TARBALL_REG:
        return set_data(b, e, inode, err);
    case TARBALL_SYMLINK:
        return set_target(b, e, inode, err);
    case TARBALL_CHR:
        if (tree_is_whiteout(inode)) {
            return err_set(err, SM_EUNSUPPORTED,
                           "character device 0/0, which overlayfs takes for a deletion");
        }
        return 0;
    default:
        return 0;
    }
}

static int put_file(struct layer_build *b, const struct tarball_entry *e, struct sm_error *err)
{
    char name[TREE_NAME_MAX + 1];
    struct tree_node *dir;
    struct tree_inode *inode;
    int rc = tree_locate(b->tree, e->name, &dir, name, err);
    rc = rc ? rc : tree_inode_new(b->tree, mode_of(e), &inode, err);
    if (rc) {
        return rc;
    }
    rc = fill_inode(b, e, inode, err);
    if (rc) {
        err_wrap(err, rc, "entry \"%.200s\"", e->name);
    } else {
        rc = tree_put(b->tree, dir, name, inode, err);
    }
    if (rc) {
        tree_inode_free(inode);
    }
    return rc;
}

int layer_entry(struct layer_build *b, const struct tarball_entry *e, struct sm_error *err)
{
    enum marker marker = classify(e->name);
    switch (marker) {
    case MARKER_IGNORED:
        return 0;
    case MARKER_BROKEN:
        return err_set(err, SM_ECORRUPT, "entry \"%.200s\": malformed whiteout", e->name);
    case MARKER_WHITEOUT:
    case MARKER_OPAQUE:
        return put_whiteout(b, e->name, marker, err);
    default:
        return e->type == TARBALL_HARDLINK ? put_hardlink(b, e, err) : put_file(b, e, err);
    }
}

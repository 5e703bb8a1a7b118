/* SPDX-License-Identifier: Apache-2.0 */
/* Extended attributes: encoded once into the inode's list, which is what lies behind the inode on
 * disk. */
#include "image/erofs_parts.h"

#include <string.h>
#include <sys/stat.h>

#include "base/le.h"

static const struct {
    const char *prefix;
    uint8_t index;
    bool whole; /* the prefix is the name */
} namespaces[] = {
    {"user.", 1, false},
    {"system.posix_acl_access", 2, true},
    {"system.posix_acl_default", 3, true},
    {"trusted.", 4, false},
    {"security.", 6, false},
};

static const char opaque_name[] = "overlay.opaque"; /* after "trusted." */

static size_t padded(size_t n)
{
    return (n + 3) & ~(size_t)3;
}

/* The entry for this name, or NULL. */
static const uint8_t *find(const struct buf *list, uint8_t index, const char *name, size_t name_len)
{
    for (size_t at = 0; at < list->len;) {
        const uint8_t *e = list->data + at;
        if (e[1] == index && e[0] == name_len && memcmp(e + XATTR_ENTRY, name, name_len) == 0) {
            return e;
        }
        at += padded(XATTR_ENTRY + e[0] + (size_t)le16_get(e + 2));
    }
    return NULL;
}

static int append(struct buf *list, uint8_t index, const char *name, size_t name_len,
                  const void *value, size_t len, struct sm_error *err)
{
    uint8_t head[XATTR_ENTRY] = {(uint8_t)name_len, index};
    size_t bytes = XATTR_ENTRY + name_len + len;
    le16_put(head + 2, (uint16_t)len);
    if (buf_reserve(list, padded(bytes)) || buf_append(list, head, sizeof head) ||
        buf_append(list, name, name_len) || buf_append(list, value, len) ||
        buf_fill(list, 0, padded(bytes) - bytes)) {
        return err_set(err, SM_ENOMEM, "out of memory for xattrs");
    }
    return 0;
}

int erofs_xattr_add(struct buf *list, const char *name, const void *value, size_t len,
                    struct sm_error *err)
{
    size_t n = sizeof namespaces / sizeof *namespaces, i = 0;
    while (i < n && (namespaces[i].whole ? strcmp(name, namespaces[i].prefix) != 0
                                         : strncmp(name, namespaces[i].prefix,
                                                   strlen(namespaces[i].prefix)) != 0)) {
        i++;
    }
    if (i == n) {
        return 1;
    }
    const char *rest = name + strlen(namespaces[i].prefix);
    if (!*rest && !namespaces[i].whole) {
        return 1; /* Linux has no xattr of that name */
    }
    if (strlen(name) > 255 || len > 65535) {
        return err_set(err, SM_EUNSUPPORTED,
                       "xattr \"%.60s\" is too large (name over 255 or value over 65535 bytes)",
                       name);
    }
    const uint8_t *old = find(list, namespaces[i].index, rest, strlen(rest));
    if (old) {
        bool same =
            le16_get(old + 2) == len && memcmp(old + XATTR_ENTRY + strlen(rest), value, len) == 0;
        return same ? 0 : err_set(err, SM_ECORRUPT, "xattr \"%.60s\" is given twice", name);
    }
    /* Room is kept for the opaque mark. */
    if (XATTR_HEADER + list->len + padded(XATTR_ENTRY + strlen(rest) + len) > XATTR_BODY_MAX - 64) {
        return err_set(err, SM_EUNSUPPORTED, "xattrs of one file need more than 256 KiB");
    }
    return append(list, namespaces[i].index, rest, strlen(rest), value, len, err);
}

static bool marked_opaque(const struct tree_inode *inode)
{
    return S_ISDIR(inode->mode) && inode->opaque;
}

uint32_t erofs_xattr_size(const struct tree_inode *inode)
{
    uint32_t n = inode->xattr_len;
    if (marked_opaque(inode)) {
        n += (uint32_t)padded(XATTR_ENTRY + strlen(opaque_name) + 1);
    }
    return n ? XATTR_HEADER + n : 0;
}

int erofs_xattr_write(struct erofs_out *o, const struct tree_inode *inode, struct sm_error *err)
{
    static const uint8_t header[XATTR_HEADER];
    if (!erofs_xattr_size(inode)) {
        return 0;
    }
    int rc = erofs_out_write(o, header, sizeof header, err);
    rc = rc ? rc : erofs_out_write(o, inode->xattr, inode->xattr_len, err);
    if (!rc && marked_opaque(inode)) {
        struct buf mark = {0};
        rc = append(&mark, 4, opaque_name, strlen(opaque_name), "y", 1, err);
        rc = rc ? rc : erofs_out_write(o, mark.data, mark.len, err);
        buf_fini(&mark);
    }
    return rc;
}

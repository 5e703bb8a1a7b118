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

/* Marks of directories, after "trusted."; overlayfs keeps all of "trusted.overlay." to itself. */
#define MARKS 2
struct mark {
    const char *name, *value;
};

/* Those of this inode, *n of them. guest/implied.h reads the second. */
static void marks_of(const struct tree_inode *inode, struct mark out[MARKS], size_t *n)
{
    *n = 0;
    if (S_ISDIR(inode->mode) && inode->opaque) {
        out[(*n)++] = (struct mark){"overlay.opaque", "y"};
    }
    if (S_ISDIR(inode->mode) && (inode->implied || inode->above_implied)) {
        out[(*n)++] = (struct mark){"overlay.implied", inode->implied ? "y" : "b"};
    }
}

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
    /* Room is kept for the marks. */
    if (XATTR_HEADER + list->len + padded(XATTR_ENTRY + strlen(rest) + len) > XATTR_BODY_MAX - 64) {
        return err_set(err, SM_EUNSUPPORTED, "xattrs of one file need more than 256 KiB");
    }
    return append(list, namespaces[i].index, rest, strlen(rest), value, len, err);
}

uint32_t erofs_xattr_size(const struct tree_inode *inode)
{
    struct mark marks[MARKS];
    size_t n, bytes = inode->xattr_len;
    marks_of(inode, marks, &n);
    for (size_t i = 0; i < n; i++) {
        bytes += padded(XATTR_ENTRY + strlen(marks[i].name) + strlen(marks[i].value));
    }
    return bytes ? (uint32_t)(XATTR_HEADER + bytes) : 0;
}

int erofs_xattr_write(struct erofs_out *o, const struct tree_inode *inode, struct sm_error *err)
{
    static const uint8_t header[XATTR_HEADER];
    struct mark marks[MARKS];
    struct buf list = {0};
    size_t n;
    if (!erofs_xattr_size(inode)) {
        return 0;
    }
    int rc = erofs_out_write(o, header, sizeof header, err);
    rc = rc ? rc : erofs_out_write(o, inode->xattr, inode->xattr_len, err);
    marks_of(inode, marks, &n);
    for (size_t i = 0; i < n && !rc; i++) {
        rc = append(&list, 4, marks[i].name, strlen(marks[i].name), marks[i].value,
                    strlen(marks[i].value), err);
    }
    rc = rc || !list.len ? rc : erofs_out_write(o, list.data, list.len, err);
    buf_fini(&list);
    return rc;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directory blocks: as many sorted entries as fit into 4 KiB, then the next block. "." and ".."
 * take their places in the order like any other name (a '-' sorts before them).
 */
#include "image/erofs_parts.h"

#include <string.h>
#include <sys/stat.h>

#include "base/le.h"

/* The entry that comes next: a child, or one of the dots. */
struct item {
    const struct tree_inode *inode;
    const char *name;
    unsigned len;
    unsigned dot; /* 1 ".", 2 ".." */
};

static bool peek(const struct erofs_dir_iter *it, struct item *out)
{
    static const char *const dots[] = {".", ".."};
    unsigned i = it->dots == 0 ? 0 : it->dots == 1 ? 1 : 2;
    if (i < 2 && (!it->next || strcmp(dots[i], it->next->name) < 0)) {
        const struct tree_node *n = i ? it->dir->parent : it->dir;
        *out = (struct item){n->inode, dots[i], i + 1, i + 1};
        return true;
    }
    if (!it->next) {
        return false;
    }
    *out = (struct item){it->next->inode, it->next->name, it->next->name_len, 0};
    return true;
}

static void advance(struct erofs_dir_iter *it, const struct item *item)
{
    if (item->dot) {
        it->dots |= item->dot;
    } else {
        it->next = it->next->sibling;
    }
}

static uint8_t type_of(uint32_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return 1;
    case S_IFDIR:
        return 2;
    case S_IFCHR:
        return 3;
    case S_IFBLK:
        return 4;
    case S_IFIFO:
        return 5;
    case S_IFSOCK:
        return 6;
    case S_IFLNK:
        return 7;
    default:
        return 0;
    }
}

void erofs_dir_begin(struct erofs_dir_iter *it, const struct tree_node *dir)
{
    *it = (struct erofs_dir_iter){.dir = dir, .next = dir->inode->children};
}

bool erofs_dir_block(struct erofs_dir_iter *it, uint8_t *block, unsigned *used)
{
    struct erofs_dir_iter probe = *it;
    struct item item;
    unsigned count = 0, bytes = 0;
    while (peek(&probe, &item) && bytes + DIRENT_SIZE + item.len <= EROFS_BLOCK) {
        bytes += DIRENT_SIZE + item.len;
        count++;
        advance(&probe, &item);
    }
    *used = bytes;
    if (block) {
        unsigned name = count * DIRENT_SIZE;
        memset(block, 0, EROFS_BLOCK);
        for (unsigned i = 0; i < count; i++) {
            uint8_t *e = block + i * DIRENT_SIZE;
            peek(it, &item);
            le64_put(e + DIRENT_NID, item.inode->nid);
            le16_put(e + DIRENT_NAME, (uint16_t)name);
            e[DIRENT_TYPE] = type_of(item.inode->mode);
            memcpy(block + name, item.name, item.len);
            name += item.len;
            advance(it, &item);
        }
    }
    *it = probe;
    return count > 0;
}

uint64_t erofs_dir_size(const struct tree_node *dir)
{
    struct erofs_dir_iter it;
    uint64_t size = 0;
    unsigned used, last = 0;
    erofs_dir_begin(&it, dir);
    for (uint64_t i = 0; erofs_dir_block(&it, NULL, &used); i++) {
        size = i * EROFS_BLOCK;
        last = used;
    }
    return size + last;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inodes: first planned (every place is known before anything is written, since directories name
 * inodes that come after them), then written in the same order. Parents come before children, so
 * the root is first.
 */
#include "image/erofs_parts.h"

#include <assert.h>
#include <string.h>
#include <sys/stat.h>

#include "base/le.h"

/* Inode number 0 would make readdir skip the entry; so the first slots stay empty. */
#define META_FIRST 64

static uint32_t aligned4(uint32_t n)
{
    return (n + 3) & ~3u;
}

/* Bytes that follow inode and xattrs. */
static uint64_t tail_size(const struct tree_inode *inode)
{
    if (S_ISREG(inode->mode) && inode->chunk_bits) {
        return 4 * erofs_chunk_count(inode);
    }
    return inode->inline_tail ? inode->size % EROFS_BLOCK : 0;
}

/* Blocks of a directory or long symlink outside its inode. */
static uint64_t outer_blocks(const struct tree_inode *inode)
{
    uint64_t whole = inode->size / EROFS_BLOCK;
    return inode->inline_tail ? whole : whole + (inode->size % EROFS_BLOCK != 0);
}

static int plan_inode(struct erofs *w, struct tree_node *node, struct sm_error *err)
{
    struct tree_inode *inode = node->inode;
    bool packs = S_ISDIR(inode->mode) || S_ISLNK(inode->mode);
    uint64_t head = EROFS_INODE_SIZE + aligned4(erofs_xattr_size(inode));
    if (S_ISDIR(inode->mode)) {
        inode->size = erofs_dir_size(node);
    }
    if (packs) {
        uint64_t tail = inode->size % EROFS_BLOCK;
        inode->inline_tail = tail != 0 && head + tail <= EROFS_BLOCK;
        if (outer_blocks(inode)) {
            inode->block = (uint32_t)w->dir_end;
            w->dir_end += outer_blocks(inode);
        }
    }
    /* An inline tail must share its block with the inode; no inode may straddle blocks. */
    uint64_t together = inode->inline_tail ? head + tail_size(inode) : EROFS_INODE_SIZE;
    uint64_t room = EROFS_BLOCK - w->meta_bytes % EROFS_BLOCK;
    if (together > room) {
        w->meta_bytes += room;
    }
    inode->nid = w->meta_bytes >> EROFS_SLOT_BITS;
    inode->ino = (uint32_t)++w->inodes;
    inode->planned = true;
    w->meta_bytes += head + tail_size(inode);
    w->meta_bytes = (w->meta_bytes + 31) & ~UINT64_C(31);
    if (w->dir_end + (w->meta_bytes >> EROFS_BLOCK_BITS) + 1 > w->out.max >> EROFS_BLOCK_BITS) {
        return err_set(err, SM_EUNSUPPORTED, "layer image is larger than the limit of %llu MiB",
                       (unsigned long long)(w->out.max >> 20));
    }
    return 0;
}

int erofs_plan(struct erofs *w, struct tree *tree, struct sm_error *err)
{
    int rc = 0;
    w->dir_start = w->dir_end = erofs_out_pos(&w->out) >> EROFS_BLOCK_BITS;
    w->meta_bytes = META_FIRST;
    for (struct tree_node *n = tree->root; n && !rc; n = tree_next(tree, n)) {
        if (!n->inode->planned) {
            rc = plan_inode(w, n, err);
        }
    }
    return rc;
}

/* The part of a directory or symlink from byte `from` on, up to limit bytes. */
static int write_content(struct erofs *w, const struct tree_node *node, bool tail,
                         struct sm_error *err)
{
    const struct tree_inode *inode = node->inode;
    uint8_t block[EROFS_BLOCK];
    uint64_t outer = outer_blocks(inode);
    if (S_ISLNK(inode->mode)) {
        return erofs_out_write(&w->out, inode->target, (size_t)inode->size, err);
    }
    struct erofs_dir_iter it;
    unsigned used;
    int rc = 0;
    erofs_dir_begin(&it, node);
    for (uint64_t i = 0; !rc && erofs_dir_block(&it, block, &used); i++) {
        if ((i < outer) != tail) {
            rc = erofs_out_write(&w->out, block, i < outer ? EROFS_BLOCK : used, err);
        }
    }
    return rc;
}

int erofs_write_dirs(struct erofs *w, struct tree *tree, struct sm_error *err)
{
    int rc = 0;
    for (struct tree_node *n = tree->root; n && !rc; n = tree_next(tree, n)) {
        struct tree_inode *inode = n->inode;
        bool packs = S_ISDIR(inode->mode) || S_ISLNK(inode->mode);
        /* A hard-linked symlink is met again: its block lies behind us then. */
        if (!packs || !outer_blocks(inode) ||
            (uint64_t)inode->block << EROFS_BLOCK_BITS < erofs_out_pos(&w->out)) {
            continue;
        }
        assert((uint64_t)inode->block << EROFS_BLOCK_BITS == erofs_out_pos(&w->out));
        rc = write_content(w, n, false, err);
        rc = rc ? rc : erofs_out_align(&w->out, err);
    }
    return rc;
}

static uint32_t device_number(const struct tree_inode *inode)
{
    return (inode->minor & 0xff) | inode->major << 8 | (inode->minor & ~0xffu) << 12;
}

static void encode(const struct tree_inode *inode, uint8_t out[EROFS_INODE_SIZE])
{
    uint32_t layout = inode->inline_tail ? LAYOUT_INLINE : LAYOUT_PLAIN, place = inode->block;
    uint32_t xattrs = erofs_xattr_size(inode);
    if (S_ISREG(inode->mode) && inode->chunk_bits) {
        layout = LAYOUT_CHUNKS;
        place = inode->chunk_bits - EROFS_BLOCK_BITS;
    } else if (S_ISCHR(inode->mode) || S_ISBLK(inode->mode)) {
        place = device_number(inode);
    }
    memset(out, 0, EROFS_INODE_SIZE);
    le16_put(out + INO_FORMAT, (uint16_t)(1 | layout << 1));
    le16_put(out + INO_XATTR_COUNT, (uint16_t)(xattrs ? 1 + (xattrs - XATTR_HEADER) / 4 : 0));
    le16_put(out + INO_MODE, (uint16_t)inode->mode);
    le64_put(out + INO_SIZE, inode->size);
    le32_put(out + INO_UNION, place);
    le32_put(out + INO_NUMBER, inode->ino);
    le32_put(out + INO_UID, inode->uid);
    le32_put(out + INO_GID, inode->gid);
    le64_put(out + INO_MTIME, (uint64_t)inode->mtime);
    le32_put(out + INO_MTIME_NSEC, inode->mtime_nsec);
    le32_put(out + INO_LINKS, S_ISDIR(inode->mode) ? 2 + inode->subdirs : inode->links);
}

static int write_chunks(struct erofs *w, const struct tree_inode *inode, struct sm_error *err)
{
    uint64_t chunk = 0, count = erofs_chunk_count(inode);
    uint8_t entry[4];
    int rc = 0;
    for (uint32_t r = 0; r <= inode->run_count && !rc; r++) {
        const struct tree_run *run = r < inode->run_count ? &inode->runs[r] : NULL;
        le32_put(entry, CHUNK_HOLE);
        for (; chunk < (run ? run->first : count) && !rc; chunk++) {
            rc = erofs_out_write(&w->out, entry, sizeof entry, err);
        }
        for (uint64_t i = 0; run && i < run->count && !rc; i++, chunk++) {
            le32_put(entry, run->block + (uint32_t)(i << (inode->chunk_bits - EROFS_BLOCK_BITS)));
            rc = erofs_out_write(&w->out, entry, sizeof entry, err);
        }
    }
    return rc;
}

static int write_inode(struct erofs *w, const struct tree_node *node, struct sm_error *err)
{
    const struct tree_inode *inode = node->inode;
    uint8_t raw[EROFS_INODE_SIZE];
    encode(inode, raw);
    int rc = erofs_out_write(&w->out, raw, sizeof raw, err);
    rc = rc ? rc : erofs_xattr_write(&w->out, inode, err);
    if (!rc && S_ISREG(inode->mode) && inode->chunk_bits) {
        rc = write_chunks(w, inode, err);
    } else if (!rc && inode->inline_tail) {
        rc = write_content(w, node, true, err);
    }
    return rc;
}

int erofs_write_inodes(struct erofs *w, struct tree *tree, struct sm_error *err)
{
    uint64_t base = w->dir_end << EROFS_BLOCK_BITS;
    int rc = 0;
    assert(erofs_out_pos(&w->out) == base);
    for (struct tree_node *n = tree->root; n && !rc; n = tree_next(tree, n)) {
        uint64_t at = base + (n->inode->nid << EROFS_SLOT_BITS), pos = erofs_out_pos(&w->out);
        if (!n->inode->planned) {
            continue; /* a hard link: written with its first name */
        }
        assert(at >= pos);
        n->inode->planned = false;
        rc = erofs_out_zero(&w->out, at - pos, err);
        rc = rc ? rc : write_inode(w, n, err);
    }
    return rc ? rc : erofs_out_align(&w->out, err);
}

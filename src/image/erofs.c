/* SPDX-License-Identifier: Apache-2.0 */
/* The writer's life: space for the superblock, data, metadata, and the superblock last. */
#include "image/erofs_parts.h"

#include <stdlib.h>
#include <string.h>
#include <sys/param.h>
#include <unistd.h>

#include "base/io.h"
#include "base/le.h"

#define IMAGE_MAX (UINT64_C(1) << (32 + EROFS_BLOCK_BITS)) /* 32-bit block numbers: 16 TiB */

int erofs_new(int fd, uint64_t max_bytes, struct erofs **out, struct sm_error *err)
{
    struct erofs *w = calloc(1, sizeof *w);
    *out = NULL;
    if (!w) {
        return err_set(err, SM_ENOMEM, "out of memory for the layer image");
    }
    int rc = erofs_out_init(&w->out, fd, MIN(max_bytes, IMAGE_MAX - EROFS_BLOCK), err);
    rc = rc ? rc : erofs_out_zero(&w->out, EROFS_BLOCK, err);
    if (rc) {
        erofs_free(w);
        return rc;
    }
    *out = w;
    return 0;
}

void erofs_free(struct erofs *w)
{
    if (w) {
        erofs_out_fini(&w->out);
        free(w);
    }
}

static uint32_t crc32c(uint32_t crc, const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++) {
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
        }
    }
    return crc;
}

static int write_superblock(struct erofs *w, const struct tree *tree, const uint8_t uuid[16],
                            uint64_t blocks, struct sm_error *err)
{
    uint8_t block[EROFS_BLOCK] = {0};
    uint8_t *sb = block + EROFS_SB_OFFSET;
    le32_put(sb + SB_MAGIC, EROFS_MAGIC);
    le32_put(sb + SB_FEATURE_COMPAT, FEATURE_COMPAT_CHECKSUM | FEATURE_COMPAT_MTIME);
    sb[SB_BLOCK_BITS] = EROFS_BLOCK_BITS;
    le16_put(sb + SB_ROOT_NID, (uint16_t)tree->root->inode->nid);
    le64_put(sb + SB_INODES, w->inodes);
    le32_put(sb + SB_BLOCKS, (uint32_t)blocks);
    le32_put(sb + SB_META_BLOCK, (uint32_t)w->dir_end);
    memcpy(sb + SB_UUID, uuid, 16);
    le32_put(sb + SB_FEATURE_INCOMPAT, w->chunked ? FEATURE_INCOMPAT_CHUNKED : 0);
    le32_put(sb + SB_CHECKSUM, crc32c(~0u, sb, EROFS_BLOCK - EROFS_SB_OFFSET));
    return io_pwrite_full(w->out.fd, block, sizeof block, 0)
               ? err_sys(err, "cannot write the layer image")
               : 0;
}

int erofs_finish(struct erofs *w, struct tree *tree, const uint8_t uuid[16], uint64_t *bytes,
                 struct sm_error *err)
{
    int rc = erofs_plan(w, tree, err);
    rc = rc ? rc : erofs_write_dirs(w, tree, err);
    rc = rc ? rc : erofs_write_inodes(w, tree, err);
    rc = rc ? rc : erofs_out_flush(&w->out, err);
    if (rc) {
        return rc;
    }
    uint64_t size = erofs_out_pos(&w->out);
    if (ftruncate(w->out.fd, (off_t)size)) {
        return err_sys(err, "cannot set the layer image's size");
    }
    rc = write_superblock(w, tree, uuid, size >> EROFS_BLOCK_BITS, err);
    if (!rc && bytes) {
        *bytes = size;
    }
    return rc;
}

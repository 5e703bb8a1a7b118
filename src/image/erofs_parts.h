/* SPDX-License-Identifier: Apache-2.0 */
/* What the erofs_*.c files share. Nothing outside them includes this. */
#ifndef SM_IMAGE_EROFS_PARTS_H
#define SM_IMAGE_EROFS_PARTS_H

#include "image/erofs.h"
#include "image/erofs_format.h"

/* The output: appended to through a buffer; what is skipped stays a hole. */
struct erofs_out {
    int fd;       /* borrowed */
    uint8_t *buf; /* owned */
    size_t fill;
    uint64_t start; /* file offset of buf[0] */
    uint64_t max;   /* largest file */
};

int erofs_out_init(struct erofs_out *o, int fd, uint64_t max, struct sm_error *err);
void erofs_out_fini(struct erofs_out *o);
uint64_t erofs_out_pos(const struct erofs_out *o);
int erofs_out_write(struct erofs_out *o, const void *data, size_t len, struct sm_error *err);
int erofs_out_zero(struct erofs_out *o, uint64_t len, struct sm_error *err); /* a hole if large */
int erofs_out_align(struct erofs_out *o, struct sm_error *err);              /* to the next block */
int erofs_out_flush(struct erofs_out *o, struct sm_error *err);

struct erofs {
    struct erofs_out out;
    /* The file being written. */
    struct tree_inode *inode;             /* borrowed; NULL between files */
    const struct tarball_extent *extents; /* borrowed */
    size_t extent_count;
    size_t at;          /* extent being filled */
    uint64_t at_offset; /* bytes of it, or of the file, already there */
    size_t run;         /* sparse: run being filled */
    /* The metadata. */
    uint64_t dir_start; /* first block of directories */
    uint64_t dir_end;
    uint64_t meta_bytes;
    uint64_t inodes;
    bool chunked;
};

/* Bytes of a directory with its "." and "..": the sizes of names decide, no numbers needed. */
uint64_t erofs_dir_size(const struct tree_node *dir);
/* Produce the blocks of a directory one by one. */
struct erofs_dir_iter {
    const struct tree_node *dir; /* borrowed */
    const struct tree_node *next;
    unsigned dots; /* bit 0: "." is out, bit 1: ".." is out */
};
void erofs_dir_begin(struct erofs_dir_iter *it, const struct tree_node *dir);
/* Fills block (zero padded) and *used; false when there was nothing left. block may be NULL: only
 * count. */
bool erofs_dir_block(struct erofs_dir_iter *it, uint8_t *block, unsigned *used);

/* Bytes of inline xattrs, header included; 0 without any. A directory's opaque mark counts. */
uint32_t erofs_xattr_size(const struct tree_inode *inode);
int erofs_xattr_write(struct erofs_out *o, const struct tree_inode *inode, struct sm_error *err);

/* Decide where every directory and inode goes: sets the planner's fields. */
int erofs_plan(struct erofs *w, struct tree *tree, struct sm_error *err);
/* Write them as planned. */
int erofs_write_dirs(struct erofs *w, struct tree *tree, struct sm_error *err);
int erofs_write_inodes(struct erofs *w, struct tree *tree, struct sm_error *err);

/* Number of chunks of a sparse inode. */
uint64_t erofs_chunk_count(const struct tree_inode *inode);

#endif

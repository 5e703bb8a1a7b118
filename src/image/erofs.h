/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes an uncompressed EROFS image (erofs_format.h) front to back: superblock, file data as it
 * comes, then directories, then inodes. Readable by Linux 6.1 with -o dax=always: every regular
 * file is whole blocks, page aligned and contiguous (sparse ones: chunks with holes), never
 * tail-packed. The image is a multiple of 4096 bytes, holes in it are holes in the output file.
 * Same calls, same bytes.
 *
 * Every inode is an extended one (64 bytes): exact 32-bit owners, 64-bit times with nanoseconds.
 * xattrs are inline. Directories and symlinks have their tail behind the inode where it fits into
 * the block.
 *
 * Memory: a 1 MiB buffer; everything else hangs on the tree. One thread at a time per writer. Calls
 * in order: erofs_new, for each file erofs_file_begin / erofs_file_data / erofs_file_end,
 * erofs_finish. After an error only erofs_free.
 */
#ifndef SM_IMAGE_EROFS_H
#define SM_IMAGE_EROFS_H

#include "base/buf.h"
#include "image/tarball.h"
#include "image/tree.h"

struct erofs;

/* fd: a regular file (or memfd), emptied here; borrowed. max_bytes: largest image. */
int erofs_new(int fd, uint64_t max_bytes, struct erofs **out, struct sm_error *err);
void erofs_free(struct erofs *w);

/* Start the contents of a regular file of inode->size bytes. With extents (ascending, disjoint,
 * inside size) the file is sparse and the data are theirs, one after the other; the extents are
 * borrowed until _end. Sets what the inode needs to find its blocks. */
int erofs_file_begin(struct erofs *w, struct tree *tree, struct tree_inode *inode,
                     const struct tarball_extent *extents, size_t extent_count, bool sparse,
                     struct sm_error *err);
int erofs_file_data(struct erofs *w, const void *data, size_t len, struct sm_error *err);
int erofs_file_end(struct erofs *w, struct sm_error *err);

/* Write the metadata of the sorted tree and the superblock. bytes may be NULL: the size of the
 * image. */
int erofs_finish(struct erofs *w, struct tree *tree, const uint8_t uuid[16], uint64_t *bytes,
                 struct sm_error *err);

/*
 * Append an xattr in its on-disk form to list. Returns SM_OK; 1 if EROFS and Linux have no place
 * for this name (unknown prefix) and nothing was done; SM_EUNSUPPORTED for a name over 255 or a
 * value over 65535 bytes or a list over 256 KiB; SM_ECORRUPT when the name is there already with
 * another value (the same again is fine); SM_ENOMEM.
 */
int erofs_xattr_add(struct buf *list, const char *name, const void *value, size_t len,
                    struct sm_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * EROFS on disk, as far as this writer uses it. Spec: "Core on-disk format" at
 * erofs.docs.kernel.org and the behaviour of Linux 6.1, the oldest reader meant. All fields
 * little-endian; offsets in bytes.
 */
#ifndef SM_IMAGE_EROFS_FORMAT_H
#define SM_IMAGE_EROFS_FORMAT_H

#define EROFS_BLOCK_BITS 12
#define EROFS_BLOCK 4096u

/* Superblock, 128 bytes at 1024 */
#define EROFS_SB_OFFSET 1024
#define EROFS_MAGIC 0xe0f5e1e2u
#define SB_MAGIC 0
#define SB_CHECKSUM 4 /* crc32c, seed ~0, not inverted, of bytes 1024..4096 with this field 0 */
#define SB_FEATURE_COMPAT 8
#define SB_BLOCK_BITS 12
#define SB_ROOT_NID 14 /* 16 bits: the root must lie in the first 2 MiB of the metadata */
#define SB_INODES 16
#define SB_BLOCKS 36
#define SB_META_BLOCK 40
#define SB_UUID 48
#define SB_FEATURE_INCOMPAT 80
#define FEATURE_COMPAT_CHECKSUM 1u
#define FEATURE_COMPAT_MTIME 2u
#define FEATURE_INCOMPAT_CHUNKED 4u

/* Inode number (nid): (byte offset - SB_META_BLOCK * 4096) / 32 */
#define EROFS_SLOT_BITS 5

/* Extended inode */
#define EROFS_INODE_SIZE 64
#define INO_FORMAT 0      /* bit 0: extended; bits 1-3: layout */
#define INO_XATTR_COUNT 2 /* 0 none, else 1 + (bytes - 12) / 4 */
#define INO_MODE 4
#define INO_SIZE 8
#define INO_UNION 16 /* first block, device number or chunk format */
#define INO_NUMBER 20
#define INO_UID 24
#define INO_GID 28
#define INO_MTIME 32
#define INO_MTIME_NSEC 40
#define INO_LINKS 44
#define LAYOUT_PLAIN 0u
#define LAYOUT_INLINE 2u  /* the tail follows the inode, in the same block */
#define LAYOUT_CHUNKS 4u  /* 32-bit block numbers follow the inode, ~0 for a hole */
#define CHUNK_BITS_MAX 31 /* log2 of blocks per chunk */
#define CHUNK_HOLE 0xffffffffu

/* Inline xattrs: 12-byte header (zero: nothing shared), then entries padded to 4 */
#define XATTR_HEADER 12
#define XATTR_ENTRY 4 /* name length, name index, 16-bit value length; then name, value */
#define XATTR_BODY_MAX (XATTR_HEADER + 4u * 65534u)

/* Directory entry: 12 bytes at the start of each 4 KiB block, names after them */
#define DIRENT_SIZE 12
#define DIRENT_NID 0
#define DIRENT_NAME 8
#define DIRENT_TYPE 10

#endif

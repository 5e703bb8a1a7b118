/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer's file tree in memory: names and attributes, no contents. All path resolution happens in
 * here, so nothing a layer says can reach the host's file system.
 *
 * Paths are byte strings as archives write them. "/", "./", "//" and trailing "/" are normalised
 * away, ".." is resolved lexically (as umoci and containerd do); climbing above the root is
 * SM_ECORRUPT. Symbolic links met on the way to the last component are followed inside this tree
 * (absolute targets start at its root, ".." stops there), as the container would see them; missing
 * directories are created, 0755 root. The last component is never followed.
 *
 * Memory: about 180 bytes and the name per node, plus symlink targets and xattrs; a cap set at
 * creation makes the call that would pass it fail. One thread at a time.
 */
#ifndef SM_IMAGE_TREE_H
#define SM_IMAGE_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TREE_PATH_MAX 4096 /* longer names cannot be opened by any Linux program */
#define TREE_NAME_MAX 255
#define TREE_DEPTH_MAX 4096

/* Blocks of a sparse file: chunks first..first+count lie at block, block + 1 chunk ... */
struct tree_run {
    uint64_t first;
    uint64_t count;
    uint32_t block;
};

struct tree_inode {
    uint32_t links; /* names that point here; the root has one */
    uint32_t mode;  /* S_IFMT and 07777 */
    uint32_t uid, gid;
    uint32_t major, minor;
    int64_t mtime;
    uint32_t mtime_nsec;
    uint32_t xattr_len;
    uint8_t *xattr; /* owned: encoded by erofs_xattr_add */
    uint64_t size;
    union {
        char *target;               /* owned: symlink, size bytes and a NUL */
        struct tree_run *runs;      /* owned: sparse regular file */
        struct tree_node *children; /* directory: owned list, sorted only by tree_sort */
    };
    uint32_t run_count;
    uint32_t subdirs;   /* of a directory */
    uint32_t block;     /* regular file: first data block; others: set by the EROFS planner */
    uint8_t chunk_bits; /* sparse file: log2 of its chunk's bytes; 0 = not sparse */
    bool opaque;        /* directory: hides the lower layers' */
    bool implied;       /* directory: has no entry of its own, its attributes are made up */
    bool above_implied; /* directory: such a one is somewhere below; set by tree_sort */
    bool planned;       /* EROFS planner's */
    bool inline_tail;   /* EROFS planner's */
    uint32_t ino;       /* EROFS planner's */
    uint64_t nid;       /* EROFS planner's */
};

struct tree_node {
    struct tree_node *parent;    /* borrowed; the root's is itself */
    struct tree_node *sibling;   /* next child of the same parent */
    struct tree_node *hash_next; /* borrowed */
    struct tree_inode *inode;    /* shared by hard links, counted in links */
    uint16_t depth;
    uint8_t name_len;
    bool hides;  /* a non-directory was here, or a whiteout: a directory put here is opaque */
    char name[]; /* NUL-terminated */
};

struct tree {
    struct tree_node *root;
    struct tree_node **buckets; /* owned: hash of (parent, name) */
    size_t bucket_count;        /* power of two */
    size_t node_count;
    uint64_t memory, memory_max; /* bytes, approximately */
};

/* memory_max in bytes. NULL when out of memory. */
struct tree *tree_new(uint64_t memory_max);
void tree_free(struct tree *t);

/* Count bytes against the cap, for good: also for what callers hang onto inodes. SM_EUNSUPPORTED
 * when it is passed. */
int tree_charge(struct tree *t, uint64_t bytes, struct sm_error *err);

/* A fresh inode with no name yet (links 0). It becomes the tree's by tree_put; until then the
 * caller frees it with tree_inode_free. *out is NULL on error. */
int tree_inode_new(struct tree *t, uint32_t mode, struct tree_inode **out, struct sm_error *err);
void tree_inode_free(struct tree_inode *inode);

/* What overlayfs takes for a whiteout: character device 0/0. */
bool tree_is_whiteout(const struct tree_inode *inode);

/* Where path ends: the directory (created if need be) and the name in it. *name is "" for the root.
 * name must have room for TREE_NAME_MAX + 1. */
int tree_locate(struct tree *t, const char *path, struct tree_node **dir, char *name,
                struct sm_error *err);

/* The node with this name in dir, or NULL. */
struct tree_node *tree_child(struct tree *t, const struct tree_node *dir, const char *name);

/* The node of path, or NULL: links on the way are followed as above, but nothing is created. *node
 * is NULL when any part is missing. */
int tree_find(struct tree *t, const char *path, struct tree_node **node, struct sm_error *err);

/*
 * Give inode the name in dir (name "" is the root and takes only directories), one link more. A
 * directory on a directory replaces its attributes and keeps its children; anything else replaces
 * what was there, children included. A hard link that would so delete its own target is
 * SM_ECORRUPT. On success the inode is the tree's (and may have been merged and freed); on error it
 * still is the caller's if it had no name before.
 */
int tree_put(struct tree *t, struct tree_node *dir, const char *name, struct tree_inode *inode,
             struct sm_error *err);

/* Whiteout of name in dir: hides what lower layers have there. What this layer has there, before or
 * after, stays; a directory becomes opaque. */
int tree_whiteout(struct tree *t, struct tree_node *dir, const char *name, struct sm_error *err);

/* Sort every directory's children by name, bytewise, and mark those above implied ones. No tree_put
 * after this. */
int tree_sort(struct tree *t, struct sm_error *err);

/* The node after this one, parents before children, in sorted order after tree_sort; NULL after the
 * last. */
struct tree_node *tree_next(const struct tree *t, const struct tree_node *node);

#endif

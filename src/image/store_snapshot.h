/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots in the store: snapshots/<key>, a folder each, complete and never changed once there. A
 * key is the SHA-256, 64 hex digits, of everything that the snapshot depends on. Also the digests
 * of files that are in such keys, remembered so that a start need not read the files.
 */
#ifndef SM_IMAGE_STORE_SNAPSHOT_H
#define SM_IMAGE_STORE_SNAPSHOT_H

#include "image/store.h"

/* The path of the snapshot with this key (the caller frees). SM_ENOTFOUND when there is none. */
int store_find_snapshot(struct store *store, const char *key, char **path, struct sm_error *err);

/* The making of one. Zero-initialise; store_snapshot_abort is then always safe. */
struct store_snapshot {
    bool busy;    /* begin did not wait, and another process makes it */
    bool present; /* there is one, and it need not be replaced */
    char *folder; /* owned: when neither, an empty folder to fill */
    int lock_fd;  /* private from here on */
    char *path;   /* owned: final name */
    struct store *store;
};

/*
 * Take the key's lock and a fresh folder. wait: until whoever makes the same snapshot is done; else
 * only look. replace: even if there is one. Errors as of store_item_begin().
 */
int store_snapshot_begin(struct store *store, const char *key, bool wait, bool replace,
                         struct store_snapshot *snapshot, struct sm_error *err);
/* The folder's files are durable: make it the snapshot. An older one goes away; VMs that run from
 * it keep its files. */
int store_snapshot_commit(struct store_snapshot *snapshot, struct sm_error *err);
/* Remove the folder, drop the lock. After commit only frees. */
void store_snapshot_abort(struct store_snapshot *snapshot);

/* Call each with the key and the folder of every snapshot until it returns non-zero, which is then
 * returned. each may remove the snapshot that it is called for. */
int store_each_snapshot(struct store *store,
                        int (*each)(void *opaque, const char *key, const char *path), void *opaque,
                        struct sm_error *err);
/* Remove one, unless somebody makes it anew right now. True if it is gone; *bytes: what it took on
 * disk. VMs that run from it keep its files. */
bool store_remove_snapshot(struct store *store, const char *key, uint64_t *bytes);

/* Forget the digests of files that store_file_digest() remembers. */
void store_forget_digests(struct store *store);

/* Digest of a file, from memory when neither its name, size, times nor inode changed. */
int store_file_digest(struct store *store, const char *path, char digest[DIGEST_STR_SIZE],
                      struct sm_error *err);

#endif

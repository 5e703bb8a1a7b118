/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store: what this host keeps between runs. Content-addressed, safe against a kill or power cut
 * at any point, shared by any number of processes.
 *
 *   version                       the format's number
 *   blobs/sha256/<digest>         manifests, configs and layers as a registry has them
 *   layers/sha256/<diff id>.erofs layers as VMs use them, with a checksum at the end (seal.h)
 *   images/<hash of name>.json    what has a name, and by it reaches the rest (catalog.h)
 *   snapshots/<key>/              complete snapshots (store_snapshot.h), never changed once there
 *   digests/                      of files whose contents are in keys (store_snapshot.h)
 *   volumes/<name>.img            disks that VMs write to (store_volume.h)
 *   locks/<kind>-<digest>         flock()ed while an item or snapshot is made; empty of meaning
 *   tmp/                          work in progress; never read by anybody else
 *
 * Blobs and layers are items: complete from the moment they can be seen, never changed, and named
 * by what they are. Whoever uses one holds it: a shared flock() on its file, which dies with its
 * holder. gc.h removes only what nobody holds and no image reaches.
 *
 * Folders are 0700, files 0600. A struct store may be used by several threads at once.
 */
#ifndef SM_IMAGE_STORE_H
#define SM_IMAGE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"

struct store;

/* $SUPERMACHINE_HOME, else $XDG_DATA_HOME/supermachine, else ~/.local/share/supermachine. Only
 * reads the environment. The caller frees *out. */
int store_default_path(char **out, struct sm_error *err);

/*
 * Open the store at path, creating it when it is not there. A complete store that cannot be written
 * opens, and serves what it has. SM_EUNSUPPORTED when a newer version made it, SM_EIO when it
 * cannot be created or belongs to another user, SM_ECORRUPT when its version file makes no sense.
 */
int store_open(const char *path, struct store **out, struct sm_error *err);
void store_close(struct store *store);

const char *store_path(const struct store *store); /* absolute; as long as the store is open */

enum store_kind { STORE_LAYER, STORE_BLOB };
#define STORE_KINDS 2

/* An item in use. Zero-initialise with STORE_HELD_NONE; store_release is then always safe. */
struct store_held {
    int fd;     /* read-only; carries the lock, and may be read (pread) */
    char *path; /* owned */
    uint64_t size_bytes;
};
#define STORE_HELD_NONE                                                                            \
    {                                                                                              \
        .fd = -1                                                                                   \
    }

/* Hold the item of this digest (which must be digest_valid()). Reads none of its bytes.
 * SM_ENOTFOUND when there is none. */
int store_hold(struct store *store, enum store_kind kind, const char *digest,
               struct store_held *out, struct sm_error *err);
void store_release(struct store_held *held);

/* The making of one item. Zero-initialise; store_item_abort is then always safe. */
struct store_item {
    bool present;        /* another process finished it meanwhile: nothing to make */
    int fd;              /* when !present: an empty file, open for writing, to fill */
    struct store *store; /* borrowed; private from here on */
    enum store_kind kind;
    char digest[DIGEST_STR_SIZE];
    int lock_fd;
    char *temp; /* owned */
    char *path; /* owned: final name */
    uint64_t touched_ns;
};

/*
 * Take the lock of an item and a fresh file for it. Waits while another process (or thread) makes
 * the same; if that one dies, takes over; if it stops making progress for store_set_patience()
 * milliseconds, SM_ETIMEDOUT. A store that cannot be written is SM_EIO saying so.
 */
int store_item_begin(struct store *store, enum store_kind kind, const char *digest,
                     struct store_item *item, struct sm_error *err);
/* Tell those who wait that work goes on. Cheap: call it per block. */
void store_item_progress(struct store_item *item);
/* Make the filled file the item: a layer gets its seal; durable, then visible, then the lock is
 * gone. out (may be NULL) holds it without a gap. */
int store_item_commit(struct store_item *item, struct store_held *out, struct sm_error *err);
/* Drop the file and the lock. A no-op after commit. */
void store_item_abort(struct store_item *item);

/* Make sure the blob of these bytes is there, and hold it. digest must be theirs. */
int store_put_blob(struct store *store, const char *digest, const void *data, size_t len,
                   struct store_held *out, struct sm_error *err);

/* Folder of a kind of items, and what their file names end with. */
const char *store_folder(const struct store *store, enum store_kind kind);
const char *store_suffix(enum store_kind kind);

void store_set_patience(struct store *store, unsigned ms); /* default 120000 */

/* An unnamed read-write file in the store, gone when closed. */
int store_temp_file(struct store *store, int *fd, struct sm_error *err);

#endif

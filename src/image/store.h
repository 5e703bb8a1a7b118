/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store: what this host keeps between runs. Content-addressed, safe against a kill or power cut
 * at any point, shared by any number of processes.
 *
 *   version                       the format's number
 *   layers/sha256/<diff id>.erofs complete layers, never changed once there
 *   locks/layer-<diff id>         flock()ed while a layer is made; kept, empty of meaning
 *   tmp/                          work in progress; never read by anybody else
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

/* The complete layer with this diff id: its path (the caller frees) and size. Reads none of its
 * bytes. SM_ENOTFOUND when there is none. diff_id must be digest_valid(). */
int store_find_layer(struct store *store, const char *diff_id, char **path, uint64_t *size_bytes,
                     struct sm_error *err);

/* The making of one layer. Zero-initialise; store_layer_abort is then always safe. */
struct store_layer {
    bool present;       /* another process finished it meanwhile: nothing to make */
    int fd;             /* when !present: an empty file, open for writing, to fill */
    int lock_fd;        /* private from here on */
    char *temp;         /* owned */
    char *path;         /* owned: final name */
    const char *folder; /* borrowed from the store */
    uint64_t touched_ns;
};

/*
 * Take the lock of diff_id and a fresh file for it. Waits while another process (or thread) makes
 * the same layer; if that one dies, takes over; if it stops making progress for
 * store_set_patience() milliseconds, SM_ETIMEDOUT. A store that cannot be written is SM_EIO saying
 * so.
 */
int store_layer_begin(struct store *store, const char *diff_id, struct store_layer *layer,
                      struct sm_error *err);
/* Tell those who wait that work goes on. Cheap: call it per block. */
void store_layer_progress(struct store_layer *layer);
/* Make the filled file the layer: durable, then visible, then the lock is gone. */
int store_layer_commit(struct store_layer *layer, struct sm_error *err);
/* Drop the file and the lock. A no-op after commit. */
void store_layer_abort(struct store_layer *layer);

void store_set_patience(struct store *store, unsigned ms); /* default 120000 */

/* An unnamed read-write file in the store, gone when closed. */
int store_temp_file(struct store *store, int *fd, struct sm_error *err);

#endif

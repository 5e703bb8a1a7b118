/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine on disk (docs/formats/snapshot.md): a folder with
 *
 *   manifest.json   what machine it is, and which layers it needs
 *   state           registers and devices (hw/state.h), bound to the manifest by its SHA-256
 *   ram             guest memory as a sparse file (ram.h)
 *
 * A snapshot is read only: restoring maps RAM copy-on-write and builds a new VM. Everything read is
 * hostile: it is checked before it is used, and a damaged or foreign snapshot is one clear error.
 */
#ifndef SM_VM_SNAPSHOT_H
#define SM_VM_SNAPSHOT_H

#include <jansson.h>

#include "base/buf.h"
#include "base/hash.h"
#include "hw/state.h"
#include "vm/vm.h"

#define SNAPSHOT_FORMAT 1

/* A running VM, in this process or another, which writes into empty files: its RAM as it stands
 * still for a moment; then its state of that moment, which belongs to the manifest with this
 * digest. */
struct snapshot_source {
    int (*capture)(void *opaque, int ram_fd, struct sm_error *err);
    int (*state)(void *opaque, int fd, const uint8_t digest[STATE_DIGEST_SIZE],
                 struct sm_error *err);
    void *opaque;
};

struct snapshot;
/* A description without files of the machine of config, whose cpu is named. layer_ids: diff id of
 * each of its layers; document: an object of the caller's, taken whatever comes. snapshot_free()
 * it. */
int snapshot_describe(const struct vm_config *config, const char *const *layer_ids,
                      json_t *document, struct snapshot **out, struct sm_error *err);
/* Write the files of a machine into an existing empty folder. On error some may be there: the
 * folder is to be thrown away. */
int snapshot_save(const struct snapshot *machine, const struct snapshot_source *from,
                  const char *dir, struct sm_error *err);
/* Make what snapshot_save() wrote durable, but for the folder's own name. */
int snapshot_sync(const char *dir, struct sm_error *err);

/*
 * The VM's side of it (vm_state.c): pause, write RAM into an empty file, append the state to what
 * is empty, too, resume. The state is yet to be bound to its manifest (state_bind). *pause_ns: for
 * how long the guest stood still. Not synced. Errors as of vm_pause(), and of writing; the VM goes
 * on then, too.
 */
int vm_capture(struct vm *vm, int ram_fd, struct buf *state, uint64_t *pause_ns,
               struct sm_error *err);

/* An opened one; constant. */
struct snapshot {
    uint64_t memory_bytes;
    unsigned vcpus;
    char cpu_model[16];
    char cpu_vendor[8]; /* "amd" or "intel": the form of the model */
    unsigned n_layers;
    char (*layer_ids)[DIGEST_STR_SIZE]; /* owned; each digest_valid() */
    unsigned n_volumes;                 /* disks, none of which was in use yet */
    json_t *document;                   /* owned: an object */
    char ram_digest[DIGEST_STR_SIZE];
    int ram_fd, state_fd;              /* owned */
    struct buf state;                  /* the file's bytes */
    uint8_t digest[STATE_DIGEST_SIZE]; /* of the manifest */
};

/*
 * Open and check all but the values in the state file, which vm_new() checks. verify_ram: also that
 * memory is what was saved, which reads all of it; without it only its size is checked.
 * SM_ENOTFOUND: no such folder; SM_ECORRUPT: truncated, damaged (checksum), or no snapshot;
 * SM_EUNSUPPORTED: another format version; SM_EIO, SM_ENOMEM.
 */
int snapshot_open(const char *dir, bool verify_ram, struct snapshot **out, struct sm_error *err);
void snapshot_free(struct snapshot *s); /* NULL is fine; VMs made from it live on */

/* vm_state.c: take both files, whatever comes; read the state and check their sizes. All but the
 * files is filled in already. Errors as of snapshot_open(). */
int snapshot_read(struct snapshot *s, int state_fd, int ram_fd, struct sm_error *err);

/* snapshot_manifest.c. The caller frees *text. */
int snapshot_manifest_build(const struct snapshot *s, char **text, struct sm_error *err);
int snapshot_manifest_parse(const void *text, size_t len, struct snapshot *s, struct sm_error *err);

#endif

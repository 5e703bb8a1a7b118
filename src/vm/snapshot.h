/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine on disk (docs/formats/snapshot.md): a folder with
 *
 *   manifest.json   what machine it is, and which layers it needs
 *   state           registers and devices (hw/state.h), bound to the manifest by its SHA-256
 *   ram             guest memory as a sparse file (ram.h); or, with a base, what differs (delta.h)
 *   base            the memory file of the snapshot that the machine was started from: a hard link,
 *                   so that it stays when that snapshot goes
 *   disk0 ...       what was on its disks, sparse files, if it had any in use
 *
 * A snapshot is read only: restoring maps RAM copy-on-write, lays disks over the files, and builds
 * a new VM. Everything read is hostile: it is checked before it is used, and a damaged or foreign
 * snapshot is one clear error.
 */
#ifndef SM_VM_SNAPSHOT_H
#define SM_VM_SNAPSHOT_H

#include <jansson.h>

#include "base/buf.h"
#include "base/hash.h"
#include "hw/state.h"
#include "vm/vm.h"

#define SNAPSHOT_FORMAT 1       /* of one without a base */
#define SNAPSHOT_FORMAT_BASE 2  /* with one */
#define SNAPSHOT_FORMAT_DISKS 3 /* with disks, and with or without a base */
/* In place of a digest that nobody has computed, as nothing was written that could be damaged.
 * Neither memory nor a disk has it. */
#define SNAPSHOT_UNHASHED "sha256:0000000000000000000000000000000000000000000000000000000000000000"

/* What a VM writes about a moment, each an empty file and borrowed. */
struct vm_files {
    int ram;
    const int *disks;
    unsigned n_disks; /* all that it has; or 0: none of them has been used yet */
};

/* A running VM, in this process or another, which writes into empty files: its RAM and disks as it
 * stands still for a moment; then its state of that moment, which belongs to the manifest with this
 * digest. */
struct snapshot_source {
    int (*capture)(void *opaque, const struct vm_files *files, struct sm_error *err);
    int (*state)(void *opaque, int fd, const uint8_t digest[STATE_DIGEST_SIZE],
                 struct sm_error *err);
    void *opaque;
    int base_fd;             /* borrowed: what capture writes lies over this file; -1: it is all */
    const char *base_digest; /* its digest, or SNAPSHOT_UNHASHED */
};

struct snapshot;
/* A description without files of the machine of config, whose cpu is named, none of whose volumes
 * is in use. layer_ids: diff id of each of its layers; document: an object of the caller's, taken
 * whatever comes. snapshot_free() it. */
int snapshot_describe(const struct vm_config *config, const char *const *layer_ids,
                      json_t *document, struct snapshot **out, struct sm_error *err);
/* From now on config's volumes, which are disks, may be in use: what follows writes them, too. */
int snapshot_describe_disks(struct snapshot *machine, const struct vm_config *config,
                            struct sm_error *err);
/* Write the files of a machine into an existing empty folder, durably but for its own name: over
 * its base, if that can be linked there, else whole. On error some may be there: the folder is to
 * be thrown away. */
int snapshot_save(const struct snapshot *machine, const struct snapshot_source *from,
                  const char *dir, struct sm_error *err);
/*
 * The same without a folder, for as long as *out is open: into n empty files without a name (state,
 * memory, disks), which are taken whatever comes. Nothing is hashed or synced.
 */
int snapshot_capture(const struct snapshot *machine, const struct snapshot_source *from,
                     const int *files, unsigned n, struct snapshot **out, struct sm_error *err);
/* All names that such a folder may have in it; NULL-terminated. */
extern const char *const snapshot_names[];

/*
 * The VM's side of it (vm_state.c): pause, write RAM and disks, append the state to what is empty,
 * too, resume. The state is yet to be bound to its manifest (state_bind). *pause_ns: for
 * how long the guest stood still. Not synced. Errors as of vm_pause(), and of writing; the VM goes
 * on then, too.
 */
int vm_capture(struct vm *vm, const struct vm_files *files, struct buf *state, uint64_t *pause_ns,
               struct sm_error *err);

/* Have a VM that booted share what memory it can, with the memory file of a snapshot of the same
 * machine (-1: there is none), as ram_share(). It stands still meanwhile. */
int vm_share(struct vm *vm, int ram_fd, struct sm_error *err);

struct snapshot_disk {
    uint64_t bytes;
    bool read_only;
    char digest[DIGEST_STR_SIZE];
    int fd; /* owned; -1: none */
};

/* An opened one; constant. */
struct snapshot {
    uint64_t memory_bytes;
    unsigned vcpus;
    char cpu_model[16];
    char cpu_vendor[8]; /* "amd" or "intel": the form of the model */
    unsigned n_layers;
    char (*layer_ids)[DIGEST_STR_SIZE]; /* owned; each digest_valid() */
    unsigned n_volumes;                 /* disks and folders, none of which was in use yet */
    unsigned n_disks;                   /* those that were; then there is nothing else */
    struct snapshot_disk disks[VM_MAX_VOLUMES];
    json_t *document; /* owned: an object */
    char ram_digest[DIGEST_STR_SIZE];
    char base_digest[DIGEST_STR_SIZE]; /* "": there is no base */
    int ram_fd, state_fd, base_fd;     /* owned; -1: none */
    struct buf manifest, state;        /* the files' bytes */
    uint8_t digest[STATE_DIGEST_SIZE]; /* of the manifest */
};

/*
 * Open and check all but the values in the state file, which vm_new() checks. verify: also that
 * memory and disks are what was saved, which reads all of it; without it only sizes are checked.
 * SM_ENOTFOUND: no such folder; SM_ECORRUPT: truncated, damaged (checksum), or no snapshot;
 * SM_EUNSUPPORTED: another format version; SM_EIO, SM_ENOMEM.
 */
int snapshot_open(const char *dir, bool verify, struct snapshot **out, struct sm_error *err);
void snapshot_free(struct snapshot *s); /* NULL is fine; VMs made from it live on */

/* The same from n open files (state, memory, its base if there is one, disks), which are taken
 * whatever comes, and a manifest's bytes. Memory and disks are not verified. */
int snapshot_take(const void *manifest, size_t len, const int *files, unsigned n,
                  struct snapshot **out, struct sm_error *err);
#define SNAPSHOT_MANIFEST_MAX (1u << 20) /* bytes */
#define SNAPSHOT_FILES_MAX (3 + VM_MAX_VOLUMES)
/* The files of an opened one in that order, borrowed; their number. */
unsigned snapshot_files(const struct snapshot *s, int files[SNAPSHOT_FILES_MAX]);

/* vm_state.c: take the files, whatever comes; read the state and check the sizes of it and of all
 * memory. base_fd: -1 when there is none. All but the files is filled in already. Errors as of
 * snapshot_open(). */
int snapshot_read(struct snapshot *s, int state_fd, int ram_fd, int base_fd, struct sm_error *err);

/* snapshot_manifest.c. The caller frees *text. */
int snapshot_manifest_build(const struct snapshot *s, char **text, struct sm_error *err);
int snapshot_manifest_parse(const void *text, size_t len, struct snapshot *s, struct sm_error *err);

#endif

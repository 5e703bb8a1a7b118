/* SPDX-License-Identifier: Apache-2.0 */
/* What the public handles are, for the files of this folder. */
#ifndef SM_API_API_H
#define SM_API_API_H

#include <stdbool.h>

#include "api/vm_volumes.h"
#include "cpu/engine.h"
#include "cpu/tsc.h"
#include "image/image.h"
#include "supermachine.h"
#include "vm/snapshot.h"
#include "vm/vm.h"
#include "worker/worker.h"

#define SM_API __attribute__((visibility("default")))

#define API_MEMORY_DEFAULT_MIB 256u
#define API_START_DEFAULT_MS 120000u
#define FILE_DEFAULT_MODE 0644u
#define API_SHUTDOWN_MS 60000 /* for the guest to agree, and to write what it holds */

struct sm_store {
    struct store *store;      /* owned */
    char *data_dir;           /* owned; "" when not found */
    struct tsc_moment opened; /* to know the TSC's rate when a VM starts */
};

struct sm_image {
    struct store *store;       /* borrowed: of the sm_store it was opened from */
    struct image *image;       /* owned */
    char *data_dir;            /* owned */
    struct tsc_moment opened;  /* the sm_store's; zero: not known */
    _Atomic uint64_t tsc_khz;  /* 0: no VM has needed it yet */
    struct snapshot *snapshot; /* owned: sm_image_from_snapshot's, else NULL */
};

struct sm_vm {
    struct worker *worker;    /* owned */
    struct store *store;      /* borrowed: its image's */
    char *data_dir;           /* owned */
    struct string_list env;   /* the image's */
    char *working_dir, *user; /* owned; the image's, or NULL */
    void (*console)(void *opaque, const void *data, size_t len);
    void *console_opaque; /* borrowed */
    void (*debug)(void *opaque, const char *text, size_t len);
    void *debug_opaque;    /* borrowed */
    struct snapshot *kept; /* owned: what its snapshots say about it, without files */
    int base_fd;           /* owned: the memory file that it was started over; -1: none */
    char base_digest[DIGEST_STR_SIZE];
    void (*warning)(void *opaque, const char *text);
    void *warning_opaque; /* borrowed */
};

/* Folder of the files that come with the library (supermachine.h, data_dir). wanted may be NULL.
 * The caller frees; "" when there is none, NULL when out of memory. */
char *data_find(const char *wanted);

/* supermachine-vmm, which comes with the files in data_dir. The caller frees; NULL when out of
 * memory. */
char *data_find_vmm(const char *data_dir);

/* The engine that a public number means here. SM_EINVAL, or SM_EENGINE with the way out. */
int engines_choose(uint32_t wanted, const struct engine_ops **out, struct sm_error *err);

/* An image that is a snapshot, which is taken whatever comes. data_dir is copied. */
int image_of_snapshot(struct store *store, const char *data_dir, struct snapshot *snapshot,
                      struct sm_image **out, struct sm_error *err);

/* sm_exec_start for a spec that is complete. */
struct client_spec;
int exec_begin(struct sm_vm *vm, const struct client_spec *spec, struct sm_exec **out,
               struct sm_error *err);

/*
 * Config structs begin with their size, so that later versions can add fields: copy what the caller
 * knows of them and leave the rest zero. SM_EINVAL when from is larger than this library's and says
 * anything there.
 */
int config_copy(void *to, size_t size, const void *from, const char *what, struct sm_error *err);

#endif
